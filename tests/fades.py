"""Racks that are changed while they play, and what should be heard of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from director import DIRECTOR
from oracles.chain import error_db
from racks import write
from sigrack.config import load
from sigrack.session import Session

__all__ = ["FADE", "Signal", "Steps", "beginning", "changed", "faded", "slot"]

Signal = npt.NDArray[np.float64]
Steps = dict[int, Callable[[Any], Any]]
FADE = 960
"""Frames of a cross-fade at 48 kHz by default."""


def slot(name: str, plugin: str = "./filter.py", config: str = "", rest: str = "") -> str:
    """Return a slot's table."""
    return f'[[slot]]\nname = "{name}"\nplugin = "{plugin}"\n{rest}\n' + (f"[slot.config]\n{config}\n" if config else "")


def changed(folder: Path, tables: str, sound: npt.NDArray[np.float32], steps: Steps, rack: str = "") -> tuple[Session, Signal]:
    """Play `sound` through a rack to a file, doing the steps at their frames; return the session and what was heard."""
    table = '[sink]\ndriver = "file"\npath = "heard.wav"\noverwrite = true\n[control]\nenabled = false\n'
    head = f'[rack]\nblock_frames = 64\nhook_frames = 64\n{rack}\n[source]\ndriver = "file"\npath = "in.wav"\n{table}'
    (folder / "director.py").write_text(DIRECTOR)
    session = Session(load(write(folder, head + slot("director", "./director.py") + tables, sound)))
    hooked = session.rack.slot("director").hooked
    assert hooked is not None
    director: Any = hooked.plugin
    director.steps = dict(steps)
    assert 0 == session.run()
    assert not director.steps
    assert [None] * len(director.futures) == [future.exception() for future in director.futures]
    heard: Signal = soundfile.read(folder / "heard.wav")[0]
    return session, heard


def faded(heard: Signal, old: Signal, new: Signal, start: int, fade: int = FADE) -> float:
    """Return the error against the ideal cross-fade from `old` to `new` that begins at frame `start`."""
    ramp = np.clip((np.arange(len(heard)) - start + 1) / fade, 0.0, 1.0)[:, None]
    return error_db(heard, (1.0 - ramp) * old + ramp * new)


def beginning(heard: Signal, old: Signal) -> int:
    """Return the first frame that is not the old filter's any more."""
    return int(np.argmax(np.abs(heard - old).max(axis=1) > 1e-5))
