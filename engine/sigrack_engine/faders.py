"""A gain for each channel of the bus, which moves in straight ramps."""

from collections.abc import Sequence

import numpy as np

from sigrack_engine.core import checked, lib

__all__ = ["Faders"]


class Faders:
    """A step of run lists, which it outlives."""

    def __init__(self, gains: Sequence[float], fade_frames: int) -> None:
        """`gains`: what the channels begin with, linear; a change takes `fade_frames`. Raises CoreError. [control]"""
        self.channels = len(gains)
        first = np.array(gains, np.float32)
        self.pointer = checked(lib.core_faders_new(self.channels, fade_frames, first.ctypes.data), "faders")

    def set(self, gains: Sequence[float]) -> None:
        """Let all channels move to `gains`, beginning with the same frame. [main]"""
        assert len(gains) == self.channels
        wanted = np.array(gains, np.float32)
        lib.core_faders_set(self.pointer, wanted.ctypes.data)

    def gain(self, channel: int) -> float:
        """Return the gain that a channel had at the end of the last block. [any]"""
        return float(lib.core_faders_gain(self.pointer, channel))

    def close(self) -> None:
        """Free it: no run list holds it any more. [control]"""
        lib.core_faders_free(self.pointer)
