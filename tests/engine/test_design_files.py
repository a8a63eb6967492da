"""Files of taps: what was written is read, what does not keep its promise is refused, what is cached is trusted only whole."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import soundfile

from sigrack_engine.design import DesignError, Filter, cached, design, filter_for, load, read, save, specify
from sigrack_engine.design.cache import cache_path

KINDS = [".wav", ".rf64", ".w64", ".npz", ".bin"]


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def made() -> Filter:
    """A small filter."""
    return design(specify(ratio=2, taps=801))


# Round trips


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_is_loaded(kind: str, made: Filter, tmp_path: Path) -> None:
    """Taps, specification and figures come back bit for bit, from every kind of file."""
    save(made, tmp_path / f"f{kind}")
    found = load(tmp_path / f"f{kind}")

    assert np.array_equal(made.taps, found.taps)
    assert (made.specification, made.measured) == (found.specification, found.measured)
    assert {f"f{kind}", "f.json"} == {path.name for path in tmp_path.iterdir()}


def test_a_wav_is_what_other_programs_expect(made: Filter, tmp_path: Path) -> None:
    """One channel of float32 at the output rate; beside it, JSON with the specification, the figures and the digest."""
    save(made, tmp_path / "f.wav")
    info, sidecar = soundfile.info(tmp_path / "f.wav"), json.loads((tmp_path / "f.json").read_text())

    assert (88_200, 1, 801, "WAV", "FLOAT") == (info.samplerate, info.channels, info.frames, info.format, info.subtype)
    assert ["measured", "sha256", "specification", "version"] == sorted(sidecar)
    assert made.measured.stop_db == sidecar["measured"]["stop_db"]


def test_nothing_is_overwritten_unasked(made: Filter, tmp_path: Path) -> None:
    """Neither the taps nor a JSON that another file has left."""
    save(made, tmp_path / "f.wav")
    with pytest.raises(DesignError, match=r"f\.json: exists already"):
        save(made, tmp_path / "f.bin")

    save(made, tmp_path / "f.bin", overwrite=True)


# The earlier system's files


def earlier(path: Path, taps: npt.NDArray[np.floating], **changed: Any) -> Path:
    """Write raw taps and the JSON that the earlier system writes beside them; its own figures say that all is well."""
    path.write_bytes(taps.astype("<f4").tobytes())
    sidecar = {
        "generation_date": "2025-11-27T21:01:28",
        "n_taps_specified": len(taps),
        "n_taps_actual": len(taps),
        "sample_rate_input": 44_100,
        "sample_rate_output": 705_600,
        "upsample_ratio": 16,
        "passband_end_hz": 20_000,
        "stopband_start_hz": 22_050,
        "target_stopband_attenuation_db": 100,
        "kaiser_beta": 28.0,
        "phase_type": "linear",
        "target_dc_gain": 16.0,
        "validation_results": {
            "passband_ripple_db": 1.5e-6,
            "stopband_attenuation_db": 189.8,
            "meets_stopband_spec": True,
            "normalization": {"target_dc_gain": 16.0, "dc_gain_factor": 0.99, "normalized_dc_gain": 15.84},
        },
    }
    kept = {key: value for key, value in (sidecar | changed).items() if value is not None}
    path.with_suffix(".json").write_text(json.dumps(kept))
    return path


def earlier_taps(cutoff: float) -> npt.NDArray[np.float64]:
    """Return 8001 taps of a gain of 15.84; `cutoff` in cycles per sample."""
    taps: npt.NDArray[np.float64] = scipy.signal.firwin(8001, cutoff, window=("kaiser", 12.0), fs=1.0) * 15.84
    return taps


def test_an_earlier_filter_that_is_right_loads(tmp_path: Path) -> None:
    """Its keys become a specification, with the gain that its normalisation says, and the taps stay as they are."""
    taps = earlier_taps(21_025 / 705_600)
    found = load(earlier(tmp_path / "f.bin", taps))

    assert np.array_equal(taps.astype(np.float32), found.taps)
    assert (44_100, 16, "linear", 8001) == tuple(
        getattr(found.specification, name) for name in ("input_rate_hz", "ratio", "phase", "taps")
    )
    assert (20_000.0, 22_050.0, 100.0, 0.99) == tuple(
        getattr(found.specification, name) for name in ("pass_edge_hz", "stop_edge_hz", "attenuation_db", "gain")
    )


def test_an_earlier_filter_that_opens_an_octave_too_high_is_refused(tmp_path: Path) -> None:
    """Its validator took the least of the stop band and found 189.8 dB; the most is 0 dB, and the -6 dB point is at 42 kHz."""
    path = earlier(tmp_path / "f.bin", earlier_taps(42_050 / 705_600))

    with pytest.raises(DesignError, match=r"f.bin: refused: 0\.00 dB at .* says -100 dB from 22050 Hz on; .* at 42050.0 Hz"):
        load(path)
    assert abs(read(path).measured.half_hz - 42_050.0) < 0.1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"phase_type": "hybrid"}, "f.json: phase_type: 'hybrid' is not one of minimum, linear"),
        ({"phase_type": None}, "f.json: phase_type: 'missing' is not one of"),
        ({"phase_type": "minimum"}, "f.bin: refused: not of minimum phase"),
        ({"upsample_ratio": 8}, "f.json: sample_rate_output: 705600 is not sample_rate_input times upsample_ratio"),
        ({"upsample_ratio": None}, "f.json: Object missing required field `upsample_ratio`"),
        ({"n_taps_actual": None}, "f.json: n_taps_actual is missing"),
        ({"n_taps_actual": 8003}, "f.bin: holds 8001 taps, its specification says 8003"),
        ({"passband_end_hz": "wide"}, "f.json: Expected `float`, got `str` - at `\\$.passband_end_hz`"),
        ({"target_stopband_attenuation_db": 160}, r"f.bin: refused: -1\d\d.*specification says -160 dB"),
        ({"validation_results": {}}, "f.bin: refused: gain of 15.84 at 0 Hz, specified 16"),
    ],
)
def test_an_earlier_filter_that_does_not_keep_its_promise_is_refused(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """The error names the file and what is wrong, with the measured figure."""
    path = earlier(tmp_path / "f.bin", earlier_taps(21_025 / 705_600), **changed)

    with pytest.raises(DesignError, match=message):
        load(path)


def test_phase_suffix_stands_for_the_phase_type(tmp_path: Path) -> None:
    """Some of the earlier files say it that way."""
    path = earlier(tmp_path / "f.bin", earlier_taps(21_025 / 705_600), phase_type=None, phase_suffix="linear_phase")

    assert "linear" == load(path).specification.phase


# Files that are wrong


def one_tap(path: Path) -> None:
    """One tap changes, the JSON does not."""
    taps = np.fromfile(path, "<f4")
    taps[100] += 1e-3
    taps.tofile(path)


def one_tap_signed(path: Path) -> None:
    """One tap changes, and the digest with it."""
    one_tap(path)
    rewrite(path, "sha256", None)


def rewrite(path: Path, key: str, value: object) -> None:
    """Change a key of the JSON, or drop it."""
    sidecar = json.loads(path.with_suffix(".json").read_text())
    sidecar[key] = value
    path.with_suffix(".json").write_text(json.dumps(sidecar))


def fill(value: float) -> Callable[[Path], None]:
    """Return what makes all taps the same."""

    def write(path: Path) -> None:
        np.full(801, value, "<f4").tofile(path)
        rewrite(path, "sha256", None)

    return write


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_tap, "f.bin: not the taps that f.json describes"),
        (one_tap_signed, r"f.bin: refused: -6\d\.\d\d dB at"),
        (fill(np.nan), "f.bin: the sum of the taps is nan: not a low pass"),
        (fill(0.0), "f.bin: the sum of the taps is 0: not a low pass"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "f.bin: holds 800 taps, its specification says 801"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "f.bin: cannot be read: buffer size"),
        (Path.unlink, "f.bin: no such file"),
        (lambda path: path.with_suffix(".json").unlink(), "f.json: no such file: it says what the taps in f.bin must do"),
        (lambda path: path.with_suffix(".json").write_text("{"), "f.json: Input data was truncated"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "f.json: Object missing required field `sample_rate_input`"),
        (lambda path: rewrite(path, "specification", {"ratio": 2}), "f.json: Object missing required field"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(
    spoil: Callable[[Path], object], message: str, made: Filter, tmp_path: Path
) -> None:
    """One line names the file and what is wrong with it."""
    path = tmp_path / "f.bin"
    save(made, path)
    spoil(path)

    with pytest.raises(DesignError, match=message) as refused:
        load(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("rate_hz", "channels", "message"), [(88_200, 2, "2 channels at 88200 Hz"), (44_100, 1, "1 channels at 44100 Hz")]
)
def test_a_wav_of_another_rate_or_width_is_refused(
    rate_hz: int, channels: int, message: str, made: Filter, tmp_path: Path
) -> None:
    """A sound file says itself what rate it is for."""
    save(made, tmp_path / "f.wav")
    soundfile.write(tmp_path / "f.wav", np.repeat(made.taps[:, None], channels, axis=1), rate_hz, subtype="FLOAT")

    with pytest.raises(DesignError, match=f"{message}; its specification is of one at 88200 Hz"):
        load(tmp_path / "f.wav")


def test_unknown_kinds_are_named(made: Filter, tmp_path: Path) -> None:
    """In both directions."""
    for attempt in (lambda path: save(made, path), load):
        with pytest.raises(DesignError, match=re.escape('unknown kind of file ".txt"; use .wav')):
            attempt(tmp_path / "f.txt")


def test_a_broken_archive_is_named(made: Filter, tmp_path: Path) -> None:
    """An NPZ that is none, one that is cut, and one without taps."""
    path = tmp_path / "f.npz"
    save(made, path)
    whole = path.read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(DesignError, match=r"f\.npz: cannot be read: "):
            load(path)
    np.savez(path, other=made.taps)
    with pytest.raises(DesignError, match=r"f\.npz: cannot be read: .*taps"):
        load(path)


# The cache


def steps(spec: Any) -> tuple[Filter, list[str]]:
    """Return the cached filter, and the steps of its design: none, if it was there."""
    told: list[str] = []
    return cached(spec, told.append), told


def test_a_filter_is_designed_once() -> None:
    """The second time it comes from the cache, the same; another specification has its own."""
    spec = specify(ratio=2, taps=801)
    first, designed = steps(spec)
    second, again = steps(spec)
    _, other = steps(specify(ratio=2, taps=803))

    assert (["window", "minimum phase", "measuring"], []) == (designed, again)
    assert designed == other
    assert np.array_equal(first.taps, second.taps)
    assert (first.specification, first.measured) == (second.specification, second.measured)


def damage(path: Path) -> None:
    """One bit turns over."""
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


def other_gain(path: Path) -> None:
    """The JSON is of another specification."""
    specification = json.loads(path.with_suffix(".json").read_text())["specification"]
    rewrite(path, "specification", specification | {"gain": 2.0})


@pytest.mark.parametrize(
    "spoil",
    [
        damage,
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(b"odd"),
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: rewrite(path, "measured", None),
        other_gain,
    ],
)
def test_a_damaged_entry_is_designed_anew(spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture) -> None:
    """It is noticed, said, and whole again afterwards."""
    spec = specify(ratio=2, taps=801)
    first, _ = steps(spec)
    spoil(cache_path(spec))
    second, designed = steps(spec)

    assert designed
    assert np.array_equal(first.taps, second.taps)
    assert "damaged" in caplog.text
    assert [] == steps(spec)[1]


def test_a_cache_that_cannot_be_written_is_said(cache_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The filter is made all the same."""
    caplog.set_level(logging.WARNING, logger="sigrack")
    cache_home.write_text("a file in the way")
    spec = specify(ratio=2, taps=801)

    assert 801 == len(cached(spec).taps)
    assert "XDG_CACHE_HOME" in caplog.text


@pytest.mark.parametrize("rate_hz", [88_200, 48_000])
def test_each_rate_has_its_filter(rate_hz: int) -> None:
    """The stop band begins at half of the input rate, whichever family it is of; the figures scale with the rate."""
    made = filter_for(rate_hz, 2, "linear")

    assert (rate_hz, 2, "linear", rate_hz / 2.0, 80_001) == tuple(
        getattr(made.specification, name) for name in ("input_rate_hz", "ratio", "phase", "stop_edge_hz", "taps")
    )
    assert abs(made.measured.half_hz / rate_hz - 0.49988) < 1e-5
