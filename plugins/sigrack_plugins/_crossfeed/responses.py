"""The four responses of a crossfeed, whatever they were read from."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["PATHS", "RATES_HZ", "Array", "Responses", "as_taps", "check_rate", "doubles", "rate_family"]

Array = npt.NDArray[np.float64]

PATHS = ("LL", "LR", "RL", "RR")
"""The order everywhere: from the left channel to the left ear, from the left channel to the right ear, ..."""
RATES_HZ = (8_000, 768_000)
"""Lowest and highest rate that responses may have: those of racks."""
LARGEST = 1e6
"""No tap is larger: it would be a mistake, and float32 could not carry it on."""


@dataclass(frozen=True)
class Responses:
    """Impulse responses as a source gives them."""

    source: str
    """Names it in messages."""
    paths: Array
    """Shape (4, taps), in the order of PATHS."""
    rate_hz: int
    late: Array = field(default_factory=lambda: np.zeros(len(PATHS)))
    """By how many samples each path comes later than `paths` shows. May be a fraction."""
    notes: tuple[str, ...] = ()
    """For the log."""

    def check(self) -> None:
        """Raise ValueError in one line for what can be no response. [any]"""
        if not self.paths.size:
            raise ValueError(f"{self.source} holds no taps")
        bad = ~(np.abs(self.paths) <= LARGEST)
        if bad.any():
            path, tap = np.argwhere(bad)[0]
            raise ValueError(f"{self.source}: tap {tap} of {PATHS[path]} is {self.paths[path, tap]}")
        if not self.paths.any():
            raise ValueError(f"{self.source} is silent: every tap is 0")


def rate_family(rate_hz: int) -> str:
    """Return "44k" for rates that go with 44.1 kHz, "48k" for all others. [any]"""
    return "44k" if rate_hz % 11_025 == 0 else "48k"


def check_rate(source: str, rate_hz: float) -> int:
    """Return a rate as a whole number. Raises ValueError if it is none, or one that no rack has. [any]"""
    low, high = RATES_HZ
    if not low <= rate_hz <= high or rate_hz != int(rate_hz):
        raise ValueError(f"{source}: a rate of {rate_hz:g} Hz is not a whole number from {low} to {high}")
    return int(rate_hz)


def doubles(content: bytes) -> Array:
    """Return float32, little-endian, in float64. [any]"""
    with np.errstate(invalid="ignore"):  # a signalling NaN: `check` finds it
        return np.frombuffer(content, "<f4").astype(np.float64)


def as_taps(paths: Array) -> "Samples":
    """Turn shape (4, taps) into float32 of shape (ear, channel, taps). [any]"""
    return np.ascontiguousarray(paths.reshape(2, 2, -1).swapaxes(0, 1), np.float32)
