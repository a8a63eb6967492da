"""GraphicEQ: a filter whose magnitude follows a drawn curve.

Between its points the curve is straight in dB over the logarithm of the frequency, outside of them it is flat: as Equalizer APO
documents. The phase is the least that this magnitude can have, found through the cepstrum (A. V. Oppenheim, R. W. Schafer,
Discrete-Time Signal Processing, section on the realization of the complex cepstrum for minimum-phase sequences).

Corners in a curve make a response that never quite ends, so it is cut after one second. (Equalizer APO keeps 16,384 taps at
any rate, and fades them out.) What that changes grows with the steepness of the corners and falls with their frequency.
"""

import numpy as np
import numpy.typing as npt

from sigrack_plugins._equalizer.commands import Points

__all__ = ["LENGTH_S", "curve_db", "curve_taps"]

Array = npt.NDArray[np.float64]

LENGTH_S = 1
OVERSAMPLING = 4
"""Length of the transform against that of the filter: what of the cepstrum wraps around is below what the cut takes away."""


def curve_db(points: Points, frequency_hz: npt.NDArray[np.floating]) -> Array:
    """Return the curve's gain in dB at some frequencies, 0 Hz included. [any]"""
    at_hz, gains_db = np.array(points).T
    gains: Array = np.interp(np.log(np.maximum(frequency_hz, at_hz[0])), np.log(at_hz), gains_db)
    return gains


def curve_taps(points: Points, rate_hz: int) -> Array:
    """Return the minimum-phase taps of a curve, float64, one second of them. [any]"""
    length = LENGTH_S * rate_hz
    span = 1 << (OVERSAMPLING * length - 1).bit_length()
    nepers = curve_db(points, np.fft.rfftfreq(span, 1.0 / rate_hz)) * (np.log(10.0) / 20.0)
    cepstrum = np.fft.irfft(nepers, span)
    cepstrum[1 : span // 2] *= 2.0
    cepstrum[span // 2 + 1 :] = 0.0
    taps: Array = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)), span)[:length]
    return taps
