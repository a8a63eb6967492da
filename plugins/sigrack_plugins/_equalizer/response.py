"""From the exact description of an equaliser to taps.

The frequency response is computed on a grid, exactly, and transformed into the impulse response. What of that is longer than
the grid's period wraps around, so the grid is refined until what is left at its end does not matter.

The response is cut where the sum of all magnitudes that follow is 140 dB below the highest gain. So no frequency's response
and no sample of any output, relative to full scale times that gain, changes by more than that.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sigrack_plugins._equalizer.graphic import LENGTH_S, curve_taps
from sigrack_plugins._equalizer.stages import Section, Stage, Strip

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["MOST_TAPS", "taps_of"]

Array = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complex128]
Paths = dict[tuple[int, int], Array]
"""Impulse responses by (channel out, channel in); what is not there is silent."""

MOST_TAPS = 1 << 20
LONGEST_GRID = 4 * MOST_TAPS
CUT = 1e-7
"""140 dB."""
DECAY_NEPERS = -math.log(CUT)
NOISE = 1e-14
"""Of the transform, against the highest peak."""


def taps_of(stages: Sequence[Stage], rate_hz: int, name: str) -> "Samples":
    """Return float32 taps of shape (out, in, taps). Raises ValueError in one line if they are too many or too loud. [worker]"""
    if _frames(stages, lambda strip: _fixed_frames(strip, rate_hz)) > LONGEST_GRID // 2:
        raise ValueError(_too_long(stages, rate_hz, name))  # on no grid could it be told from a shorter one
    with np.errstate(over="ignore", invalid="ignore"):  # found below
        taps, needed = _cut_taps(stages, rate_hz)
    if not np.isfinite(taps).all():
        raise ValueError(f"{name}: the gains add up to more than numbers hold")
    if needed > MOST_TAPS:
        raise ValueError(_too_long(stages, rate_hz, name))
    return taps


def _cut_taps(stages: Sequence[Stage], rate_hz: int) -> tuple["Samples", int]:
    """The taps, and how many are needed; more than `MOST_TAPS` are left out."""
    grid = _first_grid(stages, rate_hz)
    paths, needed = _respond(stages, rate_hz, grid)
    while needed > grid // 2 and grid < LONGEST_GRID:
        grid *= 2
        paths, needed = _respond(stages, rate_hz, grid)
    channels = len(stages[-1].mix)
    taps = np.zeros((channels, channels, min(needed, MOST_TAPS)), np.float32)
    for (out, into), response in paths.items():
        taps[out, into] = response[: taps.shape[2]]
    return taps, needed


def _first_grid(stages: Sequence[Stage], rate_hz: int) -> int:
    """A power of two with room for the delays, the curves and the longest ringing."""
    frames = _frames(stages, lambda strip: _fixed_frames(strip, rate_hz) + max(map(_ringing_frames, strip.sections), default=0.0))
    return min(LONGEST_GRID, 1 << (2 * math.ceil(min(frames, LONGEST_GRID)) + 64).bit_length())


def _frames(stages: Sequence[Stage], of_strip: Callable[[Strip], float]) -> float:
    """The sum over the stages of the most in each."""
    return sum(max(map(of_strip, stage.strips)) for stage in stages)


def _fixed_frames(strip: Strip, rate_hz: int) -> float:
    return strip.delay_frames + LENGTH_S * rate_hz * len(strip.curves)


def _ringing_frames(section: Section) -> float:
    """How long a biquad takes to decay by 140 dB, by its slowest pole."""
    _, _, _, a1, a2 = section.coefficients
    spread = a1 * a1 / 4.0 - a2
    radius = math.sqrt(a2) if spread < 0.0 else abs(a1) / 2.0 + math.sqrt(spread)
    return DECAY_NEPERS / -math.log(radius) if 0.0 < radius < 1.0 else 0.0 if radius == 0.0 else math.inf


def _too_long(stages: Sequence[Stage], rate_hz: int, name: str) -> str:
    """The host asks for taps where there is a curve: anything else can have a slot of its own."""
    sections = [section for stage in stages for strip in stage.strips for section in strip.sections]
    longest = max(sections, key=_ringing_frames, default=None)
    if longest and _ringing_frames(longest) > _frames(stages, lambda strip: _fixed_frames(strip, rate_hz)):
        what = f"the filter in {longest.place} rings longest: give the GraphicEQ a slot of its own"
    else:
        what = "its delays and GraphicEQs are too long: shorten them, give each a slot of its own"
    return f"{name}: the response takes more than {MOST_TAPS} taps at {rate_hz} Hz; {what}, or use a source with a lower rate"


def _respond(stages: Sequence[Stage], rate_hz: int, grid: int) -> tuple[Paths, int]:
    """The impulse responses, and how many taps they need."""
    spectra = _spectra(stages, rate_hz, grid)
    top = max((float(np.abs(spectrum).max()) for spectrum in spectra.values()), default=0.0)
    paths = {key: np.fft.irfft(spectra.pop(key), grid) for key in list(spectra)}
    noise = NOISE * max((float(np.abs(path).max()) for path in paths.values()), default=0.0)
    needed = 1
    for path in paths.values():
        path[np.abs(path) <= noise] = 0.0
        rest = np.cumsum(np.abs(path[::-1]))[::-1]
        needed = max(needed, int(np.count_nonzero(rest > CUT * top)))
    return paths, needed


def _spectra(stages: Sequence[Stage], rate_hz: int, grid: int) -> dict[tuple[int, int], Spectrum]:
    """Frequency responses from each channel in to each channel out, on `grid` // 2 + 1 frequencies."""
    kernel = _Kernel(rate_hz, grid)
    inputs = stages[0].mix.shape[1]
    channels: list[dict[int, Spectrum]] = [{into: np.ones(grid // 2 + 1, np.complex128)} for into in range(inputs)]
    for stage in stages:
        mixed = [_sum(factors, channels) for factors in stage.mix]
        responses = [kernel.respond(strip) for strip in stage.strips]
        channels = [{into: path * own for into, path in row.items()} for row, own in zip(mixed, responses, strict=True)]
    return {(out, into): path for out, row in enumerate(channels) for into, path in row.items()}


def _sum(factors: Array, channels: list[dict[int, Spectrum]]) -> dict[int, Spectrum]:
    row: dict[int, Spectrum] = {}
    for factor, channel in zip(factors.tolist(), channels, strict=True):
        if factor:
            for into, path in channel.items():
                row[into] = row[into] + factor * path if into in row else factor * path
    return row


class _Kernel:
    """Computes frequency responses on one grid; equal strips once."""

    def __init__(self, rate_hz: int, grid: int) -> None:
        self._rate_hz, self._grid = rate_hz, grid
        self._turn = np.pi / grid * np.arange(grid // 2 + 1)  # half the angle per frame
        # 1 - 1/z: around it the polynomials lose nothing at low frequencies.
        self._difference = 2j * np.sin(self._turn) * np.exp(-1j * self._turn)
        self._known: dict[Strip, Spectrum] = {}

    def respond(self, strip: Strip) -> Spectrum:
        """The response of a strip."""
        if strip not in self._known:
            self._known[strip] = self._respond(strip)
        return self._known[strip]

    def _respond(self, strip: Strip) -> Spectrum:
        turns = np.arange(self._grid // 2 + 1) * strip.delay_frames % self._grid  # whole turns would cost digits
        response: Spectrum = strip.gain * np.exp(-2j * np.pi / self._grid * turns)
        for points in strip.curves:
            response *= np.fft.rfft(curve_taps(points, self._rate_hz), self._grid)
        for section in strip.sections:
            b0, b1, b2, a1, a2 = section.coefficients
            response *= self._polynomial(b0, b1, b2) / self._polynomial(1.0, a1, a2)
        return response

    def _polynomial(self, c0: float, c1: float, c2: float) -> Spectrum:
        """c0 + c1 / z + c2 / z^2 as a polynomial in 1 - 1/z."""
        u = self._difference
        result: Spectrum = (c0 + c1 + c2) - u * ((c1 + 2.0 * c2) - c2 * u)
        return result
