"""Linear slots are compiled into groups: what is heard is what they do one after the other, also while they change."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from director import DIRECTOR
from fades import FADE, Signal, beginning, changed, faded, slot
from filters import FILTER, filtered, taps_of
from oracles.chain import error_db, gain, interpolated, matrix_fir
from racks import freewheel, noise, write
from sigrack import render
from sigrack.config import load
from sigrack.errors import ConfigError
from sigrack.session import Session
from sigrack.status import stats

LIMIT_DB = -120.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds the plugins of these tests."""
    (tmp_path / "filter.py").write_text(FILTER)
    return tmp_path


def played(folder: Path, tables: str, sound: npt.NDArray[np.float32], rack: str = "") -> Signal:
    """Return what a render through a rack gives."""
    path = write(folder, f'[rack]\n{rack}\n[source]\ndriver = "file"\npath = "in.wav"\n{tables}', sound)
    render(path, folder / "in.wav", folder / "out.wav", overwrite=True)
    heard: Signal = soundfile.read(folder / "out.wav")[0]
    return heard


def members(session: Session) -> list[str]:
    """Return the names of the groups."""
    return [group.name for group in session.rack.groups]


# What becomes one filter


def test_adjacent_linear_slots_are_one_group(folder: Path) -> None:
    """Observers and native slots are borders."""
    tables = filtered("a", seed=1) + filtered("b", seed=2) + slot("meter", "level") + filtered("c", seed=3)
    tables += slot("ears", "./collector.py") + filtered("d", seed=4) + filtered("e", seed=5)

    assert ["a + b", "c", "d + e"] == _groups(folder, tables)
    assert ["a", "meter", "c", "ears", "d"] == _step_names(folder, tables)


@pytest.mark.parametrize(
    ("tables", "groups", "steps"),
    [
        (filtered("a") + slot("volume", "gain") + filtered("b"), ["a + b"], ["a", "volume"]),
        (filtered("a", ratio=2) + slot("volume", "gain") + filtered("b"), ["a + b"], ["a", "volume"]),
        (filtered("a") + slot("volume", "gain") + filtered("b", ratio=2), ["a", "b"], ["a", "volume", "b"]),
        (
            filtered("a") + slot("volume", "gain") + slot("meter", "level") + filtered("b"),
            ["a", "b"],
            ["a", "volume", "meter", "b"],
        ),
    ],
)
def test_a_volume_between_two_filters_comes_behind_them(folder: Path, tables: str, groups: list[str], steps: list[str]) -> None:
    """One gain for all channels commutes with filters, unless the rate rises after it."""
    sound = noise(2000)
    quiet, plain = (
        played(folder, tables.replace('plugin = "gain"', f'plugin = "gain"\n{setting}'), sound)
        for setting in ("params = { gain_db = -6.0 }", "bypass = true")
    )

    assert groups == _groups(folder, tables)
    assert steps == _step_names(folder, tables)
    assert error_db(quiet, gain(plain, -6.0)) < LIMIT_DB


def _groups(folder: Path, tables: str) -> list[str]:
    session = freewheel(folder, tables, noise(10))
    names = members(session)
    session.run()
    return names


def _step_names(folder: Path, tables: str) -> list[str]:
    session = freewheel(folder, tables, noise(10))
    rack = session.rack
    names = [name for number in range(1, 10) if (name := rack.step_name(number)) != "no slot"]
    session.run()
    assert "the channels' faders" == names.pop()
    return names


def test_a_product_that_is_too_long_is_two_groups(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two filters whose product would have more taps than a convolver takes stay apart."""
    monkeypatch.setattr("sigrack_engine.costs.MOST_TAPS", 999)
    assert ["a + b"] == _groups(folder, filtered("a", taps=500) + filtered("b", taps=500))
    assert ["a", "b"] == _groups(folder, filtered("a", taps=500) + filtered("b", taps=501))


def test_a_product_that_would_cost_more_is_two_groups(folder: Path) -> None:
    """A long filter, the same for both channels, before one that mixes them: as one, the long one would run four times."""
    long = filtered("long", taps=60_000, apart=True)

    assert ["long + short"] == _groups(folder, long + filtered("short", taps=500, apart=True))
    assert ["long", "wide"] == _groups(folder, long + filtered("wide", taps=500))


def test_groups_stay_when_a_filter_changes(folder: Path) -> None:
    """A swap to a filter that would be better alone still fades in inside its group: the sound has no dip."""
    tables = filtered("long", taps=60_000, apart=True) + filtered("short", taps=500, apart=True)
    (folder / "director.py").write_text(DIRECTOR)
    session = freewheel(folder, slot("director", "./director.py") + tables, noise(48_000))
    director: Any = session.rack.slot("director").hooked.plugin  # type: ignore[union-attr]
    director.steps = {9600: lambda ctx: ctx.swap("short", config={"taps": 500, "apart": False})}
    (before,) = session.rack.groups
    names: list[list[str]] = []
    end = session.rack.end

    async def ending() -> None:
        names.append(members(session))
        assert (before,) == session.rack.groups
        await end()

    session.rack.end = ending  # type: ignore[method-assign]

    assert 0 == session.run()
    assert [["long + short"]] == names


LOUD = """
import numpy as np
from sigrack_plugins import Plugin
class Loud(Plugin):
    def fir(self, setup):
        return 30.0 * np.eye(2)[:, :, None]
"""


@pytest.mark.parametrize("change", ["load", "unload"])
def test_a_bypassed_filter_stays_unheard_when_its_group_changes(folder: Path, change: str) -> None:
    """A lone slot's bypass is the core's, that of one among several the product's: where they change hands there is a dip."""
    (folder / "loud.py").write_text(LOUD)
    (folder / "same.py").write_text(LOUD.replace("30.0", "1.0"))
    tables = slot("loud", "./loud.py", rest="bypass = true") + (slot("same", "./same.py") if change == "unload" else "")
    changes: dict[str, Callable[[Any], Any]] = {
        "load": lambda ctx: ctx.load("same", "./same.py"),
        "unload": lambda ctx: ctx.unload("same"),
    }
    _, heard = changed(folder, tables, noise(48_000), {9600: changes[change]})

    assert 0.99 < np.abs(heard / noise(48_000)).max() < 1.001


def test_groups_that_are_parted_begin_anew(folder: Path) -> None:
    """With the old group as one of the parts, what the other part does would be heard twice until that had faded."""
    groups: list[tuple[Any, ...]] = []

    def part(ctx: Any) -> Any:
        groups.append(ctx._rack.groups)
        return ctx.load("ears", "./collector.py", before="b")

    tables = filtered("a", taps=500) + filtered("b", taps=500)
    changed(folder, tables, noise(48_000), {9600: part, 40_000: lambda ctx: groups.append(ctx._rack.groups)})
    before, after = groups

    assert (1, 2) == (len(before), len(after))
    assert not {*before} & {*after}


@pytest.mark.parametrize("seed", range(6))
def test_a_random_rack_does_what_its_slots_do(folder: Path, seed: int) -> None:
    """Filters, gains and an upsampler in random order, at random block sizes, equal the float64 chain, in time."""
    random = np.random.default_rng(seed)
    sound = noise(6000, seed=seed)
    wanted, rate = sound.astype(np.float64), 1
    tables = ""
    for number in range(int(random.integers(2, 6))):
        kind = random.choice(["filter", "filter", "gain", "late", "faster"])
        length = int(np.exp(random.uniform(0, np.log(3000))))
        if kind == "gain":
            tables += slot(f"s{number}", "gain", rest="params = { gain_db = -3.0 }")
            wanted = gain(wanted, -3.0)
        elif kind == "faster" and rate == 1:
            rate = int(random.choice([2, 3, 4, 8]))
            tables += filtered(f"s{number}", seed=number, taps=length, ratio=rate)
            spread = np.zeros((len(wanted) * rate, 2))
            spread[::rate] = wanted
            wanted = matrix_fir(spread, taps_of(number, length))
        else:
            late = int(random.integers(1, 500)) if kind == "late" else 0
            tables += filtered(f"s{number}", seed=number, taps=length, late=late)
            wanted = matrix_fir(wanted, taps_of(number, length))
    heard = played(folder, tables, sound, f"block_frames = {random.choice([64, 441, 1024, 8192])}")

    assert error_db(heard, wanted) < LIMIT_DB


def test_negative_control_the_order_of_rates_matters(folder: Path) -> None:
    """A filter before an upsampler is not one behind it."""
    sound = noise(3000)
    tables = filtered("a", seed=1, taps=300) + filtered("up", seed=2, taps=300, ratio=2)
    spread = np.zeros((6000, 2))
    spread[::2] = sound
    wrong = matrix_fir(matrix_fir(spread, taps_of(2, 300)), taps_of(1, 300))

    assert error_db(played(folder, tables, sound), wrong) > -20.0


def test_an_upsampler_keeps_the_sound(tmp_path: Path) -> None:
    """44.1 kHz through the upsampler at x4: the file is at 176.4 kHz, and a tone in it is that tone, at its level."""
    time = np.arange(44_100) / 44_100
    tone = np.column_stack([np.sin(2 * np.pi * 997 * time), np.cos(2 * np.pi * 15_013 * time)]).astype(np.float32) * 0.5
    config = 'ratio = 4\ntaps = 4001\nphase = "linear"'
    path = write(tmp_path, '[source]\ndriver = "file"\npath = "in.wav"\n' + slot("up", "upsample", config), tone, 44_100)
    render(path, tmp_path / "in.wav", tmp_path / "out.wav")
    heard, rate_hz = soundfile.read(tmp_path / "out.wav")
    later = np.arange(4 * 44_100) / 176_400
    wanted = 0.5 * np.column_stack([np.sin(2 * np.pi * 997 * later), np.cos(2 * np.pi * 15_013 * later)])

    assert (176_400, 4 * 44_100) == (rate_hz, len(heard))
    assert error_db(heard[4000:-4000], wanted[4000:-4000]) < -100.0  # the filter's own ripple


def test_hooks_and_meters_behind_it_run_at_the_rate_of_their_place(folder: Path) -> None:
    """A listener before and one behind an upsampler get the same time in frames of their own rates."""
    tables = slot("before", "./collector.py") + filtered("up", taps=50, ratio=4) + slot("behind", "./collector.py")
    tables += slot("meter", "level")
    session = freewheel(folder, tables, noise(48_000))
    hooks = {name: session.rack.slot(name).hooked for name in ("before", "behind")}
    session.run()
    before, behind = (hooked.plugin for hooked in hooks.values() if hooked)

    assert [48_000] == list({block.rate_hz for block in before.blocks})  # type: ignore[attr-defined]
    assert [192_000] == list({block.rate_hz for block in behind.blocks})  # type: ignore[attr-defined]
    assert 48_000 == sum(block.frames for block in before.blocks)  # type: ignore[attr-defined]
    assert 192_000 == sum(block.frames for block in behind.blocks)  # type: ignore[attr-defined]
    assert behind.blocks[-1].time_ns == pytest.approx(1e9, rel=0.05)  # type: ignore[attr-defined]
    assert 192_000 == session.rack.out_setup.rate_hz
    assert 10 * 2 == session.rack.accounts.posts()["meter"].posted


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (filtered("up", ratio=2) + "", ""),
        (slot("up", "upsample", "ratio = 3"), "ratio: 3 is none of 1, 2, 4, 8, 16, 32"),
        (slot("up", "upsample", "up_to_hz = 1000"), "up_to_hz: 1000 is below the source's 48000 Hz"),
        (slot("up", "upsample", 'phase = "minimal"'), "phase"),
        (slot("up", "upsample", "ratio = 2\ntaps = 10"), "taps"),
        (filtered("up", ratio=33), "a ratio of 33; 1 to 32 can be had"),
        (slot("up", "./filter.py", "ratio = 2", "bypass = true"), "changes the rate: it cannot be bypassed"),
    ],
)
def test_what_cannot_be_is_said(folder: Path, tables: str, message: str) -> None:
    """Wrong ratios, phases, lengths; the first one is right, as control."""
    if not message:
        assert ["up"] == _groups(folder, tables)
        return
    with pytest.raises(ConfigError) as caught:
        freewheel(folder, tables, noise(10))
    assert message in str(caught.value)


# Changes


@pytest.mark.parametrize("behind", ["", filtered("b", seed=7, taps=200)], ids=["alone", "with another"])
def test_a_swap_is_the_ideal_cross_fade(folder: Path, behind: str) -> None:
    """Another filter in the place of one of 2,000 taps: the old one, then 20 ms of a linear fade, then the new one."""
    sound = noise(30_000)
    session, heard = changed(
        folder,
        filtered("a", seed=1, taps=2000) + behind,
        sound,
        {10_000: lambda ctx: ctx.swap("a", config={"seed": 2, "taps": 2300})},
    )

    def through(seed: int, taps: int) -> Signal:
        out = matrix_fir(sound.astype(np.float64), taps_of(seed, taps))
        return matrix_fir(out, taps_of(7, 200)) if behind else out

    old, new = through(1, 2000), through(2, 2300)
    start = beginning(heard, old) // 64 * 64

    assert 10_000 <= start <= 10_500
    assert faded(heard, old, new, start) < -110.0
    assert faded(heard, old, new, start + 8) > -80.0  # the comparison sees eight frames
    assert 1 == session.rack.engine.stats.applied


LOW_PASS = '''
import numpy as np
from dataclasses import dataclass
from sigrack_plugins import Plugin

@dataclass
class Settings:
    edge: float = 0.5

def taps_of(edge):
    """A linear-phase low pass of 640,001 taps: a sinc under a Hann window."""
    frames = np.arange(-320_000, 320_001)
    low = edge * np.sinc(edge * frames) * (0.5 + 0.5 * np.cos(np.pi * frames / 320_001))
    return (np.eye(2)[:, :, None] * low).astype(np.float32)

class LowPass(Plugin):
    """A low pass at `edge` of half the rate."""
    Config = Settings
    def fir(self, setup):
        return taps_of(self.config.edge)
    def latency_frames(self, setup):
        return 320_000
'''


def test_long_linear_phase_filters_cross_fade_in_the_middle_of_music(folder: Path) -> None:
    """The new filter of 640,001 taps has heard all that the old one has. The sink takes the latency off."""
    (folder / "low.py").write_text(LOW_PASS)
    sound = noise(800_000)
    _, heard = changed(folder, slot("low", "./low.py"), sound, {700_000: lambda ctx: ctx.swap("low", config={"edge": 0.25})})
    space: dict[str, Any] = {}
    exec(LOW_PASS, space)
    late = 320_000
    music = np.pad(sound.astype(np.float64), ((0, late), (0, 0)))
    old, new = (matrix_fir(music, space["taps_of"](edge))[late:] for edge in (0.5, 0.25))
    start = beginning(heard, old) // 64 * 64

    assert 700_000 - late <= start <= 720_000 - late
    assert faded(heard, old, new, start) < -110.0
    assert faded(heard, old, new, start + 8) > -80.0  # the comparison sees eight frames


def test_a_bypass_in_a_group_is_a_cross_fade(folder: Path) -> None:
    """One of two filters is bypassed and comes back: both times with full history."""
    sound = noise(40_000)
    tables = filtered("a", seed=1, taps=900) + filtered("b", seed=2, taps=700)

    def switch(on: bool) -> Callable[[Any], None]:
        return lambda ctx: ctx._rack.slot("b").set_bypass(on)

    _, heard = changed(folder, tables, sound, {10_000: switch(True), 25_000: switch(False)})
    only = matrix_fir(sound.astype(np.float64), taps_of(1, 900))
    both = matrix_fir(only, taps_of(2, 700))
    first = beginning(heard, both) // 64 * 64
    second = (first + FADE) + beginning(heard[first + FADE :], only[first + FADE :])
    second = second // 64 * 64

    assert faded(heard[:24_000], both[:24_000], only[:24_000], first) < -110.0
    assert faded(heard[24_000:], only[24_000:], both[24_000:], second - 24_000) < -110.0


def test_loading_beside_a_group_is_a_cross_fade(folder: Path) -> None:
    """A filter is loaded behind another, and unloaded: the group fades over, nothing dips."""
    sound = noise(40_000)
    _, heard = changed(
        folder,
        filtered("a", seed=1, taps=500),
        sound,
        {10_000: lambda ctx: ctx.load("b", "./filter.py", config={"seed": 2, "taps": 300}), 25_000: lambda ctx: ctx.unload("b")},
    )
    only = matrix_fir(sound.astype(np.float64), taps_of(1, 500))
    both = matrix_fir(only, taps_of(2, 300))
    first = beginning(heard, only) // 64 * 64

    assert faded(heard[:24_000], only[:24_000], both[:24_000], first) < -110.0
    assert error_db(heard[30_000:], only[30_000:]) < LIMIT_DB


def test_a_hundred_changes_in_a_second(folder: Path) -> None:
    """Each 480 frames another filter is asked for, faster than fades end: the newest counts, and at the end it alone is heard."""
    sound = noise(3 * 48_000)

    def swap(seed: int) -> Callable[[Any], Any]:
        return lambda ctx: ctx.swap("a", config={"seed": seed, "taps": 400})

    swaps = {10_000 + 480 * i: swap(10 + i) for i in range(100)}
    _, heard = changed(folder, filtered("a", seed=1, taps=400), sound, swaps)
    old, new = (matrix_fir(sound.astype(np.float64), taps_of(seed, 400)) for seed in (1, 109))

    assert error_db(heard[:10_000], old[:10_000]) < LIMIT_DB
    assert error_db(heard[-40_000:], new[-40_000:]) < LIMIT_DB
    assert np.abs(heard).max() < 1.5 * max(np.abs(old).max(), np.abs(new).max())


@pytest.mark.parametrize("ahead_mb", [256, 0])
def test_switches_are_compiled_ahead_within_the_budget(folder: Path, ahead_mb: int) -> None:
    """In a live rack the filter for each switch is ready before it is turned, and is the one that is used; or none is."""
    head = f'[rack]\nahead_mb = {ahead_mb}\n[source]\ndriver = "none"\n[control]\nenabled = false\n'
    session = Session(load(write(folder, head + filtered("a", seed=1) + filtered("b", seed=2) + filtered("c", seed=3))))

    async def until(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)

    async def work() -> None:
        (group,) = session.rack.groups
        if not ahead_mb:
            session.rack.slot("b").set_bypass(True)
            await until(lambda: group.parts[1][1])
            assert not group.ahead
            return
        await until(lambda: len(group.ahead) == 3)
        ready = {variant.filter for variant in group.ahead.values()}
        told: list[tuple[str, str]] = []
        session.rack.on_event = lambda kind, **data: told.append((kind, data["name"]))
        session.rack.slot("b").set_bypass(True)
        await until(lambda: group.parts[1][1])
        assert group.convolver.filter in ready
        await until(lambda: len(group.ahead) == 3 and not group.convolver.changing)
        await until(lambda: told)
        assert {parts[1][1] for parts in group.ahead} == {True, False}
        assert [("applied", "a + b + c")] == told
        told_load = stats(session)
        assert {"a + b + c"} == {entry["group"] for entry in told_load["slots"]}
        assert told_load["load"] == pytest.approx(told_load["slots"][0]["load"], rel=0.5)  # once for all three

    assert 0 == session.run(beside=work)


def test_what_changes_the_latency_dips(folder: Path) -> None:
    """A live rack takes a filter with another latency by a new group; the old one ends."""
    head = '[source]\ndriver = "none"\n[control]\nenabled = false\n'
    session = Session(load(write(folder, head + filtered("a", seed=1, taps=100))))

    async def work() -> None:
        before = session.rack.groups[0]
        await session.rack.changes.swap("a", config={"late": 50})
        assert session.rack.groups[0] is not before
        assert 50 == session.rack.latency_frames
        await session.rack.changes.swap("a", config={"late": 50, "seed": 3})
        assert session.rack.groups[0].linear.latency_frames == 50

    assert 0 == session.run(beside=work)


def test_what_changes_the_rate_is_refused_while_it_runs(folder: Path) -> None:
    """An upsampler cannot come, go, or get another ratio in a running rack; one of the same ratio may be swapped."""
    head = '[source]\ndriver = "none"\n[control]\nenabled = false\n'
    session = Session(load(write(folder, head + filtered("a", taps=10) + filtered("up", taps=64, ratio=2))))

    async def work() -> None:
        changes = session.rack.changes
        with pytest.raises(ConfigError, match=r"can come and go only by the rack's file|rate that goes out cannot change"):
            await changes.swap("a", config={"ratio": 2})
        with pytest.raises(ConfigError, match="rate that goes out cannot change"):
            await changes.unload("up")
        await changes.swap("up", config={"ratio": 2, "taps": 80})
        assert 96_000 == session.rack.out_setup.rate_hz

    assert 0 == session.run(beside=work)


def test_a_filter_behind_an_upsampler_equals_its_definition(folder: Path) -> None:
    """The longest way round: upsampler and filter as a group at x16, some frames of which are computed by definition."""
    sound = noise(4000)
    tables = filtered("up", seed=1, taps=6000, ratio=16) + filtered("b", seed=2, taps=900)
    heard = played(folder, tables, sound, "block_frames = 256")
    frames = np.random.default_rng(1).integers(0, 64_000, 60)
    up, behind = taps_of(1, 6000), taps_of(2, 900)
    product = sum_product(up, behind)

    assert error_db(heard[frames], interpolated(sound.astype(np.float64), product, 16, frames)) < LIMIT_DB


def sum_product(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> Any:
    """Return the taps of two matrix filters one after the other, by plain convolution."""
    pairs: Sequence[Sequence[Any]] = [
        [sum(np.convolve(first[m, i].astype(np.float64), second[o, m].astype(np.float64)) for m in range(2)) for i in range(2)]
        for o in range(2)
    ]
    return np.array(pairs)
