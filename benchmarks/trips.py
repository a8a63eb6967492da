"""Blocks that go through a lane and come back, one after the other."""

import ctypes as c
import time

import numpy as np

from sigrack_engine.core import lib
from sigrack_engine.exchange import Exchange
from sigrack_plugins import abi

__all__ = ["PAUSE_S", "trips_us"]

PAUSE_S = 0.0005
"""Between blocks: the child goes to sleep, as it does between those of a rack."""


def trips_us(address: int, pointer: int, exchange: Exchange, frames: int, count: int) -> list[tuple[float, float]]:
    """Send blocks of `frames`; return how long each was away, and of that at work, as the child says. The first are left out.

    `address`, `pointer`: of the processor that hands them over; `exchange`: with the child, as many channels out as in.
    """
    channels = exchange.shape.channels
    sound = np.random.default_rng(1).uniform(-0.5, 0.5, (2 * channels, frames)).astype(np.float32)
    rows = [row.ctypes.data for row in sound]
    given, made = (c.c_void_p * channels)(*rows[:channels]), (c.c_void_p * channels)(*rows[channels:])
    block = abi.Block(c.sizeof(abi.Block), frames, 0, c.addressof(given), c.addressof(made), channels, 0)
    process = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(abi.Block))(address)
    tick_us, before = lib.core_tick_ns() / 1e3, 0
    took = []
    for number in range(count):
        block.frame = number * frames
        begun = time.perf_counter_ns()
        process(pointer, block)
        while (progress := exchange.progress).done < (number + 1) * frames:
            pass
        took.append(((time.perf_counter_ns() - begun) / 1e3, (progress.ticks - before) * tick_us))
        before = progress.ticks
        time.sleep(PAUSE_S)
    return took[count // 10 :]
