"""A host that dies leaves word: which signal, on which thread, in whose slot, hook or call; the next one tells."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from factories import Compile
from laned import living
from plugin_source import plugin_source
from racks import Host, answers, noise, request, write
from waiting import wait_until

LIVE = '[rack]\nname = "rack"\n[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n'
FILE = '[rack]\nname = "rack"\n[source]\ndriver = "file"\npath = "in.wav"\n'
VILLAIN = '[[slot]]\nname = "villain"\nplugin = "./plugin.so"\nlane = "inline"\n'
GOOD = '[[slot]]\nname = "first"\nplugin = "gain"\n'
PYTHON = """
import ctypes, os, signal
from sigrack_plugins import Plugin

class Bad(Plugin):
    def on_block(self, block):
        {body}
"""


def last_death(folder: Path) -> Any:
    """Run a rack that does nothing wrong, and return what it says of the last one's end."""
    with Host(write(folder, LIVE, noise(1000))) as host:
        wait_until(answers)
        death = request("GET_STATUS")["data"]["last_death"]
        assert ("the last host of this rack: " in host.log) == (death is not None)
        host.process.terminate()
        assert 0 == host.process.wait(10)
    (folder / "rack.log").unlink()
    return death


def crashed(folder: Path, toml: str) -> tuple[int, str]:
    """Run a rack that dies; return what of, and its log."""
    with Host(write(folder, toml, noise(20_000))) as host:
        code, text = host.process.wait(20), host.log
    (folder / "rack.log").unlink()
    return code, text


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ("if (block->frame > 2000) *(volatile int *)0 = 1;", signal.SIGSEGV),
        ("if (block->frame > 2000) abort();", signal.SIGABRT),
        ("if (block->frame > 2000) __builtin_trap();", signal.SIGILL),
        (  # frames that no guard page is too short for: else they reach what lies behind it, and another thread dies first
            "if (block->frame > 2000) { volatile char some[1 << 11]; some[0] = 1; process(self, block); some[1] = some[0]; }",
            signal.SIGSEGV,
        ),
    ],
    ids=["null", "abort", "trap", "stack"],
)
@pytest.mark.parametrize(("head", "thread"), [(LIVE, "the engine thread"), (FILE, "the main loop")], ids=["live", "file"])
def test_a_processor_that_kills_the_host_is_named(
    tmp_path: Path, cc: Compile, body: str, number: int, head: str, thread: str
) -> None:
    """The slot is the one whose step ran, and the process still dies of the signal."""
    last = "    return 0;\n}\n\nstatic const struct {"
    source = plugin_source()
    assert last in source
    cc(source.replace(last, f"    {body}\n{last}"))

    assert -number == crashed(tmp_path, head + GOOD + VILLAIN + GOOD.replace("first", "last"))[0]
    death = last_death(tmp_path)
    assert (signal.Signals(number).name, thread, "villain") == (death["signal"], death["thread"], death["where"])
    assert 0 <= death["ran_s"] < 20


def test_a_create_that_kills_the_host_is_named(tmp_path: Path, cc: Compile) -> None:
    """On the control thread it is the call."""
    cc(plugin_source(create="abort();"))

    assert -signal.SIGABRT == crashed(tmp_path, LIVE + VILLAIN)[0]
    death = last_death(tmp_path)
    assert ("SIGABRT", "the control thread", "villain: create") == (death["signal"], death["thread"], death["where"])


@pytest.mark.parametrize(
    ("body", "number"), [("ctypes.string_at(1)", signal.SIGSEGV), ("os.kill(os.getpid(), signal.SIGABRT)", signal.SIGABRT)]
)
def test_a_hook_that_kills_the_host_is_named(tmp_path: Path, body: str, number: int) -> None:
    """On the main loop it is the plugin whose hook ran; the log has the Python stack."""
    (tmp_path / "bad.py").write_text(PYTHON.format(body=body))

    code, text = crashed(tmp_path, LIVE + GOOD + '[[slot]]\nname = "bad"\nplugin = "./bad.py"\n')
    assert -number == code
    assert "Fatal Python error" in text
    assert 'bad.py", line 7 in on_block' in text
    death = last_death(tmp_path)
    assert (signal.Signals(number).name, "the main loop", "bad") == (death["signal"], death["thread"], death["where"])


def test_a_kill_blames_nobody_and_an_end_in_order_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL cannot be handled: there is a death, without a name. After a stop there is none, and none after that."""
    with Host(write(tmp_path, LIVE + GOOD, noise(1000))) as host:
        wait_until(answers)
        pid = request("GET_STATUS")["data"]["pid"]
        os.kill(pid, signal.SIGKILL)
        host.process.wait()
    (tmp_path / "rack.log").unlink()
    death = last_death(tmp_path)

    assert (pid, "", "", "", None) == tuple(death[key] for key in ("pid", "signal", "thread", "where", "ran_s"))
    assert last_death(tmp_path) is None


def test_what_a_hook_has_forked_is_not_the_host(tmp_path: Path, heirs: str) -> None:
    """One process that it has forked crashes, another lives on. The host is killed later: nobody is blamed, the other one is gone
    with it, and nothing keeps the next host from starting."""
    body = "block.frame == 2048 and [os.fork() or os.abort(), os.fork() or signal.pause()]"
    (tmp_path / "bad.py").write_text(PYTHON.format(body=body))
    with Host(write(tmp_path, LIVE + '[[slot]]\nname = "bad"\nplugin = "./bad.py"\n', noise(1000))) as host:
        wait_until(answers)
        wait_until(lambda: "Fatal Python error: Aborted" in host.log, what="the end of the one")
        wait_until(lambda: host.process.pid in living(heirs) and len(living(heirs)) > 1, what="the other")
        host.process.kill()
        host.process.wait()
    (tmp_path / "rack.log").unlink()

    wait_until(lambda: not living(heirs), what="the end of the other")
    death = last_death(tmp_path)
    assert (host.process.pid, "", "", "") == tuple(death[key] for key in ("pid", "signal", "thread", "where"))


def test_an_exit_while_something_is_loaded_names_it(tmp_path: Path, cc: Compile) -> None:
    """`_exit` in a native call leaves the call's name, as nothing else could have been the reason."""
    cc(plugin_source(create="extern void _exit(int); _exit(0);"))

    assert 0 == crashed(tmp_path, LIVE + VILLAIN)[0]
    death = last_death(tmp_path)
    assert ("", "villain: create") == (death["signal"], death["where"])


@pytest.mark.parametrize("content", [b"", b"rubbish" * 1000])
def test_a_record_that_is_none_is_begun_anew(tmp_path: Path, runtime: Path, content: bytes) -> None:
    """What lies at its place without being one is not read."""
    (runtime / "rack.crash").write_bytes(content)

    assert last_death(tmp_path) is None
