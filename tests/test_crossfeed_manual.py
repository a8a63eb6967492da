"""docs/crossfeed.md says what is: its racks render, its figures are those of the program, its commands are obeyed."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from command import sigrack
from heads import four_paths, taps_of, write_raw, write_sound
from oracles.chain import error_db, matrix_fir
from racks import Host, answers, noise, request, write
from sigrack.places import default_endpoint
from sigrack.rendering import render
from sigrack_plugins.crossfeed import CrossfeedConfig
from waiting import wait_until

MANUAL = (Path(__file__).parents[1] / "docs" / "crossfeed.md").read_text()
RACKS = re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL)
SOUND = noise(3000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the manual names."""
    sofar = pytest.importorskip("sofar", reason="no sofar: pip install 'sigrack[sofa]'")
    sofa = sofar.Sofa("SimpleFreeFieldHRIR")
    sofa.Data_IR = four_paths().T.reshape(2, 2, -1).astype(np.float64)
    sofa.SourcePosition = np.array([[30.0, 0.0, 1.0], [330.0, 0.0, 1.0]])
    sofar.write_sofa(str(tmp_path / "head.sofa"), sofa)
    write_sound(tmp_path / "four.wav", four_paths())
    (tmp_path / "heads").mkdir()
    write_raw(tmp_path / "heads", four_paths(), "hrtf_m_48k")
    return tmp_path


@pytest.mark.parametrize("number", range(5))
def test_the_racks(folder: Path, number: int) -> None:
    """Each source's table, copied out, renders to what its four paths make of the sound."""
    assert 5 == len(RACKS)
    rack = write(folder, '[source]\ndriver = "file"\npath = "in.wav"\n' + RACKS[number], SOUND)
    render(rack, folder / "in.wav", folder / "out.wav")
    heard, _ = soundfile.read(folder / "out.wav")
    ll, lr, rl, rr = four_paths().T
    model: dict[str, Any] = {"head_size": "m", "ear_spacing_m": 0.175, "far_shadow_db": -12.0, "diffuse_tilt_db": -1.0}
    wanted = {0: taps_of(**model), 4: np.array([[[0.5], [0.25]], [[0.25], [0.5]]])}
    taps = wanted.get(number, np.array([[ll, rl], [lr, rr]])).astype(np.float32)

    assert error_db(heard, matrix_fir(SOUND.astype(np.float64), taps)) < -110.0


def test_the_figures() -> None:
    """The head sizes and the defaults are those of the program."""
    for size, radius_m in re.findall(r"`(xs|s|m|l|xl)` (0\.\d+)", MANUAL):
        assert float(radius_m) == CrossfeedConfig(head_size=size).radius_m
    for key, default in re.findall(r"^\| `(\w+)` \| (-?[\d.]+) \|", MANUAL, re.MULTILINE):
        assert float(default) == getattr(CrossfeedConfig(), key), key


def test_the_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shell's lines and the Python program, run as printed on a live host, change its crossfeed."""
    live = '[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n[[slot]]\nname = "crossfeed"\nplugin = "crossfeed"\n'
    lines = re.search(r"```sh\n(.*?)```", MANUAL, re.DOTALL)
    program = re.search(r"```python\n(.*?)```", MANUAL, re.DOTALL)
    assert lines
    assert program
    with Host(write(folder, live, SOUND)):
        wait_until(answers, 10)
        sources = []
        for line in lines[1].splitlines():
            done = sigrack(*shlex.split(line, comments=True)[1:])
            assert 0 == done.returncode, (line, done.stderr)
            sources.append(request("CROSSFEED_STATUS")["data"]["source"])
        exec(program[1].replace("ipc:///tmp/sigrack-1000/demo.sock", default_endpoint("rack")), {})

    assert ["model", "model", "model", "file", "file"] == sources
    assert "'source': 'combined'" in capsys.readouterr().out
