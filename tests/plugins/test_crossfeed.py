"""The crossfeed against the published formulas, its files, and a rack around it against float64."""

import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from factories import MakeWav, WriteRack
from oracles.chain import error_db, matrix_fir
from racks import noise
from sigrack import ConfigError, render
from sigrack_plugins.api import Context, Setup
from sigrack_plugins.crossfeed import Crossfeed, CrossfeedConfig

Doubles = npt.NDArray[np.float64]
Taps = npt.NDArray[np.float32]

RATES_HZ = [44_100, 48_000, 96_000, 192_000]
AZIMUTHS_DEG = [25.0, 30.0, 45.0, 60.0, 90.0]
RADIUS_M = 0.0875
SOUND_M_PER_S = 343.0
HALF_TRANSIT_S = RADIUS_M / SOUND_M_PER_S / 2
"""Brown and Duda's 1 / (2 w0)."""


class FakeContext:
    """Keeps what a plugin logs."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def crossfeed(config: CrossfeedConfig) -> tuple[Crossfeed, FakeContext]:
    """A crossfeed that can be asked for its taps."""
    plugin, context = Crossfeed(), FakeContext()
    plugin.ctx, plugin.config = cast(Context, context), config
    return plugin, context


def taps_of(rate_hz: int = 48_000, **settings: Any) -> Doubles:
    """The taps for some settings."""
    taps: Doubles = crossfeed(CrossfeedConfig(**settings))[0].fir(Setup(rate_hz, 2)).astype(np.float64)
    return taps


def response(taps: Doubles, rate_hz: int, hz: Doubles) -> npt.NDArray[np.complex128]:
    """Frequency response by its definition."""
    waves: npt.NDArray[np.complex128] = np.exp(-2j * np.pi / rate_hz * np.outer(hz, np.arange(len(taps))))
    return waves @ taps


def group_delay_us(taps: Doubles, rate_hz: int, hz: Doubles) -> Doubles:
    """Minus the slope of the phase, by a difference over 2 Hz."""
    above, below = response(taps, rate_hz, hz + 1.0), response(taps, rate_hz, hz - 1.0)
    delay: Doubles = -np.angle(above / below) / (4.0 * np.pi)
    return 1e6 * delay


def audible(rate_hz: int) -> Doubles:
    """Frequencies up to 20 kHz or 0.4 times the rate."""
    return np.geomspace(20.0, min(20_000.0, 0.4 * rate_hz), 200)


def woodworth_us(azimuth_deg: float) -> float:
    """Woodworth 1938: a / c (phi + sin phi)."""
    azimuth = math.radians(azimuth_deg)
    return 1e6 * RADIUS_M / SOUND_M_PER_S * (azimuth + math.sin(azimuth))


def alpha(angle_deg: float) -> float:
    """Brown and Duda 1998, equation 5, with alpha_min = 0.1 and theta_min = 150 degrees."""
    return (1 + 0.1 / 2) + (1 - 0.1 / 2) * math.cos(angle_deg / 150 * math.pi)


def shadow(azimuth_deg: float, hz: Doubles) -> npt.NDArray[np.complex128]:
    """Far ear over near ear, Brown and Duda 1998, equation 4, for ears at 90 degrees."""
    turn = 2j * np.pi * hz * HALF_TRANSIT_S
    near, far = alpha(90 - azimuth_deg), alpha(90 + azimuth_deg)
    ratio: npt.NDArray[np.complex128] = (1 + turn * far) / (1 + turn * near)
    return ratio


def shadow_delay_us(azimuth_deg: float, hz: Doubles) -> Doubles:
    """Group delay of `shadow`: each factor 1 + j w t has t / (1 + (w t)^2)."""

    def advance(time_s: float) -> Doubles:
        return time_s / (1 + np.square(2 * np.pi * hz * time_s))

    near, far = (alpha(90 + side * azimuth_deg) * HALF_TRANSIT_S for side in (-1, 1))
    return 1e6 * (advance(near) - advance(far))


@pytest.mark.parametrize("azimuth_deg", AZIMUTHS_DEG)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_far_ear_delay(rate_hz: int, azimuth_deg: float) -> None:
    """From 20 Hz to 0.4 times the rate the far ear is as late as Woodworth's delay and the head's shadow say, within 0.6 us."""
    hz = audible(rate_hz)
    delay_us = group_delay_us(taps_of(rate_hz, azimuth_deg=azimuth_deg)[0, 1], rate_hz, hz)
    wanted_us = woodworth_us(azimuth_deg) + shadow_delay_us(azimuth_deg, hz)

    assert np.abs(delay_us - wanted_us).max() < 0.6


@pytest.mark.parametrize("azimuth_deg", [10.0, 15.0, 20.0])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_far_ear_delay_of_few_samples(rate_hz: int, azimuth_deg: float) -> None:
    """A delay of few samples still is that of the model within 0.1 us up to 10 kHz."""
    hz = np.geomspace(20.0, 10_000.0, 200)
    delay_us = group_delay_us(taps_of(rate_hz, azimuth_deg=azimuth_deg)[0, 1], rate_hz, hz)
    wanted_us = woodworth_us(azimuth_deg) + shadow_delay_us(azimuth_deg, hz)

    assert np.abs(delay_us - wanted_us).max() < 0.1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_high_frequencies_have_woodworths_delay(rate_hz: int) -> None:
    """At the upper end what remains is a / c (phi + sin phi): 261.1 us at 30 degrees, within 2 us."""
    top = audible(rate_hz)[-1:]
    delay_us = group_delay_us(taps_of(rate_hz)[0, 1], rate_hz, top)

    assert abs(delay_us[0] - 261.1) < 2.0


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_low_frequencies_are_later(rate_hz: int) -> None:
    """At 50 Hz the delay is within 10 % of 3 a / c sin phi, which Kuhn 1977 derives for a sphere at low frequencies."""
    delay_us = group_delay_us(taps_of(rate_hz)[0, 1], rate_hz, np.array([50.0]))
    kuhn_us = 3e6 * RADIUS_M / SOUND_M_PER_S * math.sin(math.radians(30.0))

    assert abs(delay_us[0] / kuhn_us - 1) < 0.1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_delay_test_sees_a_fraction_of_a_sample(rate_hz: int) -> None:
    """Negative control: half a sample more, by averaging neighbours, is seen as such."""
    hz = np.geomspace(20.0, 1000.0, 20)
    cross = taps_of(rate_hz)[0, 1]
    late = np.convolve(cross, [0.5, 0.5])
    shift_us = group_delay_us(late, rate_hz, hz) - group_delay_us(cross, rate_hz, hz)

    assert np.allclose(0.5e6 / rate_hz, shift_us)
    assert shift_us.min() > 2.0


@pytest.mark.parametrize("azimuth_deg", AZIMUTHS_DEG)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_far_ear_level(rate_hz: int, azimuth_deg: float) -> None:
    """The far ear's level follows Brown and Duda's filter within 0.011 dB, and falls from low to high frequencies."""
    hz = audible(rate_hz)
    taps = taps_of(rate_hz, azimuth_deg=azimuth_deg, level_db=-9.0)
    level_db = 20 * np.log10(np.abs(response(taps[0, 1], rate_hz, hz) / taps[0, 0, 0]))
    wanted_db = -9.0 + 20 * np.log10(np.abs(shadow(azimuth_deg, hz)))

    assert np.abs(level_db - wanted_db).max() < 0.011
    assert np.diff(level_db).max() < 0.01
    assert level_db[-1] < level_db[0] - 6.0


@pytest.mark.parametrize("rate_hz", [8_000, *RATES_HZ, 768_000])
def test_head_is_symmetric_and_direct_sound_is_not_late(rate_hz: int) -> None:
    """Both ears have the same taps, and the direct path is its first tap alone, the largest of all."""
    taps = taps_of(rate_hz)

    assert np.array_equal(taps[0, 0], taps[1, 1])
    assert np.array_equal(taps[0, 1], taps[1, 0])
    assert [0] == np.flatnonzero(taps[0, 0]).tolist()
    assert np.abs(taps).max() == taps[0, 0, 0]


@pytest.mark.parametrize("level_db", [-40.0, -6.0, 0.0])
@pytest.mark.parametrize("rate_hz", [8_000, *RATES_HZ, 768_000])
def test_level_at_low_frequencies(rate_hz: int, level_db: float) -> None:
    """What is equal in both channels keeps its level at low frequencies, and the cross path has the level that was asked for."""
    direct, cross = taps_of(rate_hz, level_db=level_db)[0].sum(axis=1)

    assert 1.0 == pytest.approx(direct + cross, abs=1e-6)
    assert level_db == pytest.approx(20 * math.log10(cross / direct), abs=1e-4)


@pytest.mark.parametrize("azimuth_deg", [10.0, 30.0, 90.0])
@pytest.mark.parametrize("rate_hz", [8_000, *RATES_HZ, 768_000])
def test_no_frequency_becomes_louder(rate_hz: int, azimuth_deg: float) -> None:
    """Direct and cross path together raise no frequency, whatever the phases: no headroom is needed for it."""
    taps = taps_of(rate_hz, azimuth_deg=azimuth_deg, level_db=0.0)
    spectra = np.abs(np.fft.rfft(taps[0], 1 << 16))

    assert spectra.sum(axis=0).max() < 1.0 + 1e-6


@pytest.mark.parametrize(("rate_hz", "count"), [(48_000, 147), (768_000, 2323)])
def test_length(rate_hz: int, count: int) -> None:
    """The taps end where the response has died away, as long as the documentation says."""
    cross = np.abs(taps_of(rate_hz)[0, 1])

    assert count == len(cross)
    assert cross[-1] < 1e-6 * cross.max()


def test_longest_response_is_still_short() -> None:
    """The largest head at 768 kHz takes less than 10 ms of taps."""
    assert taps_of(768_000, azimuth_deg=90.0, head_radius_m=0.15).shape[2] < 7680


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"azimuth_deg": 5.0}, "azimuth_deg: 5 is not within 10 to 90"),
        ({"azimuth_deg": 91.0}, "azimuth_deg: 91 is not within 10 to 90"),
        ({"azimuth_deg": math.nan}, "azimuth_deg: nan is not within 10 to 90"),
        ({"head_radius_m": 8.75}, "head_radius_m: 8.75 is not within 0.05 to 0.15"),
        ({"level_db": 3.0}, "level_db: 3 is not within -40 to 0"),
        ({"level_db": -math.inf}, "level_db: -inf is not within -40 to 0"),
        ({"file": Path("x"), "level_db": -3.0}, "level_db: -3 belongs to the head model; leave it out, or leave out `file`"),
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
    with pytest.raises(ValueError, match=f"crossfeed needs 2 channels, the source has {channels}"):
        crossfeed(CrossfeedConfig())[0].fir(Setup(48_000, channels))


# Files


def four_paths(count: int = 300) -> Taps:
    """LL, LR, RL, RR in columns: random, exact in 24 bits, together below full scale."""
    whole = np.random.default_rng(4).integers(-(2**15), 2**15, (count, 4))
    return (whole / 2**23).astype(np.float32)


def write_raw(folder: Path, paths: Taps, **facts: object) -> Path:
    """Write a .bin with its sidecar; None leaves a fact out."""
    sidecar: dict[str, object] = {
        "n_taps": len(paths),
        "n_channels": 4,
        "sample_rate": 48_000,
        "storage_format": "channel_major_v1",
        "channel_order": ["LL", "LR", "RL", "RR"],
    }
    sidecar = {key: value for key, value in {**sidecar, **facts}.items() if value is not None}
    (folder / "head.json").write_text(json.dumps(sidecar))
    (folder / "head.bin").write_bytes(paths.T.astype("<f4").tobytes())
    return folder / "head.bin"


def write_sound(path: Path, paths: Taps, rate_hz: int = 48_000) -> Path:
    """Write a sound file that keeps every bit."""
    soundfile.write(path, paths, rate_hz, subtype="PCM_24" if path.suffix == ".flac" else "FLOAT")
    return path


def refusal(path: Path) -> str:
    """The one line with which a file is refused, without the folder."""
    with pytest.raises(ValueError, match=r"^file: .*\Z") as info:
        crossfeed(CrossfeedConfig(file=path))[0].fir(Setup(48_000, 2))
    return str(info.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("name", ["head.wav", "head.flac", "head.bin"])
def test_files(tmp_path: Path, name: str) -> None:
    """A file's channels LL, LR, RL, RR go from left to left, left to right, right to left and right to right, bit for bit."""
    paths = four_paths()
    path = write_raw(tmp_path, paths) if name.endswith(".bin") else write_sound(tmp_path / name, paths)
    taps = crossfeed(CrossfeedConfig(file=path))[0].fir(Setup(48_000, 2))

    assert np.float32 == taps.dtype
    assert np.array_equal(paths[:, 0], taps[0, 0])
    assert np.array_equal(paths[:, 1], taps[1, 0])
    assert np.array_equal(paths[:, 2], taps[0, 1])
    assert np.array_equal(paths[:, 3], taps[1, 1])


def test_raw_without_channel_order(tmp_path: Path) -> None:
    """A sidecar need not state the order that there is anyway."""
    plugin, _ = crossfeed(CrossfeedConfig(file=write_raw(tmp_path, four_paths(), channel_order=None)))

    assert (2, 2, 300) == plugin.fir(Setup(48_000, 2)).shape


@pytest.mark.parametrize(("scale", "lines"), [(1.0, []), (10 ** (2.4 / 20), ["raises some frequency by 2.4 dB"])])
def test_a_loud_file_is_reported(tmp_path: Path, scale: float, lines: list[str]) -> None:
    """A file that raises a frequency says so in the log with its decibels, another is silent."""
    paths = np.zeros((8, 4), np.float32)
    paths[0] = [0.75 * scale, 0.25 * scale, 0.25 * scale, 0.75 * scale]
    plugin, context = crossfeed(CrossfeedConfig(file=write_sound(tmp_path / "head.wav", paths)))
    plugin.fir(Setup(48_000, 2))

    assert len(lines) == len(context.lines)
    assert all(wanted in line for wanted, line in zip(lines, context.lines, strict=True))


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    assert "file: head.wav: No such file or directory" == refusal(tmp_path / "head.wav")


def test_wrong_rate(tmp_path: Path) -> None:
    """A file for another rate is refused with both rates and the two ways out."""
    wanted = "is for 44100 Hz, the rack runs at 48000 Hz: give a file for 48000 Hz, or a source of 44100 Hz"

    assert f"file: head.wav {wanted}" == refusal(write_sound(tmp_path / "head.wav", four_paths(), 44_100))
    assert f"file: head.bin {wanted}" == refusal(write_raw(tmp_path, four_paths(), sample_rate=44_100))


def test_wrong_number_of_channels(tmp_path: Path) -> None:
    """A stereo file is no set of four paths."""
    line = refusal(write_sound(tmp_path / "head.wav", four_paths()[:, :2]))

    assert "file: head.wav has 2 channels, not the 4 paths LL, LR, RL, RR" == line


@pytest.mark.parametrize("name", ["head.wav", "head.raw", "head"])
def test_no_sound_file(tmp_path: Path, name: str) -> None:
    """What libsndfile cannot read is refused in one line."""
    (tmp_path / name).write_text("four paths\n" * 10)

    assert refusal(tmp_path / name).startswith(f"file: {name} is no sound file that can be read: ")


@pytest.mark.parametrize("name", ["head.wav", "head.bin"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    """A file without taps is refused."""
    none = four_paths(0)
    path = write_raw(tmp_path, none) if name.endswith(".bin") else write_sound(tmp_path / name, none)

    assert f"file: {name} holds no taps" == refusal(path)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["head.wav", "head.bin"])
def test_not_finite(tmp_path: Path, name: str, bad: float) -> None:
    """A tap that is not finite is refused with its place."""
    paths = four_paths()
    paths[7, 2] = bad
    path = write_raw(tmp_path, paths) if name.endswith(".bin") else write_sound(tmp_path / name, paths)

    assert f"file: {name}: tap 7 of RL is {bad}" == refusal(path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"n_taps": 299}, "head.bin has 4800 bytes, but 299 taps x 4 paths in head.json are 4784"),
        ({"n_taps": None}, "head.json: n_taps is null, not a whole number"),
        ({"n_taps": True}, "head.json: n_taps is true, not a whole number"),
        ({"n_taps": -300}, "head.json: n_taps is -300, not a whole number"),
        ({"n_channels": 2}, "head.json: n_channels is 2, not 4"),
        ({"n_channels": None}, "head.json: n_channels is null, not 4"),
        ({"sample_rate": "48k"}, 'head.json: sample_rate is "48k", not a whole number'),
        ({"storage_format": "tap_interleaved_v1"}, 'head.json: storage_format is "tap_interleaved_v1", not "channel_major_v1"'),
        ({"storage_format": None}, 'head.json: storage_format is null, not "channel_major_v1"'),
        (
            {"channel_order": ["LL", "RL", "LR", "RR"]},
            'head.json: channel_order is ["LL", "RL", "LR", "RR"], not ["LL", "LR", "RL", "RR"]',
        ),
    ],
)
def test_sidecar_is_checked(tmp_path: Path, facts: dict[str, object], message: str) -> None:
    """A sidecar that does not fit its .bin, or states another layout, is refused with the fact in question."""
    assert f"file: {message}" == refusal(write_raw(tmp_path, four_paths(), **facts))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "head.json: No such file or directory; a .bin needs it to say what is inside"),
        ("[]", "head.json is not a JSON object"),
        ("{", "head.json is not JSON: "),
        ("\udcff", "head.json is not JSON: "),
    ],
)
def test_sidecar_that_cannot_be_read(tmp_path: Path, text: str | None, message: str) -> None:
    """A sidecar that is missing or no JSON is refused."""
    path = write_raw(tmp_path, four_paths())
    sidecar = tmp_path / "head.json"
    sidecar.unlink()
    if text is not None:
        sidecar.write_bytes(text.encode(errors="surrogateescape"))

    assert refusal(path).startswith(f"file: {message}")


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
        ("", 3, "crossfeed: crossfeed needs 2 channels, the source has 3"),
        ("config = { azimuth_deg = 95 }", 2, "crossfeed: azimuth_deg: 95 is not within 10 to 90"),
        ("config = { azimut_deg = 30 }", 2, 'did you mean "azimuth_deg"'),
        ('config = { file = "none.wav" }', 2, "none.wav: No such file or directory"),
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
