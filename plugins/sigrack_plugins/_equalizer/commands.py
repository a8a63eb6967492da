"""What the lines of an equaliser text say, before the rate and the channels of the rack are known."""

from dataclasses import dataclass

__all__ = ["Command", "Copy", "Delay", "Filter", "GraphicEq", "Iir", "Include", "Preamp", "Select"]

Points = tuple[tuple[float, float], ...]
"""Frequencies in Hz, rising, each with its gain in dB."""


@dataclass(frozen=True, slots=True)
class Command:
    """A line that does something."""

    place: str
    """FILE:LINE, for messages."""


@dataclass(frozen=True, slots=True)
class Preamp(Command):
    """`Preamp: -6.5 dB`"""

    gain_db: float


@dataclass(frozen=True, slots=True)
class Filter(Command):
    """`Filter 1: ON PK Fc 105 Hz Gain -4.2 dB Q 0.70`. At most one of `q`, `bandwidth_oct` and `slope_db` is given."""

    name: str
    """The type as it stands in the text, for messages."""
    kind: str
    """PK, LP, HP, BP, NO, AP, LS or HS."""
    frequency_hz: float
    gain_db: float = 0.0
    q: float | None = None
    bandwidth_oct: float | None = None
    slope_db: float | None = None
    """Of shelves: dB per octave."""
    at_corner: bool = False
    """Of shelves: the frequency is where the slope begins, not its centre."""


@dataclass(frozen=True, slots=True)
class Iir(Command):
    """`Filter: ON IIR Order 1 Coefficients 0.5 0.5 1 0`: numerator and denominator in rising powers of 1/z."""

    numerator: tuple[float, ...]
    denominator: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Delay(Command):
    """`Delay: 3 ms` or `Delay: 12 samples`"""

    amount: float
    in_ms: bool


@dataclass(frozen=True, slots=True)
class GraphicEq(Command):
    """`GraphicEQ: 20 0; 25 1.2; 40 -3`"""

    points: Points


@dataclass(frozen=True, slots=True)
class Select(Command):
    """`Channel: L 2 SUB`: what follows applies to these."""

    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Copy(Command):
    """`Copy: L=L+0.5*R SUB=0.0`: for each target the factors of the channels of which it becomes the sum."""

    sums: tuple[tuple[str, tuple[tuple[float, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class Include(Command):
    """`Include: other.txt`: a channel selection in it ends with it."""

    commands: tuple[Command, ...]
