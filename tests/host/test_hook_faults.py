"""The fault matrix of what runs in the host itself: hooks, and an inline plugin.

What Python can catch is caught and counted, and the sound is bit for bit what it is without. What kills the process leaves a
crash record that names who did it, and the next host tells: `test_custody.py` shows that it holds a suspect back.
"""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from children import python
from laned import PLUGINS, living
from racks import noise, write
from sigrack.crash import CrashLog
from sigrack.custody import book_path
from sigrack.deaths import Death, death_of
from sigrack_engine.crash import read
from waiting import wait_until

FIRST, APART = 8, 4
"""Which block of a hook is struck first, and how many come until the next."""
HOOK_FRAMES = 1024
ODD = [np.nan, np.inf, -np.inf, 1e-310, 1e34]

STRIKER = """
import asyncio, os, threading, time
from dataclasses import dataclass
from sigrack.soak.faulty import HARMS, LEAKED, number_of
from sigrack_plugins import Plugin

ODD = [float("nan"), float("inf"), -float("inf"), 1e-310, 1e34]

def raiser(error):
    def harm():
        raise error
    return harm

@dataclass
class Config:
    kind: str
    times: int
    slot: str

class Striker(Plugin):
    Config = Config
    factors = {"odd": ""}

    def on_start(self):
        self.kept = []
        self.struck = {FIRST + APART * n for n in range(self.config.times)}
        self.harms = HARMS | {
            "nothing": lambda: None,
            "interrupt": raiser(KeyboardInterrupt),
            "cancelled": raiser(asyncio.CancelledError),
            "odd parameters": lambda: self.ctx.set_param("volume", "gain_db", float("nan")),
            "loud parameters": lambda: self.ctx.set_param("volume", "gain_db", 1e34),
            "odd factors": lambda: self.ctx.post("odd", ODD),
            "long factors": lambda: self.ctx.post("odd", [0.0] * 1000),
            "leak": lambda: self.kept.append(b"x" * LEAKED),
            "abort beside": lambda: threading.Thread(target=os.abort).start(),
            "fork that returns": os.fork,
            "fork that crashes": lambda: os.fork() or os.abort(),
            "threads for ever": lambda: threading.Thread(target=time.sleep, args=(1000,)).start(),
        }

    def on_block(self, block):
        if (number := block.frame // HOOK_FRAMES) not in self.struck:
            return
        if self.config.slot:
            self.ctx.set_param(self.config.slot, "strike", number_of(self.config.kind, number))
        else:
            self.harms[self.config.kind]()
"""
RUN = """
import json, sys
import sigrack.leftovers
from sigrack.cli import main
from sigrack.session import Session
sigrack.leftovers.LIMIT_S = 0.3
run = Session.run
def told(session):
    bad, ears = (session.rack.slot(name).hooked for name in ("bad", "ears"))
    code = run(session)
    factors = [values.tolist() for batch in ears.plugin.batches if batch.source == "bad" for values in batch.values]
    frames = sum(block.frames for block in ears.plugin.blocks)
    print(json.dumps([bad.calls, bad.errors, bad.last_error, frames, factors, session.rack.left_behind]), flush=True)
    return code
Session.run = told
sys.exit(main())
"""
HOST = "import sys; from sigrack.cli import main; sys.exit(main())"

SURVIVED: dict[str, str] = {
    "nothing": "",
    "refusal": "ValueError: it was struck",
    "quit": "SystemExit",
    "interrupt": "KeyboardInterrupt",
    "cancelled": "CancelledError",
    "odd parameters": "ValueError",
    "loud parameters": "ValueError",
    "odd factors": "",
    "long factors": "ValueError",
    "rounding": "",
    "leak": "",
    "fork": "",
    "fork that returns": "",
    "fork that crashes": "",
    "threads": "",
    "threads for ever": "",
}
"""What is counted, each time; empty: it is no error."""
FATAL: dict[str, tuple[str, ...]] = {
    "null write": ("SIGSEGV",),
    "heap smash": ("SIGABRT", "SIGSEGV"),
    "stack overflow": ("SIGSEGV",),
    "abort": ("SIGABRT",),
    "division": ("SIGFPE",),
}
"""What the host dies of."""
UNNAMED = {"exit": ("",), "closed files": ("", "SIGABRT")}
"""What it dies of that nobody can be blamed for: the process ends itself, or later, of what is not there any more."""


def rack(folder: Path, kind: str, times: int, slot: str = "") -> Path:
    """Write a rack whose hook, or whose inline plugin, does harm so many times while a file is played; return its path."""
    (folder / "bad.py").write_text(f"FIRST, APART, HOOK_FRAMES = {FIRST}, {APART}, {HOOK_FRAMES}\n{STRIKER}")
    victim = f'[[slot]]\nname = "victim"\nplugin = "{PLUGINS["native"]}"\nlane = "inline"\n' if slot else ""
    return write(
        folder,
        f'[rack]\nhook_frames = {HOOK_FRAMES}\n[source]\ndriver = "file"\npath = "in.wav"\n'
        '[sink]\ndriver = "file"\npath = "out.wav"\noverwrite = true\n'
        f'[[slot]]\nname = "volume"\nplugin = "gain"\nlane = "inline"\nparams = {{ gain_db = -3.0 }}\n{victim}'
        f'[[slot]]\nname = "bad"\nplugin = "./bad.py"\n[slot.config]\nkind = "{kind}"\ntimes = {times}\nslot = "{slot}"\n'
        '[[slot]]\nname = "ears"\nplugin = "./collector.py"\n',
        noise((FIRST + APART * (times + 1)) * HOOK_FRAMES),
    )


def survive(folder: Path, kind: str, times: int) -> None:
    """Let a hook do the same so many times; check what is heard, counted and left."""
    child = python(RUN, "run", rack(folder, kind, times))
    calls, errors, last, frames, factors, left = json.loads(child.stdout)
    sound = soundfile.read(folder / "out.wav", dtype="float32")[0]
    blocks = FIRST + APART * (times + 1)
    good = np.float32(10 ** (-3 / 20)) * noise(blocks * HOOK_FRAMES)

    assert (103 if kind == "threads for ever" else 0) == child.returncode, child.stderr
    np.testing.assert_array_equal(good, sound)
    assert (blocks, blocks * HOOK_FRAMES, []) == (calls, frames, left)
    assert (times if SURVIVED[kind] else 0) == errors
    assert SURVIVED[kind] == last[: len(SURVIVED[kind]) if SURVIVED[kind] else None]
    np.testing.assert_equal(factors, [ODD] * (times if kind == "odd factors" else 0))
    assert (times if kind == "fork that returns" else 0) == child.stderr.count("forked came back from it and was ended")
    assert (kind == "threads for ever") == ("threads that a plugin has started did not end within 0.3 s" in child.stderr)
    assert not CrashLog.path_of("rack").exists()


def die(folder: Path, kind: str, slot: str, times: int) -> list[Death]:
    """Let so many hosts die one after the other; return what their records say. Each but the first tells of the one before it."""
    path, deaths = rack(folder, kind, 1, slot), list[Death]()
    for _ in range(times):
        book_path("rack").unlink(missing_ok=True)  # nobody is held back for those before
        child = python(HOST, "run", path)
        record = read(CrashLog.path_of("rack"))
        assert record, child.stderr
        assert not deaths or f"the last host of this rack: {deaths[-1]}" in child.stderr
        assert "not loaded" not in child.stderr
        deaths.append(death_of(record))
        assert child.returncode != 0
    return deaths


def check_deaths(deaths: list[Death], kind: str, slot: str, times: int) -> None:
    """Each has its signal, the thread, and who it was."""
    assert times == len({death.pid for death in deaths})
    assert {death.signal for death in deaths} <= set((FATAL | UNNAMED)[kind])
    assert {(slot or "bad") if kind in FATAL else ""} == {death.suspect for death in deaths}
    assert kind in UNNAMED or {"the main loop"} == {death.thread for death in deaths}


@pytest.mark.parametrize("kind", SURVIVED)
def test_what_a_hook_does_is_caught_and_heard_by_nobody(tmp_path: Path, heirs: str, kind: str) -> None:
    """Exceptions of all kinds, parameters and factors that are no numbers, rounding, memory, forks and threads."""
    survive(tmp_path, kind, 1)

    wait_until(lambda: not living(heirs), what="the end of all processes")


@pytest.mark.soak
@pytest.mark.parametrize("kind", SURVIVED)
def test_fifty_faults(tmp_path: Path, heirs: str, kind: str) -> None:
    """The same fifty times while one file is played."""
    survive(tmp_path, kind, 50)

    wait_until(lambda: not living(heirs), what="the end of all processes")


@pytest.mark.parametrize("slot", ["", "victim"], ids=["hook", "inline"])
@pytest.mark.parametrize("kind", FATAL | UNNAMED)
def test_a_death_is_named(tmp_path: Path, kind: str, slot: str) -> None:
    """The record says of which signal the host died, and in whose hook or block; nobody is named who cannot be known."""
    check_deaths(die(tmp_path, kind, slot, 1), kind, slot, 1)


def test_three_deaths_of_nobody_end_in_safe_mode(tmp_path: Path) -> None:
    """What a hook has started aborts three hosts beside it; the fourth loads nothing but the volume, and plays."""
    path = rack(tmp_path, "abort beside", 1)
    codes = [python(HOST, "run", path).returncode for _ in range(3)]
    child = python(HOST, "run", path)

    assert [-signal.SIGABRT] * 3 == codes
    assert 0 == child.returncode
    assert "safe mode: no plugin is loaded, dry audio goes out" in child.stderr
    sound = noise((FIRST + APART * 2) * HOOK_FRAMES)
    np.testing.assert_array_equal(np.float32(10 ** (-3 / 20)) * sound, soundfile.read(tmp_path / "out.wav", dtype="float32")[0])


@pytest.mark.soak
@pytest.mark.parametrize("slot", ["", "victim"], ids=["hook", "inline"])
@pytest.mark.parametrize("kind", FATAL | UNNAMED)
def test_fifty_deaths(tmp_path: Path, kind: str, slot: str) -> None:
    """Fifty hosts in turn die of it: each is named, and the next one tells."""
    check_deaths(die(tmp_path, kind, slot, 50), kind, slot, 50)
