"""From a recursion to the taps that do the same: it is run, and cut where nobody hears it any more.

The response ends where the sum of all magnitudes that follow is 140 dB below the highest gain. So no frequency's response and no
sample of any output, relative to full scale times that gain, changes by more than that.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sigrack_engine.biquads import Biquads
from sigrack_engine.compiler import Linear
from sigrack_engine.recursion import Recursion, memory_of
from sigrack_plugins import BiquadStage
from sigrack_plugins._headroom import highest_gains

__all__ = ["MOST_TAPS", "folded"]

MOST_TAPS = 1 << 20
CUT = 10.0 ** (-140 / 20)
MARGIN = 10.0 ** (-40 / 20)
"""How much further than the cut it is run, at least: what comes after that does not count."""
LONGEST = 2 * MOST_TAPS


def folded(recursion: Recursion) -> Linear | None:
    """Return the taps, float32; None if they are more than 1,048,576, or some are too loud for float32. [worker]"""
    frames = memory_of(recursion.stages, CUT * MARGIN)
    if frames > LONGEST:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        taps = _responses(recursion.stages, math.ceil(frames) + 1)
        rest = _rest(taps.reshape(-1, taps.shape[-1]))
    needed = int(np.count_nonzero(rest > CUT * highest_gains(recursion.stages).max()))
    if needed > MOST_TAPS or not np.isfinite(rest[0]):
        return None
    taps = taps[..., : max(needed, 1)]
    return Linear(_diagonal(taps) if taps.ndim == 2 else np.ascontiguousarray(taps))


def _responses(stages: Sequence[BiquadStage], frames: int) -> npt.NDArray[np.float32]:
    """What comes out for an impulse in each channel: shape (out, in, frames), or (channels, frames) where they do not mix."""
    runner = Biquads(stages)
    impulse = np.zeros((runner.inputs, frames), np.float32)
    if _apart(stages):
        impulse[:, 0] = 1.0
        taps = runner.process(impulse)
    else:
        taps = np.empty((runner.outputs, runner.inputs, frames), np.float32)
        for into in range(runner.inputs):
            impulse[:, 0] = np.eye(runner.inputs)[into]
            runner.reset()
            taps[:, into] = runner.process(impulse)
    runner.close()
    return taps


def _apart(stages: Sequence[BiquadStage]) -> bool:
    return all(np.array_equal(stage.mix, np.diag(np.diagonal(stage.mix))) for stage in stages)


def _rest(paths: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """From each frame on, the sum of all magnitudes in the path of shape (paths, frames) where it is largest: shape (frames,)."""
    rest = np.zeros(paths.shape[1])
    for path in paths:
        np.maximum(rest, np.abs(path[::-1]).cumsum(dtype=np.float64)[::-1], out=rest)
    return rest


def _diagonal(taps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """From taps of shape (channels, taps) to those from each channel to itself: shape (channels, channels, taps)."""
    channels, frames = taps.shape
    matrix = np.zeros((channels, channels, frames), np.float32)
    matrix[range(channels), range(channels)] = taps
    return matrix
