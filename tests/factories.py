"""The shapes of the factory fixtures in conftest.py."""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Compile", "MakeWav", "WriteRack"]


class Compile(Protocol):
    """Makes a shared library from C source that includes `sigrack.h` or `sigrack_signal.h`."""

    def __call__(self, source: str, name: str = "plugin", *flags: str) -> Path:
        """Return the path of NAME.so in the test's folder."""


class MakeWav(Protocol):
    """Writes a short sound file."""

    def __call__(
        self,
        sound: npt.NDArray[np.floating] | None = None,
        name: str = "in.wav",
        rate_hz: int = 48_000,
        subtype: str | None = None,
    ) -> Path:
        """Return the path of NAME in the test's folder; without `sound` it holds a tenth of a second of stereo noise."""


class WriteRack(Protocol):
    """Writes a rack that reads `source`."""

    def __call__(self, tables: str = "", *, source: str = "in.wav", live: bool = False, name: str = "rack.toml") -> Path:
        """Return the path of NAME in the test's folder; `tables` follow `[source]`, which takes lines 1 to 3."""
