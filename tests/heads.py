"""Crossfeeds for tests: plugins that can be asked for their taps, and the files that they read."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from sigrack_plugins.api import Context, Setup
from sigrack_plugins.crossfeed import Crossfeed, CrossfeedConfig

__all__ = ["FakeContext", "crossfeed", "four_paths", "refusal", "response", "taps_of", "write_raw", "write_sound"]

Doubles = npt.NDArray[np.float64]
Taps = npt.NDArray[np.float32]


class FakeContext:
    """Keeps what a plugin logs."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def crossfeed(**settings: Any) -> tuple[Crossfeed, FakeContext]:
    """A crossfeed that can be asked for its taps."""
    plugin, context = Crossfeed(), FakeContext()
    plugin.ctx, plugin.config = cast(Context, context), CrossfeedConfig(**settings)
    return plugin, context


def taps_of(rate_hz: int = 48_000, /, **settings: Any) -> Doubles:
    """The taps for some settings, (ear, channel, taps)."""
    return crossfeed(**settings)[0].fir(Setup(rate_hz, 2)).astype(np.float64)


def response(taps: Doubles, rate_hz: int, hz: Doubles) -> npt.NDArray[np.complex128]:
    """Frequency response by its definition."""
    waves: npt.NDArray[np.complex128] = np.exp(-2j * np.pi / rate_hz * np.outer(hz, np.arange(len(taps))))
    return waves @ taps


def four_paths(count: int = 300) -> Taps:
    """LL, LR, RL, RR in columns, all different: random, exact in 24 bits, together below full scale."""
    whole = np.random.default_rng(4).integers(-(2**15), 2**15, (count, 4))
    return (whole / 2**23).astype(np.float32)


def write_raw(folder: Path, paths: Taps, name: str = "head", **facts: Any) -> Path:
    """Write a .bin with its sidecar; None leaves a fact out."""
    sidecar: dict[str, Any] = {
        "n_taps": len(paths),
        "n_channels": 4,
        "sample_rate": 48_000,
        "storage_format": "channel_major_v1",
        "channel_order": ["LL", "LR", "RL", "RR"],
    }
    sidecar = {key: value for key, value in {**sidecar, **facts}.items() if value is not None}
    (folder / f"{name}.json").write_text(json.dumps(sidecar))
    (folder / f"{name}.bin").write_bytes(paths.T.astype("<f4").tobytes())
    return folder / f"{name}.bin"


def write_sound(path: Path, paths: npt.NDArray[np.floating], rate_hz: int = 48_000, subtype: str = "FLOAT") -> Path:
    """Write a sound file that keeps every bit."""
    soundfile.write(path, paths, rate_hz, subtype="PCM_24" if path.suffix == ".flac" else subtype)
    return path


def refusal(where: Path, rate_hz: int = 48_000, /, **settings: Any) -> str:
    """The one line with which settings are refused, without the folder `where`."""
    with pytest.raises(ValueError, match=r".") as info:
        taps_of(rate_hz, **settings)
    assert "\n" not in str(info.value)
    return str(info.value).replace(f"{where}/", "")
