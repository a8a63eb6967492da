"""Convolvers that get one block after the other, always in the same memory, as in a rack; ours is one of them."""

import ctypes as c
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from convolution_cases import LONGEST_PARTITION, Case, Samples, Task
from sigrack_engine.core import lib
from sigrack_engine.fir import Fir
from sigrack_plugins.abi import Block

__all__ = ["Convolver", "Ours", "Stream", "planes"]


def planes(samples: Samples) -> "c.Array[c.c_void_p]":
    """Return the address of each channel."""
    return (c.c_void_p * len(samples))(*(plane.ctypes.data for plane in samples))


class Convolver:
    """What can take turns with others."""

    def convolve(self, samples: Samples) -> Samples:
        """Return the output for an input of shape (2, frames); the first call is from a fresh state."""
        raise NotImplementedError

    def ns_per_frame(self) -> float:
        """Take one sample: CPU time of all threads per output frame."""
        raise NotImplementedError

    def last_for(self, seconds: float) -> None:
        """Let a sample take about so long, if that can be chosen."""

    def close(self) -> None:
        """Free what it holds."""


class Stream(Convolver):
    """One convolver at work; `call(*arguments)` takes the block in `input` and leaves the result in `output`."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.input = np.zeros((2, case.block), np.float32)
        self.output = np.zeros((2, case.block * case.phases), np.float32)
        self._cycle = LONGEST_PARTITION // case.block
        self._blocks = self._cycle

    def bind(self, call: Callable[..., Any], *arguments: object) -> None:
        """Say what the timed loop calls."""
        self._call, self._arguments = call, arguments

    def run(self, blocks: int) -> None:
        """Process the same input so many times."""
        call, arguments = self._call, self._arguments
        for _ in repeat(None, blocks):
            call(*arguments)

    def convolve(self, samples: Samples) -> Samples:
        """Return the output for a whole number of blocks."""
        found = np.empty((2, samples.shape[1] * self.case.phases), np.float32)
        step = self.output.shape[1]
        for number, start in enumerate(range(0, samples.shape[1], self.case.block)):
            self.input[:] = samples[:, start : start + self.case.block]
            self.run(1)
            found[:, number * step : (number + 1) * step] = self.output
        return found

    def last_for(self, seconds: float) -> None:
        """Let a sample take so long, in whole cycles of the longest partition."""
        taken = self.ns_per_frame() * self._cycle * self.output.shape[1]
        self._blocks = self._cycle * max(1, round(1e9 * seconds / taken))

    def ns_per_frame(self) -> float:
        begun = time.process_time_ns()
        self.run(self._blocks)
        return (time.process_time_ns() - begun) / (self._blocks * self.output.shape[1])


class Ours(Stream):
    """The core's convolver; its plan, or given partitions."""

    def __init__(self, task: Task, partitions: Sequence[int] = ()) -> None:
        super().__init__(task.case)
        self.fir = Fir(task.taps, phases=task.case.phases, block=task.case.block, partitions=partitions)
        self._planes = planes(self.input), planes(self.output)
        sides = (c.cast(array, c.c_void_p) for array in self._planes)
        self._block = Block(c.sizeof(Block), task.case.block, 0, *sides, channels=2)
        self.bind(lib.core_filter_process, self.fir.pointer, c.addressof(self._block))

    def warm_up(self, task: Task) -> None:
        """Fill every partition: those that have had no input cost nothing."""
        self.input[:] = task.samples[:, : self.case.block]
        self.run(task.samples.shape[1] // self.case.block)

    def worst_block_us(self, passes: int) -> float:
        """Return the longest CPU time of a block: of each place in the cycle of the longest partition the median."""
        cycle = max(1, self.partitions[-1] // self.case.block)
        clock, taken = time.thread_time_ns, np.empty((passes, cycle))
        for number in range(passes):
            for place in range(cycle):
                begun = clock()
                self.run(1)
                taken[number, place] = clock() - begun
        return float(np.median(taken, axis=0).max()) / 1e3

    @property
    def partitions(self) -> list[int]:
        """Of the stages, in frames."""
        return [stage.partition for stage in self.fir.stages]

    @property
    def model_ns_per_frame(self) -> float:
        """What the cost model expects of the stages and the direct part, per output frame."""
        return float(sum(stage.ns for stage in self.fir.stages)) / self.case.phases

    def close(self) -> None:
        """Free the core's memory."""
        self.fir.close()
