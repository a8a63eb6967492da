"""The bundled plugin `route`: channels become sums of channels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from buses import bus, opened, play, slot
from oracles.chain import error_db
from racks import noise
from sigrack.errors import ConfigError
from sigrack_plugins import Setup
from sigrack_plugins.route import Route, RouteConfig


def taps(config: dict[str, Any], heard: str, written: str) -> Any:
    """Return the matrix of a slot that hears and writes these channels."""
    plugin = Route()
    plugin.config = RouteConfig(**config)
    return plugin.fir(Setup(48_000, len(heard), tuple(heard), tuple(written)))[..., 0]


def test_gains_are_decibels_and_factors_have_a_sign() -> None:
    """Each output is the sum of what is named for it; a channel that is not named stays as it is."""
    config = {"gains_db": {"a": {"a": 0.0, "m": -6.0}}, "factors": {"s": {"a": 0.5, "b": -0.5}}}

    assert np.allclose([[1.0, 0.0, 0.501187], [0.5, -0.5, 0.0], [0.0, 1.0, 0.0]], taps(config, "abm", "asb"))
    assert np.array_equal(np.eye(3), taps({}, "abm", "abm"))
    assert np.array_equal([[0, 0]], taps({"factors": {"x": {}}}, "ab", "x")), "a sum of nothing is silence"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("gains_db = { lefd = { mic = 0.0 } }", 'gains_db: out has no channel "lefd"; did you mean "left"?'),
        ("gains_db = { left = { mik = 0.0 } }", 'gains_db: in has no channel "mik"; did you mean "mic"?'),
        ("factors = { left = { x = 1 } }", 'factors: in has no channel "x"; it has: left, mic'),
        ("gains_db = { left = { mic = 61 } }", "gains_db: left from mic: 61 dB is out of range: up to 60 dB"),
        ("gains_db = { left = { mic = -inf } }", "gains_db: left from mic: -inf dB is out of range: up to 60 dB"),
        ("factors = { left = { mic = nan } }", "factors: left from mic: nan is out of range: -1000 to 1000"),
        (
            "gains_db = { left = {} }\nfactors = { left = {} }",
            'the channel "left" is in gains_db as well: give it to one of the two',
        ),
        ("", 'nothing is said of the channel "side", which the slot writes and does not hear'),
        ('gains_db = { left = { mic = "loud" } }', "gains_db"),
        ("gain_db = 3", 'route has no configuration key "gain_db"; did you mean "gains_db"?'),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, config: str, message: str) -> None:
    """In one line, with the file and the line of the slot or of the option."""
    table = slot("mix", "route", ["left", "mic"], ["left", "side"] if not config else ["left"], f"[slot.config]\n{config}")
    with pytest.raises(ConfigError) as caught:
        opened(tmp_path, bus(["left", "right", "mic", "side"]) + table, noise(10, 4))
    assert message in str(caught.value)
    assert "rack.toml:" in str(caught.value)


def test_a_mix_is_a_part_of_its_group(tmp_path: Path) -> None:
    """Mid and side and back, on the same channels as a filter beside them: one convolver, and what was there."""
    sound = noise(4000)
    half = "config = { factors = { l = { l = 0.5, r = 0.5 }, r = { l = 0.5, r = -0.5 } } }"
    back = "config = { factors = { l = { l = 1, r = 1 }, r = { l = 1, r = -1 } } }"
    tables = bus("lr") + slot("half", "route", rest=half) + slot("back", "route", rest=back)
    session = opened(tmp_path, tables, sound)
    assert ["half + back"] == [group.name for group in session.rack.groups]
    assert 0 == session.run()

    assert error_db(soundfile.read(tmp_path / "heard.wav")[0], sound.astype(np.float64)) < -120.0


def test_up_to_eight_channels(tmp_path: Path) -> None:
    """Eight become one; a ninth is refused, with the way out."""
    names = [f"c{number}" for number in range(9)]
    config = f"config = {{ factors = {{ c8 = {{ {', '.join(f'{name} = 0.125' for name in names[:8])} }} }} }}"
    sound = noise(1000, 9)
    heard = play(tmp_path, bus(names, ["c8"]) + slot("mix", "route", names[:8], ["c8"], config), sound)

    assert error_db(heard[:, 0], sound[:, :8].astype(np.float64).mean(axis=1)) < -120.0
    with pytest.raises(
        ConfigError, match=r"route: a filter takes up to 8 channels, but the slot hears 9 .*: give it fewer by in and out"
    ):
        opened(tmp_path, bus(names) + slot("mix", "route", names, ["c8"], config), sound)
