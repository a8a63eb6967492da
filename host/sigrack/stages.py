"""What each step of a rack does to the level, and how loud each channel of the bus can become."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sigrack.bus import Bus
from sigrack.gains import gains_of
from sigrack_engine.compiler import Linear
from sigrack_engine.recursion import Recursion
from sigrack_plugins import Setup
from sigrack_plugins._headroom import highest_gain_db

__all__ = ["Gains", "Paths", "Stage", "diagonal", "level", "paths_of"]

Doubles = npt.NDArray[np.float64]


class Gains(NamedTuple):
    """What a filter can add, in dB."""

    tone_db: float
    """To a tone in each input, each of the frequency that is raised most."""
    worst_db: float
    """To any sound: the bound that none exceeds."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The gains of each way through a step, as factors."""

    tone: Doubles
    """The highest of any frequency; shape (outputs, phases, inputs): each phase of an interpolator is a filter by itself."""
    worst: Doubles
    """The sum of the magnitudes of the taps, or a bound of it, of the same shape."""

    @property
    def gains(self) -> Gains:
        """The most that it adds to an output, when all inputs are at full scale."""
        return Gains(_db(self.tone.sum(axis=2).max()), _db(self.worst.sum(axis=2).max()))


@dataclass(frozen=True, slots=True)
class Stage:
    """What one step of the rack does to the level."""

    name: str
    setup: Setup
    """Whose `inputs` become its `outputs`; the other channels stay."""
    paths: Paths
    ceiling_db: float = inf
    """Nothing that comes out is louder."""


def paths_of(linear: Linear | Recursion) -> Paths:
    """Measure a filter. [any]"""
    if isinstance(linear, Recursion):
        found = gains_of(linear)
        return Paths(found[0][:, None], found[1][:, None])
    outputs, inputs, _ = linear.taps.shape
    tone, worst = (np.zeros((outputs, linear.ratio, inputs)) for _ in range(2))
    for output, phase, input_ in np.ndindex(tone.shape):
        path = linear.taps[output, input_, phase :: linear.ratio]
        tone[output, phase, input_] = 10 ** (highest_gain_db(path[None, None]) / 20)
        worst[output, phase, input_] = np.abs(path).sum(dtype=np.float64)
    return Paths(tone, worst)


def diagonal(gains_db: Iterable[float]) -> Paths:
    """Return what one gain for each channel does. [any]"""
    gains = np.diag([10 ** (gain_db / 20) for gain_db in gains_db])[:, None]
    return Paths(gains, gains)


def level(stages: Iterable[Stage], bus: Bus) -> Gains:
    """Return what goes out at most, in dBFS, when full scale comes in on all channels of the source. [any]"""
    levels = {name: np.array([1.0, 1.0]) * (number < bus.sources) for number, name in enumerate(bus.channels)}
    for stage in stages:
        heard = np.stack([levels[name] for name in stage.setup.inputs])
        tone, worst = stage.paths.tone @ heard[:, 0], stage.paths.worst @ heard[:, 1]
        limit = 10 ** (stage.ceiling_db / 20)
        made = np.minimum(np.stack([tone.max(axis=1), worst.max(axis=1)], 1), limit)
        levels.update(zip(stage.setup.outputs, made, strict=True))
    tone_out, worst_out = np.stack([levels[name] for name in bus.out]).max(axis=0)
    return Gains(_db(tone_out), _db(worst_out))


def _db(gain: float) -> float:
    return round(float(20 * np.log10(max(gain, 1e-30))), 9)
