"""Crossfeed from sound files and from raw files with their sidecars: every path in its place, every mistake in one line."""

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heads import crossfeed, four_paths, refusal, response, taps_of, write_raw, write_sound
from sigrack_plugins.api import Setup

SIZES = {"xs": 1, "s": 2, "m": 3, "l": 4, "xl": 5}


def family(folder: Path, **facts: Any) -> Path:
    """Write the five sizes at both high rates, each with a first tap that tells size and rate."""
    for size, number in SIZES.items():
        for name, rate_hz in (("44k", 705_600), ("48k", 768_000)):
            paths = np.zeros((200, 4), np.float32)
            paths[50] = [number / 10, number / 100, number / 200, number / 20]
            legacy = {
                "size_category": size.upper(),
                "subject_id": "pp20",
                "rate_family": name,
                "phase_type": "original",
                "normalization": "ild_preserving",
                "max_dc_gain": 1.0,
                "source_azimuth_left": -30.0,
            }
            write_raw(folder, paths, f"hrtf_{size}_{name}", sample_rate=rate_hz, **{**legacy, **facts})
    return folder


@pytest.mark.parametrize("name", ["head.wav", "head.flac", "head.bin"])
def test_files(tmp_path: Path, name: str) -> None:
    """A file's channels LL, LR, RL, RR go from left to left, left to right, right to left and right to right, bit for bit."""
    paths = four_paths()
    path = write_raw(tmp_path, paths) if name.endswith(".bin") else write_sound(tmp_path / name, paths)
    plugin, context = crossfeed(file=path)
    taps = plugin.fir(Setup(48_000, 2))

    assert np.float32 == taps.dtype
    assert np.array_equal(paths[:, 0], taps[0, 0])
    assert np.array_equal(paths[:, 1], taps[1, 0])
    assert np.array_equal(paths[:, 2], taps[0, 1])
    assert np.array_equal(paths[:, 3], taps[1, 1])
    assert [] == context.lines


def test_raw_without_channel_order(tmp_path: Path) -> None:
    """A sidecar need not state the order that there is anyway."""
    assert (2, 2, 300) == taps_of(file=write_raw(tmp_path, four_paths(), channel_order=None)).shape


@pytest.mark.parametrize(("scale", "lines"), [(1.0, []), (10 ** (2.4 / 20), ["raises some frequency by 2.4 dB"])])
def test_a_loud_file_is_reported(tmp_path: Path, scale: float, lines: list[str]) -> None:
    """A file that raises a frequency says so in the log with its decibels, another is silent."""
    paths = np.zeros((8, 4), np.float32)
    paths[0] = [0.75 * scale, 0.25 * scale, 0.25 * scale, 0.75 * scale]
    plugin, context = crossfeed(file=write_sound(tmp_path / "head.wav", paths))
    plugin.fir(Setup(48_000, 2))

    assert len(lines) == len(context.lines)
    assert all(wanted in line for wanted, line in zip(lines, context.lines, strict=True))


@pytest.mark.parametrize("name", ["head.wav", "head.bin"])
def test_another_rate_is_resampled_and_said(tmp_path: Path, name: str) -> None:
    """A file for another rate becomes the same filter at the rack's rate, and the log tells what it costs."""
    paths = four_paths() * np.float32(1 / 64)
    path = write_raw(tmp_path, paths, sample_rate=44_100) if name == "head.bin" else write_sound(tmp_path / name, paths, 44_100)
    plugin, context = crossfeed(file=path)
    taps = plugin.fir(Setup(48_000, 2)).astype(np.float64)
    hz = np.linspace(0, 19_800, 200)
    wanted = response(paths[:, 1].astype(np.float64), 44_100, hz) * np.exp(-2j * np.pi * hz * 44 / 48_000)
    found = response(taps[1, 0], 48_000, hz)

    assert np.abs(found - wanted).max() < 10 ** (-110 / 20) * np.abs(wanted).max()
    assert [f"file: {path}: resampled from 44100 to 48000 Hz: the same up to 19.8 kHz, 0.92 ms later"] == context.lines


# Head sizes


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 96_000, 176_400, 705_600, 768_000])
@pytest.mark.parametrize("size", SIZES)
def test_sizes_of_a_folder(tmp_path: Path, size: str, rate_hz: int) -> None:
    """Each size has its own file, each rate that of its family: at the file's rate bit for bit, else resampled."""
    taps = taps_of(rate_hz, folder=family(tmp_path), head_size=size)
    number = SIZES[size]

    assert np.allclose([[number / 10, number / 200], [number / 100, number / 20]], taps.sum(axis=2), rtol=1e-5)
    assert (rate_hz in (705_600, 768_000)) == (taps.shape[2] == 200)


def test_the_family_is_that_of_the_rack(tmp_path: Path) -> None:
    """A rack at a multiple of 11,025 Hz takes the files 44k, any other the files 48k."""
    (family(tmp_path) / "hrtf_m_44k.bin").unlink()

    assert (2, 2) == taps_of(48_000, folder=tmp_path, head_size="m").shape[:2]
    assert (2, 2) == taps_of(32_000, folder=tmp_path, head_size="m").shape[:2]
    wanted = "folder: hrtf_m_44k.bin is not there: it is what head_size m needs at 88200 Hz"
    assert wanted == refusal(tmp_path, 88_200, folder=tmp_path, head_size="m")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"size_category": "L"}, 'file: hrtf_m_48k.json: size_category is "L", not "m"'),
        ({"size_category": 3}, 'file: hrtf_m_48k.json: size_category is 3, not "m"'),
        ({"rate_family": "44k"}, 'file: hrtf_m_48k.json: rate_family is "44k", not "48k"'),
        ({"n_taps": None}, "file: hrtf_m_48k.json: n_taps is null, not a whole number"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    """A sidecar that contradicts the file's name is refused."""
    family(tmp_path)
    write_raw(tmp_path, four_paths(), "hrtf_m_48k", **{"sample_rate": 768_000, "size_category": "M", **facts})

    assert message == refusal(tmp_path, folder=tmp_path, head_size="m")


# Mistakes


@pytest.mark.parametrize("name", ["head.wav", "head.bin"])
def test_missing_file(tmp_path: Path, name: str) -> None:
    """A file that is not there is named."""
    assert f"file: {name}: No such file or directory" == refusal(tmp_path, file=tmp_path / name)


@pytest.mark.parametrize("name", ["head.wav", "head.bin"])
def test_a_folder_is_no_file(tmp_path: Path, name: str) -> None:
    """A folder with a file's name is refused."""
    (tmp_path / name).mkdir()

    assert f"file: {name}: Is a directory" == refusal(tmp_path, file=tmp_path / name)


def test_impossible_rates(tmp_path: Path) -> None:
    """A rate that no rack has is a mistake."""
    wanted = "a rate of 7 Hz is not a whole number from 8000 to 768000"

    assert f"file: head.wav: {wanted}" == refusal(tmp_path, file=write_sound(tmp_path / "head.wav", four_paths(), 7))
    assert f"file: head.json: sample_rate: {wanted}" == refusal(tmp_path, file=write_raw(tmp_path, four_paths(), sample_rate=7))


def test_wrong_number_of_channels(tmp_path: Path) -> None:
    """A stereo file is no set of four paths."""
    line = refusal(tmp_path, file=write_sound(tmp_path / "head.wav", four_paths()[:, :2]))

    assert "file: head.wav has 2 channels, not the 4 paths LL, LR, RL, RR" == line


@pytest.mark.parametrize("name", ["head.wav", "head.raw", "head"])
def test_no_sound_file(tmp_path: Path, name: str) -> None:
    """What libsndfile cannot read is refused in one line."""
    (tmp_path / name).write_text("four paths\n" * 10)

    assert refusal(tmp_path, file=tmp_path / name).startswith(f"file: {name} is no sound file that can be read: ")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("head.wav", "is cut off: 4896 bytes by its header, 2444 are there"),
        ("head.aiff", "is cut off: 4912 bytes by its header, 2452 are there"),
        ("head.flac", "is no sound file that can be read: "),
        ("head.bin", "has 2400 bytes, but 300 taps x 4 paths in head.json are 4800"),
    ],
)
def test_half_a_file(tmp_path: Path, name: str, words: str) -> None:
    """Half a file is refused, not played as if the responses were shorter."""
    path = tmp_path / name
    path = write_raw(tmp_path, four_paths()) if name == "head.bin" else write_sound(path, four_paths())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    assert refusal(tmp_path, file=path).startswith(f"file: {name} {words}")


def test_a_file_from_a_pipe(tmp_path: Path) -> None:
    """A WAV whose header could not be given its length afterwards is read."""
    path = write_sound(tmp_path / "head.wav", four_paths())
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 4 + content[8:])

    assert (2, 2, 300) == taps_of(file=path).shape


@pytest.mark.parametrize("name", ["head.wav", "head.bin"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    """A file without taps is refused."""
    none = four_paths(0)
    path = write_raw(tmp_path, none) if name.endswith(".bin") else write_sound(tmp_path / name, none)

    assert f"file: {name} holds no taps" == refusal(tmp_path, file=path)


@pytest.mark.parametrize("name", ["head.wav", "head.bin"])
def test_silent_file(tmp_path: Path, name: str) -> None:
    """A file of zeros would silence the rack, and is refused."""
    none = np.zeros((10, 4), np.float32)
    path = write_raw(tmp_path, none) if name.endswith(".bin") else write_sound(tmp_path / name, none)

    assert f"file: {name} is silent: every tap is 0" == refusal(tmp_path, file=path)


@pytest.mark.parametrize(("bad", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-2e6, "-2000000.0")])
@pytest.mark.parametrize("name", ["head.wav", "head.bin"])
def test_not_finite(tmp_path: Path, name: str, bad: float, shown: str) -> None:
    """A tap that is not finite, or larger than any gain, is refused with its place."""
    paths = four_paths()
    paths[7, 2] = bad
    path = write_raw(tmp_path, paths) if name.endswith(".bin") else write_sound(tmp_path / name, paths)

    assert f"file: {name}: tap 7 of RL is {shown}" == refusal(tmp_path, file=path)


def test_a_signalling_nan(tmp_path: Path) -> None:
    """The kind of NaN that raises the processor's flag when it is converted is refused like any other."""
    path = write_raw(tmp_path, four_paths())
    path.write_bytes(b"\x01\x00\x80\x7f" + path.read_bytes()[4:])

    assert "file: head.bin: tap 0 of LL is nan" == refusal(tmp_path, file=path)


def test_beyond_float32(tmp_path: Path) -> None:
    """A float64 file with a value that float32 does not have is refused, not rounded to infinity."""
    paths = four_paths().astype(np.float64)
    paths[3, 0] = 1e300
    path = write_sound(tmp_path / "head.wav", paths, subtype="DOUBLE")

    assert "file: head.wav: tap 3 of LL is 1e+300" == refusal(tmp_path, file=path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"n_taps": 299}, "head.bin has 4800 bytes, but 299 taps x 4 paths in head.json are 4784"),
        ({"n_taps": 10**30}, f"head.bin has 4800 bytes, but {10**30} taps x 4 paths in head.json are {16 * 10**30}"),
        ({"n_taps": None}, "head.json: n_taps is null, not a whole number"),
        ({"n_taps": True}, "head.json: n_taps is true, not a whole number"),
        ({"n_taps": -300}, "head.json: n_taps is -300, not a whole number"),
        ({"n_taps": 300.0}, "head.json: n_taps is 300.0, not a whole number"),
        ({"n_channels": 2}, "head.json: n_channels is 2, not 4"),
        ({"n_channels": None}, "head.json: n_channels is null, not 4"),
        ({"sample_rate": "48k"}, 'head.json: sample_rate is "48k", not a whole number'),
        ({"sample_rate": None}, "head.json: sample_rate is null, not a whole number"),
        ({"rate_family": "44k"}, 'head.json: rate_family is "44k", not "48k"'),
        ({"storage_format": "tap_interleaved_v1"}, 'head.json: storage_format is "tap_interleaved_v1", not "channel_major_v1"'),
        ({"storage_format": None}, 'head.json: storage_format is null, not "channel_major_v1"'),
        (
            {"channel_order": ["LL", "RL", "LR", "RR"]},
            'head.json: channel_order is ["LL", "RL", "LR", "RR"], not ["LL", "LR", "RL", "RR"]',
        ),
    ],
)
def test_sidecar_is_checked(tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    """A sidecar that does not fit its .bin, or states another layout, is refused with the fact in question."""
    assert f"file: {message}" == refusal(tmp_path, file=write_raw(tmp_path, four_paths(), **facts))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "head.json: No such file or directory; a .bin needs it to say what is inside"),
        ("[]", "head.json is not a JSON object"),
        ("{", "head.json is not JSON: "),
        ("[" * 100_000, "head.json is not JSON: "),
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

    assert refusal(tmp_path, file=path).startswith(f"file: {message}")


def mutilated(content: bytes, rng: random.Random) -> bytes:
    """Bytes with a few of them changed, cut out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[at : at + 1] = rng.randbytes(1)
            case 1:
                del data[at : at + rng.randint(1, 9)]
            case 2:
                data[at:at] = data[at : at + rng.randint(1, 9)]
            case _:
                data[at:at] = rng.choice([b"1e999", b"NaN", b"-1", b"null", b"{}", b"[", b'"', b"99999999999"])
    return bytes(data)


def survives(tmp_path: Path, seed: int) -> bool:
    """Whether a raw file with random damage to it or to its sidecar is still read; if not, then in one line that names it."""
    rng = random.Random(seed)
    path = write_raw(tmp_path, four_paths(20), size_category="M", rate_family="48k")
    victim = rng.choice([path, path.with_suffix(".json")])
    victim.write_bytes(mutilated(victim.read_bytes(), rng))
    message = ""
    try:
        taps = taps_of(file=path)
    except ValueError as error:
        message = str(error)
    assert re.fullmatch(r"file: \S*head\.(bin|json).*", message) if message else np.isfinite(taps).all(), message
    return not message


def test_damaged_raw_files(tmp_path: Path) -> None:
    """Of 150 damaged raw files each is read with finite taps or refused in one line that names it; both happen."""
    read = [survives(tmp_path, seed) for seed in range(150)]

    assert {True, False} == set(read)


@pytest.mark.slow
def test_many_damaged_raw_files(tmp_path: Path) -> None:
    """The same for 10,000."""
    read = [survives(tmp_path, seed) for seed in range(150, 10_150)]

    assert {True, False} == set(read)


def test_sidecar_of_the_earlier_system(tmp_path: Path) -> None:
    """A sidecar with all the keys that the earlier system wrote is read: what describes the data does not matter."""
    facts: dict[str, Any] = {
        "description": "HRTF",
        "subject_id": "pp20",
        "ear_dc_gain": {"left": 0.9, "right": 0.9},
        "source_elevation": 0.0,
        "license": "CC BY 4.0",
        "shaping": {"tap_effective": 4096},
    }
    paths = four_paths()
    taps = taps_of(file=write_raw(tmp_path, paths, **facts))

    assert "shaping" in json.loads((tmp_path / "head.json").read_text())
    assert np.array_equal(paths[:, 1], taps[1, 0])
