"""How much louder a filter can make a signal."""

from typing import TYPE_CHECKING

import numpy as np

from sigrack_plugins._response import responses

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sigrack_plugins.api import BiquadStage, Samples

__all__ = ["LOUDEST_DB", "highest_gain_db", "highest_gains", "highest_recursive_gain_db"]

LOUDEST_DB = 770.0
"""What float32 holds of full scale."""
FINE = 1 << 19
"""Up to this many points the spectrum is computed finer, eight to a tap: between two points a peak reads low."""


def highest_gain_db(taps: "Samples") -> float:
    """The most that any frequency can be raised, whatever its phase in the channels; `taps` has shape (out, in, taps). [any]"""
    length = taps.shape[2]
    span = 1 << (max(2 * length, min(8 * length, FINE)) - 1).bit_length()
    highest = 0.0
    for inputs in taps:
        gain = sum(np.abs(np.fft.rfft(path, span)) for path in inputs if path.any())
        highest = max(highest, float(np.max(gain)))
    return _db(highest)


def highest_recursive_gain_db(stages: "Sequence[BiquadStage]") -> float:
    """The same for a recursive filter, on a grid that has its resonances. [any]"""
    return _db(float(np.max([np.abs(paths).sum(axis=1).max() for paths in responses(stages)])))  # NaN stays


def highest_gains(stages: "Sequence[BiquadStage]") -> "npt.NDArray[np.float64]":
    """The most by which a recursive filter raises some frequency, for each path: shape (out, in). [any]"""
    highest: npt.NDArray[np.float64] = np.max([np.abs(paths).max(axis=2) for paths in responses(stages)], axis=0)
    return highest


def _db(gain: float) -> float:
    return float(20.0 * np.log10(np.maximum(gain, 1e-30)))
