"""The convolvers that benchmarks/fused_chain.py compares, and what they should give."""

import ctypes as c
import time
from collections.abc import Sequence
from itertools import repeat

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve

from sigrack_engine.compiler import Linear
from sigrack_engine.core import lib
from sigrack_engine.fir import Fir
from sigrack_plugins.abi import Block

__all__ = ["Chain", "Samples", "error_db", "reference"]

Samples = npt.NDArray[np.float32]


class Chain:
    """Convolvers one after another, which get one block after the other, always in the same memory, as in a rack."""

    def __init__(self, parts: Sequence[Linear], channels: int, block: int) -> None:
        self.input = self.output = np.zeros((channels, block), np.float32)
        self.firs: list[Fir] = []
        self._kept: list[object] = []
        self._calls: list[tuple[int, int]] = []
        for part in parts:
            self._append(part)

    def _append(self, part: Linear) -> None:
        before = self.output
        channels, frames = before.shape
        fir = Fir(part.taps.astype(np.float32, copy=False), phases=part.ratio, block=frames)
        self.output = np.zeros((channels, frames * part.ratio), np.float32)
        planes = [(c.c_void_p * channels)(*(plane.ctypes.data for plane in array)) for array in (before, self.output)]
        block = Block(c.sizeof(Block), frames, 0, *(c.cast(array, c.c_void_p) for array in planes), channels=channels)
        self._kept += [before, planes, block]
        self._calls.append((fir.pointer, c.addressof(block)))
        self.firs.append(fir)

    def run(self, blocks: int) -> None:
        """Process what is in `input` so many times."""
        process = lib.core_filter_process
        for _ in repeat(None, blocks):
            for fir, block in self._calls:
                process(fir, block)

    def stream(self, samples: Samples) -> Samples:
        """Return what comes out for a whole number of blocks."""
        block, step = self.input.shape[1], self.output.shape[1]
        found = np.empty((len(samples), samples.shape[1] // block * step), np.float32)
        for number in range(samples.shape[1] // block):
            self.input[:] = samples[:, number * block : (number + 1) * block]
            self.run(1)
            found[:, number * step : (number + 1) * step] = self.output
        return found

    def ns_per_frame(self, frames: int) -> float:
        """Return the CPU time of an input frame, measured over so many after as many that bring it back into the caches."""
        self.run(frames // self.input.shape[1])
        begun = time.thread_time_ns()
        self.run(frames // self.input.shape[1])
        return (time.thread_time_ns() - begun) / frames

    def longest_block_ns(self, frames: int, passes: int) -> float:
        """Return the longest CPU time of a block among those of so many frames: the median of each place's passes counts."""
        clock, taken = time.thread_time_ns, np.empty((passes, frames // self.input.shape[1]))
        for place in np.ndindex(taken.shape):
            begun = clock()
            self.run(1)
            taken[place] = clock() - begun
        return float(np.median(taken, axis=0).max())

    @property
    def megabytes(self) -> float:
        """Memory that the convolvers hold."""
        return sum(fir.bytes for fir in self.firs) / 1e6

    @property
    def stages(self) -> list[str]:
        """Of each convolver, as `partition x number`."""
        return [", ".join(f"{stage.partition} x {stage.partitions}" for stage in fir.stages) for fir in self.firs]

    def close(self) -> None:
        """Free what it holds."""
        for fir in self.firs:
            fir.close()


def reference(samples: Samples, parts: Sequence[Linear]) -> npt.NDArray[np.float64]:
    """Return what `parts` do one after another, in float64: zeros between the frames, then a convolution for each path."""
    signal = samples.astype(np.float64)
    for part in parts:
        spread = np.zeros((len(signal), signal.shape[1] * part.ratio))
        spread[:, :: part.ratio] = signal
        signal = np.zeros_like(spread)
        for out, into in np.argwhere(part.taps.any(axis=2)):
            signal[out] += fftconvolve(spread[into], part.taps[out, into].astype(np.float64))[: spread.shape[1]]
    return signal


def error_db(found: "npt.NDArray[np.floating]", wanted: npt.NDArray[np.float64]) -> float:
    """Return the largest difference against the largest wanted sample, in dB."""
    return float(20.0 * np.log10(np.abs(found - wanted).max() / np.abs(wanted).max()))
