"""What happened to a naive host, and cannot happen here: each failure is shown in a child, then the same engine against sigrack.

An engine's own threads call whenever they like: while the host destroys what they call, after the host has freed its callback,
after `signal_destroy`, and while the interpreter ends.
"""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from children import python
from racks import freewheel, noise
from sigrack_engine.results import CALLBACK_ADDRESS

HERE = Path(__file__).parent

SIGNAL = """
[[slot]]
name = "collector"
plugin = "./collector.py"
[[signal]]
name = "engine"
library = "{}"
lane = "inline"
symbols = ["FACTOR"]
feed = "none"
config = {{ threads = 4, pause_us = 200 }}
"""


def run(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a program of this folder."""
    return python(HERE / script, *arguments)


def native(program: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run the naive host."""
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120)


def killed(child: "subprocess.CompletedProcess[str]") -> bool:
    """Whether a signal has ended it."""
    return child.returncode < 0


# An object is destroyed while an engine's thread calls it


def test_a_naive_host_crashes_when_it_replaces_what_the_engine_calls(naive: Path) -> None:
    """The incident: three of three hosts die within 20,000 swaps."""
    children = [native(naive, "swap", 20_000) for _ in range(3)]

    assert [True] * 3 == [killed(child) for child in children], children


def swap(engine: Path, swaps: int) -> None:
    """Swap in a child; every call of the engine is accounted for, none does harm."""
    child = run("swaps.py", engine, swaps)
    assert 0 == child.returncode, child.stderr
    found = json.loads(child.stdout)

    assert found["posted"] == sum(found[name] for name in ("delivered", "dropped", "refused", "stale", "queued"))
    assert found["calls"] == found["posted"] + found["late"]
    assert 0 == found["left"]
    assert 0 < found["delivered"]
    assert 0 < found["stale"]
    assert 0 < found["late"]


def test_sigrack_survives_two_thousand_swaps(engine: Path) -> None:
    """The engine calls on with the old and the new cookie through 2,000 swaps: exit code 0, and the account is exact."""
    swap(engine, 2000)


@pytest.mark.slow
def test_sigrack_survives_two_hundred_thousand_swaps(engine: Path) -> None:
    """The same through 200,000 swaps."""
    swap(engine, 200_000)


# The callback is freed


def test_a_collected_callback_kills_a_naive_host(engine: Path) -> None:
    """Five of five hosts die when Python collects the callback object that an engine is calling."""
    children = [run("freed.py", engine, "naive") for _ in range(5)]

    assert [True] * 5 == [killed(child) for child in children], children


def test_the_callback_of_sigrack_cannot_be_freed(engine: Path) -> None:
    """With all that Python knows of it gone, the engine calls on, into the core, whose address is what it was."""
    children = [run("freed.py", engine, "ours") for _ in range(5)]

    assert [(0, "survived\n")] * 5 == [(child.returncode, child.stdout) for child in children], children
    assert any(" r-xp " in line and line.endswith("/_core.so") for line in mapping(CALLBACK_ADDRESS))


def mapping(address: int) -> list[str]:
    """The lines of this process's memory map that hold `address`."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [(line, [int(end, 16) for end in line.split()[0].split("-")]) for line in lines]
    return [line for line, (start, end) in spans if start <= address < end]


# The interpreter ends while an engine is calling


def ends(engine: Path, way: str, times: int) -> list[tuple[int, str]]:
    """Exit codes and output of children that end while an engine calls."""
    children = [run("exits.py", engine, way) for _ in range(times)]
    return [(child.returncode, child.stdout) for child in children]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="from 3.14 on, such a thread hangs instead")
def test_a_naive_host_aborts_at_its_exit(engine: Path) -> None:
    """A ctypes callback under a C++ frame that is noexcept: the interpreter's end kills the process, 3 of 3 times."""
    assert [-signal.SIGABRT] * 3 == [code for code, _ in ends(engine, "naive", 3)]


@pytest.mark.parametrize("way", ["open", "closed"])
def test_sigrack_exits_cleanly_while_an_engine_calls(engine: Path, way: str) -> None:
    """Ten of ten exits with code 0, whether nobody has closed anything or all is closed and freed."""
    assert [(0, "calling\n")] * 10 == ends(engine, way, 10)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["open", "closed"])
def test_a_hundred_exits(engine: Path, way: str) -> None:
    """A hundred of a hundred."""
    assert [(0, "calling\n")] * 100 == ends(engine, way, 100)


def test_a_rack_exits_cleanly_while_an_engine_calls(engine: Path) -> None:
    """A rack has run to its end and destroyed an engine that calls on: three of three exits with code 0."""
    assert [(0, "calling\n")] * 3 == ends(engine, "rack", 3)


# The wrong thread


def test_a_naive_callback_runs_on_the_engines_threads(engine: Path) -> None:
    """Python registered as the callback runs on each of four foreign threads, and not on the main one."""
    assert {"threads": 4, "main": False} == json.loads(run("wrong_thread.py", engine, 4).stdout)


def test_every_hook_runs_on_the_main_thread(tmp_path: Path, engine: Path) -> None:
    """Four threads of an engine post while a rack runs: all hooks, of audio and of factors, ran on the main thread."""
    session = freewheel(tmp_path, SIGNAL.format(engine), noise(480_000))
    hooked = session.rack.slot("collector").hooked
    assert hooked is not None
    session.run()
    kinds = {call[0] for call in hooked.plugin.calls if isinstance(call, tuple)}  # type: ignore[attr-defined]

    assert {"block", "factors"} == kinds
    assert {threading.get_ident()} == hooked.plugin.threads  # type: ignore[attr-defined]


# A call after signal_destroy


def test_a_late_call_writes_into_what_a_naive_host_has_freed(naive: Path) -> None:
    """The engine calls after signal_destroy: what the host has freed meanwhile is overwritten."""
    assert "spoiled\n" == native(naive, "late", 100).stdout


def test_late_calls_are_refused_and_counted(engine: Path) -> None:
    """The same against sigrack: the ring's account no longer moves, and each late call is counted."""
    child = run("late.py", engine)
    assert 0 == child.returncode, child.stderr
    found = json.loads(child.stdout)

    assert found["at_destroy"] == found["at_end"]
    posted, (before, after) = found["at_end"]["posted"], found["late"]
    assert before >= 1000
    assert posted + before - 1 <= found["calls"] <= posted + after, "but for the call that was being made"
