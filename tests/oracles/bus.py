"""What slots on some channels of a bus do, in float64: by definition, whole signals at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oracles.chain import matrix_fir

__all__ = ["Signal", "Standing", "delayed", "through"]

Signal = npt.NDArray[np.float64]
"""(frames, channels)."""


@dataclass(frozen=True)
class Standing:
    """A slot: its filter, whose taps hold its latency, and where it stands."""

    taps: npt.NDArray[np.float32]
    heard: Sequence[int]
    written: Sequence[int]
    latency: int = 0
    bypass: bool = False


def delayed(signal: Signal, frames: int) -> Signal:
    """Return `signal` later by `frames`, as long as before."""
    return np.concatenate([np.zeros((frames, signal.shape[1])), signal])[: len(signal)]


def through(signal: Signal, slots: Sequence[Standing], *, aligned: bool = True) -> Signal:
    """Return what becomes of a bus. Not `aligned`: as if a slot did not delay the channels that it does not write."""
    for slot in slots:
        made = matrix_fir(signal[:, slot.heard], slot.taps)
        after = delayed(signal, slot.latency) if aligned else signal.copy()
        after[:, slot.written] = delayed(signal, slot.latency)[:, slot.written] if slot.bypass else made
        signal = after
    return signal
