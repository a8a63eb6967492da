"""Mute, solo and level of the channels that go out: ramps, states, commands, and what they mean for the rack's level."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from buses import bus, opened, slot, taps_of
from command import answer, sigrack
from factories import MakeWav, WriteRack
from oracles.bus import Signal, Standing, through
from oracles.chain import error_db
from racks import Host, answers, noise, request, write
from sigrack.commands import Commands
from sigrack.control import schema
from sigrack.control.schema import CommandError
from waiting import wait_until

BLOCK = "block_frames = 64\nhook_frames = 64\nfade_ms = 20.0"
FADE = 960
LIMIT_DB = -110.0
SILENT = 1e-9


def ramps(frames: int, changes: list[tuple[int, float]], first: float = 1.0, fade: int = FADE) -> Signal:
    """Return a gain for each frame: straight ways to the gains of `changes` from their frames on, each from where it is."""
    gains = np.full(frames, first)
    for start, gain in changes:
        here = gains[start - 1] if start else first
        gains[start:] = here + (gain - here) * np.clip((np.arange(frames - start) + 1) / fade, 0.0, 1.0)
    return gains


def run(folder: Path, tables: str, sound: Any, steps: dict[int, dict[str, Any]], rack: str = BLOCK) -> tuple[Signal, list[int]]:
    """Play a sound, setting a channel at each of the frames; return what was heard and when each was set."""
    session = opened(folder, tables + slot("director", "./director.py"), sound, rack)
    starts: list[int] = []

    def setting(values: dict[str, Any]) -> Callable[[Any], None]:
        def change(ctx: Any) -> None:
            starts.append(session.rack.engine.frame)
            session.rack.channels.set(**values)

        return change

    director: Any = session.rack.slot("director").hooked.plugin  # type: ignore[union-attr]
    director.steps = {frame: setting(values) for frame, values in steps.items()}
    assert 0 == session.run()
    assert not director.steps
    return soundfile.read(folder / "heard.wav", always_2d=True)[0], starts


# What is heard


@pytest.mark.parametrize("block_frames", [1, 64, 500])
def test_mute_is_a_straight_ramp_and_back(tmp_path: Path, block_frames: int) -> None:
    """A muted channel falls to silence in `fade_ms` and comes back as it was; the other one is bit for bit what it was."""
    sound = noise(12_000)
    rack = f"block_frames = {block_frames}\nhook_frames = 64"
    heard, (off, on) = run(
        tmp_path, bus("ab"), sound, {3000: {"name": "a", "mute": True}, 6000: {"name": "a", "mute": False}}, rack
    )
    gains = ramps(12_000, [(off, 0.0), (on, 1.0)])

    assert error_db(heard[:, 0], sound[:, 0] * gains) < LIMIT_DB
    assert error_db(heard[:, 0], sound[:, 0] * ramps(12_000, [(off + 1, 0.0), (on, 1.0)])) > -80.0, "it sees one frame"
    assert not heard[off + FADE : on, 0].any()
    assert np.array_equal(sound[:, 1], heard[:, 1].astype(np.float32))
    assert np.array_equal(sound[on + FADE :, 0], heard[on + FADE :, 0].astype(np.float32))


@pytest.mark.parametrize("seed", range(4))
def test_random_settings_are_the_formula(tmp_path: Path, seed: int) -> None:
    """Mutes, solos and levels at random, some before the last ramp has ended, behind a slot with latency: the ideal product."""
    draw, names, frames = random.Random(seed), "abc", 20_000
    sound = noise(frames, 4, seed)
    tables = bus("abcd", "cab") + slot("taps", heard="d", written="b", rest="config = { late = 30 }")
    wanted: dict[str, dict[str, Any]] = {name: {"mute": False, "solo": False, "gain_db": 0.0} for name in names}
    steps, targets, at = {}, [], 1000
    while at < frames - 2000:
        name = draw.choice(names)
        key, value = draw.choice(
            [("mute", draw.random() < 0.5), ("solo", draw.random() < 0.3), ("gain_db", draw.uniform(-20, 6))]
        )
        wanted[name][key] = value
        steps[at] = {"name": name, key: value}
        soloed = any(state["solo"] for state in wanted.values())
        targets.append(
            {
                name: 0.0 if state["mute"] or (soloed and not state["solo"]) else 10 ** (state["gain_db"] / 20)
                for name, state in wanted.items()
            }
        )
        at += draw.choice([200, 500, 1500])
    heard, starts = run(tmp_path, tables, sound, steps)
    padded = np.concatenate([sound, np.zeros((30, 4))]).astype(np.float64)
    made = through(padded, [Standing(taps_of(1, 1, late=30), [3], [1], 30)])
    for column, name in enumerate("cab"):
        changes = [(start, target[name]) for start, target in zip(starts, targets, strict=True)]
        moving = [
            (s, gain) for (s, gain), before in zip(changes, [1.0, *(g for _, g in changes)], strict=False) if gain != before
        ]
        made[:, "abcd".index(name)] *= ramps(frames + 30, moving)
        assert error_db(heard[:, column], made[30:, "abcd".index(name)]) < LIMIT_DB, name


def test_solo_mutes_the_others_together(tmp_path: Path) -> None:
    """One solo, two, none: those that are not solo fade out in the same frames; a mute beside a solo stays one."""
    sound = noise(16_000, 3)
    steps = {
        3000: {"name": "a", "solo": True},
        6000: {"name": "b", "solo": True, "mute": True},
        9000: {"name": "a", "solo": False},
        12_000: {"name": "b", "solo": False, "mute": False},
    }
    heard, (first, _, third, last) = run(tmp_path, bus("abc"), sound, steps)
    gains = np.stack(
        [
            ramps(16_000, [(third, 0.0), (last, 1.0)]),
            ramps(16_000, [(first, 0.0), (last, 1.0)]),
            ramps(16_000, [(first, 0.0), (last, 1.0)]),
        ],
        1,
    )

    assert error_db(heard, sound * gains) < LIMIT_DB


def test_a_channel_may_begin_muted(tmp_path: Path) -> None:
    """`[bus] mute` is silence from the first frame on, until somebody lets it be heard."""
    sound = noise(8000)
    heard, (on,) = run(tmp_path, bus("ab", more='mute = ["b"]'), sound, {4000: {"name": "b", "mute": False}})

    gains = np.stack([ramps(8000, []), ramps(8000, [(on, 1.0)], 0.0)], 1)

    assert error_db(heard, sound * gains) < LIMIT_DB
    assert not heard[:on, 1].any()


def test_a_ramp_is_as_long_at_another_rate(tmp_path: Path) -> None:
    """Behind a slot that doubles the rate a fade has twice the frames, and begins with a block."""
    (tmp_path / "twice.py").write_text(
        "import numpy as np\nfrom sigrack_plugins import Plugin\nclass Twice(Plugin):\n"
        "    def fir(self, setup):\n        return np.ones((2, 2, 2), np.float32) * np.eye(2, dtype=np.float32)[..., None]\n"
        "    def ratio(self, setup):\n        return 2\n"
    )
    sound = noise(8000)
    heard, (off,) = run(tmp_path, bus("ab") + slot("up", "./twice.py"), sound, {3000: {"name": "a", "mute": True}})
    repeated = np.repeat(sound, 2, axis=0)

    assert error_db(heard[:, 0], repeated[:, 0] * ramps(16_000, [(2 * off, 0.0)], fade=2 * FADE)) < LIMIT_DB


def test_the_limiter_hears_what_the_faders_leave(tmp_path: Path) -> None:
    """The rack's own limiter stands behind them: a channel made 20 dB louder stays below the ceiling."""
    sound = noise(20_000)
    louder = {3000: {"name": "a", "gain_db": 20.0}}
    heard, _ = run(tmp_path, bus("ab"), sound, louder, f"{BLOCK}\nlimiter = true")
    bare, _ = run(tmp_path, bus("ab"), sound, louder)

    assert np.abs(heard).max() < 1.0 < 4.0 < np.abs(bare).max()


# Commands


def commanded(folder: Path, *changes: dict[str, Any]) -> list[Any]:
    """Send CHANNEL_SET commands to a session; return what each gives: its data, or code and message of its refusal."""
    session = opened(folder, bus("abc", "ab"), noise(48_000))
    session.rack.on_event = lambda kind, **data: None
    events: list[Any] = []
    outcome: list[Any] = []

    async def send() -> None:
        session.publish = lambda kind, **data: events.append((kind, data))  # type: ignore[method-assign]
        for change in changes:
            try:
                reply = await Commands(session).handle(schema.ChannelSet(**change))
            except CommandError as error:
                outcome.append((error.code, error.message))
                continue
            assert ("channel", reply.data) == events[-1]
            assert reply.data in session.rack.channels.states
            outcome.append((reply.message, reply.data))
        await asyncio.sleep(0)

    assert 0 == session.run(beside=send)
    return outcome


def test_a_command_answers_with_the_state(tmp_path: Path) -> None:
    """What is left out stays; the answer, and an event, say what the channel is now, and whether it is heard."""
    assert [
        ("a: +0 dB, mute", {"name": "a", "mute": True, "solo": False, "gain_db": 0.0, "heard": False}),
        ("a: -6 dB, mute", {"name": "a", "mute": True, "solo": False, "gain_db": -6.0, "heard": False}),
        ("b: +0 dB, solo", {"name": "b", "mute": False, "solo": True, "gain_db": 0.0, "heard": True}),
        ("a: -6 dB", {"name": "a", "mute": False, "solo": False, "gain_db": -6.0, "heard": False}),
        ("b: +0 dB", {"name": "b", "mute": False, "solo": False, "gain_db": 0.0, "heard": True}),
        ("a: -6 dB", {"name": "a", "mute": False, "solo": False, "gain_db": -6.0, "heard": True}),
    ] == commanded(
        tmp_path,
        {"name": "a", "mute": True},
        {"name": "a", "gain_db": -6.0},
        {"name": "b", "solo": True},
        {"name": "a", "mute": False},
        {"name": "b", "solo": False},
        {"name": "a"},
    )


def test_what_cannot_be_set_is_said(tmp_path: Path) -> None:
    """Names that are none, channels that do not go out, levels out of range; nothing has changed then."""
    assert [
        ("VALIDATION_NOT_FOUND", 'there is no channel "x"; valid: a, b'),
        ("VALIDATION_NOT_FOUND", 'the channel "c" does not go out; those that do: a, b'),
        ("IPC_INVALID_PARAMS", "gain_db = 25 is out of range: -120 to 24"),
        ("IPC_INVALID_PARAMS", "gain_db = nan is out of range: -120 to 24"),
        ("a: +0 dB", {"name": "a", "mute": False, "solo": False, "gain_db": 0.0, "heard": True}),
    ] == commanded(
        tmp_path,
        {"name": "x", "mute": True},
        {"name": "c", "mute": True},
        {"name": "a", "gain_db": 25.0, "mute": True},
        {"name": "a", "gain_db": float("nan")},
        {"name": "a"},
    )


def test_a_live_host_is_told_and_tells(tmp_path: Path) -> None:
    """CHANNEL_SET over the socket; GET_STATUS names the channels, STATS and `sigrack top` their states."""
    table = '[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n' + slot("volume", "gain", ["mic"], ["left"])
    with Host(write(tmp_path, bus(["left", "mic"], ["left"]) + table, noise(48_000))):
        wait_until(answers, 10)
        told = sigrack("ctl", "CHANNEL_SET", "name=left", "mute=true", "gain_db=-3")
        loaded = sigrack("ctl", "LOAD", "name=meter", "plugin=level", 'in=["mic"]')
        status, stats = request("GET_STATUS")["data"], request("STATS")["data"]
        shown = sigrack("top", "--once").stdout
        request("SHUTDOWN")

    assert ("left: -3 dB, mute\n", "loaded meter\n") == (told.stdout, loaded.stdout)
    assert {"channels": ["left", "mic"], "out": ["left"]} == status["bus"]
    assert [(["mic"], ["left"]), (["mic"], ["mic"])] == [(one["in"], one["out"]) for one in status["slots"]]
    assert [{"name": "left", "mute": True, "solo": False, "gain_db": -3.0, "heard": False}] == stats["channels"]
    assert "channels  left mute, -3.0 dB" in shown
    assert "2 channels (out: left)" in shown


# The level


ROUTE = slot("mix", "route", "abm", "ab", "config = { gains_db = { a = { a = 0.0, m = -6.0 }, b = { b = 0.0 } } }")
BOOST = slot("boost", "gain", "m", rest="params = { gain_db = 12.0 }")


@pytest.mark.parametrize(
    ("tables", "level_db"),
    [
        (BOOST, 0.0),
        (BOOST + ROUTE, 20 * np.log10(1 + 10 ** (6 / 20))),
        (BOOST + ROUTE + slot("less", "gain", "a", rest="params = { gain_db = -3.0 }"), 6.53),
        (slot("route", "gain", "m", "a") + BOOST, 0.0),
        (BOOST + slot("route", "gain", "m", "a"), 12.0),
        (BOOST + slot("route", "gain", "m", "a", "bypass = true"), 0.0),
        (BOOST + slot("over", "gain", "a", "m", "params = { gain_db = -6.0 }") + slot("back", "gain", "m", "a"), 0.0),
        (
            BOOST + slot("limit", "limiter", "m", rest="params = { ceiling_db = -12.0 }") + ROUTE,
            20 * np.log10(1 + 10 ** (-18 / 20)),
        ),
        (slot("copy", "route", "m", "a", "config = { factors = { a = { m = -2.0 } } }"), 6.02),
    ],
)
def test_the_level_follows_the_channels(tmp_path: Path, tables: str, level_db: float) -> None:
    """What is added to a channel counts where that channel goes, and only there; sums are bounded by the sum of the levels."""
    session = opened(tmp_path, bus("abm", "ab") + tables, noise(10, 3))
    session.rack.close()
    path = tmp_path / "rack.toml"

    assert answer("info", path)["level"]["worst_db"] == pytest.approx(level_db, abs=0.01)


def test_headroom_follows_the_faders(tmp_path: Path) -> None:
    """`headroom = "auto"` makes up for a channel that is set louder, not for one that is muted, nor for what does not go out."""
    session = opened(tmp_path, bus("abm", "ab") + BOOST, noise(10, 3), 'headroom = "auto"')
    found = []
    for values in ({"gain_db": 6.0}, {"mute": True}, {"gain_db": 0.0}):
        session.rack.channels.set("a", **values)
        found.append(session.rack.slot("headroom").values["gain_db"])
    session.rack.close()

    assert [-6.0, -6.0] == pytest.approx(found[:2])
    assert ("a", "b") == session.rack.bus.out


def test_info_and_check_show_the_channels(tmp_path: Path, wav: MakeWav, write_rack: WriteRack) -> None:
    """Where slots stand on some of the channels `info` has a column for it, and both say what goes out."""
    wav()
    told = write_rack(
        bus("lrm", "lr") + slot("v", "gain", "m") + slot("mix", "route", "lm", "rl", "config = { factors = { r = { m = 1 } } }")
    )
    shown, checked = sigrack("info", told).stdout, sigrack("check", told).stdout

    assert "3 channels (out: l, r)" in shown
    assert "3 channels (out: l, r)" in checked
    assert ["v", "gain", "engine", "m", "active"] == shown.splitlines()[3].split()[:5]
    assert "l, m -> r, l" in shown
    assert [["m"], ["l", "m"]] == [one["in"] for one in answer("info", told)["slots"]]
