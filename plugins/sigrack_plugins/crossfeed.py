"""Crossfeed for headphones: each ear also hears the other channel, later and duller, as it would from loudspeakers.

The taps come from a model of a spherical head or from a file. In both cases, with * for convolution:

    Out_L = In_L * LL + In_R * RL
    Out_R = In_L * LR + In_R * RR

The model is that of loudspeakers at +-azimuth around a sphere of radius a with the ears at +-90 degrees:

- The sound comes to the far ear later by a / c (phi + sin phi), phi the azimuth in radians (R. S. Woodworth, Experimental
  Psychology, 1938). c is 343 m/s, air at 20 degrees Celsius.
- The head shadows an ear by (1 + j w alpha T) / (1 + j w T), T = a / (2 c). alpha is between 0.1 and 2, by the angle between
  the loudspeaker and the ear's axis (C. P. Brown, R. O. Duda, "A Structural Model for Binaural Sound Synthesis", IEEE Trans.
  Speech Audio Proc. 6(5), 1998). It also delays the far ear further at low frequencies, as a real head does.

The direct paths LL and RR are one tap, at 0: no latency, and no colour but what the cross paths add. The cross paths LR and
RL carry what the far ear hears in relation to the near ear, at `level_db`. All is divided by 1 + level, so that what is equal
in both channels keeps its level at low frequencies, and no frequency becomes louder.
"""

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sigrack_plugins._headroom import highest_gain_db
from sigrack_plugins.api import Plugin, Setup

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["Crossfeed", "CrossfeedConfig", "itd_s", "model_taps", "read_taps", "shadow_alpha"]

Array = npt.NDArray[np.float64]

SOUND_M_PER_S = 343.0
PATHS = ["LL", "LR", "RL", "RR"]
"""Order of the channels in a file: from the left channel to the left ear, from the left channel to the right ear, ..."""
STORAGE = "channel_major_v1"
"""Raw float32, little-endian, one path after the other, with a JSON file beside it."""

KERNEL_SAMPLES = 32
"""The longest half of the kernel that shifts by fractions of a sample."""
KERNEL_BETA = 6.0
"""Of its Kaiser window: errors of about -75 dB."""
OVERSAMPLING = 8
DECAY_NEPERS = 7.0 * math.log(10.0)
"""Where the response is cut off: 140 dB down."""


@dataclass
class CrossfeedConfig:
    """Settings of a crossfeed slot: either `file`, or the head model's."""

    file: Path | None = None
    """A sound file with the channels LL, LR, RL, RR at the rack's rate; or raw float32 (.bin) with its .json beside it."""
    azimuth_deg: float = 30.0
    """Where the loudspeakers are: degrees from the front, 10 to 90."""
    head_radius_m: float = 0.0875
    """Metres, 0.05 to 0.15."""
    level_db: float = -6.0
    """Level of the cross paths against the direct ones at low frequencies, -40 to 0 dB. 0 is a loudspeaker's, less is subtler."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "azimuth_deg": (10.0, 90.0),
        "head_radius_m": (0.05, 0.15),
        "level_db": (-40.0, 0.0),
    }

    def __post_init__(self) -> None:
        for key, (low, high) in self.RANGES.items():
            value = getattr(self, key)
            if not low <= value <= high:
                raise ValueError(f"{key}: {value:g} is not within {low:g} to {high:g}")
            if self.file is not None and value != getattr(CrossfeedConfig, key):
                raise ValueError(f"{key}: {value:g} belongs to the head model; leave it out, or leave out `file`")


class Crossfeed(Plugin):
    """Lets each ear hear the other channel too, as from loudspeakers: stereo for headphones without fatigue."""

    id = "crossfeed"
    version = "1"
    Config = CrossfeedConfig

    config: CrossfeedConfig

    def fir(self, setup: Setup) -> "Samples":
        """Return the taps, float32 of shape (ear, channel, taps). [worker]

        Raises ValueError in one line if the bus is not stereo or the file is not what it should be.
        """
        if setup.channels != 2:
            raise ValueError(
                f"crossfeed needs 2 channels, the source has {setup.channels}: play a stereo file, or take this slot out"
            )
        if self.config.file is None:
            return model_taps(self.config, setup.rate_hz)
        taps = read_taps(self.config.file, setup.rate_hz)
        gain_db = highest_gain_db(taps)
        if gain_db > 0.1:
            self.ctx.log(f"{self.config.file} raises some frequency by {gain_db:.1f} dB: leave headroom for it")
        return taps


def model_taps(config: CrossfeedConfig, rate_hz: int) -> "Samples":
    """Taps of the head model, shape (2, 2, taps), about 3 ms: 147 taps at 48 kHz, 2323 at 768 kHz. [any]

    They end where the response is 140 dB down. At 44.1 kHz and more the delay is that of the model within 0.6 us, and the level
    within 0.02 dB, up to 0.4 times the rate and 20 kHz. With an azimuth below 25 degrees that holds up to 10 kHz: a delay of
    few samples leaves room for a short kernel only.
    """
    level = 10.0 ** (config.level_db / 20.0)
    cross = _far_ear(math.radians(config.azimuth_deg), config.head_radius_m, rate_hz)
    direct = np.zeros_like(cross)
    direct[0] = 1.0
    cross *= level
    taps: Samples = (np.array([[direct, cross], [cross, direct]]) / (1.0 + level)).astype(np.float32)
    return taps


def itd_s(azimuth: float, radius_m: float) -> float:
    """Woodworth's interaural time difference in seconds for an azimuth in radians, 0 to pi / 2. [any]"""
    return radius_m / SOUND_M_PER_S * (azimuth + math.sin(azimuth))


def shadow_alpha(angle: float) -> float:
    """Brown and Duda's gain of an ear at high frequencies, for an angle in radians between source and ear axis. [any]"""
    least, least_at = 0.1, math.radians(150.0)
    return 1.0 + least / 2.0 + (1.0 - least / 2.0) * math.cos(angle / least_at * math.pi)


def _far_ear(azimuth: float, radius_m: float, rate_hz: int) -> Array:
    """Impulse response from the near to the far ear with a sum of 1.

    A kernel, a sinc under a Kaiser window, is centred at the delay, its half no longer than the delay so that it is causal.
    It is sampled at 8 times the rate, where the head's shadow is exactly that of the analogue formula, then decimated.
    """
    delay = itd_s(azimuth, radius_m) * rate_hz
    near, far = (shadow_alpha(math.pi / 2 + side * azimuth) for side in (-1, 1))
    corner = radius_m / (2.0 * SOUND_M_PER_S) * rate_hz
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


def read_taps(path: Path, rate_hz: int) -> "Samples":
    """Read LL, LR, RL, RR from a file into the shape (ear, channel, taps). Raises ValueError in one line. [worker]"""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"file: {path}: {error.strerror}") from None
    paths = _read_raw(path, content, rate_hz) if path.suffix.lower() == ".bin" else _read_sound(path, content, rate_hz)
    if not paths.size:
        raise ValueError(f"file: {path} holds no taps")
    if not np.isfinite(paths).all():
        path_number, tap = np.argwhere(~np.isfinite(paths))[0]
        raise ValueError(f"file: {path}: tap {tap} of {PATHS[path_number]} is {paths[path_number, tap]}")
    return np.ascontiguousarray(paths.reshape(2, 2, -1).swapaxes(0, 1))


def _read_sound(path: Path, content: bytes, rate_hz: int) -> "Samples":
    """Shape (path, taps)."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            _check_rate(path, file.samplerate, rate_hz)
            if file.channels != len(PATHS):
                raise ValueError(f"file: {path} has {file.channels} channels, not the 4 paths {', '.join(PATHS)}")
            taps: Samples = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise ValueError(f"file: {path} is no sound file that can be read: {reason}") from None
    return taps.T


def _read_raw(path: Path, content: bytes, rate_hz: int) -> "Samples":
    """Shape (path, taps)."""
    sidecar = path.with_suffix(".json")
    facts = _read_sidecar(sidecar)
    _check_fact(sidecar, facts, "storage_format", STORAGE)
    _check_fact(sidecar, facts, "n_channels", len(PATHS))
    if "channel_order" in facts:
        _check_fact(sidecar, facts, "channel_order", PATHS)
    count, made_for_hz = (_whole(sidecar, facts, key) for key in ("n_taps", "sample_rate"))
    _check_rate(path, made_for_hz, rate_hz)
    size = 4 * len(PATHS) * count
    if len(content) != size:
        raise ValueError(f"file: {path} has {len(content)} bytes, but {count} taps x 4 paths in {sidecar.name} are {size}")
    return np.frombuffer(content, "<f4").astype(np.float32).reshape(len(PATHS), count)


def _read_sidecar(sidecar: Path) -> dict[str, Any]:
    try:
        facts = json.loads(sidecar.read_bytes())
    except OSError as error:
        raise ValueError(f"file: {sidecar}: {error.strerror}; a .bin needs it to say what is inside") from None
    except ValueError as error:
        raise ValueError(f"file: {sidecar} is not JSON: {error}") from None
    if not isinstance(facts, dict):
        raise ValueError(f"file: {sidecar} is not a JSON object")
    return facts


def _check_fact(sidecar: Path, facts: dict[str, Any], key: str, wanted: object) -> None:
    if facts.get(key) != wanted:
        raise ValueError(f"file: {sidecar}: {key} is {json.dumps(facts.get(key))}, not {json.dumps(wanted)}")


def _whole(sidecar: Path, facts: dict[str, Any], key: str) -> int:
    """Return a count that is at least 0."""
    value = facts.get(key)
    if type(value) is not int or value < 0:
        raise ValueError(f"file: {sidecar}: {key} is {json.dumps(value)}, not a whole number")
    return value


def _check_rate(path: Path, made_for_hz: int, rate_hz: int) -> None:
    if made_for_hz != rate_hz:
        raise ValueError(
            f"file: {path} is for {made_for_hz} Hz, the rack runs at {rate_hz} Hz: "
            f"give a file for {rate_hz} Hz, or a source of {made_for_hz} Hz"
        )
