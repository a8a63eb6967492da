"""systemd hears that the host is ready, that it lives as long as both heartbeats go on, and that it stops."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import Compile
from plugin_source import plugin_source
from racks import Host, answers, noise, write
from waiting import wait_until

LIVE = '[rack]\nname = "rack"\npriority = 0\n[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n'


class Systemd:
    """The other end of $NOTIFY_SOCKET."""

    def __init__(self, folder: Path, *, abstract: bool = False) -> None:
        self.name = f"@{folder.name}" if abstract else str(folder / "n")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.name.replace("@", "\0") if abstract else self.name)
        self._socket.setblocking(False)
        self.heard: list[str] = []

    def count(self, text: str) -> int:
        """How often it has heard that, so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self._socket.recv(100).decode())
        return self.heard.count(text)

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


@pytest.fixture(name="systemd", params=[False, True], ids=["path", "abstract"])
def _systemd(runtime: Path, request: pytest.FixtureRequest) -> Iterator[Systemd]:
    systemd = Systemd(runtime, abstract=request.param)
    yield systemd
    systemd.close()


def test_a_life_is_told(tmp_path: Path, systemd: Systemd) -> None:
    """READY once, signs of life as often as they are wanted, STOPPING once, in this order."""
    with Host(write(tmp_path, LIVE, noise(1000)), NOTIFY_SOCKET=systemd.name, WATCHDOG_USEC="400000") as host:
        wait_until(lambda: systemd.count("WATCHDOG=1") >= 5, 30, "five signs of life")
        host.process.terminate()
        assert 0 == host.process.wait(30)
    systemd.count("")

    assert "READY=1" == systemd.heard[0]
    assert "STOPPING=1" == systemd.heard[-1]
    assert {"WATCHDOG=1"} == set(systemd.heard[1:-1])


def test_an_engine_that_stands_is_no_life(tmp_path: Path, runtime: Path, cc: Compile) -> None:
    """The loop turns and answers, but no block is made: there are no more signs of life."""
    stuck = 'if (!access("stuck", F_OK)) for (;;) sleep(1);'
    source = plugin_source().replace("    scale->host.post", f"    {stuck}\n    scale->host.post")
    cc(f"#define _DEFAULT_SOURCE\n#include <unistd.h>\n{source}".replace('"stuck"', f'"{tmp_path}/stuck"'))
    rack = write(tmp_path, LIVE + '[[slot]]\nname = "stuck"\nplugin = "./plugin.so"\nlane = "inline"\n', noise(1000))
    systemd = Systemd(runtime)
    with Host(rack, NOTIFY_SOCKET=systemd.name, WATCHDOG_USEC="200000"):
        wait_until(lambda: systemd.count("WATCHDOG=1"), 30, "a sign of life")
        (tmp_path / "stuck").touch()
        before = [systemd.count("WATCHDOG=1")]

        def stands() -> bool:
            before.append(systemd.count("WATCHDOG=1"))
            return len(before) > 60 and before[-60] == before[-1]

        wait_until(stands, 30, "silence for sixty looks")
        assert answers()
    systemd.close()


def test_without_systemd_nothing_is_said(tmp_path: Path, systemd: Systemd) -> None:
    """A socket that is not named hears nothing; WATCHDOG_USEC alone changes nothing."""
    with Host(write(tmp_path, LIVE, noise(1000)), WATCHDOG_USEC="100000") as host:
        wait_until(answers, 30)
        host.process.terminate()
        assert 0 == host.process.wait(30)

    assert 0 == systemd.count("READY=1")
    assert [] == systemd.heard
