"""The exact description of an equaliser: what the bus goes through, at a rate and for a number of channels.

With x the samples of the bus, each stage is `y[o] = strip[o] applied to the sum over i of mix[o, i] x[i]`. A strip is linear
and does not change over time, so the order of its parts does not matter. A text without `Copy` is one stage that mixes nothing.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sigrack_plugins._equalizer.commands import Command, Copy, Delay, Filter, GraphicEq, Iir, Include, Points, Preamp, Select
from sigrack_plugins._equalizer.design import design
from sigrack_plugins._equalizer.iir import split
from sigrack_plugins._equalizer.text import nearest, quoted
from sigrack_plugins.api import Biquad, BiquadStage

__all__ = ["Section", "Stage", "Strip", "channel_names", "recursion_of", "stages_of"]

MOST_DELAY_FRAMES = 1 << 20
"""Of a line."""
MOST_STRIP_FRAMES = 1 << 22
"""Of all lines: what the engine takes for one channel between two mixes."""
LAYOUTS = {
    1: ("C",),
    2: ("L", "R"),
    4: ("L", "R", "RL", "RR"),
    6: ("L", "R", "C", "LFE", "SL", "SR"),
    8: ("L", "R", "C", "LFE", "RL", "RR", "SL", "SR"),
}
"""Names of channels as Equalizer APO gives them; buses of other sizes have numbers only."""
ALIASES = {"SUB": "LFE", "RL": "SL", "RR": "SR", "SL": "RL", "SR": "RR"}
"""What a name that the bus lacks may stand for."""


@dataclass(frozen=True, slots=True)
class Section:
    """One biquad."""

    coefficients: Biquad
    """b0, b1, b2, a1, a2 in powers of 1/z, float64; a0 is 1."""
    place: str
    """The line that it is from, for messages."""


@dataclass(frozen=True, slots=True)
class Strip:
    """What one channel goes through; equal strips compare equal."""

    gain: float = 1.0
    """Linear."""
    delay_frames: int = 0
    sections: tuple[Section, ...] = ()
    """Biquads one after the other."""
    curves: tuple[Points, ...] = ()
    """GraphicEQ curves one after the other; `graphic.curve_taps` gives the taps of each."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A mix, then one strip per channel."""

    mix: npt.NDArray[np.float64]
    """Factors of shape (channels out, channels in). The first stage has the bus's channels in, the last one has them out."""
    strips: tuple[Strip, ...]
    """One per channel out."""


def stages_of(commands: Iterable[Command], rate_hz: int, channels: int) -> tuple[Stage, ...]:
    """Return what commands do at a rate to a bus. Raises ValueError in one line that begins with FILE:LINE. [any]"""
    bus = _Bus(rate_hz, channels)
    bus.run(commands)
    return bus.finish()


def recursion_of(stages: Sequence[Stage]) -> tuple[BiquadStage, ...] | None:
    """Return the same as the engine runs it without taps; None if there are curves, which only have taps. [any]"""
    if any(strip.curves for stage in stages for strip in stage.strips):
        return None
    return tuple(
        BiquadStage(
            stage.mix * np.array([[strip.gain] for strip in stage.strips]),
            [strip.delay_frames for strip in stage.strips],
            [[section.coefficients for section in strip.sections] for strip in stage.strips],
        )
        for stage in stages
    )


def channel_names(channels: int) -> tuple[str, ...]:
    """Return the names of a bus's channels: L, R ... for the sizes that have them, else 1, 2 ... [any]"""
    return LAYOUTS.get(channels) or tuple(str(number) for number in range(1, channels + 1))


@dataclass
class _Bus:
    """Carries commands out, one after the other."""

    rate_hz: int
    channels: int
    names: list[str] = field(init=False)
    """Those of the bus, then virtual ones that `Copy` has made."""
    unread: dict[str, str] = field(default_factory=dict)
    """Virtual channels that nothing was copied from so far, each with its line."""

    def __post_init__(self) -> None:
        self.names = list(channel_names(self.channels))
        self.selected = list(range(self.channels))
        self.stages: list[Stage] = []
        self._begin(np.eye(self.channels))

    def run(self, commands: Iterable[Command]) -> None:
        for command in commands:
            try:
                self._run(command)
            except ValueError as error:
                text = str(error)  # that of a command in an included file has its place already
                raise ValueError(text if isinstance(command, Include) else f"{command.place}: {text}") from None

    def _run(self, command: Command) -> None:
        match command:
            case Include():
                selected = self.selected
                self.run(command.commands)
                self.selected = selected
            case Select():
                self._select(command)
            case Copy():
                self._copy(command)
            case Preamp():
                factor = 10.0 ** (command.gain_db / 20.0)
                self._change(lambda strip: replace(strip, gain=strip.gain * factor))
            case Delay():
                frames = self._frames(command)
                self._change(lambda strip: replace(strip, delay_frames=self._sum(strip.delay_frames, frames)))
            case GraphicEq():
                self._change(lambda strip: replace(strip, curves=(*strip.curves, command.points)))
            case Filter():
                self._add(command.place, [design(command, self.rate_hz)])
            case Iir():
                self._add(command.place, split(command))

    def finish(self) -> tuple[Stage, ...]:
        for name, place in self.unread.items():
            hint = nearest(name, self.names[: self.channels])
            raise ValueError(f"{place}: Copy: {quoted(name)} is no channel of the bus, and nothing is copied from it{hint}")
        self._end()
        if len(self.names) > self.channels:
            self._begin(np.eye(self.channels, len(self.names)))
            self._end()
        return tuple(self.stages)

    def _begin(self, mix: npt.NDArray[np.float64]) -> None:
        self.mix = mix
        self.strips = [Strip()] * len(mix)

    def _end(self) -> None:
        self.stages.append(Stage(self.mix, tuple(self.strips)))

    def _change(self, change: Callable[[Strip], Strip]) -> None:
        for channel in self.selected:
            self.strips[channel] = change(self.strips[channel])

    def _add(self, place: str, biquads: list[Biquad]) -> None:
        """A biquad whose numerator equals its denominator, such as one without gain, is no filter."""
        sections = tuple(Section(biquad, place) for biquad in biquads if biquad[:3] != (1.0, *biquad[3:]))
        self._change(lambda strip: replace(strip, sections=strip.sections + sections))

    def _frames(self, command: Delay) -> int:
        """To the nearest whole frame."""
        frames = command.amount * (self.rate_hz / 1000.0 if command.in_ms else 1.0)
        if frames > MOST_DELAY_FRAMES:
            raise ValueError(f"Delay: {frames:.9g} frames at {self.rate_hz} Hz are more than {MOST_DELAY_FRAMES}")
        return math.floor(frames + 0.5)

    def _sum(self, before: int, frames: int) -> int:
        if before + frames > MOST_STRIP_FRAMES:
            raise ValueError(f"Delay: {before + frames} frames of one channel are more than {MOST_STRIP_FRAMES}")
        return before + frames

    def _select(self, command: Select) -> None:
        if "ALL" in command.channels:
            self.selected = list(range(len(self.names)))
        else:
            self.selected = sorted({self._index("Channel", name) for name in command.channels})

    def _copy(self, command: Copy) -> None:
        """Every sum is of the channels as they were before the line."""
        inputs = len(self.names)
        rows: dict[int, npt.NDArray[np.float64]] = {}
        for target, terms in command.sums:
            row = np.zeros(inputs)
            for factor, name in terms:
                index = self._index("Copy", name, inputs)
                self.unread.pop(self.names[index], None)
                row[index] += factor
            index = self._target(command.place, target)
            if index in rows:
                raise ValueError(f"Copy: {target} is set twice in one line")
            rows[index] = row
        mix = np.eye(len(self.names), inputs)
        for index, row in rows.items():
            mix[index] = row
        self._end()
        self._begin(mix)

    def _target(self, place: str, name: str) -> int:
        if re.fullmatch(r"[A-Z_]\w*", name) and self._find(name) is None:
            self.names.append(name)
            self.unread[name] = place
        return self._index("Copy", name)

    def _index(self, what: str, name: str, count: int | None = None) -> int:
        found = self._find(name, count)
        if found is None:
            names = dict.fromkeys([*self.names[:count], *(str(number) for number in range(1, self.channels + 1))])
            raise ValueError(f"{what}: a bus of {self.channels} has no channel {quoted(name)}{nearest(name, names)}")
        return found

    def _find(self, name: str, count: int | None = None) -> int | None:
        names = self.names[:count]
        if re.fullmatch(r"[1-9]\d{0,2}", name):
            return int(name) - 1 if int(name) <= len(names) else None
        name = name if name in names else ALIASES.get(name, name)
        return names.index(name) if name in names else None
