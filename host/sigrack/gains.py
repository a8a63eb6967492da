"""How much louder biquads can make what comes in."""

import math

import numpy as np
import numpy.typing as npt

from sigrack_engine.biquads import Biquads
from sigrack_engine.recursion import Recursion, memory_of
from sigrack_plugins import Biquad
from sigrack_plugins._headroom import highest_gains

__all__ = ["gains_of"]

Array = npt.NDArray[np.float64]

SILENT = 10.0 ** (-140 / 20)
"""What is left of an impulse response when it is not listened to any longer."""
MOST_FRAMES = 1 << 22
"""Responses that take longer are not run but bounded section by section."""
AT_ONCE = 1 << 16
HUGE = 1e100
"""Far beyond what samples hold: a bound grows no further, for infinite times zero would be no number."""
CLOSEST = 2.0**-53
"""To the unit circle that a pole inside is."""


def gains_of(recursion: Recursion) -> tuple[Array, Array]:
    """Return by how much each path raises the frequency that it raises most, and any sound at most: (out, in) each. [any]"""
    worst = _sums(recursion)
    return np.minimum(highest_gains(recursion.stages), worst), worst  # where long delays meet, the first is a bound, too


def _sums(recursion: Recursion) -> Array:
    """The sum of the magnitudes of each path's impulse response, or more: shape (out, in)."""
    frames = memory_of(recursion.stages, SILENT)
    bound = _bound(recursion)
    if frames * len(bound) > MOST_FRAMES:
        return bound
    measured = np.column_stack([_measured(recursion, channel, math.ceil(frames)) for channel in range(bound.shape[1])])
    # What comes later, and float32's rounding, is far less than what is added here.
    return np.minimum(bound, measured * (1.0 + 1e-5))


def _measured(recursion: Recursion, channel: int, frames: int) -> Array:
    """The sums of what comes out when an impulse goes into one channel, for each channel out."""
    filter_ = Biquads(recursion.stages)
    sums = np.zeros(filter_.outputs)
    for start in range(0, frames + 1, AT_ONCE):
        sound = np.zeros((filter_.inputs, min(AT_ONCE, frames + 1 - start)), np.float32)
        sound[channel, 0] = start == 0
        sums += np.abs(filter_.process(sound)).sum(axis=1, dtype=np.float64)
    filter_.close()
    return sums


def _bound(recursion: Recursion) -> Array:
    """The product of the sums of all that follow each other, which the sum of the whole does not exceed."""
    paths: Array = np.eye(np.asarray(recursion.stages[0].mix).shape[1])
    for stage in recursion.stages:
        own = np.minimum([math.prod(map(_section_bound, row)) for row in stage.sections], HUGE)
        with np.errstate(over="ignore"):
            paths = np.minimum(own[:, None] * np.minimum(np.abs(stage.mix) @ paths, HUGE), HUGE)
    return paths


def _section_bound(section: Biquad) -> float:
    """With h(n) = 2 Re(R p^(n-1)) from n = 1 on, or R p^(n-1) + S q^(n-1), for the poles p, q: the sum of what these can be."""
    b0, b1, b2, a1, a2 = section
    c1, c2 = b1 - a1 * b0, b2 - a2 * b0
    # (c1 + c2/z) / (1 + a1/z + a2/z^2): its denominator alone sums up to at most 1 / ((1 - |p|) (1 - |q|)).
    spread = complex(a1 * a1 / 4.0 - a2) ** 0.5
    p, q = -a1 / 2.0 + spread, -a1 / 2.0 - spread
    rest = (max(1.0 - abs(p), CLOSEST), max(1.0 - abs(q), CLOSEST))
    bounds = [(abs(c1) + abs(c2)) / (rest[0] * rest[1])]
    if p != q:
        bounds.append(abs((c1 * p + c2) / (p - q)) / rest[0] + abs((c1 * q + c2) / (q - p)) / rest[1])
    return abs(b0) + min(bounds)
