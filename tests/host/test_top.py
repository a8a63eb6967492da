"""`sigrack top`: the table as a pure function, and the way to a host."""

import copy
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from sigrack.cli.find import find_endpoint
from sigrack.cli.live import render, summary
from sigrack.errors import ConfigError, EngineError

STATUS: dict[str, Any] = {
    "state": "running",
    "rack": "demo",
    "pid": 7,
    "uptime_s": 83.4,
    "safe_mode": None,
    "held": {},
    "driver": "clock",
    "source": "/music/song.flac",
    "rate_hz": 48_000,
    "out_rate_hz": 48_000,
    "bus": {"channels": ["left", "right", "mic"], "out": ["left", "right"]},
    "block_frames": 480,
    "latency_frames": 96,
    "slots": [{"name": "level", "in": ["left", "right"]}],
}
STATS: dict[str, Any] = {
    "blocks": 1000,
    "clipped_samples": 12,
    "rack_time_s": 10.0,
    "memory_mb": 48.0,
    "driver": {
        "late": 3,
        "latest_us": 12_345.0,
        "source_underrun_frames": 0,
        "sink_overrun_frames": 0,
        "real_time_priority": True,
        "feeds": {"wire": {"records": 9, "refused": 20, "failure": "OSError: gone"}, "file": {"records": 9, "failure": ""}},
    },
    "channels": [
        {"name": "left", "mute": True, "solo": False, "gain_db": 0.0, "heard": False},
        {"name": "right", "mute": False, "solo": True, "gain_db": -3.0, "heard": True},
    ],
    "slots": [
        {
            "name": "volume",
            "plugin": "gain",
            "group": None,
            "bypass": False,
            "held": False,
            "meters": {"blocks": 1000, "mean_ns": 100_000.0, "longest_ns": 250_000.0, "nonfinite": 1, "faults": 2},
            "lost_frames": 0,
            "hooks": None,
        },
        {
            "name": "listener",
            "plugin": "mine",
            "group": None,
            "bypass": False,
            "held": False,
            "meters": None,
            "lost_frames": 480,
            "hooks": {"resting": "", "calls": 90, "errors": 4, "dropped": 30, "last_error": "Traceback\nValueError: \x1b[2J odd"},
        },
    ],
    "factors": {
        "level.peak_db": {"values": [-30.0, -200.0]},
        "level.rms_db": {"values": [-40.0, -200.0]},
        "loud.loudness_lufs": {"values": [-14.25, -120.0, -15.0]},
        "limiter.gain_reduction_db": {"values": [1.25, 6.0]},
        "limiter.overloads": {"values": [900.0, 40.0, 7.0, 2.0]},
    },
    "totals": {"two": {"lost_frames": 480, "dropped": 20}, "gone": {"lost_frames": 0, "dropped": 10}},
    "results": {"level": {"dropped": 5, "refused": 0, "queued": 1}},
    "signals": {
        "engine": {"lost_frames": 0, "data": {"given": 900, "fed": 500, "dropped": 400, "queued": 0}},
        "deaf": {"lost_frames": 0, "data": None},
    },
    "inbox": {"dropped": 2, "refused": 3, "queued": 3},
    "loop": {"records": 77},
}


def later() -> dict[str, Any]:
    """The same a second later; the slot has taken 300 us per block since."""
    stats = copy.deepcopy(STATS)
    stats["blocks"] = 1100
    stats["slots"][0]["meters"] |= {"blocks": 1100, "mean_ns": (1000 * 100_000 + 100 * 300_000) / 1100}
    return stats


def line_with(lines: list[str], text: str) -> list[str]:
    """The words of the line that holds `text`."""
    return next(line for line in lines if text in line).split()


def test_load_is_since_the_poll_before() -> None:
    """Load and mean time are those of the interval, not since the start."""
    assert ["volume", "gain", "active", "3.00", "300.0"] == line_with(render(STATUS, later(), STATS, 120), "volume")[:5]


def test_without_a_poll_before_it_is_since_the_start() -> None:
    """The first table, and the first after a restart of the host, show means since its start."""
    restarted = later() | {"blocks": 10}

    assert "1.00" == line_with(render(STATUS, STATS, None, 120), "volume")[3]
    assert "1.18" == line_with(render(STATUS, restarted, STATS, 120), "volume")[3]


def test_all_that_goes_wrong_is_counted() -> None:
    """Faults, hook errors, lost frames, late blocks, drops and the last error are on the table."""
    lines = render(STATUS, STATS, None, 120)

    assert ["250.0", "3", "-", "-", "0"] == line_with(lines, "volume")[5:]
    assert ["listens", "-", "-", "-", "-", "90", "4", "480"] == line_with(lines, "mine")[2:]
    assert "late 3 (worst 12.3 ms)  clipped 12 samples" in re.sub(r"  memory.*", "", lines[1])
    assert "limiter  reduces by 1.2 dB  deepest 6.0 dB  frames limited 900, over 0 dBTP 40  samples clipped 7  bad 2" in lines
    assert "volume: 1 blocks were NaN or infinite and were replaced" in lines
    assert "volume: 2 blocks were refused and were replaced" in lines
    assert ["records", "77", "waiting", "4", "dropped", "437", "refused", "23"] == line_with(lines, "waiting")[:8]
    assert ["listener: ValueError: ?[2J odd", "", "wire: OSError: gone"] == lines[-3:]


def test_the_members_of_a_group_fail_together() -> None:
    """What several slots are compiled into is named by all of them, once, and nothing is said of what has not failed."""
    stats = copy.deepcopy(STATS)
    stats["slots"][0]["group"], stats["slots"][0]["meters"]["faults"] = "volume + eq", 0
    stats["slots"].insert(1, stats["slots"][0] | {"name": "eq"})
    lines = render(STATUS, stats, None, 120)

    assert 1 == sum("NaN" in line for line in lines)
    assert "volume + eq: 1 blocks were NaN or infinite and were replaced" in lines
    assert not any("refused and" in line for line in lines)


def test_channels_that_are_set_are_told() -> None:
    """Mutes, solos and levels are one line, and none while all are as they were; a meter without its slot has numbers."""
    plain = copy.deepcopy(STATS)
    plain["channels"] = [state | {"mute": False, "solo": False, "gain_db": 0.0, "heard": True} for state in plain["channels"]]

    assert "channels  left mute  right solo, -3.0 dB  " in render(STATUS, STATS, None, 120)
    assert not any("channels  " in line for line in render(STATUS, plain, None, 120))
    assert "3 channels (out: left, right)" in render(STATUS, STATS, None, 120)[0]
    first, second = (line for line in render(STATUS | {"slots": []}, STATS, None, 120) if "dBFS" in line)
    assert (["level", "1"], ["2"]) == (first.split()[:2], second.split()[:1])


def test_levels_are_bars() -> None:
    """-30 dB fills half of a bar that begins at -60 dB; silence fills none of it. Each has its channel's name."""
    first, second = (line for line in render(STATUS, STATS, None, 120) if "dBFS" in line)

    assert (["level", "left"], ["right"]) == (first.split()[:2], second.split()[:1])
    assert first.count("█") == first.count("·") == 30
    assert (0, 60) == (second.count("█"), second.count("·"))
    assert first.endswith("-30.0 dBFS  rms  -40.0")
    assert second.endswith("-inf dBFS  rms   -inf")


def test_loudness_that_is_not_there_yet_is_a_dash() -> None:
    """Momentary, short-term and integrated loudness stand in a line."""
    assert "loud  M -14.2  S -  I -15.0 LUFS" in render(STATUS, STATS, None, 120)


@pytest.mark.parametrize("width", [1, 20, 60, 80, 200])
@pytest.mark.parametrize("color", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, color: bool) -> None:
    """Lines are cut to the width; colours do not count and do not leak."""
    for line in render(STATUS, STATS, None, width, color=color):
        assert len(re.sub(r"\x1b\[\d+m", "", line)) <= width
        assert color or "\x1b" not in line
        assert len(re.findall(r"\x1b\[[1-9]\d*m", line)) == line.count("\x1b[0m")


def test_summary_is_one_line() -> None:
    """Without a terminal a line holds load, late blocks, levels, loudness and losses."""
    assert (
        "demo  running  0:00:10  load 1.00 %  late 3  clipped 12  level -30.0 -inf dBFS  loud M -14.2  S -  I -15.0 LUFS"
        "  lost 480  dropped 437  refused 23" == summary(STATUS, STATS, None)
    )


def listener(path: Path) -> socket.socket:
    """A socket that somebody listens to."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return server


@pytest.fixture(name="runtime")
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "rt"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("SIGRACK_RUNTIME", str(folder))
    return folder


def test_the_only_host_is_found(runtime: Path) -> None:
    """Without a name the one socket that answers is meant, whatever dead hosts have left."""
    listener(runtime / "dead.sock").close()
    with listener(runtime / "alive.sock"):
        assert f"ipc://{runtime}/alive.sock" == find_endpoint(None, None)


def test_several_hosts_are_named(runtime: Path) -> None:
    """Of several hosts none is guessed."""
    with listener(runtime / "one.sock"), listener(runtime / "two.sock"), pytest.raises(ConfigError, match=r"\(one, two\)"):
        find_endpoint(None, None)


def test_no_host_says_how_to_start_one(runtime: Path) -> None:
    """Without any host the error names the folder and the command."""
    with pytest.raises(EngineError, match=f"{runtime}.*sigrack up"):
        find_endpoint(None, None)


def test_a_rack_or_an_endpoint_decides(runtime: Path, tmp_path: Path) -> None:
    """The rack's file gives its endpoint; a given endpoint is checked and taken."""
    rack = tmp_path / "mine.toml"
    rack.write_text('source = { driver = "clock", path = "x.wav" }')

    assert f"ipc://{runtime}/mine.sock" == find_endpoint(rack, None)
    assert "tcp://127.0.0.1:5555" == find_endpoint(rack, "tcp://127.0.0.1:5555")
    with pytest.raises(ConfigError, match="ipc:///PATH"):
        find_endpoint(None, "here")
