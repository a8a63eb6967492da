"""Signals and filters for the tests of GPUs, and what comes of them by definition."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from oracles.chain import matrix_fir
from sigrack_engine.cuda.convolver import CudaConvolver
from sigrack_engine.cuda.session import Samples, Taps

__all__ = ["LIMIT_DB", "change_error_db", "decaying", "faded", "noise", "streamed"]

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


def faded(samples: Samples, filters: Sequence[Taps], starts: Sequence[int], length: int) -> Doubles:
    """Return what filters make of (inputs, frames), each fading linearly, over `length` frames, into the next from its start on."""
    made = [matrix_fir(samples.T.astype(np.float64), taps).T for taps in filters]
    out = made[0]
    for start, coming in zip(starts, made[1:], strict=True):
        gain = np.clip((np.arange(out.shape[1]) - start) / length, 0.0, 1.0)
        out = (1.0 - gain) * out + gain * coming
    return out


def change_error_db(found: Samples, wanted: Doubles) -> float:
    """Return the largest difference, in dB of the largest sample."""
    return float(20.0 * np.log10(np.abs(found - wanted).max() / np.abs(wanted).max()))
