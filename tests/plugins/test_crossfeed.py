"""The crossfeed's settings, and a rack around it against float64."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from factories import MakeWav, WriteRack
from heads import crossfeed, taps_of, write_sound
from oracles.chain import error_db, matrix_fir
from racks import noise
from sigrack import ConfigError, render
from sigrack_plugins import bundled
from sigrack_plugins.api import Setup
from sigrack_plugins.crossfeed import CrossfeedConfig


def test_its_parts_are_no_plugins() -> None:
    """What the plugin is made of is not offered as a plugin."""
    assert "crossfeed" in bundled()
    assert not any("_" in name for name in bundled())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"azimuth_deg": 5.0}, "azimuth_deg: 5 is not within 10 to 90"),
        ({"azimuth_deg": 91.0}, "azimuth_deg: 91 is not within 10 to 90"),
        ({"azimuth_deg": math.nan}, "azimuth_deg: nan is not within 10 to 90"),
        ({"head_radius_m": 8.75}, "head_radius_m: 8.75 is not within 0.05 to 0.15"),
        ({"level_db": 3.0}, "level_db: 3 is not within -40 to 0"),
        ({"level_db": -math.inf}, "level_db: -inf is not within -40 to 0"),
        ({"elevation_deg": 91.0, "file": Path("x.sofa")}, "elevation_deg: 91 is not within -90 to 90"),
        ({"azimuth_deg": 181.0, "file": Path("x.sofa")}, "azimuth_deg: 181 is not within 0 to 180"),
        ({"within_deg": -1.0, "file": Path("x.sofa")}, "within_deg: -1 is not within 0 to 180"),
        ({"far_shadow_db": 1.0}, "far_shadow_db: 1 is not within -40 to 0"),
        ({"diffuse_tilt_db": -13.0}, "diffuse_tilt_db: -13 is not within -12 to 12"),
        ({"ear_spacing_m": 0.18}, "ear_spacing_m: 0.18 is not within 0.1516 to 0.175, for a head of radius 0.0875"),
        (
            {"ear_spacing_m": 0.1, "head_size": "xl"},
            "ear_spacing_m: 0.1 is not within 0.167 to 0.1928, for a head of radius 0.0964",
        ),
        ({"ear_spacing_m": math.nan}, "ear_spacing_m: nan is not within 0.1516 to 0.175, for a head of radius 0.0875"),
        ({"head_size": "xxl"}, 'head_size: "xxl" is none of xs, s, m, l, xl; did you mean "xl"?'),
        ({"head_size": "medium"}, 'head_size: "medium" is none of xs, s, m, l, xl'),
        ({"head_size": "m", "head_radius_m": 0.08}, "head_radius_m: 0.08 and head_size: give one of the two"),
        (
            {"file": Path("x"), "level_db": -3.0},
            "level_db: -3 belongs to the head model, not to a file of four paths: leave it out",
        ),
        (
            {"file": Path("x"), "azimuth_deg": 45.0},
            "azimuth_deg: 45 belongs to the head model and a SOFA file, not to a file of four paths: leave it out",
        ),
        ({"elevation_deg": 5.0}, "elevation_deg: 5 belongs to a SOFA file, not to the head model: leave it out"),
        (
            {"file": Path("x"), "head_size": "m"},
            "head_size: m belongs to the head model and a folder, not to a file of four paths: leave it out",
        ),
        ({"file": Path("x.sofa"), "folder": Path("y")}, "folder: y belongs to a folder, not to a SOFA file: leave it out"),
        ({"folder": Path("y")}, "folder needs `head_size`: xs, s, m, l, xl"),
        ({"combined_ll": "AAAA"}, "combined_lr is missing: the four responses belong together"),
        (
            {"combined_rate_hz": 48_000},
            "combined_rate_hz: 48000 belongs to ready-made responses, not to the head model: leave it out",
        ),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    """A setting that makes no sense is refused in one line with its key, its value and the range."""
    with pytest.raises(ValueError, match=r".") as refusal:
        CrossfeedConfig(**settings)

    assert message == str(refusal.value)


@pytest.mark.parametrize("channels", [1, 3, 32])
def test_only_stereo(channels: int) -> None:
    """A bus that is not stereo is refused with its number of channels."""
    with pytest.raises(ValueError, match=f"crossfeed needs 2 channels, the slot hears {channels}"):
        crossfeed()[0].fir(Setup(48_000, channels))


# In a rack


def rack_text(config: str, block_frames: int = 256) -> str:
    """A rack with nothing but a crossfeed."""
    return f'[rack]\nblock_frames = {block_frames}\n[[slot]]\nname = "feed"\nplugin = "crossfeed"\n{config}\n'


@pytest.mark.parametrize("block_frames", [64, 256, 1000])
def test_rendering(tmp_path: Path, wav: MakeWav, write_rack: WriteRack, block_frames: int) -> None:
    """A render through four paths of 3000 random taps is the float64 convolution within -120 dB, aligned, to the last frame."""
    sound = noise(20_011)
    paths = noise(3000, channels=4, seed=2) * np.float32(0.1)
    write_sound(tmp_path / "head.wav", paths)
    rack = write_rack(rack_text('config = { file = "head.wav" }', block_frames))
    render(rack, wav(sound), tmp_path / "out.wav")
    heard, rate_hz = soundfile.read(tmp_path / "out.wav")
    ll, lr, rl, rr = paths.T
    wanted = matrix_fir(sound.astype(np.float64), np.array([[ll, rl], [lr, rr]]))

    assert 48_000 == rate_hz
    assert error_db(heard, wanted) < -120.0
    assert error_db(np.roll(heard, 1, axis=0), wanted) > -20.0
    assert error_db(heard, matrix_fir(sound.astype(np.float64), np.array([[ll, lr], [rl, rr]]))) > -20.0


def test_rendering_the_head(tmp_path: Path, wav: MakeWav, write_rack: WriteRack) -> None:
    """A render with the head model is the convolution with its taps within -120 dB."""
    sound = noise(5000)
    render(write_rack(rack_text("config = { azimuth_deg = 45, level_db = -4.5 }")), wav(sound), tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav")
    taps = taps_of(azimuth_deg=45.0, level_db=-4.5).astype(np.float32)

    assert error_db(heard, matrix_fir(sound.astype(np.float64), taps)) < -120.0


@pytest.mark.parametrize(
    ("config", "channels", "message"),
    [
        ("", 3, "crossfeed: crossfeed needs 2 channels, the slot hears 3"),
        ("config = { azimuth_deg = 95 }", 2, "crossfeed: azimuth_deg: 95 is not within 10 to 90"),
        ("config = { azimut_deg = 30 }", 2, 'did you mean "azimuth_deg"'),
        ('config = { file = "none.wav" }', 2, "none.wav: No such file or directory"),
        ('config = { file = "none.sofa" }', 2, "none.sofa: No such file or directory"),
        ('config = { folder = "none", head_size = "m" }', 2, "hrtf_m_48k.bin is not there"),
        ('config = { rate_family = "96k" }', 2, "rate_family"),
        ('config = { rate_family = "44k" }', 2, "rate_family: 44k, but the rack runs at 48000 Hz"),
    ],
)
def test_a_rack_that_cannot_be(
    tmp_path: Path, wav: MakeWav, write_rack: WriteRack, config: str, channels: int, message: str
) -> None:
    """What the plugin refuses ends the render with one line that names the rack's file."""
    rack = write_rack(rack_text(config))
    with pytest.raises(ConfigError) as info:
        render(rack, wav(noise(1000, channels)), tmp_path / "out.wav")

    assert str(info.value).startswith(f"{rack}:")
    assert message in str(info.value)
    assert "\n" not in str(info.value)
