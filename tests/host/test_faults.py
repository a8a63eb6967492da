"""The fault matrix: whatever a processor does in a process of its own, nothing is missing, and it comes back as it was.

In freewheel the engine waits for children that live, so content is exact: what is heard depends on no clock.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laned import BLOCK, FADE, Samples, Steps, conduct, conductor_of, covered, lane_of, living, risky, run
from racks import noise
from sigrack.lanes import lane, lives, plugin_lane, policy
from sigrack.lanes.plugin_lane import PluginLane
from sigrack.session import Session
from sigrack.soak.faulty import DENORMALS, KINDS, number_of
from waiting import wait_until

SECOND = 48_128
"""Frames of whole blocks."""
FIRST = 40 * BLOCK
GAIN = np.float32(-0.5)


@dataclass(frozen=True)
class Fault:
    """What a kind of fault should lead to."""

    causes: tuple[str, ...] = ()
    """What the death may be counted as; none: nobody dies."""
    plays_on: int = 20 * BLOCK
    """For how many frames the engine plays on before the file waits for the next life."""
    early: int = 0
    """By how many frames it may be heard before it happens: it overwrites what was made."""
    late: int = 0
    """By how many frames it may be heard later."""


FLOOD = SECOND + 40 * BLOCK
FAULTS = {
    "nothing": Fault(),
    "null write": Fault(("SIGSEGV",)),
    "heap smash": Fault(("SIGABRT", "SIGSEGV")),
    "stack overflow": Fault(("SIGSEGV",)),
    "abort": Fault(("SIGABRT",)),
    "exit": Fault(("exit code 7",)),
    "quit": Fault(("exit code 5",)),
    "loop": Fault(("hang",)),
    "sleep": Fault(("hang", "no answer")),  # to the request for its state
    "ignored signals": Fault(("hang", "no answer")),
    "NaN flood": Fault(("bad samples",), FLOOD),
    "infinite flood": Fault(("bad samples",), FLOOD),
    "loud flood": Fault(("bad samples",), FLOOD),
    "refusal flood": Fault(("refused",), FLOOD),
    "denormal flood": Fault(),
    "leak": Fault(("memory limit of 192 MiB",), 60 * BLOCK, late=SECOND),
    "division": Fault(("SIGFPE",)),
    "past output": Fault(("SIGSEGV",), early=BLOCK),
    "before output": Fault(("SIGSEGV", "false counters"), early=BLOCK),
    "input write": Fault(("SIGSEGV",)),
    "closed files": Fault(("exit code 71", "exit code 70"), late=SECOND),
    "rounding": Fault(),
    "refusal": Fault(),
    "fork": Fault(),
    "threads": Fault(),
}
"""The deadlock at the end has tests of its own: here, and in test_lanes.py."""


def test_every_kind_is_here() -> None:
    """The matrix knows all that the processors can do."""
    assert set(KINDS) == {*FAULTS, "mark", "deadlock"}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is found out soon, what has died begins again soon, and states are kept all the time."""
    monkeypatch.setattr(lane, "QUANTUM_CPU_S", 0.02)
    monkeypatch.setattr(lane, "QUANTUM_S", 0.2)
    monkeypatch.setattr(lane, "SNAPSHOT_S", 0.0)
    monkeypatch.setattr(policy, "FIRST_S", 0.01)
    monkeypatch.setattr(policy, "MOST_S", 0.01)


def schedule(kinds: list[str]) -> tuple[list[tuple[str, int]], int]:
    """Return at which frame each fault happens, and how long the file is."""
    faults, at = [], FIRST
    for kind in kinds:
        faults.append((kind, at))
        at += FAULTS[kind].plays_on + (DENORMALS + 40) * BLOCK
    return faults, at


def strike(ctx: Any, kind: str, turn: int = 0) -> None:
    """Let the next block be struck."""
    ctx.set_param("risky", "strike", number_of(kind, turn))


def back(lane: PluginLane, deaths: int, _: Any) -> Callable[[], bool]:
    """Return what to wait for: so many have died, and another lives."""
    return lambda: sum(lane.deaths.values()) >= deaths and lane.state == "running"


def snapshot_of(lane: PluginLane) -> tuple[str, bytes] | None:
    """Return version and state that the next life begins with."""
    return next(member.snapshot for member in lane._line if member.orders.name == "risky")


def steps_of(faults: list[tuple[str, int]], lane: PluginLane) -> Steps:
    """Return what is done when: a parameter and a state that are to come back, then one fault after the other."""
    steps: Steps = {
        0: lambda ctx: ctx.set_param("risky", "gain", float(GAIN)),
        BLOCK: lambda ctx: strike(ctx, "mark"),
        2 * BLOCK: lambda ctx: lambda: bool((state := snapshot_of(lane)) and state[1][:1] == b"\1"),
    }
    deaths = 0
    for turn, (kind, frame) in enumerate(faults, 1):
        steps[frame - BLOCK] = partial(strike, kind=kind, turn=turn)
        if FAULTS[kind].causes:
            deaths += 1
            steps[frame + FAULTS[kind].plays_on] = partial(back, lane, deaths)
    return steps


def check_sound(heard: Samples, sound: Samples, faults: list[tuple[str, int]]) -> None:
    """Check every frame: wet bit for bit but where a fault is covered."""
    wet = GAIN * sound
    wet[:BLOCK] = np.float32(-0.75) * sound[:BLOCK]
    at = 0
    for kind, frame in faults:
        fault = FAULTS[kind]
        np.testing.assert_array_equal(heard[at : frame - fault.early], wet[at : frame - fault.early], f"before {kind}")
        at = frame
        if kind == "denormal flood":
            at = frame + DENORMALS * BLOCK
            assert np.abs(heard[frame:at]).max() < 1e-37
        elif kind == "rounding":
            at = frame + BLOCK
            np.testing.assert_allclose(heard[frame:at], wet[frame:at], rtol=2e-7)
        elif kind == "refusal" or fault.causes:
            limit = frame + fault.plays_on + FADE + 4 * BLOCK
            at = covered(heard, sound, wet, frame, limit, early=fault.early, late=fault.late, what=kind)
    np.testing.assert_array_equal(heard[at:], wet[at:], "at the end")


def suffer(
    folder: Path, language: str, kinds: list[str], together: Callable[[str], str] = lambda slot: slot
) -> tuple[Session, PluginLane]:
    """Let a processor do all that one after the other, beside one that does nothing; check what is heard and counted.

    `together` puts its slot into a lane with others, which leave the sound as it is.
    """
    faults, frames = schedule(kinds)
    sound = noise(frames, 3)
    slots = risky(language, rest="memory_mb = 192\ncrash_budget = 0", channels='["1", "2"]')
    session = conduct(folder, together(slots) + risky("native", "steady", channels='["3"]'), sound)
    lane, conductor = lane_of(session), conductor_of(session)
    heard = run(folder, session, steps_of(faults, lane))

    assert sound.shape == heard.shape
    np.testing.assert_array_equal(heard[:, 2], np.float32(-0.75) * sound[:, 2])
    check_sound(heard[:, :2], sound[:, :2], faults)
    deadly = [FAULTS[kind].causes for kind in kinds if FAULTS[kind].causes]
    expected = Counter(causes[0] for causes in deadly if len(causes) == 1)
    assert len(deadly) == sum(lane.deaths.values())
    assert expected <= Counter(lane.deaths), lane.deaths
    assert set(lane.deaths) <= {cause for causes in deadly for cause in causes}
    assert len(deadly) + 1 == lane.facts["lives"]
    quanta, marks = [values[:2] for source, _, values in conductor.records if source == "risky"][-1]
    assert 1 == marks, "the state came back"
    assert quanta < frames // BLOCK or not deadly
    return session, lane


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("language", ["native", "python"])
def test_every_fault_is_covered_and_nothing_is_left(language: str, tmp_path: Path, heirs: str) -> None:
    """One processor does everything that is bad, one after the other: each frame is as it should be, and at the end no process
    is left, also none that it has forked."""
    session, _ = suffer(tmp_path, language, list(FAULTS))

    assert [] == session.rack.left_behind
    wait_until(lambda: not living(heirs), what="the end of all processes")


GUARDED = ("NaN flood", "infinite flood", "refusal flood", "refusal")
"""What a shared lane's own guards catch: nobody dies of it there."""


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("language", ["native", "python"])
def test_every_fault_in_a_shared_lane(
    language: str, place: str, tmp_path: Path, heirs: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same in a lane with another slot, before or behind it: what kills one takes both, both come back, and it is blamed."""
    other = "python" if language == "native" else "native"
    guest = risky(other, "guest", rest="memory_mb = 192\ncrash_budget = 0\nparams = { gain = 1.0 }", channels='["1", "2"]')

    def together(slot: str) -> str:
        pair = slot + guest if place == "first" else guest + slot
        return pair.replace('lane = "process"', 'lane = "process:pair"')

    other_than_alone = {
        *GUARDED,
        *(["input write"] if place == "last" else []),  # its input is not the memory that the host has written
        *(["closed files"] if language == "python" else []),  # it raises, for it cannot post any more, before the process ends
    }
    with caplog.at_level(logging.WARNING, "sigrack"):
        session, lane = suffer(tmp_path, language, [kind for kind in FAULTS if kind not in other_than_alone], together)

    assert 8 <= caplog.text.count("in risky") <= sum(lane.deaths.values())
    assert "in guest" not in caplog.text
    assert [] == session.rack.left_behind
    wait_until(lambda: not living(heirs), what="the end of all processes")


@pytest.mark.soak
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("language", ["native", "python"])
def test_fifty_faults(language: str, kind: str, tmp_path: Path, heirs: str) -> None:
    """The same fault fifty times: fifty times covered, counted, restarted."""
    suffer(tmp_path, language, [kind] * 50)

    wait_until(lambda: not living(heirs), what="the end of all processes")


@pytest.mark.soak
@pytest.mark.parametrize("language", ["native", "python"])
def test_fifty_ends_that_hang(
    language: str, tmp_path: Path, heirs: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot is swapped fifty times, and each time its `destroy`, or the saving of its state, does not return: the child is ended
    and told, the next one plays, and the slot beside it sounds as it does where nothing hangs."""
    monkeypatch.setattr(lives, "END_S", 0.2)
    monkeypatch.setattr(plugin_lane, "LOAD_S", 0.2)  # of a save in a render
    apart, turns = 60 * BLOCK, 50
    sound = noise(FIRST + turns * apart, 3)

    def swapped(kind: str) -> tuple[Session, Samples]:
        session = conduct(tmp_path, risky(language, channels='["1", "2"]') + risky("native", "steady", channels='["3"]'), sound)
        steps: Steps = {}
        for turn in range(turns):
            steps[FIRST + turn * apart] = partial(strike, kind=kind, turn=turn)
            steps[FIRST + turn * apart + 4 * BLOCK] = lambda ctx: ctx.swap("risky")
        conductor, heard = conductor_of(session), run(tmp_path, session, steps)
        assert turns == len(conductor.futures)
        return session, heard

    _, good = swapped("nothing")
    assert "did not return" not in caplog.text
    session, heard = swapped("deadlock")

    np.testing.assert_array_equal(good[:, 2], heard[:, 2])
    for at in range(FIRST, len(sound) + 1, apart):
        np.testing.assert_array_equal(heard[at - BLOCK : at], np.float32(-0.75) * sound[at - BLOCK : at], f"before {at}")
    assert turns == caplog.text.count(f"{'end' if language == 'native' else 'save'} did not return within 0.2 s")
    assert [] == session.rack.left_behind
    wait_until(lambda: not living(heirs), what="the end of all processes")
