"""What a filter does: figures from its taps, and where they miss the specification."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sigrack_engine.design.errors import DesignError
from sigrack_engine.design.homomorphic import Magnitude, fft_length, magnitude, minimum_phase
from sigrack_engine.design.specification import Specification

__all__ = ["Measured", "measure", "misses"]

_LEAST = 1e-20
"""What the logarithm of nothing is taken of: -400 dB."""

_PHASE_FLOOR = 1e-12
"""Under the magnitude whose minimum phase the taps are compared with: a logarithm of nothing has none."""

_MOST_PHASE_ERROR_DB = -20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures of a filter; levels in dB against its gain at 0 Hz."""

    stop_db: float
    """The largest level anywhere in the stop band; -400 if there is no stop band."""
    stop_worst_hz: float
    """Where that is."""
    ripple_db: float
    """Largest deviation from the gain at 0 Hz, up to the pass band's edge."""
    half_hz: float
    """The highest frequency at -6 dB, half the gain."""
    dc_gain: float
    branch_error: float
    """Largest deviation of a polyphase branch's sum from the mean of all, relative."""
    peak_index: int
    """Of the largest tap."""
    phase_error_db: float
    """Energy of the difference from exact linear phase, or from the minimum phase of the same magnitude; -400: none."""


def measure(taps: npt.NDArray[np.float32], spec: Specification) -> Measured:
    """Measure taps at fft_length(taps) frequencies, and at the stop band's edge itself.

    Raises DesignError if they have no gain at 0 Hz to measure against. [worker]
    """
    exact = taps.astype(np.float64)
    gain = abs(float(exact.sum()))
    if not _LEAST < gain < math.inf:
        raise DesignError(f"the sum of the taps is {gain:g}: not a low pass")
    response = magnitude(exact)
    response /= gain
    step_hz = spec.output_rate_hz / fft_length(len(taps))
    stop, worst_hz = _stop_band(exact / gain, response, spec, step_hz)
    branches = np.pad(exact, (0, -len(exact) % spec.ratio)).reshape(-1, spec.ratio).sum(axis=0) * spec.ratio / gain
    return Measured(
        stop_db=_db(stop),
        stop_worst_hz=worst_hz,
        ripple_db=_ripple_db(response[: math.floor(spec.pass_edge_hz / step_hz) + 1]),
        half_hz=_half_hz(response, step_hz),
        dc_gain=float(exact.sum()),
        branch_error=float(np.abs(branches - branches.mean()).max()),
        peak_index=int(np.abs(exact).argmax()),
        phase_error_db=_phase_error_db(exact / gain, response, spec.phase),
    )


def _db(level: float) -> float:
    return 20.0 * math.log10(max(level, _LEAST))


def _stop_band(taps: npt.NDArray[np.float64], response: Magnitude, spec: Specification, step_hz: float) -> tuple[float, float]:
    """Return the largest response in the stop band, and its frequency."""
    if spec.passes_all:
        return 0.0, spec.stop_edge_hz
    turns = np.arange(len(taps)) * (spec.stop_edge_hz / spec.output_rate_hz)
    edge = abs(complex(taps @ np.exp(-2j * np.pi * (turns % 1.0))))
    first = math.ceil(spec.stop_edge_hz / step_hz)
    worst = first + int(response[first:].argmax())
    return (float(response[worst]), worst * step_hz) if response[worst] > edge else (edge, spec.stop_edge_hz)


def _ripple_db(response: Magnitude) -> float:
    return max(abs(_db(float(response.min()))), abs(_db(float(response.max()))))


def _half_hz(response: Magnitude, step_hz: float) -> float:
    last = int(np.flatnonzero(response >= 0.5)[-1])
    if last + 1 == len(response):
        return last * step_hz
    here, next_ = response[last], response[last + 1]
    return float(last + (here - 0.5) / (here - next_)) * step_hz


def _phase_error_db(taps: npt.NDArray[np.float64], response: Magnitude, phase: str) -> float:
    ideal = taps[::-1] if phase == "linear" else minimum_phase(np.hypot(response, _PHASE_FLOOR))[: len(taps)]
    return _db(math.sqrt(float(((taps - ideal) ** 2).sum()) / max(float((taps**2).sum()), _LEAST)))


def misses(measured: Measured, spec: Specification) -> list[str]:
    """Return a sentence for each figure that misses the specification. [any]"""
    level_db = _db(abs(measured.dc_gain) / spec.dc_gain)
    found = []
    if measured.stop_db > -spec.attenuation_db:
        found.append(
            f"{measured.stop_db:.2f} dB at {measured.stop_worst_hz:.2f} Hz, where its specification says "
            f"-{spec.attenuation_db:g} dB from {spec.stop_edge_hz:g} Hz on; the -6 dB point is at {measured.half_hz:.1f} Hz"
        )
    if measured.ripple_db > spec.ripple_db:
        found.append(f"{measured.ripple_db:.4g} dB of ripple up to {spec.pass_edge_hz:.6g} Hz, specified {spec.ripple_db:g} dB")
    if measured.dc_gain <= 0.0 or abs(level_db) > spec.ripple_db:
        found.append(f"gain of {measured.dc_gain:.6g} at 0 Hz, specified {spec.dc_gain:.6g}")
    if measured.phase_error_db > _MOST_PHASE_ERROR_DB:
        found.append(f"not of {spec.phase} phase: {measured.phase_error_db:.1f} dB away from it")
    return found
