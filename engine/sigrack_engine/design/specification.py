"""What a filter must do."""

import math
from dataclasses import dataclass

from sigrack_engine.design.errors import DesignError
from sigrack_engine.design.kaiser import taps_for, width_for

__all__ = ["PHASES", "RATIOS", "Specification", "specify"]

RATIOS = (1, 2, 4, 8, 16, 32)
PHASES = ("minimum", "linear")
MOST_TAPS = 1 << 22
TAPS_PER_PHASE = 40_000
"""By default: 640,000 taps at x16, 0.9 s of sound at any ratio."""

LEAST_PASS_HZ = 20_000.0
"""Where a pass band reaches at least, unless it is told its edge; below 44.1 kHz the same share of the stop band's edge."""

MARGIN_DB = 6.0
"""Designed above what is asked: the floor under minimum phase costs 3 dB, rounding to float32 and the fit of beta the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """A filter for an upsampler, with every number decided; `specify` fills in what is left open. Raises DesignError."""

    input_rate_hz: int
    ratio: int
    phase: str
    taps: int
    pass_edge_hz: float
    """Up to here the response is flat within ripple_db."""
    stop_edge_hz: float
    """From here to half the output rate it is attenuation_db down."""
    attenuation_db: float
    ripple_db: float
    gain: float = 1.0
    """Level of the output against the input's."""

    def __post_init__(self) -> None:
        _check_choice("ratio", self.ratio, RATIOS)
        _check_choice("phase", self.phase, PHASES)
        _check_range("input_rate_hz", self.input_rate_hz, 1, 1 << 22)
        _check_range("taps", self.taps, 1, MOST_TAPS + 1)
        _check_range("attenuation_db", self.attenuation_db, 30.0, 200.0)
        _check_range("ripple_db", self.ripple_db, 1e-6, 3.0)
        _check_range("gain", self.gain, 1e-3, 1e3)
        if self.phase == "linear" and self.taps % 2 == 0:
            raise DesignError(f"taps: {self.taps}: linear phase needs an odd number")
        half = self.output_rate_hz / 2.0
        _check_range("stop_edge_hz", self.stop_edge_hz, 1.0, half)
        _check_range("pass_edge_hz", self.pass_edge_hz, 1e-3, min(self.stop_edge_hz, self.input_rate_hz / 2.0))
        if self.pass_edge_hz == self.stop_edge_hz < half:
            raise DesignError(f"pass_edge_hz: {self.pass_edge_hz:g} is the stop band's edge as well; leave room for a slope")

    @property
    def output_rate_hz(self) -> int:
        """Rate that the taps run at."""
        return self.input_rate_hz * self.ratio

    @property
    def dc_gain(self) -> float:
        """Sum of the taps: each of the `ratio` polyphase branches sums to `gain`, so that a level is kept."""
        return self.gain * self.ratio

    @property
    def passes_all(self) -> bool:
        """Whether there is no stop band, as at ratio 1: the filter is a unit impulse."""
        return self.pass_edge_hz == self.stop_edge_hz

    @property
    def slope(self) -> float:
        """Width between the edges, in cycles per output sample."""
        return (self.stop_edge_hz - self.pass_edge_hz) / self.output_rate_hz

    @property
    def design_db(self) -> float:
        """Attenuation that the window is made for: a windowed design ripples as much in the pass band."""
        return _design_db(self.attenuation_db, self.ripple_db)

    @property
    def taps_used(self) -> int:
        """Length of the window that gives the slope, if there are so many; taps beyond it are zeros."""
        return 1 if self.passes_all else min(self.taps, _allowed(taps_for(self.slope, self.design_db), self.phase))


def _design_db(attenuation_db: float, ripple_db: float) -> float:
    """Return the attenuation to design for. [any]"""
    return max(attenuation_db, -20.0 * math.log10(math.expm1(ripple_db * math.log(10.0) / 20.0))) + MARGIN_DB


def specify(
    *,
    input_rate_hz: int = 44_100,
    ratio: int = 16,
    phase: str = "minimum",
    taps: int | None = None,
    pass_edge_hz: float | None = None,
    stop_edge_hz: float | None = None,
    attenuation_db: float = 140.0,
    ripple_db: float = 0.01,
) -> Specification:
    """Return a specification that can be met. [any]

    `taps`: 40,000 per phase if left open; an even number for linear phase becomes one more, so that the delay of (taps - 1) / 2
    is whole, in input frames too. `stop_edge_hz`: half the input rate. `pass_edge_hz`: as near to the stop band as taps and
    attenuation allow, at least 20 kHz (at lower rates 0.907 of the stop band's edge), and half the input rate at most; if given,
    the slope fills the whole room between the edges, and taps beyond what that needs are zeros. Raises DesignError: it says how
    many taps or which edge would do.
    """
    _check_choice("ratio", ratio, RATIOS)
    _check_choice("phase", phase, PHASES)
    _check_range("attenuation_db", attenuation_db, 30.0, 200.0)
    _check_range("ripple_db", ripple_db, 1e-6, 3.0)
    rate_hz = input_rate_hz * ratio
    stop = input_rate_hz / 2.0 if stop_edge_hz is None else stop_edge_hz
    everything = ratio == 1 and stop == rate_hz / 2.0 and pass_edge_hz in (None, stop)
    if taps is None:
        taps = 1 if everything else TAPS_PER_PHASE * ratio
    taps = _allowed(taps, phase)
    steepest = stop - width_for(taps, _design_db(attenuation_db, ripple_db)) * rate_hz
    wanted = pass_edge_hz if pass_edge_hz is not None else stop if everything else min(max(steepest, 1e-3), input_rate_hz / 2.0)
    spec = Specification(
        input_rate_hz=input_rate_hz,
        ratio=ratio,
        phase=phase,
        taps=taps,
        pass_edge_hz=wanted,
        stop_edge_hz=stop,
        attenuation_db=attenuation_db,
        ripple_db=ripple_db,
    )
    if not everything:
        _check_taps(spec, steepest, pass_edge_hz)
    return spec


def _check_taps(spec: Specification, steepest_hz: float, asked_hz: float | None) -> None:
    """Raise DesignError if the slope cannot be had with the taps; `steepest_hz` is where it would begin."""
    least = asked_hz or min(LEAST_PASS_HZ, LEAST_PASS_HZ / 22_050.0 * spec.stop_edge_hz)
    needed = _allowed(taps_for((spec.stop_edge_hz - least) / spec.output_rate_hz, spec.design_db), spec.phase)
    if needed <= spec.taps:
        return
    otherwise = f", or pass_edge_hz = {math.floor(steepest_hz)}" if steepest_hz >= 1.0 else ""
    raise DesignError(
        f"taps: {spec.taps} are too few: {spec.attenuation_db:g} dB from {spec.stop_edge_hz:g} Hz and flat to {least:g} Hz "
        f"needs {needed} taps{otherwise}"
    )


def _allowed(taps: int, phase: str) -> int:
    return taps | 1 if phase == "linear" else taps


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise DesignError(f"{name}: {value!r} is not one of {', '.join(map(str, choices))}")


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise DesignError(f"{name}: {value:.12g} is not between {least:g} and {most:.12g}")
