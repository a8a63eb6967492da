"""What a rack of linear plugins does, in float64, from textbook definitions."""

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve

__all__ = ["error_db", "gain", "interpolated", "matrix_fir"]

Signal = npt.NDArray[np.float64]
"""(frames, channels)."""


def gain(signal: Signal, gain_db: float) -> Signal:
    """Return `signal` times 10^(dB/20)."""
    return signal * float(10.0 ** (gain_db / 20.0))


def matrix_fir(signal: Signal, taps: npt.NDArray[np.float32]) -> Signal:
    """Return the convolution with `taps` (outputs, inputs, taps), as long as the signal."""
    outputs, inputs, _ = taps.shape
    result = np.zeros((len(signal), outputs))
    for o in range(outputs):
        for i in range(inputs):
            result[:, o] += fftconvolve(signal[:, i], taps[o, i].astype(np.float64))[: len(signal)]
    return result


def interpolated(signal: Signal, taps: npt.NDArray[np.float32], phases: int, frames: npt.NDArray[np.int64]) -> Signal:
    """Return some output frames of a matrix interpolator: the input with zeros between its frames, convolved by definition.

    `taps` are (outputs, inputs, taps) at the output's rate, `frames` numbers of output frames.
    """
    outputs, inputs, count = taps.shape
    result = np.zeros((len(frames), outputs))
    for row, frame in enumerate(frames.tolist()):
        meet = np.arange(frame % phases, min(count, frame + 1), phases)  # the taps that meet no zero
        heard = signal[(frame - meet) // phases]
        for o in range(outputs):
            result[row, o] = sum(float(np.dot(taps[o, i, meet].astype(np.float64), heard[:, i])) for i in range(inputs))
    return result


def error_db(found: npt.NDArray[np.floating], wanted: Signal) -> float:
    """Return the largest difference against the largest wanted sample, in dB; equal length is required."""
    assert found.shape == wanted.shape, f"{found.shape} against {wanted.shape}"
    difference = float(np.abs(found - wanted).max())
    return float(20.0 * np.log10(max(difference, 1e-300) / np.abs(wanted).max()))
