"""Racks with a named bus for tests, and a plugin that does what a test wants at a given frame."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from director import DIRECTOR
from racks import write
from sigrack.config import load
from sigrack.session import Session

__all__ = ["NAMES", "Steps", "bus", "opened", "play", "slot", "taps_of"]

NAMES = ("a", "b", "c", "d", "e", "f")

TAPS = '''
from dataclasses import dataclass
import numpy as np
from sigrack_plugins import Plugin

@dataclass
class Settings:
    seed: int = 1
    taps: int = 50
    late: int = 0

def taps_of(outputs, inputs, seed, taps, late):
    """Noise that falls by 60 dB, `late` frames of silence before it."""
    made = np.random.default_rng(seed).uniform(-1, 1, (outputs, inputs, taps))
    made *= np.exp(-6.9 * np.arange(taps) / taps) / np.sqrt(taps * inputs)
    return np.concatenate([np.zeros((outputs, inputs, late)), made], axis=2).astype(np.float32)

class Taps(Plugin):
    """A random filter, of as many channels as the slot."""
    Config = Settings
    def fir(self, setup):
        return taps_of(setup.out_channels, setup.channels, self.config.seed, self.config.taps, self.config.late)
    def latency_frames(self, setup):
        return self.config.late
'''

Floats = npt.NDArray[np.floating]
Steps = Mapping[int, Callable[[Any], Any]]


def taps_of(outputs: int, inputs: int, seed: int = 1, taps: int = 50, late: int = 0) -> npt.NDArray[np.float32]:
    """Return the taps of the plugin `./taps.py`."""
    space: dict[str, Any] = {}
    exec(TAPS, space)
    made: npt.NDArray[np.float32] = space["taps_of"](outputs, inputs, seed, taps, late)
    return made


def bus(channels: Sequence[str], out: Sequence[str] = (), more: str = "") -> str:
    """Return the table of a bus."""
    return f"[bus]\nchannels = {list(channels)}\n" + (f"out = {list(out)}\n" if out else "") + f"{more}\n"


def slot(name: str, plugin: str = "./taps.py", heard: Sequence[str] = (), written: Sequence[str] = (), rest: str = "") -> str:
    """Return the table of a slot; the options of the plugin come last in `rest`."""
    ends = "".join(f"{key} = {list(names)}\n" for key, names in (("in", heard), ("out", written)) if names)
    return f'[[slot]]\nname = "{name}"\nplugin = "{plugin}"\n{ends}{rest}\n'


def opened(folder: Path, tables: str, sound: Floats, rack: str = "") -> Session:
    """Return a session, not yet run, that plays `sound` through a rack to a file, as fast as it can."""
    (folder / "taps.py").write_text(TAPS)
    (folder / "director.py").write_text(DIRECTOR)
    sink = '[sink]\ndriver = "file"\npath = "heard.wav"\noverwrite = true\n[control]\nenabled = false\n'
    head = f'[rack]\n{rack}\n[source]\ndriver = "file"\npath = "in.wav"\n{sink}'
    return Session(load(write(folder, head + tables, np.asarray(sound, np.float32))))


def play(folder: Path, tables: str, sound: Floats, steps: Steps | None = None, rack: str = "") -> npt.NDArray[np.float64]:
    """Play `sound` through a rack, doing the steps at their frames; return what was heard."""
    session = opened(folder, tables + (slot("director", "./director.py") if steps else ""), sound, rack)
    director: Any = session.rack.slot("director").hooked.plugin if steps else None  # type: ignore[union-attr]
    if steps:
        director.steps = dict(steps)
    assert 0 == session.run()
    if steps:
        assert not director.steps
        assert [None] * len(director.futures) == [future.exception() for future in director.futures]
    return np.asarray(soundfile.read(folder / "heard.wav", always_2d=True)[0])
