"""Slots on some channels of the bus while they change: swaps, reloads, loads, bypasses, failures."""

import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from buses import NAMES, bus, opened, play, slot, taps_of
from oracles.bus import Signal, Standing, through
from oracles.chain import error_db
from racks import noise
from sigrack.errors import ConfigError
from sigrack.session import Session

FADE = 960
"""Frames of a fade at 48 kHz by default."""
BLOCK = "block_frames = 64\nhook_frames = 64"
BUS = bus("abcd", "abc")


def faded(old: Signal, new: Signal, start: int) -> Signal:
    """Return the ideal cross-fade that begins at frame `start`."""
    ramp = np.clip((np.arange(len(old)) - start + 1) / FADE, 0.0, 1.0)[:, None]
    return (1.0 - ramp) * old + ramp * new


def beginning(heard: Signal, old: Signal, late: int) -> int:
    """Return in which frame of the engine's the block begins in which the sound is not the old one any more."""
    return int(np.argmax(np.abs(heard - old).max(axis=1) > 1e-5) + late) // 64 * 64


def sounded(*slots: Standing, frames: int = 24_000) -> tuple[npt.NDArray[np.float32], Signal]:
    """Return a sound, and what the slots make of it on the channels that go out, aligned with it."""
    sound = noise(frames, 4)
    late = sum(standing.latency for standing in slots)
    padded = np.concatenate([sound, np.zeros((late, 4))]).astype(np.float64)
    return sound, through(padded, slots)[late:, :3]


@pytest.mark.parametrize(("heard", "written"), [("db", "db"), ("d", "ab"), ("abc", "d"), ("dab", "bc")])
def test_a_swap_in_the_middle_of_music_is_the_ideal_cross_fade(tmp_path: Path, heard: str, written: str) -> None:
    """Another filter on some channels: the old sound, a linear fade, the new sound; the other channels go on bit for bit.

    A slot behind it takes what was written to where it is heard.
    """
    ins, outs = ([NAMES.index(name) for name in names] for names in (heard, written))
    back = Standing(taps_of(1, 2, 9), [3, 0], [2])
    sound, old = sounded(Standing(taps_of(len(outs), len(ins), 1, 900, 30), ins, outs, 30), back)
    _, new = sounded(Standing(taps_of(len(outs), len(ins), 2, 1000, 30), ins, outs, 30), back)
    tables = slot("taps", heard=heard, written=written, rest="config = { seed = 1, taps = 900, late = 30 }")
    tables += slot("back", heard="da", written="c", rest="config = { seed = 9 }")
    config = {"seed": 2, "taps": 1000, "late": 30}
    found = play(tmp_path, BUS + tables, sound, {9000: lambda ctx: ctx.swap("taps", config=config)}, BLOCK)
    start = beginning(found, old, 30)
    untouched = [c for c in range(2) if c not in outs]

    assert 8900 <= start <= 9800
    assert error_db(found, swapped(sound, ins, outs, start)) < -110.0
    assert error_db(found, swapped(sound, ins, outs, start + 30)) > -70.0, "the comparison sees thirty frames"
    assert error_db(found[-12_000:], new[-12_000:]) < -120.0
    assert np.array_equal(sound[:, untouched], found[:, untouched].astype(np.float32))


def swapped(sound: npt.NDArray[np.float32], ins: list[int], outs: list[int], start: int) -> Signal:
    """Return the cross-fade of the first slot's two filters, seen through the second slot."""
    padded = np.concatenate([sound, np.zeros((30, 4))]).astype(np.float64)
    old = through(padded, [Standing(taps_of(len(outs), len(ins), 1, 900, 30), ins, outs, 30)])
    new = through(padded, [Standing(taps_of(len(outs), len(ins), 2, 1000, 30), ins, outs, 30)])
    return through(faded(old, new, start), [Standing(taps_of(1, 2, 9), [3, 0], [2])])[30:, :3]


def test_a_bypass_leaves_what_the_channels_held(tmp_path: Path) -> None:
    """Bypassed, the channels that a slot would write are what they were before it, late by as much: a cross-fade and back."""
    place = ([3], [0, 1])
    sound, wet = sounded(Standing(taps_of(2, 1, late=40), *place, 40))
    _, dry = sounded(Standing(taps_of(2, 1, late=40), *place, 40, bypass=True))
    tables = slot("spread", heard="d", written="ab", rest="config = { late = 40 }")
    starts: list[int] = []

    def bypassed(on: bool) -> Callable[[Any], None]:
        def switch(ctx: Any) -> None:
            starts.append(session.rack.engine.frame - 40)
            session.rack.slot("spread").set_bypass(on)

        return switch

    session = opened(tmp_path, BUS + tables + slot("director", "./director.py"), sound, BLOCK)
    director: Any = session.rack.slot("director").hooked.plugin  # type: ignore[union-attr]
    director.steps = {6000: bypassed(True), 12_000: bypassed(False)}
    assert 0 == session.run()
    found = soundfile.read(tmp_path / "heard.wav")[0]
    first, second = starts
    wanted = np.concatenate([faded(wet, dry, first)[:10_000], faded(dry, wet, second)[10_000:]])

    assert error_db(found, wanted) < -110.0
    assert error_db(found, wet) > -20.0


def test_a_filter_that_overflows_leaves_what_the_channels_held(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For the blocks that are not finite, and no longer; the log says so."""
    sound = noise(6400, 4)
    sound[3000, 3] = 3e38
    loud = slot("loud", "route", "d", "a", "config = { factors = { a = { d = 10 } } }")
    found = play(tmp_path, BUS + loud, sound, rack=BLOCK)
    bad = slice(3000 // 64 * 64, 3000 // 64 * 64 + 64)
    wanted = sound[:, :3].astype(np.float64)
    wanted[:, 0] = 10 * sound[:, 3].astype(np.float64)
    wanted[bad, 0] = sound[bad, 0]

    assert np.allclose(wanted, found, rtol=1e-6, atol=0)
    assert any("loud: its output was NaN or infinite: what its channels held was played" in line for line in caplog.messages)


def test_load_stands_where_it_is_told(tmp_path: Path) -> None:
    """`ctx.load` with channels: the slot hears and writes these; a wrong name is refused, and nothing has changed."""
    sound, _ = sounded()
    refused: list[Any] = []

    def load(ctx: Any) -> Any:
        return ctx.load("swap", "gain", params={"smooth_ms": 0}, inputs=["a", "d"], outputs=["d", "a"])

    def load_wrong(ctx: Any) -> None:
        refused.append(ctx.load("wrong", "gain", inputs=["a", "x"]))

    found = play(tmp_path, BUS, sound, {3000: load_wrong, 6000: load}, BLOCK)

    assert 'in: there is no channel "x"; valid: a, b, c, d' == str(refused[0].exception())
    assert np.allclose(sound[-12_000:, [3, 1, 2]], found[-12_000:], atol=1e-7)
    assert np.array_equal(sound[:5000, :3], found[:5000].astype(np.float32))


def reloaded(session: Session, folder: Path, change: Callable[[str], str]) -> list[Any]:
    """Run a session and reload its file, changed, in the middle; return what the reload gives or raises."""
    outcome: list[Any] = []

    async def reload() -> None:
        while session.rack.engine.frame < 6000:
            await asyncio.sleep(0)
        path = folder / "rack.toml"
        path.write_text(change(path.read_text()))
        try:
            outcome.append(await session.reload())
        except ConfigError as error:
            outcome.append(str(error))
        await asyncio.Event().wait()

    session.run(beside=reload)
    return outcome


def test_a_reload_moves_a_slot_to_other_channels(tmp_path: Path) -> None:
    """Another `in` or `out` in the file is another slot, switched in a dip; its parameters are handed over."""
    sound, _ = sounded(frames=200_000)
    tables = slot("volume", "gain", "a", rest="params = { gain_db = -20.0, smooth_ms = 0 }") + slot("meter", "level", "b")
    session = opened(tmp_path, BUS + tables, sound, BLOCK)
    (outcome,) = reloaded(session, tmp_path, lambda text: text.replace("in = ['a']", "in = ['c']"))
    found = soundfile.read(tmp_path / "heard.wav")[0]

    assert ["changed volume"] == outcome
    assert np.allclose(sound[:5000, :3] * [0.1, 1, 1], found[:5000], atol=1e-7)
    assert np.allclose(sound[-50_000:, :3] * [1, 1, 0.1], found[-50_000:], atol=1e-7)


HEARER = """
from sigrack_plugins import Plugin

ALL = []

class Hearer(Plugin):
    def on_start(self):
        self.heard, self.restored = [], False
        ALL.append(self)
    def on_block(self, block):
        assert block.samples.shape == (block.frames, self.ctx.setup.channels)
        self.heard.append((block.frame, block.frames))
    def on_state_save(self):
        return {}
    def on_state_restore(self, state, version):
        self.restored = True
"""


def test_audio_and_state_of_other_channels_are_not_handed_over(tmp_path: Path) -> None:
    """Blocks that wait when a reload moves a listener are the old instance's, to the last frame; so is its state."""
    (tmp_path / "hearer.py").write_text(HEARER)
    sound, _ = sounded(frames=100_000)
    session = opened(tmp_path, BUS + slot("ears", "./hearer.py", "ab"), sound, "block_frames = 64\nhook_frames = 1000")
    (outcome,) = reloaded(session, tmp_path, lambda text: text.replace("in = ['a', 'b']", "in = ['c']"))
    (module,) = {sys.modules[type(thing).__module__] for thing in gc.get_objects() if type(thing).__name__ == "Hearer"}
    old, new = module.ALL

    assert ["changed ears"] == outcome
    assert not new.restored
    ends = [frame + frames for frame, frames in old.heard]
    assert [0, *ends[:-1]] == [frame for frame, _ in old.heard]
    assert new.heard[0][0] == ends[-1]
    assert 100_000 == new.heard[-1][0] + new.heard[-1][1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("out = ['a', 'b', 'c']", "out = ['c', 'b', 'a']", "rack.toml:13: [bus] cannot change while the rack runs; restart it"),
        ("in = ['a']", "in = ['x']", 'rack.toml:20: in: there is no channel "x"; valid: a, b, c, d'),
    ],
)
def test_a_reload_that_cannot_be_changes_nothing(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The bus itself is fixed while the rack runs, and a wrong name is named."""
    sound, _ = sounded(frames=100_000)
    session = opened(tmp_path, BUS + slot("volume", "gain", "a"), sound, BLOCK)
    (outcome,) = reloaded(session, tmp_path, lambda text: text.replace(old, new))

    assert message in outcome
    assert np.array_equal(sound[:, :3], soundfile.read(tmp_path / "heard.wav", dtype="float32")[0])
