"""The true peak of a signal: its highest point after interpolation to 16 times the rate, in float64."""

import numpy as np
import numpy.typing as npt
from scipy.signal import upfirdn
from scipy.signal.windows import blackmanharris

__all__ = ["FACTOR", "HALF", "interpolated", "true_peak_db"]

FACTOR = 16
"""A tone at half the rate reads at most 0.042 dB low: 1 / cos(pi / 2 / 16)."""
HALF = 64
"""Frames on each side of an instant that it is made of: flat to 0.47 of the rate, 6 dB down at 0.5, gone at 0.53."""


def interpolated(signal: npt.ArrayLike, half: int = HALF) -> npt.NDArray[np.float64]:
    """Return (..., frames) at 16 times the rate, from `half` frames before the first to `half` after the last, silence around."""
    at = np.arange(-half * FACTOR, half * FACTOR + 1) / FACTOR
    return np.asarray(upfirdn(np.sinc(at) * blackmanharris(len(at)), np.asarray(signal, np.float64), FACTOR, axis=-1))


def true_peak_db(signal: npt.ArrayLike, half: int = HALF) -> float:
    """Return the true peak in dBTP, of all channels together."""
    return float(20.0 * np.log10(np.abs(interpolated(signal, half)).max()))
