"""What a filter really takes on this machine, beside what the cost model says."""

import ctypes as c
import time

import numpy as np
import numpy.typing as npt

from sigrack_engine.core import lib
from sigrack_engine.filter import Filter
from sigrack_engine.fir import Fir
from sigrack_plugins.abi import Block

__all__ = ["ns_per_frame"]

ROUNDS = 5
ANY_FRAMES = 4096
"""Of a turn of biquads, which are as busy at one frame as at any other."""
ROUND_S = 0.05
"""CPU time of a round, at least."""


def ns_per_frame(playing: Filter, frames: int) -> float:
    """Return the CPU time for each frame that comes in, in blocks of `frames`: the median of some rounds.

    It is full of noise, since silence costs nothing, and a round is a whole number of turns of its largest partition.
    The filter must not be running, and has forgotten what it knew. [any]
    """
    generator = np.random.default_rng(1)
    largest, last = _extent(playing)
    playing.reset()
    playing.prime(generator.uniform(-0.5, 0.5, (playing.inputs, last + 2 * largest)).astype(np.float32))
    playing.catch_up()
    sound = generator.uniform(-0.5, 0.5, (playing.inputs, frames)).astype(np.float32)
    out = np.zeros((playing.outputs, frames * playing.phases), np.float32)
    planes = [_planes(array) for array in (sound, out)]
    block = Block(
        c.sizeof(Block), frames, 0, *(c.cast(array, c.c_void_p) for array in planes), channels=max(map(len, (sound, out)))
    )
    blocks = -(-largest // frames)
    _run(playing, block, blocks)
    found = [_round(playing, block, blocks, frames) for _ in range(ROUNDS)]
    playing.reset()
    return float(np.median(found))


def _extent(playing: Filter) -> tuple[int, int]:
    """Return the largest partition, and the frames that all of it has to have heard."""
    if not isinstance(playing, Fir):
        return ANY_FRAMES, 0
    last = playing.stages[-1]
    return last.partition, last.from_tap + last.partition * last.partitions


def _planes(samples: "npt.NDArray[np.float32]") -> "c.Array[c.c_void_p]":
    return (c.c_void_p * len(samples))(*(plane.ctypes.data for plane in samples))


def _round(playing: Filter, block: Block, blocks: int, frames: int) -> float:
    """Return what a frame took over some turns."""
    done, begun = 0, time.thread_time()
    while (spent := time.thread_time() - begun) < ROUND_S:
        _run(playing, block, blocks)
        done += blocks * frames
    return 1e9 * spent / done


def _run(playing: Filter, block: Block, blocks: int) -> None:
    for _ in range(blocks):
        lib.core_filter_process(playing.pointer, c.byref(block))
