"""Biquads in the core: what a section costs for a frame of a channel, beside scipy.signal.sosfilt.

python benchmarks/biquads.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import ctypes as c
import operator
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import numpy.typing as npt
from scipy.signal import sosfilt

from harness import Report, finish, interleave, machine, options, paired, pinned
from sigrack_engine.biquads import Biquads
from sigrack_engine.core import lib
from sigrack_engine.recursion import Recursion
from sigrack_plugins import BiquadStage
from sigrack_plugins._equalizer.commands import Filter
from sigrack_plugins._equalizer.design import design
from sigrack_plugins.abi import Block

__all__ = ["main"]

Floats = npt.NDArray[np.float32]

RATE_HZ, BLOCK = 48_000, 4096
SHAPES = ((1, 10), (2, 1), (2, 5), (2, 10), (2, 40), (8, 10))
"""Channels, and sections in each."""
GOAL = 0.5
"""Of scipy's time, with ten sections in stereo."""


def _stage(channels: int, sections: int) -> BiquadStage:
    """Return peaking filters spread over the spectrum, in each channel."""
    lines = [Filter("", "PK", "PK", 30.0 * 1.15**at, 3.0, q=1.0) for at in range(sections)]
    row = [design(line, RATE_HZ) for line in lines]
    return BiquadStage(np.eye(channels), [0] * channels, [row] * channels)


def _core(filter_: Biquads, sound: Floats) -> Callable[[], object]:
    """Return what filters one block, without what Python would make around it."""
    arrays = sound, np.empty_like(sound)
    planes = [(c.c_void_p * len(sound))(*(plane.ctypes.data for plane in array)) for array in arrays]
    block = Block(c.sizeof(Block), BLOCK, 0, *(c.addressof(plane) for plane in planes), len(sound), 0, None)

    def work(_kept: object = (arrays, planes)) -> None:
        lib.core_filter_process(filter_.pointer, c.byref(block))

    return work


def _scipy(stage: BiquadStage, sound: Floats) -> Callable[[], object]:
    """Return the same of scipy's, which takes and gives float64 here and keeps its state."""
    sections = np.array([[*section[:3], 1.0, *section[3:]] for section in stage.sections[0]])
    wide = sound.astype(np.float64)
    state = [np.zeros((len(sections), len(sound), 2))]

    def work() -> None:
        _, state[0] = sosfilt(sections, wide, zi=state[0])

    return work


def _timed(work: Callable[[], object], blocks: int) -> Callable[[], float]:
    """Return what measures nanoseconds of CPU time per frame."""

    def measure() -> float:
        begun = time.thread_time_ns()
        for _ in range(blocks):
            work()
        return (time.thread_time_ns() - begun) / (blocks * BLOCK)

    return measure


def _measure(report: Report, channels: int, sections: int, *, quick: bool) -> None:
    """Add the figures of one shape."""
    rounds, blocks = (7, 10) if quick else (31, 40)
    sound = (np.random.default_rng(1).standard_normal((channels, BLOCK)) * 0.1).astype(np.float32)
    stage = _stage(channels, sections)
    filter_ = Biquads([stage])
    found = interleave(
        {"core": _timed(_core(filter_, sound), blocks), "scipy": _timed(_scipy(stage, sound), blocks)},
        rounds,
    )
    filter_.close()
    name, ours = f"{channels}x{sections}", found["core"]
    each = [ns / (channels * sections) for ns in ours]
    ratios = paired(operator.truediv, ours, found["scipy"])
    report.add(f"ns_{name}", median(ours), "ns", f"a frame of {channels} channels, {sections} sections each", samples=ours)
    report.add(f"ns_section_{name}", median(each), "ns", "the same for a section and channel", samples=each)
    goal = GOAL if (channels, sections) == (2, 10) else None
    report.add(f"scipy_ratio_{name}", median(ratios), "", "core / scipy.signal.sosfilt", goal=goal, samples=ratios)
    report.details[f"model_ns_{name}"] = Recursion((stage,)).ns


def main() -> int:
    """Measure each shape, print it, return the exit code."""
    chosen = options("Measure biquads.")
    report, place = Report(), machine()
    with pinned():
        for channels, sections in SHAPES:
            _measure(report, channels, sections, quick=chosen.quick)
    return finish(report, place, chosen)


if __name__ == "__main__":
    sys.exit(main())
