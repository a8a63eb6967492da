"""The bus: named channels, slots on some of them, and the others kept in time."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from buses import NAMES, TAPS, bus, opened, play, slot, taps_of
from factories import Compile
from oracles.bus import Standing, delayed, through
from oracles.chain import error_db
from racks import Host, noise, write
from sigrack.config import load
from sigrack.errors import ConfigError
from sigrack.rendering import render
from sigrack.session import Session

LIMIT_DB = -120.0
LIMITER_LATE = 136
"""Latency of the limiter at 48 kHz, in frames: 1.5 ms and 64."""


def one(channels: int, factor: float = 1.0) -> Any:
    """A filter of one tap that scales each channel."""
    return (factor * np.eye(channels, dtype=np.float32))[..., None]


# What may be said


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            '[bus]\nchannels = ["left"]\n',
            "rack.toml:2: channels: 1 channel is named (left), but the source has 2: name each of them",
        ),
        ('[bus]\nchannels = ["a", "b", "a"]\n', 'rack.toml:2: channels: the name "a" is there twice'),
        ("[bus]\nchannels = []\n", "rack.toml:2: bus.channels: expected array of length >= 1"),
        (f"[bus]\nchannels = {[f'c{n}' for n in range(33)]}\n", "rack.toml:2: bus.channels: expected array of length <= 32"),
        ('[bus]\nchannels = ["a", "b c"]\n', "bus.channels must be letters, digits, dots, underlines and hyphens"),
        ('[bus]\nchannels = ["a", 3]\n', "bus.channels: expected str, got int"),
        ('[bus]\nchanels = ["a"]\n', 'rack.toml:2: unknown key "chanels" in [bus]; did you mean "channels"?'),
        (bus("ab", ["c"]), 'rack.toml:3: out: there is no channel "c"; valid: a, b'),
        (bus(["left", "right"], ["left", "rigth"]), 'out: there is no channel "rigth"; did you mean "right"?'),
        (bus("ab", ["b", "b"]), 'rack.toml:3: out: the channel "b" is there twice'),
        (bus("ab", ["b"], 'mute = ["a"]'), 'rack.toml:4: mute: the channel "a" does not go out; [bus] out: b'),
        (bus("ab", more='mute = ["x"]'), 'rack.toml:3: mute: there is no channel "x"; valid: a, b'),
        (bus("ab") + slot("g", "gain", ["c"]), 'rack.toml:7: in: there is no channel "c"; valid: a, b'),
        (bus("ab") + slot("g", "gain", "a", "x"), 'rack.toml:8: out: there is no channel "x"; valid: a, b'),
        (slot("g", "gain", ["1", "3"]), 'rack.toml:4: in: there is no channel "3"; valid: 1, 2'),
        (bus("ab") + slot("g", "gain", ["a", "a"]), 'rack.toml:7: in: the channel "a" is there twice'),
        (bus("ab") + slot("g", "gain", ["a"], ["b", "b"]), 'rack.toml:8: out: the channel "b" is there twice'),
        (
            bus("abc") + slot("g", "gain", ["a"], ["b", "c"]),
            "rack.toml:8: gain: gives as many channels as it takes, but the slot hears 1 (a) and writes 2 (b, c)",
        ),
        (
            bus("ab") + slot("loud", "loudness", ["a"], ["b"]),
            'rack.toml:8: "loud" (loudness) only listens: it writes no channels; leave out away',
        ),
        (
            bus("abc") + slot("eq", "equalizer", ["a"], ["b", "c"], 'config = { text = "Preamp: -6 dB" }'),
            "equalizer: writes as many channels as it hears, not 2 of 1: route mixes",
        ),
        (
            bus("abc") + slot("up", "./twice.py", ["a", "b"]),
            "rack.toml:7: twice: changes the rate, so it must hear and write all channels: leave in and out away",
        ),
        (
            bus("ab") + slot("up", "./twice.py", ["b", "a"]),
            "twice: changes the rate, so it must hear and write all channels",
        ),
        (
            bus([f"c{n}" for n in range(9)]) + slot("many"),
            "taps: a filter takes up to 8 channels, but the slot hears 9 (c0, c1, c2, c3, c4, c5, c6, c7, c8) and writes 9",
        ),
        (bus("ab") + slot("g", "gain", rest='inn = ["a"]'), 'unknown key "inn" in [[slot]]; did you mean "in"?'),
        (bus("ab") + slot("g", "gain", rest='inputs = ["a"]'), 'unknown key "inputs" in [[slot]]; did you mean "in"?'),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, tables: str, message: str) -> None:
    """Each error names file, line, what is wrong and what would be right."""
    (tmp_path / "taps.py").write_text(TAPS)
    (tmp_path / "twice.py").write_text(TAPS + "\n    def ratio(self, setup):\n        return 2\n")
    path = write(tmp_path, f'{tables}[source]\ndriver = "file"\npath = "in.wav"\n', noise(10))
    with pytest.raises(ConfigError) as caught:
        Session(load(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_are_given_to_what_has_none(tmp_path: Path) -> None:
    """Without `[bus]` channels are numbered, all go out, and slots hear and write all of them."""
    session = opened(tmp_path, slot("taps") + slot("some", "gain", ["2"]), noise(10))
    whole, some = (item.setup for item in session.rack.slots)

    assert ("1", "2") == session.rack.bus.channels == session.rack.bus.out == whole.inputs == whole.outputs
    assert (1, ("2",), ("2",)) == (some.channels, some.inputs, some.outputs)
    assert 0 == session.run()


# What is heard


def test_a_channel_without_a_source_begins_silent(tmp_path: Path) -> None:
    """A third name on the bus of a stereo file is a silent channel, that a slot may write; what goes out is what `out` says."""
    sound = noise(3000)
    tables = bus(["left", "right", "sum", "spare"], ["spare", "sum", "left"]) + slot(
        "taps", heard=["left", "right"], written=["sum"]
    )
    taps = taps_of(1, 2)
    wanted = through(np.concatenate([sound, np.zeros((3000, 2))], axis=1), [Standing(taps, [0, 1], [2])])[:, [3, 2, 0]]
    heard = play(tmp_path, tables, sound)

    assert error_db(heard, wanted) < LIMIT_DB
    assert not heard[:, 0].any()
    assert np.array_equal(sound[:, 0], heard[:, 2])


def drawn(folder: Path, seed: int) -> tuple[str, list[Standing], str]:
    """Return the tables of a rack at random, what its slots do, and its `[rack]`."""
    draw = random.Random(seed)
    tables = ""
    slots: list[Standing] = []
    for number in range(draw.randint(2, 6)):
        heard = draw.sample(range(5), draw.randint(1, 5))
        written = draw.sample(range(5), draw.randint(1, 5))
        bypass = draw.random() < 0.2
        rest = "bypass = true\n" if bypass else ""
        kind = draw.choice(["taps", "taps", "again", "gain", "limiter"])
        if kind == "again" and slots:  # on the same channels as before: one group, if that was a filter
            heard = written = [*slots[-1].heard]
        if kind in ("taps", "again"):
            config = {"seed": seed + number, "taps": draw.randint(1, 300), "late": draw.choice([0, 0, 1, 63, 200])}
            taps, late = taps_of(len(written), len(heard), **config), config["late"]
            rest += f"config = {json.dumps(config).replace(':', ' =')}"
        else:
            written = draw.sample(range(5), len(heard)) if draw.random() < 0.5 else heard
            late = LIMITER_LATE if kind == "limiter" else 0
            gain_db = draw.choice([-6.0, 3.0]) if kind == "gain" else 0.0
            taps = np.concatenate([one(len(heard), 0.0)] * late + [one(len(heard), 10 ** (gain_db / 20))], axis=2)
            rest += "params = { " + (f"gain_db = {gain_db}, smooth_ms = 0" if kind == "gain" else "soft_start_ms = 0") + " }"
        plugin = "./taps.py" if kind in ("taps", "again") else kind
        tables += slot(f"s{number}", plugin, [NAMES[c] for c in heard], [NAMES[c] for c in written], rest)
        slots.append(Standing(taps, heard, written, late, bypass))
    return tables, slots, f"block_frames = {draw.choice([1, 7, 64, 250, 1024])}"


@pytest.mark.parametrize("seed", range(16))
def test_random_racks_are_what_their_slots_say(tmp_path: Path, seed: int) -> None:
    """Filters, gains and limiters on channels at random, some bypassed: equal to the definition, and aligned to the frame."""
    tables, slots, rack = drawn(tmp_path, seed)
    sound = 0.1 * noise(5000, 5, seed)
    late = sum(standing.latency for standing in slots)
    padded = np.concatenate([sound, np.zeros((late, 5))]).astype(np.float64)
    heard = play(tmp_path, bus(NAMES[:5]) + tables, sound, rack=rack)

    assert error_db(heard, through(padded, slots)[late:]) < LIMIT_DB


def test_without_the_delay_the_comparison_fails() -> None:
    """A negative control: a bus whose other channels are not delayed is far from the definition, by any shift."""
    sound = noise(2000, 3).astype(np.float64)
    slots = [Standing(taps_of(1, 1, late=63), [0], [0], 63), Standing(taps_of(2, 2), [0, 1], [0, 1])]
    wanted, naive = through(sound, slots), through(sound, slots, aligned=False)

    for shift in (0, 63):
        assert error_db(delayed(naive, shift), wanted) > -30.0


def test_channels_that_no_slot_writes_pass_bit_for_bit(tmp_path: Path) -> None:
    """Behind a limiter and a filter on one channel the others are what came in, late by as much and trimmed."""
    sound = noise(3000, 3)
    tables = slot("limiter", "limiter", "b") + slot("taps", heard="b", rest="config = { late = 77 }")
    heard = play(tmp_path, bus("abc") + tables, sound)

    assert np.array_equal(sound[:, [0, 2]], heard[:, [0, 2]].astype(np.float32))


def test_a_live_rack_plays_what_its_slots_say(tmp_path: Path) -> None:
    """In real time, from three channels to two by a file and a clock: the definition, as late as the rack is."""
    sound = noise(12_000, 3)
    slots = [Standing(taps_of(1, 2, late=63), [2, 0], [3], 63), Standing(taps_of(2, 2, 2), [3, 1], [1, 3])]
    tables = "".join(
        slot(f"s{seed}", heard=heard, written=written, rest=f"config = {{ seed = {seed}, late = {late} }}")
        for seed, heard, written, late in ((1, "ca", "d", 63), (2, "db", "bd", 0))
    )
    (tmp_path / "taps.py").write_text(TAPS)
    ends = '[source]\ndriver = "clock"\npath = "in.wav"\n[sink]\ndriver = "file"\npath = "out.wav"\n'
    with Host(write(tmp_path, f"[rack]\nfade_ms = 0\n{bus('abcd', 'db')}{ends}{tables}", sound)) as host:
        assert 0 == host.process.wait(20), host.log
    padded = np.concatenate([sound, np.zeros((12_000, 1))], axis=1).astype(np.float64)

    assert error_db(soundfile.read(tmp_path / "out.wav")[0], through(padded, slots)[:, [3, 1]]) < LIMIT_DB


# What becomes one filter


@pytest.mark.parametrize(
    ("places", "groups"),
    [
        (["ab", "ab", "ab"], ["s0 + s1 + s2"]),
        (["ab", "ba", "ba"], ["s0", "s1 + s2"]),
        (["ab", "a", "ab"], ["s0", "s1", "s2"]),
        ([("ab", "bc"), "bc", "bc"], ["s0", "s1 + s2"]),
        (["", "abc", ""], ["s0 + s1 + s2"]),
        (["", "cba", ""], ["s0", "s1", "s2"]),
    ],
)
def test_filters_on_the_same_channels_are_one(tmp_path: Path, places: list[Any], groups: list[str]) -> None:
    """The same channels in the same order, in and out."""
    pairs = [place if isinstance(place, tuple) else (place, place) for place in places]
    tables = "".join(slot(f"s{number}", heard=heard, written=written) for number, (heard, written) in enumerate(pairs))
    session = opened(tmp_path, bus("abc") + tables, noise(10, 3))

    assert groups == [group.name for group in session.rack.groups]
    assert 0 == session.run()


@pytest.mark.parametrize(("heard", "groups"), [("", 1), ("ab", 1), ("abc", 1), ("a", 2), ("c", 2)])
def test_a_gain_between_two_filters_parts_them_unless_it_is_for_all_of_theirs(tmp_path: Path, heard: str, groups: int) -> None:
    """A gain on all channels of the filters comes behind them; one on some of them is a border. What is heard is the same."""
    sound = noise(3000, 4)
    volume = slot("volume", "gain", heard, rest="params = { gain_db = -6.0, smooth_ms = 0 }")
    first, second = (slot(f"s{seed}", heard="ab", rest=f"config = {{ seed = {seed} }}") for seed in (1, 2))
    tables = bus("abcd") + first + volume + second
    session = opened(tmp_path, tables, sound)
    scaled = [NAMES.index(name) for name in heard or "abcd"]
    wanted = through(
        sound.astype(np.float64),
        [
            Standing(taps_of(2, 2, 1), [0, 1], [0, 1]),
            Standing(one(len(scaled), 10**-0.3), scaled, scaled),
            Standing(taps_of(2, 2, 2), [0, 1], [0, 1]),
        ],
    )
    assert groups == len(session.rack.groups)
    assert 0 == session.run()
    assert error_db(soundfile.read(tmp_path / "heard.wav")[0], wanted) < LIMIT_DB


# Who listens


COLLECTOR = slot("ears", "./collector.py", "ca")


def test_hooks_hear_the_channels_of_their_slot(tmp_path: Path) -> None:
    """`on_block` of a slot with `in` gets these channels at its place, in that order: a monitor."""
    sound = noise(5000, 3)
    volume = slot("volume", "gain", "c", rest="params = { gain_db = -20.0, smooth_ms = 0 }")
    session = opened(tmp_path, bus("abc") + COLLECTOR + volume + COLLECTOR.replace("ears", "behind"), sound)
    plugins: list[Any] = [session.rack.slot(name).hooked.plugin for name in ("ears", "behind")]  # type: ignore[union-attr]
    assert 0 == session.run()
    before, behind = (np.concatenate([block.samples for block in plugin.blocks]) for plugin in plugins)

    assert np.array_equal(sound[:, [2, 0]], before)
    assert np.array_equal(sound[:, 0], behind[:, 1])
    assert np.allclose(0.1 * sound[:, 2], behind[:, 0], rtol=1e-6)
    assert ("c", "a") == plugins[0].ctx.setup.inputs


def test_a_recorder_takes_one_channel(tmp_path: Path) -> None:
    """`plugin = "recorder"` with `in = ["b"]` writes a mono file of what the microphone gives."""
    sound = noise(5000, 3)
    table = slot("take", "recorder", "b", rest=f'config = {{ path = "{tmp_path / "take.wav"}" }}')
    heard = play(tmp_path, bus("abc", "ac") + table, sound)
    taken, _ = soundfile.read(tmp_path / "take.wav", dtype="float32")

    assert np.array_equal(sound[:, 1], taken)
    assert np.array_equal(sound[:, [0, 2]], heard.astype(np.float32))


ENGINE = """
#include <sigrack_signal.h>
#include <stdio.h>
static signal_callback post; static void *to;
void *signal_create(const char *config) { (void)config; return (void *)1; }
int signal_register_callback(void *self, signal_callback callback, void *user) {
    (void)self; post = callback; to = user;
    return 0;
}
void signal_on_data(void *self, int type, const void *data) {
    (void)self, (void)type;
    const struct signal_audio *audio = data;
    double values[3] = {audio->channels, audio->samples[0][0], audio->samples[audio->channels - 1][0]};
    if (!audio->frame) post("X", 0, values, 3, to);
}
void signal_destroy(void *self) { (void)self; }
"""


def test_signal_engines_get_what_goes_out(tmp_path: Path, cc: Compile) -> None:
    """As many channels as go out, in their order, behind the faders."""
    sound = noise(3000, 3)
    signal = f'[[signal]]\nname = "engine"\nlibrary = "{cc(ENGINE, "engine")}"\nlane = "inline"\nsymbols = ["X"]\n'
    listener = slot("ears", "./collector.py", "a")
    session = opened(tmp_path, bus("abc", ["c", "a"], 'mute = ["a"]') + listener + signal, sound)
    plugin: Any = session.rack.slot("ears").hooked.plugin  # type: ignore[union-attr]
    assert 0 == session.run()
    (values,) = (values for batch in plugin.batches if batch.source == "engine" for values in batch.values)

    assert [2.0, float(sound[0, 2]), 0.0] == list(values[:3])


# The example


EXAMPLE = Path(__file__).parents[2] / "examples" / "channels.toml"


def test_the_example_makes_a_subwoofer(tmp_path: Path) -> None:
    """Left and right as they were, bit for bit and in time; the third channel has what both have below 80 Hz."""
    frames = np.arange(48_000)
    low, high = (0.2 * np.sin(2 * np.pi * hz * frames / 48_000) for hz in (30.0, 3000.0))
    sound = np.stack([low + high, low], 1).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", sound, 48_000, subtype="FLOAT")

    render(EXAMPLE, tmp_path / "in.wav", tmp_path / "out.wav")
    heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    spectrum = np.abs(np.fft.rfft(heard[24_000:, 2])) / 12_000

    assert np.array_equal(sound, heard[:, :2])
    assert spectrum[15] == pytest.approx(0.2, rel=0.02)
    assert spectrum[1500] < 1e-3
