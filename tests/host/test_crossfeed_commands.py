"""The crossfeed's commands on a live host: what they put in force is heard, what cannot be changes nothing."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from heads import four_paths, taps_of, write_raw
from oracles.chain import error_db, matrix_fir
from racks import Host, answers, noise, request, write
from sigrack.control.schema import CommandError
from waiting import wait_until

RACK = """
[rack]
block_frames = 128
[source]
driver = "clock"
path = "in.wav"
loop = true
[sink]
driver = "file"
path = "out.wav"
[[slot]]
name = "space"
plugin = "crossfeed"
"""
SECOND, FADE = 48_000, 1000
"""Frames; the fade to silence at a stop is 960."""
SOUND = noise(SECOND, seed=9)


def running(folder: Path, config: str = "") -> Host:
    """A live host with a crossfeed."""
    host = Host(write(folder, RACK + config, SOUND))
    wait_until(answers, 10)
    return host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """One with the head model."""
    with running(tmp_path, "config = { level_db = -3.0 }\n") as host:
        yield host


def heard_at_the_end(folder: Path, host: Host) -> Any:
    """Let it play on for a while, stop it and return 4000 frames before the fade to silence, with the number of the first."""
    frame = request("STATS")["data"]["frame"]
    wait_until(lambda: request("STATS")["data"]["frame"] > frame + 8000, 10)
    request("SHUTDOWN")
    assert 0 == host.process.wait(10)
    heard, _ = soundfile.read(folder / "out.wav")
    first = int(np.flatnonzero(heard.any(axis=1))[-1]) - FADE - 4000
    return heard[first : first + 4000], first


def expected(taps: Any, first: int, frames: int = 4000) -> Any:
    """What a crossfeed with these taps makes of the looped sound."""
    before = taps.shape[2]
    place = (np.arange(first - before, first + frames)) % SECOND
    return matrix_fir(SOUND[place].astype(np.float64), taps.astype(np.float32))[before:]


def encoded(paths: Any, kind: str) -> dict[str, str]:
    """Four paths, columns LL, LR, RL, RR, as parameters."""
    named = zip(("ll", "lr", "rl", "rr"), paths.T, strict=True)
    return {f"combined_{name}": base64.b64encode(path.astype(kind).tobytes()).decode() for name, path in named}


@pytest.mark.parametrize("form", ["complex64", "float32"])
def test_set_combined(tmp_path: Path, host: Host, form: str) -> None:
    """Four different responses, as spectra (the default) or as taps, are heard each in its place."""
    paths = four_paths(256) * np.float32(64)
    if form == "complex64":
        params: dict[str, Any] = encoded(np.fft.rfft(paths, axis=0), "<c8")
    else:
        params = {**encoded(paths, "<f4"), "format": form}
    reply = request("CROSSFEED_SET_COMBINED", rate_family="48k", **params)
    status = request("CROSSFEED_STATUS")["data"]
    heard, first = heard_at_the_end(tmp_path, host)
    ll, lr, rl, rr = paths.T

    assert {"status": "ok", "message": "Crossfeed changed", "data": {"rate_family": "48k"}} == reply
    assert {"enabled": True, "initialized": True, "slot": "space", "source": "combined"} == status
    assert error_db(heard, expected(np.array([[ll, rl], [lr, rr]]), first)) < -110.0
    assert error_db(heard, expected(np.array([[ll, lr], [rl, rr]]), first)) > -20.0


def test_generate_woodworth(tmp_path: Path, host: Host) -> None:
    """The head model with the command's parameters, and the level that the slot has, is what is heard."""
    model = {"head_radius_m": 0.09, "ear_spacing_m": 0.175, "far_shadow_db": -8.0, "diffuse_tilt_db": -2.0}
    reply = request("CROSSFEED_GENERATE_WOODWORTH", rate_family="48k", azimuth_deg=45, model=model)
    status = request("CROSSFEED_GET_STATUS")["data"]
    heard, first = heard_at_the_end(tmp_path, host)

    assert "Crossfeed changed" == reply["message"]
    assert ("model", True) == (status["source"], status["enabled"])
    assert error_db(heard, expected(taps_of(azimuth_deg=45.0, level_db=-3.0, **model), first)) < -110.0
    assert error_db(heard, expected(taps_of(level_db=-3.0), first)) > -40.0


def test_set_size(tmp_path: Path, host: Host) -> None:
    """Another head size is heard and told; a bypassed crossfeed stays bypassed."""
    assert "head_size" not in request("CROSSFEED_STATUS")["data"]
    assert {"head_size": "xl"} == request("CROSSFEED_SET_SIZE", head_size="XL")["data"]
    assert "xl" == request("CROSSFEED_STATUS")["data"]["head_size"]
    request("CROSSFEED_DISABLE")
    assert {"head_size": "s"} == request("CROSSFEED_SET_SIZE", head_size="s")["data"]
    assert request("CROSSFEED_STATUS")["data"] | {"slot": ""} == {
        "enabled": False,
        "initialized": True,
        "slot": "",
        "source": "model",
        "head_size": "s",
    }
    request("CROSSFEED_ENABLE")
    heard, first = heard_at_the_end(tmp_path, host)

    assert error_db(heard, expected(taps_of(level_db=-3.0, head_size="s"), first)) < -110.0


def test_sizes_of_a_folder(tmp_path: Path) -> None:
    """With a folder the size chooses the file; one that is not there changes nothing, and the old one plays on."""
    paths = four_paths(100) * np.float32(64)
    write_raw(tmp_path, paths, "hrtf_s_48k", size_category="S", rate_family="48k")
    write_raw(tmp_path, paths[::-1], "hrtf_m_48k", size_category="M", rate_family="48k")
    with running(tmp_path, 'config = { folder = ".", head_size = "s" }\n') as host:
        request("CROSSFEED_SET_SIZE", head_size="m")
        with pytest.raises(
            CommandError, match=r"hrtf_l_48k.bin is not there: it is what head_size l needs at 48000 Hz; nothing was"
        ):
            request("CROSSFEED_SET_SIZE", head_size="l")
        status = request("CROSSFEED_STATUS")["data"]
        heard, first = heard_at_the_end(tmp_path, host)
    ll, lr, rl, rr = paths[::-1].T

    assert ("folder", "m") == (status["source"], status["head_size"])
    assert error_db(heard, expected(np.array([[ll, rl], [lr, rr]]), first)) < -110.0


ONES = encoded(np.ones((2, 4)), "<f4")


def test_what_cannot_be_changes_nothing(tmp_path: Path, host: Host) -> None:
    """Each mistake is answered in one line that says so, and the crossfeed plays on as it was."""
    mistakes: list[tuple[str, dict[str, Any], str, str]] = [
        ("SET_SIZE", {"head_size": "xxl"}, "VALIDATION_INVALID_PLUGIN", 'did you mean "xl"'),
        ("SET_SIZE", {}, "IPC_INVALID_PARAMS", "head_size"),
        ("SET_COMBINED", {**ONES, "format": "float64"}, "IPC_INVALID_PARAMS", "format"),
        ("SET_COMBINED", {**ONES, "format": "float32", "rate_family": "44k"}, "VALIDATION_INVALID_PLUGIN", "family 48k"),
        ("SET_COMBINED", {**ONES, "rate_family": "96k"}, "IPC_INVALID_PARAMS", "rate_family"),
        (
            "SET_COMBINED",
            {**ONES, "format": "float32", "combined_lr": "?"},
            "VALIDATION_INVALID_PLUGIN",
            "combined_lr is not base64",
        ),
        ("SET_COMBINED", {"combined_ll": "AAAA"}, "IPC_INVALID_PARAMS", "combined_lr"),
        ("GENERATE_WOODWORTH", {"azimuth_deg": 95}, "VALIDATION_INVALID_PLUGIN", "azimuth_deg: 95 is not within 10 to 90"),
        ("GENERATE_WOODWORTH", {"model": {"radius": 1}}, "IPC_INVALID_PARAMS", "radius"),
        ("GENERATE_WOODWORTH", {"model": {"ear_spacing_m": 1}}, "VALIDATION_INVALID_PLUGIN", "ear_spacing_m: 1 is not within"),
    ]
    for cmd, params, code, words in mistakes:
        with pytest.raises(CommandError) as refusal:
            request(f"CROSSFEED_{cmd}", **params)
        assert (code, True) == (refusal.value.code, words in refusal.value.message), (cmd, params, refusal.value.message)
        assert "\n" not in refusal.value.message
    heard, first = heard_at_the_end(tmp_path, host)

    assert error_db(heard, expected(taps_of(level_db=-3.0), first)) < -110.0


def test_a_rack_without_crossfeed(tmp_path: Path) -> None:
    """Without a crossfeed slot the status says so, and the commands are refused."""
    with Host(write(tmp_path, RACK.replace('"crossfeed"', '"gain"'), SOUND)):
        wait_until(answers, 10)
        for cmd, params in (("SET_SIZE", {"head_size": "m"}), ("SET_COMBINED", ONES), ("GENERATE_WOODWORTH", {})):
            with pytest.raises(CommandError) as refusal:
                request(f"CROSSFEED_{cmd}", **params)
            assert "CROSSFEED_NOT_INITIALIZED" == refusal.value.code

        assert {"enabled": False, "initialized": False} == request("CROSSFEED_STATUS")["data"]
