"""Biquads in the core: every filter of the equaliser, at any rate, in any blocks, against long double."""

import math
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from oracles.biquads import recursion, section, through
from sigrack_engine.biquads import Biquads
from sigrack_engine.core import CoreError
from sigrack_engine.folding import folded
from sigrack_engine.recursion import Recursion, checked_stages
from sigrack_plugins._equalizer.parsing import parse
from sigrack_plugins._equalizer.response import taps_of
from sigrack_plugins._equalizer.stages import recursion_of, stages_of
from sigrack_plugins.api import BiquadStage

Floats = npt.NDArray[np.float32]

RATES_HZ = [44_100, 48_000, 192_000, 705_600, 768_000]
LINES = [
    "PK Fc 20 Hz Gain 12 dB Q 10",
    "PK Fc 1 Hz Gain 12 dB Q 1000",
    "PK Fc 20000 Hz Gain -20 dB Q 30",
    "LP Fc 20 Hz Q 10",
    "HP Fc 20 Hz Q 0.7",
    "HP Fc 5 Hz Q 20",
    "BP Fc 30 Hz Q 50",
    "NO Fc 20 Hz Q 30",
    "AP Fc 10 Hz Q 100",
    "LS Fc 20 Hz Gain 20 dB",
    "LSC Fc 15 Hz Gain -20 dB Q 1.4",
    "HS Fc 20 Hz Gain -20 dB",
    "HSC Fc 20000 Hz Gain 15 dB Q 0.7",
    "IIR Order 2 Coefficients 0.001 0 -0.001 1 -1.999998 0.999999",
    "IIR Order 1 Coefficients 1 0 1 -0.99999",
]
FOLDABLE = [
    "PK Fc 20 Hz Gain 12 dB Q 10",
    "PK Fc 20000 Hz Gain -20 dB Q 30",
    "LP Fc 20 Hz Q 10",
    "HP Fc 20 Hz Q 0.7",
    "BP Fc 100 Hz Q 10",
    "NO Fc 50 Hz Q 10",
    "AP Fc 100 Hz Q 10",
    "LS Fc 20 Hz Gain 20 dB",
    "HSC Fc 20000 Hz Gain 15 dB Q 0.7",
    "IIR Order 1 Coefficients 1 0 1 -0.999",
]
"""Their taps are few enough at 192 kHz."""
PRECISION_DB = -128.0


def recursion_for(text: str, rate_hz: int = 48_000, channels: int = 2) -> Recursion:
    """What a text of the equaliser is as biquads."""
    stages = recursion_of(stages_of(parse(text), rate_hz, channels))
    assert stages is not None
    return checked_stages(stages, channels, channels)


def sound(frames: int, channels: int, rate_hz: int, seed: int = 1) -> Floats:
    """Noise, a step and a low tone: what makes low resonances ring; shape (channels, frames)."""
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, (channels, frames))
    made: Floats = (noise + 0.2 + 0.3 * np.sin(2 * np.pi * 20.0 / rate_hz * np.arange(frames))).astype(np.float32)
    return made


def streamed(stages: Any, samples: Floats, most: int = 700, seed: int = 1) -> Floats:
    """What the core makes of samples of shape (channels, frames) in blocks of random lengths, 0 included."""
    random = np.random.default_rng(seed)
    filter_ = Biquads(stages)
    cuts = [0]
    while cuts[-1] < samples.shape[1]:
        cuts.append(min(cuts[-1] + int(random.integers(0, most)), samples.shape[1]))
    parts = [filter_.process(samples[:, begin:end]) for begin, end in pairwise(cuts)]
    filter_.close()
    return np.concatenate(parts, axis=1)


def difference_db(found: Any, wanted: Any) -> float:
    """The largest difference against the largest of what is wanted."""
    difference = np.abs(np.asarray(found, np.longdouble) - wanted).max()
    return float(20 * np.log10(max(difference / np.abs(wanted).max(), np.longdouble(1e-30))))


def as_data(stages: Any) -> Any:
    """Stages as the oracle takes them."""
    return [(stage.mix, stage.delay_frames, stage.sections) for stage in stages]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("line", LINES)
def test_each_filter(line: str, rate_hz: int) -> None:
    """Each type, at low and high frequencies and sharp, is the recursion in long double within -128 dB."""
    stages = recursion_for(f"Filter: ON {line}", rate_hz, 1).stages
    samples = sound(6000, 1, rate_hz)
    wanted = recursion(stages[0].sections[0], samples[0])

    assert difference_db(streamed(stages, samples)[0], wanted) < PRECISION_DB


@pytest.mark.parametrize("rate_hz", [48_000, 768_000])
@pytest.mark.parametrize("line", ["PK Fc 20 Hz Gain 12 dB Q 10", "HP Fc 20 Hz Q 0.7", "LP Fc 2 Hz Q 30"])
def test_errors_do_not_grow(line: str, rate_hz: int) -> None:
    """After 200,000 frames it is as exact as at the beginning."""
    stages = recursion_for(f"Filter: ON {line}", rate_hz, 1).stages
    samples = sound(200_000, 1, rate_hz)
    wanted = recursion(stages[0].sections[0], samples[0])

    assert difference_db(streamed(stages, samples, 5000)[0], wanted) < PRECISION_DB


@pytest.mark.parametrize("line", ["PK Fc 20 Hz Gain 12 dB Q 10", "HP Fc 20 Hz Q 0.7", "LS Fc 20 Hz Gain 20 dB"])
def test_single_precision_would_not_do(line: str) -> None:
    """Negative control: with a state in float32 the same test fails by far."""
    stages = recursion_for(f"Filter: ON {line}", 768_000, 1).stages
    samples = sound(6000, 1, 768_000)
    wanted = recursion(stages[0].sections[0], samples[0])

    assert difference_db(section(stages[0].sections[0][0], samples[0], np.float32), wanted) > -100.0


@pytest.mark.parametrize("seed", range(12))
def test_random_stages(seed: int) -> None:
    """Mixes of any shape, delays, any number of sections and channels, in any blocks."""
    random = np.random.default_rng(seed)
    inputs = channels = int(random.integers(1, 13))
    count, last = int(random.integers(1, 5)), int(random.integers(1, 13))
    stages = []
    for number in range(count):
        outputs = last if number == count - 1 else int(random.integers(1, 20))
        rows = []
        for _ in range(outputs):
            radius, angle = random.uniform(0.1, 0.999, 2)
            a1, a2 = -2 * radius * math.cos(3 * angle), radius * radius
            rows.append([(*random.uniform(-1, 1, 3), a1, a2)] * int(random.integers(0, 6)))
        mix = random.uniform(-1, 1, (outputs, inputs)) * (random.uniform(0, 1, (outputs, inputs)) < 0.5)
        mix[0, 0] = 0.5
        stages.append(BiquadStage(mix, random.integers(0, 400, outputs).tolist(), rows))
        inputs = outputs
    samples = sound(1500, channels, 48_000, seed)
    found = streamed(checked_stages(stages, channels, last).stages, samples, 300, seed)

    assert difference_db(found.T, through(as_data(stages), samples.T)) < PRECISION_DB


MIXED = """\
Preamp: -9 dB
Channel: L
Filter: ON PK Fc 60 Hz Gain 6 dB Q 3
Delay: 2.5 ms
Copy: L=L+-0.5*R R=-6dB*L+R WIDE=L+-1*R
Channel: WIDE
Filter: ON HSC Fc 6000 Hz Gain 4 dB Q 0.7
Delay: 7 samples
Copy: L=L+0.25*WIDE R=R+-0.25*WIDE
Channel: ALL
Filter: ON NO Fc 50 Hz Q 5
"""


@pytest.mark.parametrize("rate_hz", [44_100, 192_000])
@pytest.mark.parametrize("text", [MIXED, *(f"Filter: ON {line}" for line in FOLDABLE)])
def test_the_forms_agree(text: str, rate_hz: int) -> None:
    """Biquads that were folded are what is found over the frequency response, as long, within what is cut and rounded."""
    known = taps_of(stages_of(parse(text), rate_hz, 2), rate_hz, "text")
    linear = folded(recursion_for(text, rate_hz))
    assert linear is not None
    length = max(known.shape[2], linear.taps.shape[2])
    wanted, found = (np.fft.rfft(taps, length) for taps in (known, linear.taps))

    assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max()
    assert known.shape[2] == pytest.approx(linear.taps.shape[2], rel=0.01)  # the highest gain is found on different grids


@pytest.mark.parametrize("text", ["Filter: ON PK Fc 40 Hz Gain 6 dB Q 8", "Filter: ON HP Fc 20 Hz Q 4\n" * 12, MIXED])
def test_the_cut(text: str) -> None:
    """All that the taps leave out sums up to at most -140 dB of the highest gain, and one tap less would be too few."""
    found = recursion_for(text)
    linear = folded(found)
    assert linear is not None
    length = linear.taps.shape[2]
    rest = np.zeros((2, 2))
    before = np.zeros((2, 2))
    top = 0.0
    for into in range(2):
        impulse = np.zeros((2, 4 * length), np.float32)
        impulse[into, 0] = 1.0
        heard = streamed(found.stages, impulse, 50_000).astype(np.float64)
        top = max(top, float(np.abs(np.fft.rfft(heard)).max()))
        rest[:, into], before[:, into] = (np.abs(heard[:, at:]).sum(axis=1) for at in (length, length - 1))

    assert rest.max() <= 1e-7 * top * 1.01
    assert before.max() > 1e-7 * top * 0.99


APART = """\
Filter: ON HP Fc 20 Hz Q 0.7
Channel: 2
Preamp: -3 dB
Filter: ON PK Fc 60 Hz Gain 6 dB Q 9
Delay: 7 samples
Channel: 3
Preamp: 5 dB
"""


def test_channels_apart_are_folded_like_mixed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, each by itself, they give the very bits that one impulse after the other gives."""
    found = recursion_for(APART, 44_100, 4)
    linear = folded(found)
    monkeypatch.setattr("sigrack_engine.folding._apart", lambda stages: False)
    mixed = folded(found)
    assert linear is not None
    assert mixed is not None

    assert (4, 4) == linear.taps.shape[:2]
    assert linear.taps.shape == mixed.taps.shape
    assert linear.taps.tobytes() == mixed.taps.tobytes()


def test_channels_apart_take_little_more_than_their_taps() -> None:
    """Folding 8 channels that do not mix makes no second matrix of theirs on the way."""
    found = recursion_for("Filter: ON HP Fc 5 Hz Q 0.7", 192_000, 8)
    tracemalloc.start()
    linear = folded(found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert linear is not None

    assert peak < 1.5 * linear.taps.nbytes


def test_what_takes_too_many_taps_is_not_folded() -> None:
    """1,048,576 taps are the most; delays count."""
    assert folded(recursion_for("Filter: ON PK Fc 20 Hz Gain 12 dB Q 30", 768_000)) is None
    assert folded(recursion_for("Delay: 1048576 samples", 48_000, 1)) is None
    whole = folded(recursion_for("Delay: 1048575 samples", 48_000, 1))
    assert whole is not None
    assert 1 << 20 == whole.taps.shape[2]


def test_reset_and_prime() -> None:
    """After a reset nothing is left of what was; priming counts as input."""
    samples = sound(3000, 2, 48_000)
    filter_ = Biquads(recursion_for(MIXED).stages)
    whole = filter_.process(samples)
    filter_.reset()
    filter_.prime(samples[:, :1000])
    filter_.catch_up()
    again = filter_.process(samples[:, 1000:])

    assert np.array_equal(whole[:, 1000:], again)
    assert filter_.bytes > 1000
    filter_.close()


def test_what_is_no_number_stays_until_a_reset() -> None:
    """NaN poisons the state, as the guard of a slot expects; a reset heals it."""
    samples = sound(500, 2, 48_000)
    poisoned = samples.copy()
    poisoned[0, 100] = np.nan
    filter_ = Biquads(recursion_for("Filter: ON PK Fc 100 Hz Gain 6 dB Q 1").stages)
    clean = filter_.process(samples)
    filter_.reset()

    assert np.isnan(filter_.process(poisoned)[0, 100:]).all()
    filter_.reset()
    assert np.array_equal(clean, filter_.process(samples))
    filter_.close()


GOOD = (1.0, 0.0, 0.0, -0.5, 0.2)
any_stage: Any = BiquadStage
"""As a plugin may call it that nobody checks."""


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "gave 0 stages"),
        (
            [BiquadStage(np.eye(3), [0] * 3, [[]] * 3)],
            r"gave a mix of shape \(3, 3\) in stage 1, where 2 channels come in and 2 go",
        ),
        ([BiquadStage(np.zeros((1, 2)), [0], [[]])], r"gave a mix of shape \(1, 2\) in stage 1"),
        ([BiquadStage(np.eye(2), [0], [[], []])], "gave delays or sections in stage 1 that are not one for each of 2 channels"),
        ([BiquadStage(np.eye(2), [0, -1], [[], []])], "gave a delay in stage 1 that is not from 0 to 4194304 frames"),
        ([BiquadStage(np.eye(2), [0, 1 << 23], [[], []])], "gave a delay in stage 1"),
        ([BiquadStage(np.full((2, 2), np.inf), [0, 0], [[], []])], "gave numbers in stage 1 that are not finite"),
        ([BiquadStage(np.eye(2), [0, 0], [[GOOD], [(1.0, 0.0, 0.0, -2.0, 1.0)]])], "gave a section in stage 1 that is unstable"),
        ([any_stage("ab", [0, 0], [[], []])], "gave a mix in stage 1 that is no array of numbers$"),
        ([any_stage([[1.0], [1.0, 2.0]], [0, 0], [[], []])], "gave a mix in stage 1 that is no array of numbers$"),
        ([any_stage([[10**400, 0], [0, 1]], [0, 0], [[], []])], "gave numbers in stage 1 that float64 does not hold$"),
        ([any_stage(np.eye(2), [0, 0.5], [[], []])], "gave a delay in stage 1 that is not a whole number of frames$"),
        ([any_stage(np.eye(2), 7, [[], []])], "gave a delay in stage 1 that is not a whole number of frames$"),
        ([any_stage(np.eye(2), [0, 10**400], [[], []])], "gave a delay in stage 1 that is not from 0 to 4194304 frames$"),
        ([any_stage(np.eye(2), [0, 0], [[], [(1.0, 0.0)]])], "gave a section in stage 1 that is not five numbers$"),
        ([any_stage(np.eye(2), [0, 0], [[], [("b", 0, 0, 0, 0)]])], "gave a section in stage 1 that is not five numbers$"),
        ([any_stage(np.eye(2), [0, 0], [[], None])], "gave a section in stage 1 that is not five numbers$"),
        ([any_stage(np.eye(2), [0, 0], [[], [(10**400, 0, 0, 0, 0)]])], "gave numbers in stage 1 that float64 does not hold$"),
        ([BiquadStage(np.eye(2), [1 << 22] * 2, [[]] * 2)] * 17, "gave delays of 142606336 frames in all, 1088 MB; 1024 MB are"),
    ],
)
def test_what_cannot_be_run(stages: Any, message: str) -> None:
    """Is refused in one line."""
    with pytest.raises(ValueError, match=f"^{message}") as info:
        checked_stages(stages, 2, 2)

    assert "\n" not in str(info.value)


@pytest.mark.parametrize("kind", [list, np.array, np.float32])
def test_stages_come_in_any_types(kind: Any) -> None:
    """Lists and arrays of any type become the same plain stages, which what the plugin does to its own later leaves alone."""
    delays = np.array([3, 0], np.int16)
    given = any_stage([[1, 0], [0, 2]], delays, [kind([GOOD, GOOD]), kind([GOOD])])
    (stage,) = checked_stages([given], 2, 2).stages
    delays[0] = 7

    assert stage.mix.dtype == np.float64
    assert not stage.mix.flags.writeable
    assert np.array_equal([[1.0, 0.0], [0.0, 2.0]], stage.mix)
    assert (3, 0) == stage.delay_frames
    assert [2, 1] == [len(row) for row in stage.sections]
    assert {stage.sections[0][0]} == {section for row in stage.sections for section in row}  # they can be keys
    assert stage.sections[0][0] == pytest.approx(GOOD)
    assert all(type(value) is float for row in stage.sections for section in row for value in section)
    assert all(type(frames) is int for frames in stage.delay_frames)


def test_the_core_refuses_too() -> None:
    """What was not checked is refused by the core."""
    with pytest.raises(CoreError, match="a recursion of 1 stages for 2 channels"):
        Biquads([BiquadStage(np.eye(2), [0, 1 << 23], [[], []])])


@pytest.mark.parametrize(
    ("text", "rate_hz"),
    [
        ("Filter: ON PK Fc 20 Hz Gain 12 dB Q 10", 48_000),
        ("Filter: ON HP Fc 20 Hz Q 4\n" * 12, 48_000),
        ("Filter: ON LP Fc 500 Hz Q 3\nDelay: 100 samples\nCopy: L=L+R\nFilter: ON NO Fc 100 Hz", 48_000),
    ],
)
def test_memory(text: str, rate_hz: int) -> None:
    """What is older than its memory is heard at most at -110 dB; half of it would be too little."""
    found = recursion_for(text, rate_hz, 2)
    frames = found.memory_frames
    impulse = np.zeros((2, 4 * frames), np.float32)
    impulse[:, 0] = 1.0
    heard = np.abs(streamed(found.stages, impulse, 50_000)).sum(axis=0, dtype=np.float64)
    rest = heard[::-1].cumsum()[::-1] / heard.sum()

    assert rest[frames] < 10 ** (-110 / 20)
    assert rest[frames // 2] > 10 ** (-110 / 20)


def test_memory_has_a_limit() -> None:
    """However long it rings, no more than 3,145,728 frames of input are kept for a successor."""
    assert 3 << 20 == recursion_for("Filter: ON PK Fc 1 Hz Gain 12 dB Q 1000", 768_000).memory_frames
