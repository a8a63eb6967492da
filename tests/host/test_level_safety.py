"""The level of the whole rack: its limiter, its headroom, its fades, and what is counted and told."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from command import answer, sigrack
from factories import Compile, MakeWav, WriteRack
from limiting import hard
from oracles.frequency import transform
from oracles.truepeak import true_peak_db
from racks import Host, freewheel, noise, request, write
from sigrack.config import load, slot_table
from sigrack.drivers import built
from sigrack.errors import ConfigError
from sigrack.rack import Rack
from sigrack.rendering import render
from sigrack.session import Session
from sigrack.stages import paths_of
from sigrack_engine.compiler import Linear
from sigrack_engine.engine import FreewheelBuffers
from waiting import wait_until

RATE_HZ = 48_000
FADE = 960
"""Frames of a fade as it is by default."""
LOUDER = '[[slot]]\nname = "louder"\nplugin = "gain"\nparams = { gain_db = 9.0 }\n'
TWICE = '[[slot]]\nname = "up"\nplugin = "upsample"\nconfig = { ratio = 2, taps = 2000 }\n'
TAPS = """
import numpy as np
from sigrack_plugins import Plugin
class Taps(Plugin):
    def fir(self, setup):
        return np.load(__file__.replace(".py", ".npy"))
"""
DOUBLE = """
import numpy as np
from sigrack_plugins import Plugin
class Double(Plugin):
    def fir(self, setup):
        return 2 * np.eye(setup.channels, dtype=np.float32)[..., None]
"""

Floats = npt.NDArray[np.floating]


def rendered(folder: Path, tables: str, sound: Floats, rack: str = "") -> Floats:
    """Render a stereo sound through a rack, and read what came of it."""
    path = write(folder, f'[rack]\n{rack}\n[source]\ndriver = "file"\npath = "-"\n{tables}', np.asarray(sound, np.float32))
    render(path, folder / "in.wav", folder / "out.wav", overwrite=True)
    return np.asarray(soundfile.read(folder / "out.wav", dtype="float32")[0])


def taps_slot(folder: Path, taps: Floats) -> str:
    """Return a slot that does what `taps` say."""
    np.save(folder / "taps.npy", taps)
    (folder / "taps.py").write_text(TAPS)
    return '[[slot]]\nname = "taps"\nplugin = "./taps.py"\n'


def double_slot(folder: Path, name: str = "double", more: str = "") -> str:
    """Return a linear slot that doubles what comes in."""
    (folder / "double.py").write_text(DOUBLE)
    return f'[[slot]]\nname = "{name}"\nplugin = "./double.py"\n{more}'


def peak(sound: Floats) -> float:
    """The largest magnitude."""
    return float(np.abs(sound).max())


@contextmanager
def opened(folder: Path, tables: str, rack: str = "") -> Iterator[Rack]:
    """Build a rack with a stereo source to look at it."""
    path = write(folder, f'[rack]\n{rack}\n[source]\ndriver = "file"\npath = "in.wav"\n{tables}', noise(100))
    with built(load(path)) as rack_built:
        yield rack_built


# The limiter


def test_a_loud_rack_stays_below_its_ceiling(tmp_path: Path) -> None:
    """Hard sounds, made 9 dB louder, have no true peak above `ceiling_db` with the rack's limiter, and far above without."""
    sound = np.stack([hard("jumping noise"), hard("high square wave")], 1)

    assert -1.5 < true_peak_db(rendered(tmp_path, LOUDER, sound, "limiter = true\nceiling_db = -1.0").T) <= -1.0
    assert true_peak_db(rendered(tmp_path, LOUDER, sound).T) > 20.0


def test_below_the_ceiling_a_render_is_bit_exact(tmp_path: Path) -> None:
    """A sound that needs no limiting is rendered bit for bit as without limiter, from its first frame to its last."""
    sound = noise(20_001) / 3

    assert np.array_equal(rendered(tmp_path, TWICE, sound), rendered(tmp_path, TWICE, sound, "limiter = true"))
    assert np.array_equal(sound, rendered(tmp_path, "", sound, "limiter = true\nfade_ms = 500"))


def test_the_limiter_stands_at_the_end(tmp_path: Path) -> None:
    """It is the last slot, after the headroom, at the rate that goes out, and its latency is the rack's."""
    with opened(tmp_path, TWICE + LOUDER, "limiter = true\nheadroom = 3\nceiling_db = -2") as rack:
        limiter = rack.slots[-1]

        assert ["up", "louder", "headroom", "limiter"] == [slot.name for slot in rack.slots]
        assert (2 * RATE_HZ, -2.0) == (limiter.setup.rate_hz, limiter.values["ceiling_db"])
        assert 0 < limiter.latency_frames == rack.latency_frames
    with opened(tmp_path, TWICE + LOUDER) as rack:
        assert (["up", "louder"], 0) == ([slot.name for slot in rack.slots], rack.latency_frames)


ENGINE = """
#include <sigrack_signal.h>
void *signal_create(const char *config) { (void)config; return (void *)1; }
int signal_register_callback(void *self, signal_callback callback, void *user) {
    (void)self, (void)callback, (void)user;
    return 0;
}
void signal_on_data(void *self, int type, const void *data) { (void)self, (void)type, (void)data; }
int signal_poll_callbacks(void *self) {
    (void)self;
    return 0;
}
void signal_destroy(void *self) { (void)self; }
"""


def test_signal_engines_get_what_is_heard(tmp_path: Path, cc: Compile) -> None:
    """In the run list the limiter comes after all slots and the channels' faders, and before the taps of signal engines."""
    engine = f'[[signal]]\nname = "engine"\nlibrary = "{cc(ENGINE, "engine")}"\nlane = "inline"\nsymbols = ["X"]\n'
    with opened(tmp_path, LOUDER + engine, "limiter = true") as rack:
        steps = [rack.step_name(number) for number in range(1, 6)]
        assert ["louder", "the channels' faders", "limiter", "engine", "no slot"] == steps


@pytest.mark.parametrize(
    ("rack", "tables", "message"),
    [
        (
            "limiter = true",
            '[[slot]]\nname = "limiter"\nplugin = "gain"\n',
            r'7: the name "limiter" is taken by a slot of the rack',
        ),
        (
            "headroom = 6",
            '[[slot]]\nname = "headroom"\nplugin = "gain"\n',
            r'7: the name "headroom" is taken by a slot of the rack',
        ),
        ("ceiling_db = -1", "", "2: ceiling_db needs limiter = true"),
        ("limiter = true\nceiling_db = 0.5", "", "3: rack.ceiling_db: expected float <= 0.0"),
        ('headroom = "auot"', "", '2: rack.headroom: "auot" is not known; did you mean "auto"?'),
        ("headroom = -1", "", "2: rack.headroom: expected float >= 0.0"),
        ("limter = true", "", '2: unknown key "limter" in \\[rack\\]; did you mean "limiter"'),
    ],
)
def test_wrong_settings(tmp_path: Path, rack: str, tables: str, message: str) -> None:
    """What does not fit names its line; a name of the rack's own is free only as long as the rack does not use it."""
    with pytest.raises(ConfigError, match=message):
        load(write(tmp_path, f'[rack]\n{rack}\n[source]\ndriver = "file"\npath = "in.wav"\n{tables}'))
    load(write(tmp_path, f'[source]\ndriver = "file"\npath = "in.wav"\n{tables}'))


def changed(session: Session, *changes: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Run a session, with each change at another place of it; return what they return or raise."""
    outcome: list[Any] = []

    async def watch() -> None:
        for number, change in enumerate(changes):
            while session.rack.engine.frame < 6000 * (number + 1):
                await asyncio.sleep(0)
            try:
                outcome.append(await change())
            except Exception as error:
                outcome.append(error)
        await asyncio.Event().wait()

    drain_all = session.rack.drain_all

    def drain_slowly() -> None:
        """Leave a change time to happen before the next one's place."""
        drain_all()
        if len(outcome) < len(changes) and session.rack.engine.frame >= 6000 * (len(outcome) + 1):
            time.sleep(0.001)

    session.rack.drain_all = drain_slowly  # type: ignore[method-assign]
    session.run(beside=watch)
    return outcome


def test_own_slots_stay_where_they_are(tmp_path: Path) -> None:
    """LOAD and RELOAD put slots before the rack's own, which run on and cannot be unloaded or become something else."""
    session = freewheel(tmp_path, LOUDER, noise(40_000), rack="limiter = true\nheadroom = 6")
    changes, rack = session.rack.changes, session.rack
    own = rack.slots[1:]
    names: list[list[str]] = []

    async def load_meter() -> None:
        await changes.load(slot_table({"name": "meter", "plugin": "level"}))
        names.append([slot.name for slot in rack.slots])

    async def reload() -> None:
        session.document.path.write_text(session.document.path.read_text().replace("9.0", "3.0"))
        await session.reload()
        names.append([slot.name for slot in rack.slots])
        names.append([slot.name for slot, before in zip(rack.slots[1:], own, strict=True) if slot is before])

    done = changed(
        session, load_meter, reload, lambda: changes.unload("limiter"), lambda: changes.swap("headroom", plugin="level")
    )

    assert [None, None] == done[:2]
    assert [["louder", "meter", "headroom", "limiter"], ["louder", "headroom", "limiter"], ["headroom", "limiter"]] == names
    assert '"limiter" is the rack\'s own and cannot be unloaded' in str(done[2])
    assert '"headroom" is the rack\'s own and cannot become another plugin' in str(done[3])


# How loud a rack can become


def phases_of(taps: Floats, ratio: int) -> list[Floats]:
    """What each output frame of a period is made of: (inputs, taps) for each output and phase."""
    return [paths[:, phase::ratio] for paths in taps for phase in range(ratio)]


@pytest.mark.parametrize(("channels", "ratio", "count"), [(1, 1, 3), (2, 1, 200), (2, 3, 400), (3, 16, 333), (2, 4, 2)])
def test_gains_are_those_of_the_definition(channels: int, ratio: int, count: int) -> None:
    """Tones: the sum over the inputs of the highest magnitudes, on a dense grid. Any sound: the sum of the magnitudes."""
    taps = np.random.default_rng(count).standard_normal((channels, channels, count)).astype(np.float32)
    grid = np.linspace(0.0, 0.5, 20 * (count // ratio + 1) + 1)
    tones = [sum(np.abs(transform(path, 1.0, grid)).max() for path in paths) for paths in phases_of(taps, ratio)]
    sums = [np.abs(paths.astype(np.float64)).sum() for paths in phases_of(taps, ratio)]

    found = paths_of(Linear(taps, ratio)).gains

    assert abs(found.tone_db - 20 * np.log10(max(tones))) < 0.05
    assert abs(found.worst_db - 20 * np.log10(max(sums))) < 1e-4


@pytest.fixture(name="loud")
def _loud() -> Floats:
    """Taps that raise tones by 15 dB and some sounds by more."""
    return np.asarray(np.random.default_rng(1).uniform(-0.5, 0.5, (2, 2, 60)), np.float32)


def worst_sound(taps: Floats) -> Floats:
    """A sound at full scale that makes the rack as loud as it can be: each tap is met by its own sign."""
    output = int(np.abs(taps).sum(axis=(1, 2)).argmax())
    return np.sign(taps[output, :, ::-1]).T


def worst_tone(taps: Floats) -> Floats:
    """A tone at full scale in each channel, of the frequency that it is raised by most, in phase at the end."""
    grid = np.linspace(0.0, 0.5, 4001)
    spectra = np.array([[transform(path, 1.0, grid) for path in paths] for paths in taps])
    output = int(np.abs(spectra).max(axis=2).sum(axis=1).argmax())
    at = np.arange(-5000, 1)
    tones = []
    for spectrum in spectra[output]:
        best = int(np.abs(spectrum).argmax())
        tones.append(np.cos(2 * np.pi * grid[best] * at - np.angle(spectrum[best])))
    return np.stack(tones, 1)


def test_the_figures_are_reached_and_not_exceeded(tmp_path: Path, loud: Floats) -> None:
    """A render of the worst tones, and of the worst sound, peaks at the figures that are told, and noise stays below them."""
    gains = paths_of(Linear(loud)).gains
    slot = taps_slot(tmp_path, loud)
    tones, worst, other = (peak(rendered(tmp_path, slot, s)) for s in (worst_tone(loud), worst_sound(loud), 2 * noise(20_000)))

    assert abs(20 * np.log10(tones) - gains.tone_db) < 0.02
    assert abs(20 * np.log10(worst) - gains.worst_db) < 1e-3
    assert other < worst
    assert gains.tone_db < gains.worst_db - 1.0, "else one figure would do"


@pytest.mark.parametrize("gain_db", [0.0, -6.0, 9.0])
def test_headroom_takes_what_the_rack_adds(tmp_path: Path, loud: Floats, gain_db: float) -> None:
    """`auto` lets the worst tones peak at full scale, `worst` the worst sound: from the first frame on, and not a bit lower."""
    slots = taps_slot(tmp_path, loud) + LOUDER.replace("9.0", str(gain_db))

    assert abs(peak(rendered(tmp_path, slots, worst_tone(loud), 'headroom = "auto"')) - 1.0) < 3e-3
    assert abs(peak(rendered(tmp_path, slots, worst_sound(loud), 'headroom = "worst"')) - 1.0) < 1e-5
    assert peak(rendered(tmp_path, slots, worst_tone(loud))) > 1.5, "without headroom it clips"
    assert peak(rendered(tmp_path, slots, worst_sound(loud), 'headroom = "auto"')) > 1.1, "auto does not promise this"


def test_headroom_does_not_touch_what_is_quiet(tmp_path: Path) -> None:
    """A rack that adds nothing gets nothing; a number is taken as it is; the sound is scaled from its first frame to its last."""
    sound = noise(3000)
    softer = LOUDER.replace("9.0", "-6.0")

    assert np.array_equal(rendered(tmp_path, softer, sound), rendered(tmp_path, softer, sound, 'headroom = "worst"'))
    assert np.allclose(sound * 10 ** (-6.5 / 20), rendered(tmp_path, "", sound, "headroom = 6.5"), rtol=1e-6, atol=0)
    assert np.allclose(sound, rendered(tmp_path, double_slot(tmp_path), sound, 'headroom = "auto"'), rtol=1e-6, atol=0)


def switched(folder: Path, slots: str) -> tuple[list[float], Floats]:
    """Switch the slot `double` off, on and off in a render of a constant at full scale; return headroom and what came out."""
    sink = f'[sink]\ndriver = "file"\npath = "{folder / "out.wav"}"\noverwrite = true\n'
    session = freewheel(folder, sink + slots, np.ones((40_000, 2), np.float32), rack='headroom = "auto"')
    levels: list[float] = []

    def switch(off: bool) -> Callable[[], Awaitable[None]]:
        async def bypass() -> None:
            levels.append(session.rack.slot("headroom").values["gain_db"])
            session.rack.slot("double").set_bypass(off)

        return bypass

    assert [None] * 3 == changed(session, switch(True), switch(False), switch(True))
    return levels, soundfile.read(folder / "out.wav")[0][:, 0]


@pytest.mark.parametrize("several", [False, True])
def test_headroom_follows_a_bypass(tmp_path: Path, several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A constant at full scale, doubled and not in turn, comes out at full scale: never above, and led back to it in ramps."""
    slots = double_slot(tmp_path) + (double_slot(tmp_path, "other", "bypass = true\n") if several else "")
    levels, heard = switched(tmp_path, slots)

    assert np.allclose([-6.0206, 0.0, -6.0206], levels, atol=1e-3)
    assert peak(heard) <= 1.0 + 1e-5
    assert heard.min() < 0.8, "it is led there from below"
    assert np.abs(np.diff(heard)).max() < 2 * 4 / FADE
    assert np.abs(heard[[0, 5999, -1]] - 1.0).max() < 1e-5

    monkeypatch.setattr("sigrack.headroom.RAMP", 1.0)
    assert peak(switched(tmp_path, slots)[1]) > 1.1, "a ramp as slow as the fade would come too late"


def test_headroom_follows_a_swap_a_load_and_a_volume(tmp_path: Path) -> None:
    """What is loaded, swapped, set and unloaded changes the attenuation by what it adds, and never below none."""
    session = freewheel(tmp_path, LOUDER, noise(60_000), rack='headroom = "auto"')
    changes, rack = session.rack.changes, session.rack
    double_slot(tmp_path)
    levels: list[float] = []

    def noting(change: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def noted() -> None:
            await change()
            levels.append(round(rack.slot("headroom").values["gain_db"], 3))

        return noted

    async def volume() -> None:
        rack.set_param("louder", "gain_db", -20.0)

    done = changed(
        session,
        noting(lambda: changes.load(slot_table({"name": "double", "plugin": "./double.py"}))),
        noting(lambda: changes.swap("louder", params={"gain_db": 3.0})),
        noting(volume),
        noting(lambda: changes.unload("double")),
    )

    assert [None] * 4 == done
    assert [-15.021, -9.021, 0.0, 0.0] == levels


def test_a_live_rack_gets_louder_only_when_nothing_is_too_loud(tmp_path: Path) -> None:
    """Live, a switch that needs more headroom gets it at once, one that needs less when its fade is over."""
    path = write(tmp_path, f'[rack]\nheadroom = "auto"\nfade_ms = 150\n[source]\ndriver = "none"\n{double_slot(tmp_path)}')
    path.write_text(path.read_text() + "[control]\nenabled = false\n")
    session = Session(load(path))
    levels: list[float] = []

    async def watch() -> None:
        double, headroom = session.rack.slot("double"), session.rack.slot("headroom")

        def note() -> None:
            levels.append(round(headroom.values["gain_db"], 3))

        note()
        double.set_bypass(True)
        note()
        for _ in range(1000):
            if headroom.values["gain_db"] == 0.0:
                break
            await asyncio.sleep(0.01)
        assert double.group
        levels.append(double.group.core.meters.wet)
        note()
        double.set_bypass(False)
        note()

    session.run(beside=watch)

    assert [-6.021, -6.021, 0.0, 0.0, -6.021] == levels


# Told before it is heard


def test_check_warns_of_what_may_clip(tmp_path: Path, wav: MakeWav, write_rack: WriteRack) -> None:
    """`sigrack check` tells the level of each group and in all, and warns above 0 dB unless limiter or headroom hold it."""
    wav()
    slots = double_slot(tmp_path) + double_slot(tmp_path, "again") + LOUDER
    loud, safe, silent = (
        write_rack(slots + tables, name=name)
        for name, tables in (
            ("loud.toml", ""),
            ("safe.toml", "[rack]\nlimiter = true\n"),
            ("auto.toml", '[rack]\nheadroom = "auto"\n'),
        )
    )
    told = sigrack("check", loud, safe, silent)

    assert (0, 1) == (told.returncode, told.stderr.count("warning"))
    assert f"{loud}: full scale may come out 21.0 dB louder" in told.stderr
    assert f"{loud}: level: double + again +12.0 dB, louder +9.0 dB, in all +21.0 dB for tones, +21.0 dB" in told.stdout
    assert f"{safe}: level: double + again +12.0 dB, louder +9.0 dB, limiter +0.0 dB, in all -0.1 dB" in told.stdout
    assert "headroom -21.0 dB, in all -0.0 dB" in told.stdout or "headroom -21.0 dB, in all +0.0 dB" in told.stdout


def test_info_tells_the_levels(tmp_path: Path, wav: MakeWav, write_rack: WriteRack) -> None:
    """`sigrack info RACK.toml` has them as JSON and as a table; a bypassed slot adds nothing."""
    wav()
    rack = write_rack(double_slot(tmp_path, more="bypass = true\n") + LOUDER + "[rack]\nlimiter = true\n")
    told = answer("info", rack)

    assert [("double", 0.0, None), ("louder", 9.0, None), ("limiter", 0.0, -0.1)] == [
        (one["name"], one["tone_db"], one["ceiling_db"]) for one in told["levels"]
    ]
    assert {"tone_db": -0.1, "worst_db": -0.1} == told["level"]
    assert ["louder", "+9.0", "+9.0"] in [line.split() for line in sigrack("info", rack).stdout.splitlines()]


# Soft start and soft end


def test_a_live_rack_fades_in_and_out(tmp_path: Path) -> None:
    """A live rack's sound begins and ends with a line from and to silence, `fade_ms` long; between them it is as it is."""
    sink = '[sink]\ndriver = "file"\npath = "out.wav"\n'
    tables = f'[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n{sink}'
    with Host(write(tmp_path, tables, np.full((RATE_HZ, 2), 0.5, np.float32))) as host:
        wait_until(lambda: "runs: " in host.log)
        wait_until(lambda: request("STATS")["data"]["frame"] > 6000)
        host.process.send_signal(signal.SIGTERM)
        assert 0 == host.process.wait(10), host.log
    heard = soundfile.read(tmp_path / "out.wav")[0][:, 1]
    last = int(np.flatnonzero(heard == 0.5)[-1]) + 1
    line = 0.5 * np.arange(1, FADE + 1) / FADE

    assert np.allclose(line, heard[:FADE], atol=1e-6)
    assert np.all(heard[FADE:last] == 0.5)
    assert np.allclose(0.5 - line, heard[last : last + FADE], atol=1e-6)
    assert np.all(heard[last + FADE :] == 0.0)


def test_a_stream_that_ends_is_not_faded(tmp_path: Path) -> None:
    """The source's own end is played to its last frame; without `fade_ms` so is its beginning."""
    sink = '[sink]\ndriver = "file"\npath = "out.wav"\n'
    sound = noise(6000)
    with Host(write(tmp_path, f'[rack]\nfade_ms = 0\n[source]\ndriver = "clock"\npath = "in.wav"\n{sink}', sound)) as host:
        assert 0 == host.process.wait(20), host.log

    assert np.array_equal(sound, soundfile.read(tmp_path / "out.wav", dtype="float32")[0])


# Counted and named


def test_clipped_samples_are_counted_at_the_output(tmp_path: Path) -> None:
    """Samples at full scale or beyond count, once the limiter has had its say; others do not."""
    loud = np.tile(np.array([0.9, 1.0, -1.0, -0.99, 1.5], np.float32), 50)

    def count(tables: str, rack: str = "") -> int:
        with opened(tmp_path, tables, rack) as opened_rack:
            buffers = FreewheelBuffers(opened_rack.engine, len(loud))
            buffers.input[0] = loud
            buffers.run(0, len(loud))
            return int(opened_rack.engine.stats.clipped)

    assert 150 == count("")
    assert 250 == count(LOUDER)
    assert 0 == count(LOUDER, "limiter = true")
    assert 0 == count("", "headroom = 3.6")


BAD = """
#include <math.h>
#include <stdlib.h>
#include "sigrack.h"
static void *create(const struct sigrack_host *h, const char *c, char *e, uint32_t n) {
    (void)h; (void)c; (void)e; (void)n;
    return malloc(1);
}
static int activate(void *self, const struct sigrack_setup *setup, struct sigrack_contract *contract) {
    (void)self; (void)setup; (void)contract;
    return 0;
}
static int process(void *self, const struct sigrack_block *b) {
    (void)self;
    for (uint32_t c = 0; c < b->channels; c++)
        for (uint32_t i = 0; i < b->frames; i++)
            b->out[c][i] = b->in[c][i] > 0.4f ? NAN : b->in[c][i];
    return b->in[0][0] < -0.4f;
}
const struct sigrack_plugin *sigrack_plugin_entry(void) {
    static const struct sigrack_plugin plugin = {.size = sizeof plugin, .abi = SIGRACK_ABI, .id = "bad",
        .create = create, .activate = activate, .process = process, .destroy = free};
    return &plugin;
}
"""


def test_a_slot_whose_output_is_not_finite_is_named(tmp_path: Path, cc: Compile, caplog: pytest.LogCaptureFixture) -> None:
    """The log names a slot that makes NaN, or refuses blocks, once for each; quiet sound, for which it does neither, no slot."""
    slot = f'[[slot]]\nname = "villain"\nplugin = "{cc(BAD, "bad")}"\nlane = "inline"\n'
    freewheel(tmp_path, slot + LOUDER, 0.5 * noise(20_000)).run()

    assert not any("villain" in line for line in caplog.messages)

    freewheel(tmp_path, slot + LOUDER, noise(20_000)).run()

    assert 1 == sum(line.startswith("villain: its output was NaN or infinite") for line in caplog.messages)
    assert 1 == sum(line.startswith("villain: it refused a block") for line in caplog.messages)
    assert not any(line.startswith("louder") for line in caplog.messages)


def test_the_members_of_a_group_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A group whose filter overflows is named by all that were compiled into it."""
    slots = double_slot(tmp_path, "one") + double_slot(tmp_path, "two")
    sound = noise(5000)
    sound[3000] = 3e38
    freewheel(tmp_path, slots, sound).run()

    assert 1 == sum(line.startswith("one + two: its output was NaN or infinite") for line in caplog.messages)


def test_a_slot_that_leaves_is_named_before(tmp_path: Path, cc: Compile, caplog: pytest.LogCaptureFixture) -> None:
    """What a slot has done is told although it is unloaded before anybody has looked."""
    slot = f'[[slot]]\nname = "villain"\nplugin = "{cc(BAD, "bad")}"\nlane = "inline"\n'
    session = freewheel(tmp_path, slot, noise(20_000))

    assert [None] == changed(session, lambda: session.rack.changes.unload("villain"))
    assert any(line.startswith("villain: its output was NaN or infinite") for line in caplog.messages)
