"""What the lines of an equaliser text mean, in float64: analogue prototypes at the frequency to which the rate bends them.

The prototypes H(s) are those of R. Bristow-Johnson's Audio EQ Cookbook. The bilinear transform that keeps f0 in its place puts
s = j tan(pi f / rate) / tan(pi f0 / rate), so the digital filter's response is H at that s: no coefficients are needed.
"""

import math
from bisect import bisect

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.signal import lfilter

__all__ = ["curve_db", "polynomials", "recursion", "response", "sections"]

Doubles = npt.NDArray[np.float64]
Response = npt.NDArray[np.complex128]


def response(
    kind: str,
    hz: Doubles,
    rate_hz: int,
    f0_hz: float,
    gain_db: float = 0.0,
    *,
    q: float | None = None,
    bandwidth_oct: float | None = None,
    shelf_slope: float | None = None,
    corner: bool = False,
) -> Response:
    """Return the response of one filter at `hz`; one of `q`, `bandwidth_oct` and `shelf_slope`, the cookbook's S, is given.

    `corner`: f0 is where a shelf leaves its plateau. From there to its centre, where it has half its gain in dB, it runs along
    a straight line of 40 S dB per decade, 12 S dB per octave.
    """
    a = 10 ** (gain_db / 40)
    if corner:
        slope = shelf_slope if shelf_slope is not None else _slope_of(q, a)
        octaves = gain_db / 2 / (40 * slope * math.log10(2))
        f0_hz *= 2 ** (abs(octaves) if kind == "LS" else -abs(octaves))
    if bandwidth_oct is not None:
        w = 2 * math.pi * f0_hz / rate_hz
        q = 1 / (2 * math.sinh(math.log(2) / 2 * bandwidth_oct * w / math.sin(w)))
    if shelf_slope is not None:
        q = 1 / math.sqrt((a + 1 / a) * (1 / shelf_slope - 1) + 2)
    assert q is not None
    s = 1j * np.tan(np.pi * hz / rate_hz) / math.tan(math.pi * f0_hz / rate_hz)
    r = math.sqrt(a)
    return {
        "LP": lambda: 1 / (s**2 + s / q + 1),
        "HP": lambda: s**2 / (s**2 + s / q + 1),
        "BP": lambda: (s / q) / (s**2 + s / q + 1),
        "NO": lambda: (s**2 + 1) / (s**2 + s / q + 1),
        "AP": lambda: (s**2 - s / q + 1) / (s**2 + s / q + 1),
        "PK": lambda: (s**2 + s * a / q + 1) / (s**2 + s / (a * q) + 1),
        "LS": lambda: a * (s**2 + r / q * s + a) / (a * s**2 + r / q * s + 1),
        "HS": lambda: a * (a * s**2 + r / q * s + 1) / (s**2 + r / q * s + a),
    }[kind]()


def _slope_of(q: float | None, a: float) -> float:
    """The S at which the cookbook's formula gives this Q."""
    assert q is not None
    wanted = 1 / q**2
    return float(brentq(lambda slope: (a + 1 / a) * (1 / slope - 1) + 2 - wanted, 1e-9, 1e9, xtol=1e-15, rtol=1e-14))


def polynomials(numerator: "npt.ArrayLike", denominator: "npt.ArrayLike", hz: Doubles, rate_hz: int) -> Response:
    """Return the response of coefficients in powers of 1/z, with the digits of long double."""
    z = np.exp(np.clongdouble(-2j) * np.longdouble(np.pi) * hz.astype(np.longdouble) / rate_hz)
    above, below = (
        sum(np.longdouble(value) * z**power for power, value in enumerate(np.asarray(row, np.float64)))
        for row in (numerator, denominator)
    )
    result: Response = (above / below).astype(np.complex128)
    return result


def sections(biquads: "npt.ArrayLike", hz: Doubles, rate_hz: int) -> Response:
    """Return the response of biquads (b0, b1, b2, a1, a2) one after the other."""
    result = np.ones(len(hz), np.complex128)
    for b0, b1, b2, a1, a2 in np.asarray(biquads, np.float64).reshape(-1, 5):
        result *= polynomials([b0, b1, b2], [1, a1, a2], hz, rate_hz)
    return result


def recursion(biquads: "npt.ArrayLike", signal: Doubles) -> Doubles:
    """Return what biquads (b0, b1, b2, a1, a2) make of a signal, sample after sample."""
    for b0, b1, b2, a1, a2 in np.asarray(biquads, np.float64).reshape(-1, 5):
        signal = lfilter([b0, b1, b2], [1, a1, a2], signal, axis=0)
    return signal


def curve_db(points: list[tuple[float, float]], hz: float) -> float:
    """Return a drawn curve's gain: straight lines in dB over octaves, flat outside."""
    points = sorted(points)
    after = bisect([at for at, _ in points], hz)
    if after == 0 or after == len(points):
        return points[0 if after == 0 else -1][1]
    (low, low_db), (high, high_db) = points[after - 1 : after + 1]
    return low_db + (high_db - low_db) * math.log2(hz / low) / math.log2(high / low)
