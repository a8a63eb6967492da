"""Raises the rate: what stands behind it in the rack, and the sink, run at a multiple of the source's rate.

The filter is a low pass that is designed once and kept (the page "Filter design" of the manual), or one from a file. It adds no
latency but its own: none worth mentioning with minimum phase, half of its length with linear phase. The rack says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sigrack_plugins.api import Plugin, Setup

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["Upsample", "UpsampleConfig"]

RATIOS = (1, 2, 4, 8, 16, 32)


@dataclass
class UpsampleConfig:
    """Settings of an upsample slot."""

    ratio: int | None = None
    """1, 2, 4, 8, 16 or 32; left out, the largest that stays within `up_to_hz`."""
    up_to_hz: int = 768_000
    """The highest rate to go out, in frames per second."""
    phase: Literal["minimum", "linear"] = "minimum"
    taps: int | None = None
    """Length of the filter at the rate that goes out; 40,000 for each of `ratio` by default: 640,000 at 16."""
    filter: Path | None = None
    """A filter from a file, as `sigrack design` makes them, instead; it must be for the source's rate and the ratio."""

    def __post_init__(self) -> None:
        if self.ratio is not None and self.ratio not in RATIOS:
            raise ValueError(f"ratio: {self.ratio} is none of {', '.join(map(str, RATIOS))}")
        if self.filter is not None and self.taps is not None:
            raise ValueError("taps: a filter from a file has its own length; leave one of the two out")


class Upsample(Plugin):
    """Raises the rate by a long low pass, 640,000 taps at 16 times 44.1 kHz: up to 768 kHz or what you say."""

    id = "upsample"
    version = "1"
    Config = UpsampleConfig

    config: UpsampleConfig

    def fir(self, setup: Setup) -> "Samples":
        """Return the low pass for each channel, float32 of shape (channel, channel, taps). Raises ValueError. [worker]"""
        low_pass = self.ctx.low_pass(
            setup.rate_hz, self.ratio(setup), phase=self.config.phase, taps=self.config.taps, file=self.config.filter
        )
        taps = np.zeros((setup.channels, setup.channels, len(low_pass)), np.float32)
        taps[range(setup.channels), range(setup.channels)] = low_pass
        self.middle = (len(low_pass) - 1) // 2 if np.array_equal(low_pass, low_pass[::-1]) else 0
        return taps

    def ratio(self, setup: Setup) -> int:
        """Return how many frames go out for each that comes in. [worker]"""
        if self.config.ratio is not None:
            return self.config.ratio
        fitting = [ratio for ratio in RATIOS if ratio * setup.rate_hz <= self.config.up_to_hz]
        if not fitting:
            raise ValueError(f"up_to_hz: {self.config.up_to_hz} is below the source's {setup.rate_hz} Hz")
        return fitting[-1]

    def latency_frames(self, setup: Setup) -> int:
        """Return the delay of a symmetric filter in frames that go out. [worker]"""
        return self.middle
