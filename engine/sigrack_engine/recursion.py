"""A recursive filter as data: whether it can be, how long it remembers, what it costs."""

import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sigrack_plugins.api import Biquad, BiquadStage

__all__ = ["MOST_MEMORY_FRAMES", "Recursion", "checked_stages", "memory_of"]

MOST_DELAY_FRAMES = 1 << 22
MOST_DELAY_BYTES = 1 << 30
"""BIQUADS_MAX_DELAY, BIQUADS_MAX_MEMORY."""
MOST_STAGES = 4096
"""BIQUADS_MAX_STAGES, BIQUADS_MAX_OUTPUTS."""
MOST_SECTIONS = 65_536
"""BIQUADS_MAX_SECTIONS."""
FORGOTTEN = 10.0 ** (-110 / 20)
"""What is left of a sound when it counts as forgotten."""
MOST_MEMORY_FRAMES = 3 << 20
"""Of older input nothing is kept for a successor, however long it rings."""
CHANNEL_NS, SECTION_NS = 2.5, 0.8
"""What a frame of a stage's channel, and a section of it, take on the processor that the convolver's model knows
(engine/core/fir_plan.c): measured with AVX2 by benchmarks/biquads.py."""


@dataclass(frozen=True, slots=True, eq=False)
class Recursion:
    """What a slot does that runs as biquads, at its rate."""

    stages: tuple[BiquadStage, ...]
    ratio: ClassVar[int] = 1
    latency_frames: ClassVar[int] = 0

    @property
    def sections(self) -> int:
        """How many it has in all channels."""
        return sum(len(row) for stage in self.stages for row in stage.sections)

    @property
    def ns(self) -> float:
        """What it takes for one frame by the cost model."""
        return CHANNEL_NS * sum(len(stage.mix) for stage in self.stages) + SECTION_NS * self.sections

    @property
    def memory_frames(self) -> int:
        """How far back input matters to a successor: until -110 dB, and 3,145,728 frames at most."""
        return math.ceil(min(memory_of(self.stages, FORGOTTEN), MOST_MEMORY_FRAMES))


def memory_of(stages: Sequence[BiquadStage], left: float) -> float:
    """Return the frames after which at most the share `left` of a sound is heard; infinite for poles on the circle. [any]"""
    return sum(
        max(late + _ringing(row, left) for late, row in zip(stage.delay_frames, stage.sections, strict=True)) for stage in stages
    )


def _ringing(row: Sequence[Biquad], left: float) -> float:
    """Sections that ring equally long ring longer together: as the tail of a sum of so many exponential times."""
    rates = [-math.log(radius) if radius > 0.0 else math.inf for radius in map(_radius, row)]
    slowest = min(rates, default=math.inf)
    if math.isinf(slowest):
        return float(2 * len(row))
    if slowest <= 0.0:
        return math.inf
    times, count = 1.0, sum(rate < 2.0 * slowest for rate in rates)
    while _poisson(count, times) > left:
        times *= 1.05
    return times / slowest


def _poisson(count: int, mean: float) -> float:
    """The probability of less than `count` events."""
    term = total = math.exp(-mean)
    for number in range(1, count):
        term *= mean / number
        total += term
    return total


def _radius(section: Biquad) -> float:
    """Of the slower pole."""
    *_, a1, a2 = section
    spread = a1 * a1 / 4.0 - a2
    return math.sqrt(a2) if spread < 0.0 else abs(a1) / 2.0 + math.sqrt(spread)


def checked_stages(stages: Sequence[BiquadStage], inputs: int, outputs: int) -> Recursion:
    """Return the recursion of `stages` for so many channels. Raises ValueError in one line if they cannot be run. [any]

    Its stages are copies: mixes read-only, float64 of shape (out, in); delays as int; sections as tuples of five floats.
    """
    if not all(isinstance(stage, BiquadStage) for stage in stages):
        raise ValueError("gave no sequence of BiquadStage")
    if not 1 <= len(stages) <= MOST_STAGES:
        raise ValueError(f"gave {len(stages)} stages; 1 to {MOST_STAGES} can be run")
    late, kept = 0, []
    for number, given in enumerate(stages, 1):
        stage = _plain(given, number)
        mix = stage.mix
        wanted = outputs if number == len(stages) else len(mix) if mix.ndim else 0
        if mix.shape != (wanted, inputs) or not 1 <= wanted <= MOST_STAGES:
            last = f" and {outputs} go out" if number == len(stages) else ""
            raise ValueError(f"gave a mix of shape {mix.shape} in stage {number}, where {inputs} channels come in{last}")
        if not len(mix) == len(stage.delay_frames) == len(stage.sections):
            raise ValueError(f"gave delays or sections in stage {number} that are not one for each of {len(mix)} channels")
        if not all(0 <= frames <= MOST_DELAY_FRAMES for frames in stage.delay_frames):
            raise ValueError(f"gave a delay in stage {number} that is not from 0 to {MOST_DELAY_FRAMES} frames")
        sections = np.array([section for row in stage.sections for section in row], np.float64).reshape(-1, 5)
        if len(sections) > MOST_SECTIONS:
            raise ValueError(f"gave {len(sections)} sections in stage {number}; {MOST_SECTIONS} are the most")
        if not (np.isfinite(mix).all() and np.isfinite(sections).all()):
            raise ValueError(f"gave numbers in stage {number} that are not finite")
        if not ((np.abs(sections[:, 4]) < 1.0) & (np.abs(sections[:, 3]) < 1.0 + sections[:, 4])).all():
            raise ValueError(f"gave a section in stage {number} that is unstable")
        inputs, late = len(mix), late + sum(stage.delay_frames)
        kept.append(stage)
    if 8 * late > MOST_DELAY_BYTES:
        raise ValueError(f"gave delays of {late} frames in all, {8 * late >> 20} MB; {MOST_DELAY_BYTES >> 20} MB are the most")
    return Recursion(tuple(kept))


def _plain(stage: BiquadStage, number: int) -> BiquadStage:
    """A copy of what a plugin gave, in types that all who read it can take for granted. Raises ValueError in one line."""
    what, fault = "a mix", "no array of numbers"
    try:
        mix = np.array(stage.mix, np.float64, order="C")
        what, fault = "a delay", "not a whole number of frames"
        delays = tuple(map(operator.index, stage.delay_frames))
        what, fault = "a section", "not five numbers"
        sections = tuple(tuple(map(_section, row)) for row in stage.sections)
    except OverflowError:
        raise ValueError(f"gave numbers in stage {number} that float64 does not hold") from None
    except (TypeError, ValueError):
        raise ValueError(f"gave {what} in stage {number} that is {fault}") from None
    mix.flags.writeable = False
    return BiquadStage(mix, delays, sections)


def _section(numbers: Iterable[float]) -> Biquad:
    b0, b1, b2, a1, a2 = map(float, numbers)
    return b0, b1, b2, a1, a2
