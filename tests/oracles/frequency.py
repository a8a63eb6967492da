"""What a filter's response is, in float64, by sums and by transforms of the modulated taps: no zero padding, no design code."""

import numpy as np
import numpy.typing as npt
import scipy.fft

__all__ = ["half_hz", "log_outside", "ripple_db", "stop_db", "transform"]

Taps = npt.NDArray[np.floating]
OVERSAMPLING = 8
"""Frequencies per tap, at least."""


def transform(taps: Taps, rate_hz: float, frequencies_hz: npt.NDArray[np.float64]) -> npt.NDArray[np.complex128]:
    """Return the sum of h(n) exp(-2 pi i f n / rate) at each frequency."""
    times = np.arange(len(taps))
    exact = taps.astype(np.float64)
    return np.array([(exact * np.exp(-2j * np.pi * ((hz / rate_hz * times) % 1.0))).sum() for hz in frequencies_hz])


def _grid(taps: Taps, rate_hz: float, oversampling: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return frequencies from 0 to half the rate, and the magnitude there: one transform per shift of the grid."""
    length = scipy.fft.next_fast_len(len(taps))
    times = np.arange(len(taps))
    exact = taps.astype(np.float64)
    found = np.empty((length // 2 + 1, oversampling))
    for shift in range(oversampling):
        shifted = exact * np.exp(-2j * np.pi * (shift / oversampling / length) * times)
        found[:, shift] = np.abs(scipy.fft.fft(shifted, length))[: length // 2 + 1]
    frequencies = np.arange(found.size) * (rate_hz / length / oversampling)
    inside = frequencies <= rate_hz / 2.0
    return frequencies[inside], found.ravel()[inside]


def _near(frequency: float, step: float, least: float, most: float) -> npt.NDArray[np.float64]:
    fine = frequency + step * np.linspace(-1.0, 1.0, 17)
    return fine[(fine >= least) & (fine <= most)]


def stop_db(taps: Taps, rate_hz: float, stop_edge_hz: float, oversampling: int = OVERSAMPLING) -> float:
    """Return the largest level from the edge, which is measured itself, to half the rate, in dB against 0 Hz."""
    frequencies, found = _grid(taps, rate_hz, oversampling)
    inside = frequencies >= stop_edge_hz
    worst = frequencies[inside][found[inside].argmax()]
    fine = np.append(_near(worst, frequencies[1], stop_edge_hz, rate_hz / 2.0), stop_edge_hz)
    largest = max(found[inside].max(), np.abs(transform(taps, rate_hz, fine)).max())
    return float(20.0 * np.log10(largest / abs(taps.sum(dtype=np.float64))))


def ripple_db(taps: Taps, rate_hz: float, pass_edge_hz: float, oversampling: int = OVERSAMPLING) -> float:
    """Return the largest deviation from the level at 0 Hz, up to the edge, which is measured itself, in dB."""
    frequencies, found = _grid(taps, rate_hz, oversampling)
    edge = np.abs(transform(taps, rate_hz, np.array([pass_edge_hz])))
    inside = np.append(found[frequencies <= pass_edge_hz], edge)
    return float(np.abs(20.0 * np.log10(inside / abs(taps.sum(dtype=np.float64)))).max())


def half_hz(taps: Taps, rate_hz: float, low_hz: float, high_hz: float) -> float:
    """Return where the level crosses half that at 0 Hz, by bisection between two frequencies on both sides of it."""
    half = abs(taps.sum(dtype=np.float64)) / 2.0
    while high_hz - low_hz > 1e-4:
        middle = (low_hz + high_hz) / 2.0
        above = abs(transform(taps, rate_hz, np.array([middle]))[0]) > half
        low_hz, high_hz = (middle, high_hz) if above else (low_hz, middle)
    return low_hz


def log_outside(taps: Taps, oversampling: int = OVERSAMPLING) -> float:
    """Return the sum of log |z| over the zeros outside the unit circle, by Jensen's formula: 0 for minimum phase."""
    frequencies, found = _grid(taps, 1.0, oversampling)
    ends = (frequencies == 0.0) | (frequencies == 0.5)
    weights = np.where(ends, 0.5, 1.0)
    return float((weights * np.log(found)).sum() / weights.sum() - np.log(abs(float(taps[0]))))
