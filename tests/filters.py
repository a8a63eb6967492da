"""A plugin with a filter of noise, for racks of tests."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fades import slot

__all__ = ["FILTER", "filtered", "taps_of"]

FILTER = '''
import numpy as np
from dataclasses import dataclass
from sigrack_plugins import Plugin

@dataclass
class Settings:
    seed: int = 1
    taps: int = 100
    ratio: int = 1
    late: int = 0
    apart: bool = False

def taps_of(seed, taps, late=0, apart=False):
    """A filter of noise that falls by 60 dB, `late` frames of silence before it; `apart`: each channel through the same one."""
    random = np.random.default_rng(seed)
    made = random.uniform(-1, 1, (2, 2, taps)) * np.exp(-6.9 * np.arange(taps) / taps) / np.sqrt(taps)
    if apart:
        made = np.eye(2)[:, :, None] * made[0, 0]
    return np.concatenate([np.zeros((2, 2, late)), made], axis=2).astype(np.float32)

class Filter(Plugin):
    """A random filter."""
    Config = Settings
    def fir(self, setup):
        return taps_of(self.config.seed, self.config.taps, self.config.late, self.config.apart)
    def ratio(self, setup):
        return self.config.ratio
    def latency_frames(self, setup):
        return self.config.late
'''


def filtered(name: str, **config: int) -> str:
    """Return the table of a slot with a random filter."""
    return slot(name, config="\n".join(f"{key} = {str(value).lower()}" for key, value in config.items()))


def taps_of(seed: int, taps: int, late: int = 0) -> npt.NDArray[np.float32]:
    """Return what filter.py makes of these settings."""
    space: dict[str, Any] = {}
    exec(FILTER, space)
    made: npt.NDArray[np.float32] = space["taps_of"](seed, taps, late)
    return made
