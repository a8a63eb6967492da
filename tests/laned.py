"""Racks whose processors run in children: what is asked of them at which frame, and what should be heard of it."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from racks import write
from sigrack.config import load
from sigrack.lanes.plugin_lane import PluginLane
from sigrack.session import Session
from sigrack.soak import faulty
from sigrack_plugins import native

__all__ = [
    *(
        "BLOCK",
        "FADE",
        "PLUGINS",
        "Samples",
        "Steps",
        "conduct",
        "conductor_of",
        "covered",
        "lane_of",
    ),
    *("risky", "run"),
]

Samples = npt.NDArray[np.float32]
Steps = dict[int, Callable[[Any], Any]]
BLOCK = 256
FADE = 960
"""Frames of a fade at 48 kHz by default."""
PLUGINS = {"native": native(faulty.__file__, "faulty_native"), "python": Path(faulty.__file__)}

CONDUCTOR = '''
import asyncio, time
from sigrack_plugins import Plugin

class Conductor(Plugin):
    """Does what a test has asked for when its frame has come; what it is given to wait for holds the file up."""
    steps = {}
    def on_start(self):
        self.futures, self.records, self.waited = [], [], []
    async def on_block(self, block):
        for frame in sorted(self.steps):
            if frame <= block.frame:
                result = self.steps.pop(frame)(self.ctx)
                if callable(result):
                    stop = time.monotonic() + 30
                    while not result() and time.monotonic() < stop:
                        await asyncio.sleep(0.002)
                    self.waited.append(bool(result()))
                elif result is not None:
                    self.futures.append(result)
    def on_factors(self, batch):
        self.records += [(batch.source, int(f), v.tolist()) for f, v in zip(batch.frame, batch.values)]
'''


def risky(language: str, name: str = "risky", rest: str = "", channels: str = "") -> str:
    """Return the table of a slot with a faulty processor in a child."""
    wired = f"in = {channels}\n" if channels else ""
    return f'[[slot]]\nname = "{name}"\nplugin = "{PLUGINS[language]}"\nlane = "process"\n{wired}{rest}\n'


def conduct(folder: Path, slots: str, sound: Samples, rack: str = "") -> Session:
    """Return a session, not yet run, that sends `sound` through a conductor and `slots` into heard.wav."""
    (folder / "conductor.py").write_text(CONDUCTOR)
    head = f'[rack]\nblock_frames = {BLOCK}\nhook_frames = {BLOCK}\n{rack}\n[source]\ndriver = "file"\npath = "in.wav"\n'
    sink = '[sink]\ndriver = "file"\npath = "heard.wav"\noverwrite = true\n[control]\nenabled = false\n'
    first = '[[slot]]\nname = "conductor"\nplugin = "./conductor.py"\n'
    return Session(load(write(folder, head + sink + first + slots, sound)))


def run(folder: Path, session: Session, steps: Steps) -> Samples:
    """Run it, doing the steps at their frames; return what was heard."""
    conductor = conductor_of(session)
    conductor.steps = dict(steps)
    assert 0 == session.run()
    assert not conductor.steps, conductor.steps
    assert all(conductor.waited), conductor.waited
    assert [None] * len(conductor.futures) == [future.exception() for future in conductor.futures]
    return soundfile.read(folder / "heard.wav", dtype="float32", always_2d=True)[0]  # type: ignore[no-any-return]


def conductor_of(session: Session) -> Any:
    """Return the plugin that conducts."""
    hooked = session.rack.slot("conductor").hooked
    assert hooked is not None
    return hooked.plugin


def lane_of(session: Session, name: str = "risky") -> PluginLane:
    """Return a slot's lane."""
    lane = session.rack.slot(name).lane
    assert lane is not None
    return lane


def living(mark: str) -> list[int]:
    """Return the other processes whose environment holds `mark`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(int(path.parent.name))
    return found


def covered(
    heard: Samples, sound: Samples, wet: Samples, fault: int, limit: int, *, early: int = 0, late: int = 0, what: str = ""
) -> int:
    """Check what a fault in the quantum at frame `fault` leaves to be heard; return the first frame after the return.

    Wet before, bit for bit; then the input and the residue by the formula; from some block on, at `limit` at the latest, a
    cross-fade. `early`: by how many frames the fault may be heard before it, since it has overwritten what had been made; `late`:
    by how many afterwards, since it takes time to be felt.
    """
    start = fault - early + int(np.argmax((heard != wet)[fault - early :].any(axis=1)))
    assert fault - early <= start <= fault + late, (what, start, fault)
    left = heard[start - 1] - sound[start - 1]
    length = limit + FADE - start
    residue = left * np.clip(1 - np.arange(1, length + 1)[:, None] / FADE, 0, None)
    dry, real = sound[start : start + length] + residue, heard[start : start + length]
    away = np.abs(real - dry).max(axis=1) > 1e-5
    back = int(np.argmax(away))
    assert BLOCK <= back <= limit - start, (what, start, start + back, limit)
    assert 0 == (start + back) % BLOCK, (what, "a return begins with a block")
    gain = np.clip(np.arange(1, length - back + 1)[:, None] / FADE, 0, 1)
    rest = dry[back:] + gain * (wet[start + back : start + length] - dry[back:])
    np.testing.assert_allclose(real[back:], rest, atol=1e-5, err_msg=what)
    return start + back + FADE
