"""The head model: loudspeakers at +-azimuth around a sphere with two ears.

With a the sphere's radius, c = 343 m/s the speed of sound (air at 20 degrees Celsius), and an ear's angle the one between the
loudspeaker and the ear's axis:

- Sound reaches an ear at -a/c cos(angle) if it sees the loudspeaker, else, around the sphere, at a/c (angle - pi/2) (R. S.
  Woodworth, Experimental Psychology, 1938). With ears at +-90 degrees the far ear is later by a/c (phi + sin phi), phi the
  azimuth.
- The head shadows an ear by (1 + j w alpha T) / (1 + j w T), T = a / (2 c). alpha is between 0.1 and 2, by the ear's angle (C. P.
  Brown, R. O. Duda, "A Structural Model for Binaural Sound Synthesis", IEEE Trans. Speech Audio Proc. 6(5), 1998). It also delays
  the far ear further at low frequencies, as a real head does.

The direct paths LL and RR are one tap, at 0: no latency, and no colour but what the cross paths add. The cross paths LR and
RL carry what the far ear hears in relation to the near ear, at `level_db`. All is divided by 1 + level, so that what is equal
in both channels keeps its level at low frequencies, and no frequency becomes louder by more than 0.01 dB.

What the settings mean:

- `ear_spacing_m` is the straight distance between the ears. If it is less than the diameter, both ears lie behind the widest
  place of the sphere, at 90 degrees + acos(spacing / 2a): about 100 degrees for people (J. Blauert, Spatial Hearing, 1997).
- `far_shadow_db` replaces the ratio of the two alphas, the level of the far ear against the near one at the highest frequencies.
- `diffuse_tilt_db` is a first-order shelf in all four paths: the level of high frequencies against low ones, half of it (in dB)
  at 1 kHz. Headphones made to sound as in a diffuse field are brighter than loudspeakers in a room: a negative tilt takes
  that back. If it is positive, low frequencies fall instead.
"""

import math

import numpy as np

from sigrack_plugins._crossfeed.config import CrossfeedConfig
from sigrack_plugins._crossfeed.responses import Array

__all__ = ["itd_s", "model_paths", "shadow_alpha"]

SOUND_M_PER_S = 343.0
KERNEL_SAMPLES = 32
"""The longest half of the kernel that shifts by fractions of a sample."""
KERNEL_BETA = 6.0
"""Of its Kaiser window: errors of about -75 dB."""
OVERSAMPLING = 8
DECAY_NEPERS = 7.0 * math.log(10.0)
"""Where the response is cut off: 140 dB down."""
TILT_HZ = 1000.0
"""Where the tilt has half its effect."""


def model_paths(config: CrossfeedConfig, rate_hz: int) -> Array:
    """Paths of the head model, shape (4, taps), about 3 ms: 147 taps at 48 kHz, 2323 at 768 kHz; a tilt adds up to 6 ms. [any]

    They end where the response is 140 dB down. At 44.1 kHz and more the delay is that of the model within 0.6 us, and the level
    within 0.02 dB, with a tilt within 0.06 dB, up to 0.4 times the rate and 20 kHz. With an azimuth below 25 degrees that holds
    up to 10 kHz: a delay of few samples leaves room for a short kernel only.
    """
    level = 10.0 ** (config.level_db / 20.0)
    cross = level * _far_ear(config, rate_hz)
    direct = np.zeros_like(cross)
    direct[0] = 1.0
    paths: Array = np.array([direct, cross, cross, direct]) / (1.0 + level)
    if config.diffuse_tilt_db == 0:
        return paths
    tilt = _tilt(10.0 ** (config.diffuse_tilt_db / 20.0), rate_hz)
    return np.array([np.convolve(path, tilt) for path in paths])


def itd_s(azimuth: float, radius_m: float, ears_back: float = 0.0) -> float:
    """Woodworth's interaural time difference in seconds for an azimuth in radians, 0 to pi / 2. [any]

    `ears_back`: by how much the ears lie behind +-90 degrees, in radians.
    """
    near, far = (_arrival(angle) for angle in _ear_angles(azimuth, ears_back))
    return radius_m / SOUND_M_PER_S * (far - near)


def shadow_alpha(angle: float) -> float:
    """Brown and Duda's gain of an ear at high frequencies, for an angle in radians between source and ear axis. [any]"""
    least, least_at = 0.1, math.radians(150.0)
    return 1.0 + least / 2.0 + (1.0 - least / 2.0) * math.cos(angle / least_at * math.pi)


def _ear_angles(azimuth: float, ears_back: float) -> tuple[float, float]:
    """Angles between the loudspeaker and the axes of the near and the far ear, 0 to pi."""
    ear = math.pi / 2 + ears_back
    far = ear + azimuth
    return abs(ear - azimuth), min(far, 2 * math.pi - far)


def _arrival(angle: float) -> float:
    """When sound reaches an ear, against the centre of the sphere, in multiples of a / c."""
    return -math.cos(angle) if angle < math.pi / 2 else angle - math.pi / 2


def _far_ear(config: CrossfeedConfig, rate_hz: int) -> Array:
    """Impulse response from the near to the far ear with a sum of 1.

    A kernel, a sinc under a Kaiser window, is centred at the delay, its half no longer than the delay so that it is causal.
    It is sampled at 8 times the rate, where the head's shadow is exactly that of the analogue formula, then decimated.
    """
    azimuth = math.radians(config.azimuth_deg)
    delay = itd_s(azimuth, config.radius_m, config.ears_back) * rate_hz
    near, far = (shadow_alpha(angle) for angle in _ear_angles(azimuth, config.ears_back))
    if config.far_shadow_db is not None:
        far = near * 10.0 ** (config.far_shadow_db / 20.0)
    corner = config.radius_m / (2.0 * SOUND_M_PER_S) * rate_hz
    half = min(int(delay) + 1, KERNEL_SAMPLES)
    length = math.ceil(delay + max(half, near * corner * DECAY_NEPERS)) + 1
    offset = np.arange(length * OVERSAMPLING) / OVERSAMPLING - delay
    window = np.i0(KERNEL_BETA * np.sqrt(np.maximum(0.0, 1.0 - np.square(offset / half))))
    kernel = np.where(np.abs(offset) < half, np.sinc(offset) * window, 0.0)
    span = OVERSAMPLING * (1 << (2 * length - 1).bit_length())
    turn = 2j * np.pi * OVERSAMPLING * np.fft.rfftfreq(span)  # j w in radians per sample of the result
    shadow = (1.0 + turn * far * corner) / (1.0 + turn * near * corner)
    response: Array = np.fft.irfft(np.fft.rfft(kernel, span) * shadow)[: length * OVERSAMPLING : OVERSAMPLING]
    return response / float(response.sum())


def _tilt(gain: float, rate_hz: int) -> Array:
    """Impulse response of the shelf: 1 at low and `gain` at high frequencies, or 1 / gain and 1 if gain is above 1.

    The analogue (1 + s sqrt(gain)) / (1 + s / sqrt(gain)), s = j f / 1 kHz, by the bilinear transform with 1 kHz in its place.
    """
    root, turn = math.sqrt(gain), math.tan(math.pi * TILT_HZ / rate_hz)
    pole = (1.0 - turn * root) / (1.0 + turn * root)
    zero = (root - turn) / (root + turn)
    first = (turn + root) / (turn + 1.0 / root) / max(1.0, gain)
    length = math.ceil(-DECAY_NEPERS / math.log(pole))
    response: Array = first * (pole - zero) * np.power(pole, np.arange(length + 1) - 1.0)
    response[0] = first
    return response
