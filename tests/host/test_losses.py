"""What an instance has lost stays in STATS when it has gone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from factories import Compile
from racks import freewheel, noise, write
from sigrack.config import load
from sigrack.session import Session
from sigrack.status import stats
from sigrack.tally import Tally

COUNTER = """
from sigrack_plugins import Plugin
FRAMES = []
class Counter(Plugin):
    def on_block(self, block):
        FRAMES.append(block.frames)
"""
SLOWLY = """
import asyncio
from sigrack_plugins import Plugin
class Slowly(Plugin):
    async def on_block(self, block):
        await asyncio.sleep(0.005)
"""
RAISER = """
from sigrack_plugins import Plugin
class Raiser(Plugin):
    def on_block(self, block):
        raise RuntimeError("no")
"""
ENGINE = """
#include <stdlib.h>
#include <unistd.h>
#include "sigrack_signal.h"
void *signal_create(const char *config) { (void)config; return malloc(1); }
void signal_on_data(void *handle, int type, const void *data) { (void)handle, (void)type, (void)data, usleep(30000); }
void signal_destroy(void *handle) { free(handle); }
"""


def slot(name: str) -> str:
    """The table of the plugin NAME.py."""
    return f'[[slot]]\nname = "{name}"\nplugin = "./{name}.py"\n'


def swapped_half_way(session: Session, frames: int, name: str, *, drain: bool = False) -> tuple[Any, Tally]:
    """Run the session and swap `name` in the middle; return its STATS right after that, and its counts at the end."""
    found: list[Any] = []

    async def swap() -> None:
        while session.rack.engine.frame < frames // 2:
            await asyncio.sleep(0)
        changes = session.rack.changes
        await asyncio.wrap_future(changes.requests.request(lambda: changes.swap(name, drain=drain), "test"))
        found.append(stats(session)["slots"][0])
        await asyncio.Event().wait()

    session.run(beside=swap)
    return found[0], session.rack.accounts.tallies()[name]


def test_frames_that_a_swap_discards_are_counted(tmp_path: Path) -> None:
    """After SWAP drain=false each frame has reached one of the two instances or is a lost one."""
    (tmp_path / "counter.py").write_text(COUNTER)
    frames = 30 * 8192
    session = freewheel(tmp_path, slot("counter"), noise(frames), rack="hook_frames = 8192")
    plugin: Any = session.rack.slot("counter").hooked.plugin  # type: ignore[union-attr]
    heard = type(plugin).on_block.__globals__["FRAMES"]
    said, total = swapped_half_way(session, frames, "counter")

    assert 0 < said["lost_frames"] <= total.lost_frames < 3 * 8192
    assert frames == sum(heard) + total.lost_frames


def test_nothing_is_lost_when_a_swap_delivers(tmp_path: Path) -> None:
    """The control: with drain=true no frame is missing, and none counts as lost."""
    (tmp_path / "counter.py").write_text(COUNTER)
    frames = 30 * 8192
    session = freewheel(tmp_path, slot("counter"), noise(frames), rack="hook_frames = 8192")

    assert 0 == swapped_half_way(session, frames, "counter", drain=True)[1].lost_frames


def test_calls_that_a_swap_discards_are_counted(tmp_path: Path) -> None:
    """After SWAP drain=false each call of a coroutine hook was made or is a dropped one, over both instances."""
    (tmp_path / "slowly.py").write_text(SLOWLY)
    frames = 12 * 8192
    session = freewheel(tmp_path, slot("slowly"), noise(frames), rack="block_frames = 8192\nhook_frames = 512")
    said, total = swapped_half_way(session, frames, "slowly")

    assert 0 < said["hooks"]["dropped"] <= total.dropped
    assert frames == 512 * (total.calls + total.dropped) + total.lost_frames


def test_errors_stay_when_their_instance_has_gone(tmp_path: Path) -> None:
    """What hooks raised is counted over all instances of a name, also when the rack holds none of them any more."""
    (tmp_path / "raiser.py").write_text(RAISER)
    frames = 48 * 1024
    session = freewheel(tmp_path, slot("raiser"), noise(frames))
    said, total = swapped_half_way(session, frames, "raiser", drain=True)

    assert 24 <= said["hooks"]["errors"]
    assert 48 <= total.errors == total.calls  # a block may come in two parts, one for each instance
    assert 0 == total.lost_frames


def test_frames_that_a_signal_engine_lost_stay_counted(tmp_path: Path, cc: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that a slow signal engine has lost are still counted when it has been swapped."""
    monkeypatch.setattr("sigrack.signals.FEED_S", 0.0)
    library = cc(ENGINE, "engine", "-D_GNU_SOURCE")
    table = f'[[signal]]\nname = "engine"\nlibrary = "{library}"\nlane = "inline"\nsymbols = ["N"]\n'
    session = Session(load(write(tmp_path, f'[source]\ndriver = "none"\n[control]\nenabled = false\n{table}')))
    found: list[int] = []

    async def swap() -> None:
        tap = session.rack.signals[0].tap
        assert tap is not None
        while not tap.lost:
            await asyncio.sleep(0.01)
        found.append(tap.lost)
        await session.rack.changes.swap("engine")
        await session.rack.reaper.idle()
        found.append(stats(session)["signals"]["engine"]["lost_frames"])

    session.run(beside=swap)

    assert 0 < found[0] <= found[1]
