"""Slots that run as biquads: which do, what is heard of them, also while they change, and how loud they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from fades import FADE, Signal, beginning, changed, faded, slot
from oracles.biquads import through
from oracles.chain import error_db, matrix_fir
from racks import freewheel, noise, write
from sigrack import render
from sigrack.errors import ConfigError
from sigrack.stages import paths_of
from sigrack_engine.compiler import Linear
from sigrack_engine.recursion import Recursion, checked_stages
from sigrack_plugins._equalizer.parsing import parse
from sigrack_plugins._equalizer.response import taps_of
from sigrack_plugins._equalizer.stages import recursion_of, stages_of
from warm import warm_sigrack

LIMIT_DB = -120.0
AUTOEQ = """\
Preamp: -6.9 dB
Filter 1: ON LSC Fc 35 Hz Gain 5.8 dB Q 0.70
Filter 2: ON PK Fc 171 Hz Gain -3.4 dB Q 0.52
Filter 3: ON PK Fc 1940 Hz Gain 2.2 dB Q 2.31
Filter 4: ON PK Fc 5213 Hz Gain -4.9 dB Q 4.80
Filter 5: ON HSC Fc 10000 Hz Gain -1.6 dB Q 0.70
"""
LONG = "Preamp: -9 dB\nFilter: ON PK Fc 20 Hz Gain 12 dB Q 10\n"
"""Rings for two seconds at 48 kHz."""
CURVE = "GraphicEQ: 100 0; 1000 -3; 5000 2"
FILTER = '''
import numpy as np
from sigrack_plugins import BiquadStage, Plugin

class Filter(Plugin):
    """Two paths of 64 taps, and what it is asked for as a recursion."""

    def fir(self, setup):
        return np.random.default_rng(5).uniform(-0.1, 0.1, (2, 2, 64)).astype(np.float32)
'''


def eq(name: str, text: str, rest: str = "") -> str:
    """Return the table of an equaliser."""
    return slot(name, "equalizer", f"text = {json.dumps(text)}", rest)


def recursion_for(text: str, rate_hz: int = 48_000) -> Recursion:
    """What a text is as biquads."""
    stages = recursion_of(stages_of(parse(text), rate_hz, 2))
    assert stages is not None
    return checked_stages(stages, 2, 2)


def wanted(text: str, sound: "npt.ArrayLike", rate_hz: int = 48_000) -> Signal:
    """What a text makes of a sound, in long double."""
    stages = [(stage.mix, stage.delay_frames, stage.sections) for stage in recursion_for(text, rate_hz).stages]
    return through(stages, sound).astype(np.float64)


def played(folder: Path, tables: str, sound: npt.NDArray[np.float32], rack: str = "", rate_hz: int = 48_000) -> Signal:
    """Return what a render through a rack gives."""
    path = write(folder, f'[rack]\n{rack}\n[source]\ndriver = "file"\npath = "in.wav"\n{tables}', sound, rate_hz)
    render(path, folder / "in.wav", folder / "out.wav", overwrite=True)
    heard: Signal = soundfile.read(folder / "out.wav")[0]
    return heard


def groups(folder: Path, tables: str, channels: int = 2, rate_hz: int = 48_000) -> list[tuple[str, bool]]:
    """Return the names of the groups of a rack, each with whether it runs as biquads."""
    session = freewheel(folder, tables, noise(10, channels), rate_hz=rate_hz)
    found = [(group.name, isinstance(group.linear, Recursion)) for group in session.rack.groups]
    session.run()
    return found


# Which slots do


def test_what_is_cheaper_runs(tmp_path: Path) -> None:
    """An equaliser alone is biquads if its taps are many; an upsampler takes it in, unless it rings; a curve has only taps."""
    up = slot("up", "upsample", "ratio = 4\ntaps = 40001")
    short = AUTOEQ.replace("35 Hz", "105 Hz")

    assert [("eq", True)] == groups(tmp_path, eq("eq", AUTOEQ))
    assert [("eq", False)] == groups(tmp_path, eq("eq", short))
    assert [("eq", False)] == groups(tmp_path, eq("eq", "Preamp: -3 dB"))
    assert [("up + eq", False)] == groups(tmp_path, up + eq("eq", AUTOEQ))
    assert [("up", False), ("eq", True)] == groups(tmp_path, up + eq("eq", LONG))
    assert [("eq", False)] == groups(tmp_path, eq("eq", f"{AUTOEQ}{CURVE}"))
    assert [("a", True), ("b", True)] == groups(tmp_path, eq("a", AUTOEQ) + eq("b", LONG))


def test_more_channels_than_a_convolver_takes(tmp_path: Path) -> None:
    """A bus of twelve channels can be equalised, too; by a curve it cannot."""
    sound = noise(3000, 12)
    text = "Channel: 3 12\nFilter: ON PK Fc 100 Hz Gain 6 dB Q 2"
    heard = played(tmp_path, eq("eq", text), sound)
    stages = recursion_of(stages_of(parse(text), 48_000, 12))
    assert stages is not None

    assert [("eq", True)] == groups(tmp_path, eq("eq", text), 12)
    assert error_db(heard, through([(s.mix, s.delay_frames, s.sections) for s in stages], sound).astype(np.float64)) < LIMIT_DB
    with pytest.raises(ConfigError, match="a filter takes up to 8 channels, but the slot hears 12"):
        groups(tmp_path, eq("eq", CURVE), 12)


def test_other_channels_out_than_in(tmp_path: Path) -> None:
    """A recursion may give another number of channels than it hears, as a sum that is filtered; one that does not is refused."""
    row = "(0.5, 0.2, 0.1, -1.99, 0.9901)"
    (tmp_path / "filter.py").write_text(recursive(f"[BiquadStage(np.array([[0.5, -0.25]]), [7], [[{row}]])]"))
    sound = noise(4000)
    bus = '[bus]\nchannels = ["a", "b", "c"]\nout = ["c", "a"]\n'
    table = slot("sum", rest='in = ["a", "b"]\nout = ["c"]')
    heard = played(tmp_path, bus + table, sound)
    filtered = through([([[0.5, -0.25]], [7], [[(0.5, 0.2, 0.1, -1.99, 0.9901)]])], sound).astype(np.float64)

    assert error_db(heard[:, :1], filtered) < LIMIT_DB
    assert np.array_equal(heard[:, 1], sound[:, 0])
    with pytest.raises(ConfigError, match=r"recursive gave a mix of shape \(1, 2\) .* and 2 go out"):
        played(tmp_path, slot("sum"), sound)


def test_info_says_so(tmp_path: Path) -> None:
    """`sigrack info` tells how many sections a slot has, and why it runs as them; the rest of the table stays."""
    up = slot("up", "upsample", "ratio = 16\ntaps = 40001")
    tables = eq("tone", AUTOEQ) + slot("meter", "level") + up + eq("deep", "Filter: ON PK Fc 20 Hz Gain 12 dB Q 10")
    path = write(tmp_path, '[source]\ndriver = "file"\npath = "in.wav"\n' + tables, noise(10))
    tone, up_, deep = json.loads(warm_sigrack("info", path, "--json", "--measure").stdout)["groups"]
    text = warm_sigrack("info", path).stdout

    assert (10, None, []) == (tone["sections"], tone["taps"], tone["stages"])
    assert tone["why"].startswith("its ")
    assert tone["model_ns"] == tone["model_ns_apart"] == pytest.approx(13.0)
    assert tone["measured_ns"] > 0.0
    assert (None, None, 16 * 48_000) == (up_["sections"], up_["why"], up_["out_rate_hz"])
    assert (2, "its response is too long for taps") == (deep["sections"], deep["why"])
    assert "biquads x 10: its " in text
    assert "biquads x 2: its response is too long for taps" in text


@pytest.mark.parametrize(
    ("body", "hears", "writes", "why"),
    [
        ("[BiquadStage(np.ones((9, 2)), [0] * 9, [[]] * 9)]", 2, 9, "a convolver takes 8 channels"),
        ("[BiquadStage(np.ones((2, 9)), [0] * 2, [[]] * 2)]", 9, 2, "a convolver takes 8 channels"),
        ("[BiquadStage(np.eye(2), [0] * 2, [[(1, 0, 0, -0.99999999, 0)]] * 2)]", 2, 2, "its response is too long for taps"),
    ],
)
def test_why_there_are_no_taps(tmp_path: Path, body: str, hears: int, writes: int, why: str) -> None:
    """Too many channels on either side are told as that, and not as a long response."""
    (tmp_path / "filter.py").write_text(recursive(body))
    names = [f"c{number}" for number in range(9)]
    bus = f"[bus]\nchannels = {json.dumps(names)}\nout = {json.dumps(names)}\n"
    table = slot("wide", rest=f"in = {json.dumps(names[:hears])}\nout = {json.dumps(names[:writes])}")
    path = write(tmp_path, f'[source]\ndriver = "file"\npath = "in.wav"\n{bus}{table}', noise(10))
    (group,) = json.loads(warm_sigrack("info", path, "--json").stdout)["groups"]

    assert why == group["why"]


# What is heard


@pytest.mark.parametrize("rate_hz", [44_100, 705_600, 768_000])
@pytest.mark.parametrize(
    "line", ["PK Fc 20 Hz Gain 12 dB Q 10", "NO Fc 20 Hz Q 30", "IIR Order 2 Coefficients 1 0 0 1 -1.99999 0.999999"]
)
def test_what_rings_long_plays(tmp_path: Path, line: str, rate_hz: int) -> None:
    """Filters that no taps would hold are exact, to the last frame."""
    text, sound = f"Preamp: -60 dB\nFilter: ON {line}", noise(20_011)
    heard = played(tmp_path, eq("eq", text), sound, "block_frames = 200", rate_hz)

    assert error_db(heard, wanted(text, sound, rate_hz)) < LIMIT_DB


MIXED = """\
Preamp: -9 dB
Channel: L
Filter: ON PK Fc 60 Hz Gain 6 dB Q 30
Delay: 2.5 ms
Copy: L=L+-0.5*R R=-6dB*L+R WIDE=L+-1*R
Channel: WIDE
Filter: ON HSC Fc 6000 Hz Gain 4 dB Q 0.7
Delay: 7 samples
Copy: L=L+0.25*WIDE R=R+-0.25*WIDE
Channel: ALL
Filter: ON NO Fc 50 Hz Q 50
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_random_rack_does_what_its_slots_do(tmp_path: Path, seed: int) -> None:
    """Equalisers, taps, gains and meters in random order, at random block sizes, equal what each does by definition."""
    (tmp_path / "filter.py").write_text(FILTER)
    taps = np.random.default_rng(5).uniform(-0.1, 0.1, (2, 2, 64)).astype(np.float32)
    random = np.random.default_rng(seed)
    sound = noise(6000, seed=seed)
    heard_so_far, tables = sound.astype(np.float64), ""
    for number in range(int(random.integers(2, 6))):
        kind = random.choice(["auto", "long", "mixed", "taps", "gain", "meter"])
        name = f"s{number}"
        if kind == "taps":
            tables += slot(name)
            heard_so_far = matrix_fir(heard_so_far, taps)
        elif kind == "gain":
            tables += slot(name, "gain", rest="params = { gain_db = -3.0 }")
            heard_so_far = heard_so_far * 10 ** (-3 / 20)
        elif kind == "meter":
            tables += slot(name, "level")
        else:
            text = {"auto": AUTOEQ, "long": LONG, "mixed": MIXED}[str(kind)]
            tables += eq(name, text)
            heard_so_far = wanted(text, heard_so_far)
    heard = played(tmp_path, tables, sound, f"block_frames = {random.choice([64, 441, 1024])}")

    assert error_db(heard, heard_so_far) < LIMIT_DB


def test_what_overflows_is_replaced_and_forgotten(tmp_path: Path) -> None:
    """A block that numbers do not hold is replaced by its input and counted; after that the slot begins anew."""
    sound = noise(4000)
    sound[1000] = 3e38
    text = "Preamp: 20 dB\nFilter: ON PK Fc 20 Hz Gain 3 dB Q 10"
    session = freewheel(tmp_path, eq("eq", text), sound, rack="block_frames = 200")
    (group,) = session.rack.groups
    heard = played(tmp_path, eq("eq", text), sound, "block_frames = 200")
    session.run()

    assert isinstance(group.linear, Recursion)
    assert np.array_equal(heard[1000:1200], sound[1000:1200])
    assert error_db(heard[1200:], wanted(text, sound[1200:])) < LIMIT_DB


# Changes


@pytest.mark.parametrize(
    ("before", "after"),
    [(AUTOEQ, f"{AUTOEQ}Filter: ON PK Fc 300 Hz Gain 9 dB Q 5"), (LONG, AUTOEQ), (LONG, LONG.replace("12 dB", "-12 dB"))],
    ids=["short", "long to short", "long"],
)
def test_a_swap_is_the_ideal_cross_fade(tmp_path: Path, before: str, after: str) -> None:
    """Another text: the old one, then 20 ms of a linear fade, then the new one, which has heard all that the old one has."""
    sound = noise(60_000)
    session, heard = changed(tmp_path, eq("eq", before), sound, {40_000: lambda ctx: ctx.swap("eq", config={"text": after})})
    old, new = wanted(before, sound), wanted(after, sound)
    start = beginning(heard, old) // 64 * 64

    assert 40_000 <= start <= 40_500
    assert faded(heard, old, new, start) < -110.0
    assert faded(heard, old, new, start + 8) > -80.0  # the comparison sees eight frames
    assert 1 == session.rack.engine.stats.applied


def test_biquads_and_taps_fade_into_each_other(tmp_path: Path) -> None:
    """A text with a curve in the place of one without, and back."""
    sound, quiet = noise(120_000), "GraphicEQ: 1000 -6"
    steps = {
        60_000: lambda ctx: ctx.swap("eq", config={"text": quiet}),
        90_000: lambda ctx: ctx.swap("eq", config={"text": AUTOEQ}),
    }
    session, heard = changed(tmp_path, eq("eq", AUTOEQ), sound, steps)
    biquads, taps = wanted(AUTOEQ, sound), sound.astype(np.float64) * 10 ** (-6 / 20)
    first = beginning(heard, biquads) // 64 * 64
    second = 80_000 + beginning(heard[80_000:], taps[80_000:]) // 64 * 64

    assert faded(heard[:80_000], biquads[:80_000], taps[:80_000], first) < -110.0
    assert faded(heard[80_000:], taps[80_000:], biquads[80_000:], second - 80_000) < -110.0
    assert 1 == session.rack.engine.stats.applied


def test_a_memory_that_was_not_kept_dips(tmp_path: Path) -> None:
    """In the place of a short filter one that rings for much longer than what was kept begins anew, behind a dip."""
    sound = noise(40_000)
    text = "Filter: ON PK Fc 20 Hz Gain 12 dB Q 60"
    session, heard = changed(tmp_path, eq("eq", AUTOEQ), sound, {10_000: lambda ctx: ctx.swap("eq", config={"text": text})})

    assert 2 == session.rack.engine.stats.applied
    assert np.abs(heard[10_000:14_000]).max(axis=1).min() < 1e-4  # what silence the dip has
    assert np.isfinite(heard).all()


def test_a_bypass_is_a_cross_fade(tmp_path: Path) -> None:
    """Out and back: the biquads run on meanwhile."""
    sound = noise(40_000)

    def switch(on: bool) -> Any:
        return lambda ctx: ctx._rack.slot("eq").set_bypass(on)

    _, heard = changed(tmp_path, eq("eq", LONG), sound, {10_000: switch(True), 25_000: switch(False)})
    dry, wet = sound.astype(np.float64), wanted(LONG, sound)
    first = beginning(heard, wet) // 64 * 64
    second = first + FADE + beginning(heard[first + FADE :], dry[first + FADE :]) // 64 * 64

    assert faded(heard[:24_000], wet[:24_000], dry[:24_000], first) < -110.0
    assert min(faded(heard[24_000:], dry[24_000:], wet[24_000:], second - 24_000 + late) for late in (-64, 0, 64)) < -110.0


# How loud


def folded(text: str, rate_hz: int = 48_000) -> Linear:
    """The taps of a text."""
    return Linear(taps_of(stages_of(parse(text), rate_hz, 2), rate_hz, "text"))


TEXTS = [
    AUTOEQ,
    LONG,
    MIXED,
    "Filter: ON LP Fc 30 Hz Q 100",
    "Filter: ON HP Fc 20 Hz Q 4\n" * 6,
    "Copy: L=L+R\nDelay: 100 samples\nCopy: M=L+R\nChannel: M\nFilter: ON PK Fc 300 Hz Gain 3 dB Q 5\nCopy: L=L+-0.5*M R=R+0.5*M",
    "Delay: 3 ms",
]


@pytest.mark.parametrize("text", TEXTS)
def test_levels_are_those_of_the_taps(text: str) -> None:
    """For a filter that has both forms both tell the same, to tones and to any sound."""
    found, known = paths_of(recursion_for(text)).gains, paths_of(folded(text)).gains

    assert known.tone_db == pytest.approx(found.tone_db, abs=0.04)  # the taps' spectrum may miss a sharp peak by that
    assert known.worst_db == pytest.approx(found.worst_db, abs=0.01)


@pytest.mark.parametrize(
    ("text", "tone_db"),
    [
        ("Filter: ON PK Fc 20 Hz Gain 12 dB Q 10", 12.0),
        ("Filter: ON PK Fc 1 Hz Gain 6 dB Q 1000", 6.0),
        ("Filter: ON LP Fc 3 Hz Q 100", 40.0),
        ("Copy: R=L\nChannel: R\nDelay: 1048576 samples\nCopy: L=L+0.5*R", 3.522),
    ],
)
def test_levels_of_what_no_taps_hold(text: str, tone_db: float) -> None:
    """The peak of a resonance is its gain, however sharp it is; no sound is raised by more than the bound."""
    found = paths_of(recursion_for(text, 768_000)).gains

    assert tone_db == pytest.approx(found.tone_db, abs=0.02)
    assert found.tone_db <= found.worst_db < found.tone_db + 20.0


@pytest.mark.parametrize("text", [text for text in TEXTS if "Copy" not in text])
def test_the_bound_is_never_below(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the response is not run, the product of the sections' bounds stands for it: above it, by at most 8 dB a section."""
    known = paths_of(recursion_for(text)).gains.worst_db
    monkeypatch.setattr("sigrack.gains.MOST_FRAMES", 0)
    bound = paths_of(recursion_for(text)).gains.worst_db

    assert known - 1e-3 <= bound <= known + 8.0 * (1 + text.count("Filter"))


def test_a_bound_beyond_all_numbers_is_one() -> None:
    """Hundreds of sharp peaks side by side: each by itself is harmless, the product of their bounds no float64 holds."""
    text = "".join(f"Filter: ON PK Fc {hz:.2f} Hz Gain 30 dB Q 30\n" for hz in np.geomspace(20.0, 20_000.0, 400))
    gains = paths_of(recursion_for(text)).gains

    assert 100.0 < gains.tone_db < 200.0
    assert gains.tone_db < gains.worst_db < np.inf


# What a plugin may not do


def recursive(body: str, rest: str = "") -> str:
    """Return a plugin that gives `body` as its recursion."""
    return FILTER + f"\n    def recursive(self, setup):\n        return {body}\n{rest}"


LOUD = "(1e30, 0, 0, 0, 0)"
ALL_PASS = "[BiquadStage(np.eye(2), [0, 0], [[], []])]"


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (recursive("[BiquadStage(np.eye(2), [0, 0], [[], []])]"), ""),
        (recursive("[BiquadStage([[1, 0], [0, 1]], np.zeros(2, int), [[[1, 0, 0, -0.5, 0.2]], np.ones((1, 5)) / 4])]"), ""),
        (recursive("None"), ""),
        (recursive("[BiquadStage(np.eye(3), [0] * 3, [[]] * 3)]"), r"recursive gave a mix of shape \(3, 3\) in stage 1"),
        (
            recursive("[BiquadStage(np.eye(2), [0, 0], [[], [(1, 0, 0, 2, 1)]])]"),
            "gave a section in stage 1 that is unstable",
        ),
        (recursive("[BiquadStage(np.eye(2), [0, 0], [[], [(1, 0)]])]"), "gave a section in stage 1 that is not five"),
        (
            recursive("[BiquadStage(np.eye(2), [0, 0.5], [[], []])]"),
            "filter: recursive gave a delay in stage 1 that is not a whole",
        ),
        (
            recursive("[BiquadStage(np.eye(2), [0, 0], [[], [(10**400, 0, 0, 0, 0)]])]"),
            "filter: recursive gave numbers in stage 1",
        ),
        (recursive(f"[BiquadStage(np.eye(2), [0, 0], [[{LOUD}] * 12] * 2)]"), "filter: recursive gave gains that add up to more"),
        (recursive("[BiquadStage(np.eye(2), [0, 0], [[(1e38, 0, 0, -0.99, 0)], []])]"), "filter: recursive gave gains that"),
        (recursive("[BiquadStage(np.eye(2), [0, 0], [[(1e38, 0, 0, -0.5, 0)], []])]"), ""),
        (recursive(f"[BiquadStage(np.eye(2), [0, 0], [[{LOUD}] * 12, []])] * 3"), "filter: recursive gave gains that add up"),
        (recursive(ALL_PASS, "    def ratio(self, setup):\n        return 2\n"), "filter: ratio is 2, but what recursive gives"),
        (
            recursive(ALL_PASS, "    def latency_frames(self, setup):\n        return 5\n"),
            "filter: latency_frames is 5, but what",
        ),
        (recursive(ALL_PASS, "    def ratio(self, setup):\n        return 'two'\n"), "filter: invalid literal for int"),
        (recursive(ALL_PASS, "    def ratio(self, setup):\n        return 1\n"), ""),
        (recursive("None", "    def latency_frames(self, setup):\n        return 5\n"), ""),
        (recursive("[]"), "recursive gave 0 stages"),
        (recursive("7"), "recursive gave no sequence of BiquadStage"),
        (recursive("[7]"), "recursive gave no sequence of BiquadStage"),
        (
            FILTER.replace("def fir(self, setup):", "def recursive(self, setup):\n        return None\n    def other(self):"),
            "and there is no f",
        ),
        (FILTER.replace("return np", "return None and np"), "fir gave taps of shape"),
        (FILTER.replace("return np", 'return "taps" or np'), "could not convert string to float"),
    ],
)
def test_what_a_plugin_may_give(tmp_path: Path, plugin: str, message: str) -> None:
    """Wrong recursions are refused in one line; those without a message are right, as control."""
    (tmp_path / "filter.py").write_text(plugin)
    if not message:
        assert 1 == len(groups(tmp_path, slot("a")))
        return
    with pytest.raises(ConfigError, match=message) as info:
        groups(tmp_path, slot("a"))

    assert "\n" not in str(info.value)


def test_a_loud_recursion_is_refused_on_the_command_line(tmp_path: Path) -> None:
    """With headroom by itself or without, one line names the plugin; nothing is told of decibels that are no number."""
    (tmp_path / "filter.py").write_text(recursive(f"[BiquadStage(np.eye(2), [0, 0], [[{LOUD}] * 12] * 2)]"))
    for headroom in ('"auto"', "0"):
        text = f'[rack]\nheadroom = {headroom}\n[source]\ndriver = "file"\npath = "in.wav"\n{slot("a")}'
        told = warm_sigrack("check", write(tmp_path, text, noise(10)))

        assert 101 == told.returncode
        assert 1 == len(told.stderr.splitlines())
        assert "filter: recursive gave gains that add up to more than numbers hold: make them smaller" in told.stderr
        assert "nan" not in told.stdout
