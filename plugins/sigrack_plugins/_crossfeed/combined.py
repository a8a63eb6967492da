"""Responses that are ready made and come as text: base64 in the configuration or in a command."""

import base64

import numpy as np

from sigrack_plugins._crossfeed.config import CrossfeedConfig
from sigrack_plugins._crossfeed.responses import PATHS, Array, Responses, check_rate, doubles

__all__ = ["read_combined"]

REAL = 1e-3
"""How imaginary the first and the last bin of a spectrum may be, against its largest."""


def read_combined(config: CrossfeedConfig, rate_hz: int) -> Responses:
    """Decode `combined_ll` and its fellows. Raises ValueError in one line. [worker]

    "float32": taps, little-endian. "complex64": pairs (real, imaginary) of float32, what an rfft of an even length gives, so that
    n bins make 2 (n - 1) taps.
    """
    decode = _taps if config.combined_format == "float32" else _taps_of_spectrum
    paths = [decode(f"combined_{name.lower()}", getattr(config, f"combined_{name.lower()}")) for name in PATHS]
    for name, path in zip(PATHS, paths, strict=True):
        if len(path) != len(paths[0]):
            raise ValueError(f"combined_{name.lower()} makes {len(path)} taps, combined_ll {len(paths[0])}: give equal lengths")
    made_for_hz = rate_hz if config.combined_rate_hz is None else config.combined_rate_hz
    return Responses("combined", np.array(paths), check_rate("combined_rate_hz", made_for_hz))


def _floats(key: str, text: str, count: int) -> Array:
    """Return what `text` holds, in groups of `count` float32."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"{key} is not base64: {error}") from None
    if len(content) % (4 * count):
        raise ValueError(f"{key} has {len(content)} bytes, no multiple of {4 * count}")
    return doubles(content)


def _taps(key: str, text: str) -> Array:
    return _floats(key, text, 1)


def _taps_of_spectrum(key: str, text: str) -> Array:
    real, imaginary = _floats(key, text, 2).reshape(-1, 2).T
    bins = real + 1j * imaginary
    if len(bins) < 2:
        raise ValueError(f"{key} has {len(bins)} bins; a spectrum has 2 at least")
    if not np.isfinite(bins).all():
        raise ValueError(f"{key}: bin {np.flatnonzero(~np.isfinite(bins))[0]} is not finite")
    for number in (0, len(bins) - 1):
        if abs(imaginary[number]) > REAL * np.abs(bins).max():
            raise ValueError(f"{key}: bin {number} of {len(bins)} is not real: this is not the rfft of an even number of taps")
    taps: Array = np.fft.irfft(bins)
    return taps
