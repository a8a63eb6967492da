"""Crossfeed from ready-made responses: base64 of taps or of spectra."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from heads import crossfeed, four_paths, refusal, taps_of
from sigrack_plugins.api import Setup


def encoded(array: npt.NDArray[Any]) -> str:
    """Its bytes in base64."""
    return base64.b64encode(array.tobytes()).decode()


def as_taps(count: int = 300) -> dict[str, Any]:
    """Settings with four paths as taps."""
    return {
        f"combined_{name}": encoded(path.astype("<f4"))
        for name, path in zip(("ll", "lr", "rl", "rr"), four_paths(count).T, strict=True)
    }


def as_spectra(count: int = 300) -> dict[str, Any]:
    """Settings with the same four paths as spectra."""
    spectra = np.fft.rfft(four_paths(count), axis=0).astype("<c8").T
    named = {f"combined_{name}": encoded(path) for name, path in zip(("ll", "lr", "rl", "rr"), spectra, strict=True)}
    return {**named, "combined_format": "complex64"}


def test_taps() -> None:
    """The four paths go where their names say, bit for bit."""
    paths, taps = four_paths(), taps_of(**as_taps())

    assert np.array_equal([[paths[:, 0], paths[:, 2]], [paths[:, 1], paths[:, 3]]], taps)


def test_spectra() -> None:
    """Spectra of an even number of taps become these taps, within what complex64 keeps."""
    paths, taps = four_paths(), taps_of(**as_spectra())

    assert (2, 2, 300) == taps.shape
    assert np.allclose([[paths[:, 0], paths[:, 2]], [paths[:, 1], paths[:, 3]]], taps, atol=1e-7 * np.abs(paths).max() * 10)


def test_their_own_rate() -> None:
    """With a rate of their own they are resampled, and the log says so."""
    plugin, context = crossfeed(**as_taps(), combined_rate_hz=705_600)
    taps = plugin.fir(Setup(44_100, 2))

    assert np.allclose(taps.sum(axis=2), taps_of(705_600, **as_taps()).sum(axis=2), atol=1e-5)
    assert "combined: resampled from 705600 to 44100 Hz" in context.lines[0]


@pytest.mark.parametrize(("family", "rate_hz"), [("44k", 88_200), ("48k", 96_000), ("", 48_000)])
def test_the_right_family(family: str, rate_hz: int) -> None:
    """Responses for the family of the rack's rate are taken."""
    assert (2, 2, 300) == taps_of(rate_hz, **as_taps(), rate_family=family).shape


def test_the_wrong_family(tmp_path: Path) -> None:
    """Those for the other family are refused with the rack's."""
    wanted = "rate_family: 44k, but the rack runs at 48000 Hz, family 48k"

    assert wanted == refusal(tmp_path, **as_taps(), rate_family="44k")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"combined_rl": ""}, "combined_rl is missing: the four responses belong together"),
        ({"combined_rl": "####"}, "combined_rl is not base64: "),
        ({"combined_rl": "größer"}, "combined_rl is not base64: "),
        ({"combined_rl": "AAAA"}, "combined_rl has 3 bytes, no multiple of 4"),
        ({"combined_rl": encoded(np.ones(7, "<f4"))}, "combined_rl makes 7 taps, combined_ll 300: give equal lengths"),
        ({"combined_rl": encoded(np.full(300, np.nan, "<f4"))}, "combined: tap 0 of RL is nan"),
        ({"combined_rate_hz": 44}, "combined_rate_hz: a rate of 44 Hz is not a whole number from 8000 to 768000"),
        ({"combined_rate_hz": 0}, "combined_rate_hz: a rate of 0 Hz is not a whole number from 8000 to 768000"),
    ],
)
def test_mistakes(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    """What cannot be taps is refused with the path."""
    assert refusal(tmp_path, **{**as_taps(), **settings}).startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"combined_lr": encoded(np.ones(3, "<f4"))}, "combined_lr has 12 bytes, no multiple of 8"),
        ({"combined_lr": encoded(np.ones(1, "<c8"))}, "combined_lr has 1 bins; a spectrum has 2 at least"),
        ({"combined_lr": encoded(np.full(151, np.inf, "<c8"))}, "combined_lr: bin 0 is not finite"),
        ({"combined_lr": encoded(np.ones(9, "<c8"))}, "combined_lr makes 16 taps, combined_ll 300: give equal lengths"),
        (
            {"combined_lr": encoded(np.fft.rfft(four_paths()[:, 1]).astype("<c8") * 1j)},
            "combined_lr: bin 0 of 151 is not real: this is not the rfft of an even number of taps",
        ),
        (
            {"combined_lr": encoded(np.fft.rfft(four_paths(301)[:, 1]).astype("<c8"))},
            "combined_lr: bin 150 of 151 is not real: this is not the rfft of an even number of taps",
        ),
    ],
)
def test_mistakes_in_spectra(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    """What cannot be the spectrum of taps is refused with the path."""
    assert message == refusal(tmp_path, **{**as_spectra(), **settings})
