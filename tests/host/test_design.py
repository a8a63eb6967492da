"""`sigrack design` and `from sigrack import design`: as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command import answer, refused, sigrack
from sigrack import ConfigError, design
from sigrack_engine.design.errors import DesignError
from sigrack_engine.design.picture import check_picture, draw

SMALL = ("--ratio", 2, "--taps", 801)


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_filter_is_designed_told_and_checked(tmp_path: Path) -> None:
    """What was asked and what was measured stand side by side; the file that comes out passes its own check."""
    first = sigrack("design", "--rate", 48_000, *SMALL, "--phase", "linear", "--output", tmp_path / "f.wav")
    again = sigrack("design", "--check", tmp_path / "f.wav")

    assert (0, 0) == (first.returncode, again.returncode), first.stderr + again.stderr
    for words in ("48000 Hz x2", "96000 Hz", "801", "-140 dB from 24000 Hz", "-6 dB point", "400 (4.17 ms)", "designed in"):
        assert words in first.stdout
    assert first.stdout.splitlines()[:-1] == again.stdout.splitlines()[:-1]
    assert again.stdout.splitlines()[-1].startswith("measured in")


def test_the_answer_is_json_too() -> None:
    """The second time it says that it comes from the cache."""
    first, second = answer("design", *SMALL), answer("design", *SMALL)

    assert ("designed", "from the cache") == (first["how"], second["how"])
    assert first["measured"] == second["measured"]
    assert first["measured"]["stop_db"] <= -140.0
    assert 801 == first["specification"]["taps"]


def test_a_spoiled_file_is_refused_with_the_figure(tmp_path: Path) -> None:
    """Exit code 101, and the worst of the stop band in one line; the table is printed all the same."""
    sigrack("design", *SMALL, "--output", tmp_path / "f.bin")
    sidecar = json.loads((tmp_path / "f.json").read_text())
    (tmp_path / "f.json").write_text(json.dumps({"specification": sidecar["specification"]}))
    taps = np.fromfile(tmp_path / "f.bin", np.float32)
    taps[100] += 1e-3
    taps.tofile(tmp_path / "f.bin")

    assert "f.bin: refused: -6" in refused(101, "design", "--check", tmp_path / "f.bin")
    assert "stop band, worst" in sigrack("design", "--check", tmp_path / "f.bin").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--taps", 100), "taps: 100 are too few: 140 dB from 22050 Hz and flat to 20000 Hz needs 3388 taps"),
        (("--taps", "many"), "argument --taps: invalid int value: 'many'"),
        (("--ratio", 3), "argument --ratio: invalid choice: 3"),
        (("--phase", "hybrid"), "argument --phase: invalid choice: 'hybrid'"),
        (("--pass-edge", 30_000), "pass_edge_hz: 30000 is not between"),
        (("--check", "f.wav", "--taps", 9), "--check measures a file as it is"),
        (("--check", "nothing.wav"), "nothing.wav: no such file"),
        ((*SMALL, "--output", "f.txt"), 'f.txt: unknown kind of file ".txt"'),
        ((*SMALL, "--output", "nowhere/f.wav"), "nowhere: no such folder"),
        ((*SMALL, "--picture", "f.txt"), 'f.txt: unknown kind of picture ".txt"; use .png, .pdf, .svg'),
    ],
)
def test_what_cannot_be_is_one_line(arguments: tuple[object, ...], message: str) -> None:
    """Exit code 101 and what would do."""
    assert message in refused(101, "design", *arguments, warm=True)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    """The refusal comes before the design and names the option."""
    (tmp_path / "f.json").write_text("mine")

    assert "f.json: exists already" in refused(101, "design", *SMALL, "--output", tmp_path / "f.wav", warm=True)
    assert 0 == sigrack("design", *SMALL, "--output", tmp_path / "f.wav", "--overwrite").returncode
    assert "mine" != (tmp_path / "f.json").read_text()


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    """A PNG of 990 by 810 points with ink in each of its six panels; an impulse alone can be drawn as well."""
    from matplotlib.image import imread

    draw(design(ratio=2, taps=801), tmp_path / "f.png")
    draw(design(ratio=1), tmp_path / "one.png")
    pixels = imread(tmp_path / "f.png")[:, :, :3]
    inked = np.abs(pixels - [0.12, 0.31, 0.47]).max(axis=2) < 0.05

    assert (810, 990) == pixels.shape[:2]
    for row in range(3):
        for column in range(2):
            assert inked[row * 270 : row * 270 + 270, column * 495 : column * 495 + 495].sum() > 200
    assert (tmp_path / "one.png").exists()
    assert (tmp_path / "f.png").stat().st_size < 150_000


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(DesignError, match=r"pip install 'sigrack\[plot\]'"):
        check_picture(tmp_path / "f.png", overwrite=False)


def test_a_design_imports_neither_scipy_nor_matplotlib_nor_soundfile() -> None:
    """A start that finds its filter in the cache is quick."""
    heavy = "{'scipy', 'matplotlib', 'soundfile'} & set(sys.modules)"
    probe = f"import sys; from sigrack import design; design(ratio=2, taps=801); assert not {heavy}, {heavy}"

    assert 0 == subprocess.run([sys.executable, "-c", probe], check=False).returncode


def test_python_says_it_in_one_line() -> None:
    """What cannot be is a ConfigError."""
    with pytest.raises(ConfigError, match="too few"):
        design(taps=100)
