"""The demo piece and the rack that plays it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sigrack.config import load
from sigrack.demo import RATE_HZ, make_piece, provide
from sigrack.ends import open_source
from sigrack.errors import EngineError
from sigrack_plugins.loudness import KWeighting, lufs

EXAMPLE = Path(__file__).parents[2] / "examples/demo.toml"


@pytest.fixture(scope="module", name="piece")
def _piece() -> np.ndarray:
    return make_piece()


def test_the_piece_is_as_loud_as_it_says(piece: np.ndarray) -> None:
    """The demo piece has 20 to 40 s, about -14 LUFS, and no sample near full scale."""
    energy = np.square(KWeighting(RATE_HZ, 2)(piece.T)).sum(0).mean()

    assert 20 < len(piece) / RATE_HZ < 40
    assert -14 == pytest.approx(lufs(energy), abs=1)
    assert np.abs(piece).max() < 10 ** (-1 / 20)


def test_the_piece_is_wide(piece: np.ndarray) -> None:
    """The sides differ, so that a crossfeed is heard."""
    middle, side = piece.sum(1), piece[:, 0] - piece[:, 1]

    assert side.std() > 0.5 * middle.std()


def test_the_piece_can_be_looped(piece: np.ndarray) -> None:
    """The step from the last sample to the first is not larger than those inside."""
    steps = np.abs(np.diff(piece, axis=0))

    assert (np.abs(piece[0] - piece[-1]) < steps.max(0)).all()


def test_the_piece_is_always_the_same(piece: np.ndarray) -> None:
    """No clock and no unseeded chance goes into it."""
    assert np.array_equal(piece, make_piece())


def test_it_is_made_on_first_use(tmp_path: Path) -> None:
    """A source called demo.flac is made when it is missing, and then left alone."""
    rack = tmp_path / "demo.toml"
    rack.write_text(EXAMPLE.read_text())

    reader = open_source(load(rack))
    reader.close()
    made = (tmp_path / "demo.flac").stat().st_mtime_ns
    provide(tmp_path / "demo.flac")

    assert (RATE_HZ, 2) == (reader.rate_hz, reader.channels)
    assert "PCM_24" == soundfile.info(tmp_path / "demo.flac").subtype
    assert made == (tmp_path / "demo.flac").stat().st_mtime_ns
    assert ["demo.flac", "demo.toml"] == sorted(path.name for path in tmp_path.iterdir())


def test_no_other_file_is_made(tmp_path: Path) -> None:
    """Only the one name is made."""
    provide(tmp_path / "song.flac")

    assert [] == list(tmp_path.iterdir())


def test_a_folder_that_refuses_is_named(tmp_path: Path) -> None:
    """When the piece cannot be written, one line says where and what else to do."""
    with pytest.raises(EngineError, match=r"nowhere/demo\.flac.*--input"):
        provide(tmp_path / "nowhere" / "demo.flac")
