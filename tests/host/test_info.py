"""`sigrack info RACK.toml` about groups: what they are, what they cost, what they save."""

import json
from pathlib import Path
from typing import Any

import pytest

from factories import MakeWav, WriteRack
from warm import warm_sigrack

LINEAR = '''
from dataclasses import dataclass
import numpy as np
from sigrack_plugins import Plugin

@dataclass
class Config:
    taps: int
    ratio: int = 1
    cross: bool = False
    late: int = 0

class Linear(Plugin):
    """A filter of some length; `cross`: four different paths, else two equal ones."""

    Config = Config

    def fir(self, setup):
        paths = np.random.default_rng(1).uniform(-1, 1, (2, 2, self.config.taps)).astype(np.float32)
        if not self.config.cross:
            paths[0, 1] = paths[1, 0] = 0
            paths[1, 1] = paths[0, 0]
        return paths

    def ratio(self, setup):
        return self.config.ratio

    def latency_frames(self, setup):
        return self.config.late
'''
UP = '[[slot]]\nname = "up"\nplugin = "./linear.py"\nconfig = { taps = 40000, ratio = 4 }\n'
EQ = '[[slot]]\nname = "eq"\nplugin = "./linear.py"\nconfig = { taps = 30000, late = 441 }\n'
FEED = '[[slot]]\nname = "feed"\nplugin = "./linear.py"\nconfig = { taps = 500, cross = true }\n'
BORDER = '[[slot]]\nname = "volume"\nplugin = "level"\n'


@pytest.fixture
def described(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> Any:
    """What `info` says of the groups of a rack with these slots, at 44.1 kHz."""
    wav(rate_hz=44_100)
    (tmp_path / "linear.py").write_text(LINEAR)
    return lambda *slots: json.loads(warm_sigrack("info", write_rack("".join(slots)), "--json").stdout)["groups"]


def test_a_group_is_described(described: Any) -> None:
    """Members, rates, taps of the product, latency, memory, and stages that hold these taps."""
    (group,) = described(UP, EQ)

    assert ["up", "eq"] == group["members"]
    assert (44_100, 176_400) == (group["in_rate_hz"], group["out_rate_hz"])
    assert pytest.approx(40_000 + 29_999, abs=10) == group["taps"]  # less what nobody hears at its end
    assert 441 == group["latency_frames"]
    assert group["memory_bytes"] > 4 * 2 * group["taps"]  # the spectra of one filter: both channels share it
    first, *more = group["stages"]
    assert first["partition"] * first["partitions"] == 2 * more[0]["partition"]
    assert more[-1]["partition"] * (2 + more[-1]["partitions"]) >= group["taps"] / 4


def test_apart_is_what_a_border_makes_of_it(described: Any) -> None:
    """The cost apart is the sum of the groups that come of it when something that is not linear stands between the slots."""
    (together,) = described(UP, EQ)
    apart = described(UP, BORDER, EQ)

    assert [["up"], ["eq"]] == [group["members"] for group in apart]
    assert pytest.approx(together["model_ns_apart"]) == sum(group["model_ns"] for group in apart)
    assert all(group["model_ns"] == group["model_ns_apart"] for group in apart)


def test_the_rates_of_members_count(described: Any) -> None:
    """An equaliser before the upsampler runs at a quarter of the rate: apart it takes less than behind it."""
    before, behind = (
        sum(group["model_ns_apart"] * group["out_rate_hz"] for group in described(*slots)) for slots in ((EQ, UP), (UP, EQ))
    )

    assert before < behind


def test_one_group_is_made_where_it_saves(described: Any) -> None:
    """Two filters of equal paths become one. A crossfeed of few taps would make four long paths of two, and stays alone."""
    saving, costing = described(UP, EQ), described(EQ, FEED)

    assert [["up", "eq"]] == [group["members"] for group in saving]
    assert saving[0]["model_ns"] < saving[0]["model_ns_apart"]
    assert [["eq"], ["feed"]] == [group["members"] for group in costing]


def test_as_text(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """The head tells both rates, and the latency at the rate that goes out; what is saved is told of several slots only."""
    wav(rate_hz=44_100)
    (tmp_path / "linear.py").write_text(LINEAR)
    text = warm_sigrack("info", write_rack(UP + EQ + BORDER + FEED)).stdout
    lines = text.split("\n\n")[2].splitlines()

    assert text.startswith("rack: 44100 -> 176400 Hz, 2 channels, blocks of 256 frames, latency 441 frames (2.50 ms)\n")
    assert lines[0].split()[-4:] == ["model", "ns", "apart", "saves"]
    assert lines[1].startswith("up + eq  44100 -> 176400 Hz  69998  256 x 8, 1024 x 16 ")
    assert lines[1].endswith(" %")
    assert lines[2].startswith("feed     176400 Hz           500    256 x 2 ")
    assert not lines[2].endswith("%")


def test_measure_runs_the_convolvers(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """`--measure` tells of each group what a frame took, and its share of a core: a longer filter takes more."""
    wav(rate_hz=44_100)
    (tmp_path / "linear.py").write_text(LINEAR)
    rack = write_rack(UP + BORDER + FEED)
    long, short = json.loads(warm_sigrack("info", rack, "--json", "--measure").stdout)["groups"]
    lines = warm_sigrack("info", rack, "--measure").stdout.split("\n\n")[2].splitlines()

    assert long["measured_ns"] > 0
    assert pytest.approx(long["measured_ns"] * 176_400 * 1e-9) == long["load"]
    assert long["load"] > short["load"] > 0
    assert lines[0].split()[-3:] == ["measured", "ns", "load"]
    assert all(line.endswith(" %") for line in lines[1:])


def test_measure_is_for_racks() -> None:
    """A plugin alone has no filter to run."""
    refused = warm_sigrack("info", "gain", "--measure")

    assert 101 == refused.returncode
    assert "sigrack: --measure is for racks, whose filters it runs; gain is none\n" == refused.stderr


def test_a_rack_without_linear_slots_has_no_groups(described: Any) -> None:
    """Then there is no table either."""
    assert [] == described(BORDER)
