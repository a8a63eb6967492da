"""A running rack changes to a new file: unchanged slots run on, an invalid file changes nothing."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from racks import freewheel, noise
from sigrack.config import load
from sigrack.errors import ConfigError
from sigrack.session import Session

VOLUME = '[[slot]]\nname = "volume"\nplugin = "gain"\nparams = { gain_db = -6.0, smooth_ms = 0.0 }\n'
METER = '[[slot]]\nname = "meter"\nplugin = "level"\n'
EARS = '[[slot]]\nname = "ears"\nplugin = "./collector.py"\n'
FRAMES = 480_000


def change_half_way(session: Session, change: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[Any, npt.NDArray[np.float32], int]:
    """Run the session and await `change` once half of the file is through; return its result, the audio heard, and when."""
    ears: Any = session.rack.slot("ears").hooked.plugin  # type: ignore[union-attr]
    outcome: list[Any] = []

    async def watch() -> None:
        while session.rack.engine.frame < FRAMES // 2:
            await asyncio.sleep(0)
        outcome.append(session.rack.engine.frame)
        try:
            outcome.append(await change())
        except ConfigError as error:
            outcome.append(error)
        await asyncio.Event().wait()  # the run goes on to the end of the file

    drain_all = session.rack.drain_all

    def drain_slowly() -> None:
        """Leave the change time to happen before the file ends."""
        drain_all()
        if len(outcome) == 1:
            time.sleep(0.001)

    session.rack.drain_all = drain_slowly  # type: ignore[method-assign]
    session.run(beside=watch)
    heard = np.concatenate([block.samples for block in ears.blocks])
    return outcome[1], heard, outcome[0]


def rewrite(session: Session, old: str, new: str) -> None:
    """Edit the rack's file."""
    path = session.document.path
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_parameter_changes_alone(tmp_path: Path) -> None:
    """RELOAD with one changed number applies it from a block boundary on; nothing else moves, no frame is missing."""
    sound = noise(FRAMES)
    session = freewheel(tmp_path, VOLUME + METER + EARS, sound)
    slots = session.rack.slots
    rewrite(session, "-6.0", "-12.0")
    changed, heard, frame = change_half_way(session, session.reload)
    gains = heard[:, 0] / sound[:, 0]
    switch = int(np.argmax(gains < 0.4))

    assert ["volume.gain_db = -12"] == changed
    assert FRAMES == len(heard)
    assert frame <= switch < FRAMES
    assert 0 == switch % 256
    assert np.allclose(10 ** (-6 / 20), gains[:switch])
    assert np.allclose(10 ** (-12 / 20), gains[switch:])
    assert 3 == len(slots)


def test_what_control_has_set_stays_unless_the_file_changes_it(tmp_path: Path) -> None:
    """RELOAD leaves a value set by control alone when the file still says what it said, and follows the file when it does not."""
    session = freewheel(tmp_path, VOLUME + EARS, noise(FRAMES))
    volume = session.rack.slot("volume")

    async def change() -> list[list[str]]:
        volume.set_param("gain_db", -20.0)
        volume.set_bypass(True)
        same = await session.reload()
        rewrite(session, "smooth_ms = 0.0", "smooth_ms = 5.0")
        return [same, await session.reload()]

    changed, _, _ = change_half_way(session, change)

    assert [[], ["volume.smooth_ms = 5"]] == changed
    assert {"gain_db": -20.0, "smooth_ms": 5.0} == volume.values
    assert volume.bypass


def test_slots_come_and_go_between_fades(tmp_path: Path) -> None:
    """A changed slot list is switched in silence: the steps on the way are no larger than the fade's."""
    sound = np.full((FRAMES, 2), 0.5, np.float32)
    session = freewheel(tmp_path, VOLUME + METER + EARS, sound)
    kept = session.rack.slot("ears")
    rewrite(session, METER, '[[slot]]\nname = "boost"\nplugin = "gain"\nparams = { gain_db = 6.0 }\n')
    changed, heard, _ = change_half_way(session, session.reload)

    assert ["removed meter", "added boost"] == changed
    assert kept.hooked is not None
    assert FRAMES == len(heard)
    assert np.allclose(0.5 * 10 ** (-6 / 20), heard[: FRAMES // 2])
    assert np.allclose(0.5, heard[-1000:], atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gain_db", "gian_db", "gain_db"),
        ("-6.0", "60.0", "out of range"),
        ('"level"', '"leval"', 'did you mean "level"'),
        ("[rack]", "[rack]\nblock_frames = 64", "cannot change while the rack runs"),
        ("[[slot]]", "[[slot", "not valid TOML"),
        ("[rack]", '[publish]\nendpoint = "ipc:///tmp/x"\nfactors = ["meter.*"]\n[rack]', "[publish] cannot change"),
        (
            "[rack]",
            '[[feed]]\nname = "ticks"\ndriver = "csv"\nkind = "trade"\npath = "x.csv"\n[rack]',
            "rack.toml:1: [[feed]] cannot change",
        ),
    ],
)
def test_an_invalid_file_changes_nothing(tmp_path: Path, old: str, new: str, message: str) -> None:
    """When the new file is wrong the reload says where, and the audio is bit-identical to a run without it."""
    sound = noise(FRAMES)
    session = freewheel(tmp_path, VOLUME + METER + EARS, sound)
    rewrite(session, old, new)
    error, heard, _ = change_half_way(session, session.reload)
    undisturbed = freewheel(tmp_path, VOLUME + METER + EARS, sound)

    async def nothing() -> None:
        pass

    _, wanted, _ = change_half_way(undisturbed, nothing)

    assert isinstance(error, ConfigError)
    assert message in str(error)
    assert np.array_equal(wanted, heard)


def test_bypass_is_a_linear_cross_fade(tmp_path: Path) -> None:
    """Bypassing a slot fades from its output to its input over fade_ms, linearly, sample by sample."""
    session = freewheel(tmp_path, VOLUME + EARS, np.ones((FRAMES, 2), np.float32) * 0.5, rack="fade_ms = 10")

    async def bypass() -> None:
        session.rack.slot("volume").set_bypass(True)

    _, heard, _ = change_half_way(session, bypass)
    low, high = 0.5 * 10 ** (-6 / 20), 0.5
    start = int(np.argmax(heard[:, 0] > low + 1e-6))
    ramp = low + (high - low) * np.arange(1, 481) / 480

    assert np.allclose(ramp, heard[start : start + 480, 0], atol=1e-6)
    assert np.all(heard[start + 480 :] == np.float32(high))


def test_reload_reads_the_file_that_the_session_came_from(tmp_path: Path) -> None:
    """The document in force is the new one afterwards."""
    session = freewheel(tmp_path, VOLUME + EARS, noise(FRAMES))
    rewrite(session, "-6.0", "-7.0")
    change_half_way(session, session.reload)

    assert load(session.document.path).config == session.document.config
