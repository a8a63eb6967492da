"""The keeper: children in milliseconds, each death told with its cause, nothing left behind."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigrack_engine.keeping import Death, Keeper, KeeperError

CHILDREN = "keeper_children"
LONG_S = 60.0


class News:
    """A keeper, and what it has told."""

    def __init__(self) -> None:
        self.pids: dict[int, int] = {}
        self.deaths: dict[int, Death] = {}
        self.gone = False
        self.keeper = Keeper(["numpy", CHILDREN], self.pids.__setitem__, self.deaths.__setitem__)

    def wait(self, number: int) -> Death:
        while number not in self.deaths:
            self.read()
        return self.deaths[number]

    def wait_for_pid(self, number: int) -> int:
        while number not in self.pids:
            self.read()
        return self.pids[number]

    def read(self) -> None:
        assert select.select([self.keeper.descriptor], [], [], LONG_S)[0], "the keeper says nothing"
        assert self.keeper.read(), "the keeper is gone"


@pytest.fixture
def news(monkeypatch: pytest.MonkeyPatch) -> Iterator[News]:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    told = News()
    yield told
    told.keeper.close()


def read(descriptor: int) -> bytes:
    assert select.select([descriptor], [], [], LONG_S)[0]
    return os.read(descriptor, 4096)


def is_alive(pid: int) -> bool:
    """Whether there is such a process that is no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_for_end(pid: int) -> None:
    until = time.monotonic() + LONG_S
    while is_alive(pid):
        assert time.monotonic() < until, f"process {pid} lives on"
        time.sleep(0.01)


def test_a_child_has_a_session_of_its_own_and_no_files_but_its_own(news: News) -> None:
    ours, theirs = os.pipe()
    news.keeper.start(1, f"{CHILDREN}:end_well", "hello", [theirs])
    death = news.wait(1)
    assert (death.code, death.signal, death.text) == (0, None, "exit code 0")
    text = read(ours).decode()
    assert text.startswith("hello True [0, 1, 2, ")
    assert text.count(",") == 3, f"more files than its own: {text}"
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGFPE, signal.SIGXCPU])
def test_a_death_by_signal_is_told_by_name(news: News, number: signal.Signals) -> None:
    news.keeper.start(1, f"{CHILDREN}:die", int(number), [])
    death = news.wait(1)
    assert (death.signal, death.code, death.text) == (number, None, number.name)


@pytest.mark.parametrize(
    ("entry", "argument", "code"), [("leave", 7, 7), ("exit_python", 9, 9), ("fail", "so it is", 70), ("no_such_entry", 0, 70)]
)
def test_an_exit_is_told_with_its_code(news: News, entry: str, argument: object, code: int) -> None:
    news.keeper.start(1, f"{CHILDREN}:{entry}", argument, [])
    assert news.wait(1).text == f"exit code {code}"


def test_a_kill_says_why(news: News) -> None:
    ours, theirs = os.pipe()
    for number in (1, 2):
        news.keeper.start(number, f"{CHILDREN}:rest", None, [theirs])
    news.keeper.kill(1, "it hangs")
    assert news.wait(1).text == "it hangs"
    assert 2 not in news.deaths
    news.keeper.kill(1, "twice")  # it is gone: nothing happens
    news.keeper.kill(2, "it hangs, too")
    assert news.wait(2).text == "it hangs, too"
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("megabytes_at_once", [8, 4096])
def test_a_child_that_grows_beyond_its_limit_ends(news: News, megabytes_at_once: int) -> None:
    news.keeper.start(1, f"{CHILDREN}:grow", megabytes_at_once, [], memory_mb=256)
    death = news.wait(1)
    if megabytes_at_once == 8:
        assert death.text == "memory limit of 256 MiB"
        assert death.rss_kb < 1024 * 1024
    else:  # nothing of it was ever there: Python raises
        assert death.text == "exit code 70"


def test_what_a_child_leaves_behind_is_killed(news: News) -> None:
    ours, theirs = os.pipe()
    news.keeper.start(1, f"{CHILDREN}:leave_others_behind", None, [theirs])
    assert news.wait(1).text == "SIGSEGV"
    os.close(theirs)
    others = [int(pid) for pid in read(ours).split()]
    assert len(others) == 2
    for pid in others:
        wait_for_end(pid)
    os.close(ours)


def test_many_children_come_and_go_in_any_order(news: News) -> None:
    for number in range(200):
        entry, argument = [("leave", number % 50), ("die", int(signal.SIGKILL))][number % 2]
        news.keeper.start(number, f"{CHILDREN}:{entry}", argument, [])
    for number in range(200):
        death = news.wait(number)
        assert death.text == ("SIGKILL" if number % 2 else f"exit code {number % 50}")
    assert len(news.pids) == 200


def test_no_child_outlives_the_keeper(news: News) -> None:
    ours, theirs = os.pipe()
    news.keeper.start(1, f"{CHILDREN}:rest", None, [theirs])
    pid = news.wait_for_pid(1)
    assert read(ours) == b"here"
    os.kill(news.keeper.pid, signal.SIGKILL)
    wait_for_end(pid)
    while news.keeper.read():
        pass
    with pytest.raises(KeeperError, match="the keeper of lanes is gone"):
        news.keeper.kill(1, "")
    os.close(ours)
    os.close(theirs)


HOST = """
import os, sys, time
from sigrack_engine.keeping import Keeper
pids = []
keeper = Keeper(["keeper_children"], lambda number, pid: pids.append(pid), lambda number, death: None)
keeper.start(1, "keeper_children:rest", None, [os.pipe()[1]])
while not pids:
    keeper.read()
print(keeper.pid, pids[0], flush=True)
time.sleep(600)
"""


def test_keeper_and_children_end_with_a_host_that_is_killed() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen([sys.executable, "-c", HOST], env=environment, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout
        keeper, child = map(int, host.stdout.readline().split())
        assert is_alive(keeper)
        assert is_alive(child)
        host.kill()
        wait_for_end(keeper)
        wait_for_end(child)
