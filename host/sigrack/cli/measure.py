"""What a convolver really takes on this machine, beside what the cost model says."""

import ctypes as c
import time
from statistics import median

import numpy as np
import numpy.typing as npt

from sigrack_engine.core import lib
from sigrack_engine.fir import Fir
from sigrack_plugins.abi import Block

__all__ = ["ns_per_frame"]

ROUNDS = 5
ROUND_S = 0.05
"""CPU time of a round, at least."""


def ns_per_frame(fir: Fir, frames: int) -> float:
    """Return the CPU time for each frame that comes in, in blocks of `frames`: the median of some rounds.

    It is full of noise, since silence costs nothing, and a round is a whole number of turns of its largest partition.
    The convolver must not be running, and has forgotten what it knew. [any]
    """
    generator = np.random.default_rng(1)
    stages = fir.stages
    largest, last = stages[-1].partition, stages[-1].from_tap + stages[-1].partition * stages[-1].partitions
    fir.reset()
    fir.prime(generator.uniform(-0.5, 0.5, (fir.inputs, last + 2 * largest)).astype(np.float32))
    fir.catch_up()
    sound = generator.uniform(-0.5, 0.5, (fir.inputs, frames)).astype(np.float32)
    out = np.zeros((fir.outputs, frames * fir.phases), np.float32)
    planes = [_planes(array) for array in (sound, out)]
    block = Block(
        c.sizeof(Block), frames, 0, *(c.cast(array, c.c_void_p) for array in planes), channels=max(map(len, (sound, out)))
    )
    blocks = -(-largest // frames)
    _run(fir, block, blocks)
    found = [_round(fir, block, blocks, frames) for _ in range(ROUNDS)]
    fir.reset()
    return median(found)


def _planes(samples: "npt.NDArray[np.float32]") -> "c.Array[c.c_void_p]":
    return (c.c_void_p * len(samples))(*(plane.ctypes.data for plane in samples))


def _round(fir: Fir, block: Block, blocks: int, frames: int) -> float:
    """Return what a frame took over some turns."""
    done, begun = 0, time.thread_time()
    while (spent := time.thread_time() - begun) < ROUND_S:
        _run(fir, block, blocks)
        done += blocks * frames
    return 1e9 * spent / done


def _run(fir: Fir, block: Block, blocks: int) -> None:
    for _ in range(blocks):
        lib.core_fir_process(fir.pointer, c.byref(block))
