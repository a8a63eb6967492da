"""The digital filters behind Equalizer APO's filter types.

They are those of R. Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients" (W3C Working Group
Note, https://www.w3.org/TR/audio-eq-cookbook/): an analogue prototype through the bilinear transform, its frequency kept in
place. Equalizer APO adds what a type means without a width, and shelves by their corner.
"""

import math
from collections.abc import Callable

from sigrack_plugins._equalizer.commands import Filter
from sigrack_plugins.api import Biquad

__all__ = ["design"]

Ratio = tuple[float, float, float, float, float, float]
"""b0, b1, b2, a0, a1, a2."""

BUTTERWORTH_Q = math.sqrt(0.5)
NOTCH_Q = 30.0
SHELF_S = 0.9
"""Widths of filters that state none."""
STEEPEST_DB = 12.0
"""The slope in dB per octave of a shelf with S = 1."""


def design(command: Filter, rate_hz: int) -> Biquad:
    """Return the filter at a rate. Raises ValueError in one line if it cannot be at this rate. [any]"""
    a = math.pow(10.0, command.gain_db / 40.0)
    s = None if command.kind not in ("LS", "HS") else _shelf_s(command, a)
    frequency_hz = _centre_hz(command, s) if s is not None and command.at_corner else command.frequency_hz
    if frequency_hz >= rate_hz / 2:
        shifted = "" if frequency_hz == command.frequency_hz else f" has its centre at {frequency_hz:g} Hz, which"
        raise ValueError(
            f"{command.name}: Fc {command.frequency_hz:g} Hz{shifted} is not below half the rate, {rate_hz / 2:g} Hz: "
            "leave the filter out, or use a source with a higher rate"
        )
    w = 2.0 * math.pi * frequency_hz / rate_hz
    alpha = math.sin(w) / 2.0 * (_inverse_q(command, w) if s is None else _inverse_q_of(s, a))
    b0, b1, b2, a0, a1, a2 = _KINDS[command.kind](w, alpha, a)
    biquad = (b0 / a0, b1 / a0, b2 / a0, a1 / a0, a2 / a0)
    if not all(map(math.isfinite, biquad)) or abs(biquad[4]) >= 1.0:
        raise ValueError(f"{command.name}: Fc {command.frequency_hz:g} Hz with this width cannot be at a rate of {rate_hz} Hz")
    return biquad


def _inverse_q(command: Filter, w: float) -> float:
    if command.bandwidth_oct is not None:
        stretched = math.log(2.0) / 2.0 * command.bandwidth_oct * w / math.sin(w)
        return 2.0 * math.sinh(stretched) if stretched < 700.0 else math.inf
    q = NOTCH_Q if command.kind == "NO" else BUTTERWORTH_Q
    return 1.0 / (q if command.q is None else command.q)


def _shelf_s(command: Filter, a: float) -> float:
    """The cookbook's slope S of a shelf; with Q it follows from the cookbook's 1/Q = sqrt((A + 1/A) (1/S - 1) + 2)."""
    if command.q is not None:
        return 1.0 / ((1.0 / (command.q * command.q) - 2.0) / (a + 1.0 / a) + 1.0)
    if command.slope_db is None:
        return SHELF_S
    s = command.slope_db / STEEPEST_DB
    if (a + 1.0 / a) * (1.0 / s - 1.0) + 2.0 <= 0.0:
        raise ValueError(f"{command.name}: {command.slope_db:g} dB per octave is too steep for a gain of {command.gain_db:g} dB")
    return s


def _inverse_q_of(s: float, a: float) -> float:
    return math.sqrt((a + 1.0 / a) * (1.0 / s - 1.0) + 2.0)


def _centre_hz(command: Filter, s: float) -> float:
    """Half the gain lies between corner and centre, at the slope of 40 S dB per decade."""
    decades = abs(command.gain_db) / 2.0 / (40.0 * s)
    factor = math.pow(10.0, min(decades, 300.0))
    return command.frequency_hz * factor if command.kind == "LS" else command.frequency_hz / factor


def _low_pass(w: float, alpha: float, _a: float) -> Ratio:
    b = math.sin(w / 2.0) ** 2  # (1 - cos w) / 2 without loss at low frequencies
    return b, 2.0 * b, b, 1.0 + alpha, -2.0 * math.cos(w), 1.0 - alpha


def _high_pass(w: float, alpha: float, _a: float) -> Ratio:
    b = math.cos(w / 2.0) ** 2
    return b, -2.0 * b, b, 1.0 + alpha, -2.0 * math.cos(w), 1.0 - alpha


def _band_pass(w: float, alpha: float, _a: float) -> Ratio:
    return alpha, 0.0, -alpha, 1.0 + alpha, -2.0 * math.cos(w), 1.0 - alpha


def _notch(w: float, alpha: float, _a: float) -> Ratio:
    return 1.0, -2.0 * math.cos(w), 1.0, 1.0 + alpha, -2.0 * math.cos(w), 1.0 - alpha


def _all_pass(w: float, alpha: float, _a: float) -> Ratio:
    return 1.0 - alpha, -2.0 * math.cos(w), 1.0 + alpha, 1.0 + alpha, -2.0 * math.cos(w), 1.0 - alpha


def _peak(w: float, alpha: float, a: float) -> Ratio:
    return 1.0 + alpha * a, -2.0 * math.cos(w), 1.0 - alpha * a, 1.0 + alpha / a, -2.0 * math.cos(w), 1.0 - alpha / a


def _low_shelf(w: float, alpha: float, a: float) -> Ratio:
    cosine, beta = math.cos(w), 2.0 * math.sqrt(a) * alpha
    return (
        a * ((a + 1.0) - (a - 1.0) * cosine + beta),
        2.0 * a * ((a - 1.0) - (a + 1.0) * cosine),
        a * ((a + 1.0) - (a - 1.0) * cosine - beta),
        (a + 1.0) + (a - 1.0) * cosine + beta,
        -2.0 * ((a - 1.0) + (a + 1.0) * cosine),
        (a + 1.0) + (a - 1.0) * cosine - beta,
    )


def _high_shelf(w: float, alpha: float, a: float) -> Ratio:
    """The low shelf with the opposite gain, raised by the gain."""
    b0, b1, b2, a0, a1, a2 = _low_shelf(w, alpha, 1.0 / a)
    gain = a * a
    return gain * b0, gain * b1, gain * b2, a0, a1, a2


_KINDS: dict[str, Callable[[float, float, float], Ratio]] = {
    "PK": _peak,
    "LP": _low_pass,
    "HP": _high_pass,
    "BP": _band_pass,
    "NO": _notch,
    "AP": _all_pass,
    "LS": _low_shelf,
    "HS": _high_shelf,
}
