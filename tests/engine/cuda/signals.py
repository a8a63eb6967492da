"""Signals and filters for the tests of GPUs, and what comes of them by definition."""

import numpy as np
import numpy.typing as npt

from oracles.chain import matrix_fir
from sigrack_engine.cuda.convolver import CudaConvolver
from sigrack_engine.cuda.session import Samples, Taps

__all__ = ["LIMIT_DB", "change_error_db", "convolved", "decaying", "faded", "noise", "streamed"]

LIMIT_DB = -120.0
Doubles = npt.NDArray[np.float64]


def noise(generator: np.random.Generator, *shape: int) -> Samples:
    """Return white noise."""
    return generator.uniform(-1.0, 1.0, shape).astype(np.float32)


def decaying(generator: np.random.Generator, outputs: int, inputs: int, taps: int) -> Taps:
    """Return taps that fall by 60 dB, as rooms do."""
    fall: Taps = np.exp(-6.9 * np.arange(taps) / taps).astype(np.float32)
    return noise(generator, outputs, inputs, taps) * fall


def streamed(convolver: CudaConvolver, samples: Samples) -> Samples:
    """Return what comes of whole blocks."""
    blocks = np.split(samples, samples.shape[1] // convolver.block, axis=1)
    return np.concatenate([convolver.process(block) for block in blocks], axis=1)


def convolved(samples: Samples, taps: Taps) -> Doubles:
    """Return what a filter makes of (inputs, frames)."""
    return matrix_fir(samples.T.astype(np.float64), taps).T


def faded(old: Doubles, new: Doubles, start: int, length: int) -> Doubles:
    """Return two outputs, the second faded in linearly over `length` frames."""
    gain = np.clip((np.arange(old.shape[1]) - start) / length, 0.0, 1.0)
    return (1.0 - gain) * old + gain * new


def change_error_db(found: Samples, wanted: Doubles) -> float:
    """Return the largest difference, in dB of the largest sample."""
    return float(20.0 * np.log10(np.abs(found - wanted).max() / np.abs(wanted).max()))
