"""No true peak of the limiter's output is above its ceiling: judged by interpolation to 16 times the rate, and by libebur128."""

from collections.abc import Callable

import numpy as np
import pytest
from pyebur128 import pyebur128 as ebur128
from scipy.signal import firwin, oaconvolve

from limiting import HARD, RATE_HZ, Doubles, Floats, hard, limited
from oracles.truepeak import true_peak_db

CEILING_DB = -0.1
FASTEST = {"hold_ms": 0.0, "release_ms": 10.0}
"""The settings that bend the sound most."""


def is_safe(sound: Floats) -> bool:
    """Whether no true peak is above the default ceiling."""
    return true_peak_db(sound) <= CEILING_DB


@pytest.mark.parametrize("name", HARD)
def test_nothing_gets_above_the_ceiling(name: str) -> None:
    """Hard sounds stay below it, with the default settings and with the fastest."""
    sound = hard(name)

    assert is_safe(limited(sound))
    assert is_safe(limited(sound, **FASTEST))


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 705_600, 1_600_000])
@pytest.mark.parametrize("name", ["noise at 12 dB", "jumping noise", "random bits", "reversals", "tone at 0.47"])
def test_the_rate_does_not_matter(name: str, rate_hz: int) -> None:
    """What is hard is so in cycles per frame: the ceiling holds at the lowest and at the highest rate."""
    assert is_safe(limited(hard(name), rate_hz, lookahead_ms=0.5, **FASTEST))


@pytest.mark.parametrize("ceiling_db", [0.0, -1.0, -20.0, -60.0])
@pytest.mark.parametrize("name", ["noise at 0 dB", "random bits at 40 dB", "square wave"])
def test_the_ceiling_is_a_parameter(name: str, ceiling_db: float) -> None:
    """Any ceiling is kept, and what is louder comes out at most 0.6 dB below it."""
    peak_db = true_peak_db(limited(hard(name), ceiling_db=ceiling_db))

    assert ceiling_db - 0.6 <= peak_db <= ceiling_db


@pytest.mark.parametrize("name", ["noise at 40 dB", "jumping noise", "reversals at 20 dB", "random bits at 40 dB"])
def test_a_longer_interpolator_finds_no_more_in_music(name: str) -> None:
    """Sound that ends at 0.46 of the rate (20.3 kHz at 44.1 kHz) is safe for a reconstruction four times as long, too."""
    sound = oaconvolve(hard(name), firwin(601, 0.92 - 0.02), mode="same")

    assert true_peak_db(limited(sound, **FASTEST), half=256) <= CEILING_DB


@pytest.mark.parametrize("name", HARD)
def test_libebur128_agrees(name: str) -> None:
    """The true-peak meter of libebur128 reads no more than the ceiling.

    Its short interpolator mirrors what lies above 0.4 of the rate, so there is nothing.
    """
    out = limited(oaconvolve(hard(name), firwin(301, 0.76), mode="same"))[0]
    state = ebur128.R128State(1, RATE_HZ, ebur128.MeasurementMode.MODE_TRUE_PEAK)
    state.add_frames(np.ascontiguousarray(out), len(out))

    assert 20 * np.log10(ebur128.get_true_peak(state, 0)) <= CEILING_DB


def sample_peaks_only(sound: Floats) -> Doubles:
    """A limiter that looks at samples, in its best case: a constant gain."""
    return sound * min(1.0, 10 ** (CEILING_DB / 20) / float(np.abs(sound).max()))


def no_look_ahead(sound: Floats) -> Doubles:
    """A limiter whose gain falls with the sample that needs it, and rises slowly."""
    needed = np.minimum(1.0, 10 ** (CEILING_DB / 20) / np.maximum(np.abs(sound), 1e-9))
    gain = np.ones(len(sound))
    for frame in range(1, len(sound)):
        gain[frame] = min(needed[frame], gain[frame - 1] + (1 - gain[frame - 1]) / 480)
    return sound * gain


def steps_at_block_edges(sound: Floats, block: int = 240) -> Doubles:
    """A limiter that knows the true peak of each block and gives it one gain."""
    out = sound.astype(np.float64)
    for part in (out[at : at + block] for at in range(0, len(out), block)):
        part *= min(1.0, 10 ** ((CEILING_DB - true_peak_db(part)) / 20))
    return out


@pytest.mark.parametrize(
    ("worse", "name"),
    [
        (sample_peaks_only, "quarter"),
        (sample_peaks_only, "random bits"),
        (no_look_ahead, "quarter"),
        (no_look_ahead, "step up"),
        (steps_at_block_edges, "jumping noise"),
        (steps_at_block_edges, "tone at 0.33"),
    ],
)
def test_worse_limiters_are_caught(worse: Callable[[Floats], Doubles], name: str) -> None:
    """A limiter that looks at samples only, has no look-ahead or steps at block edges does not pass as ours does."""
    assert true_peak_db(worse(hard(name))) > CEILING_DB


def ebu_sines(amplitude: float, divisor: int, phase_degrees: float) -> Doubles:
    """A faded sine of a fraction of the rate, half a second."""
    at = np.arange(RATE_HZ // 2)
    fade = np.clip(np.minimum(at, len(at) - at) / 480, 0, 1)
    return np.asarray(amplitude * fade * np.sin(2 * np.pi * at / divisor + np.radians(phase_degrees)))


def ebu_burst(offset: int) -> Doubles:
    """A sine of a sixth of the rate with one louder period, made at four times the rate; every fourth value from `offset` on."""
    at = np.arange(2 * RATE_HZ) - RATE_HZ
    sine = np.cos(2 * np.pi * at / 24) * np.where(np.abs(at) < 12, 1.0, 0.5) * np.clip((len(at) / 2 - np.abs(at)) / 1920, 0, 1)
    clean = oaconvolve(sine, firwin(801, 0.23), mode="same")
    return np.asarray((clean / np.abs(clean).max())[offset::4])


EBU = {
    15: (-6.0, ebu_sines(0.5, 4, 0.0)),
    16: (-6.0, ebu_sines(0.5, 4, 45.0)),
    17: (-6.0, ebu_sines(0.5, 6, 60.0)),
    18: (-6.0, ebu_sines(0.5, 8, 67.5)),
    19: (3.0, ebu_sines(1.41, 4, 45.0)),
    **{20 + offset: (0.0, ebu_burst(offset)) for offset in range(4)},
}
"""The true-peak signals of EBU Tech 3341 with what a meter must show, made as described there."""


@pytest.mark.parametrize("case", EBU)
def test_ebu_15_to_23(case: int) -> None:
    """Tech 3341 cases 15 to 23: the oracle reads them within +0.2 and -0.4 dB as asked for, the limiter keeps them down."""
    wanted_db, signal = EBU[case]

    assert wanted_db - 0.4 <= true_peak_db(signal) <= wanted_db + 0.2
    for gain in (1.0, 2.0, 10.0):
        assert is_safe(limited(gain * signal))


def test_ebu_16_has_no_sample_at_its_peak() -> None:
    """The signals tell true peaks from sample peaks: case 16 has samples 3 dB below."""
    assert pytest.approx(-9.03, abs=0.01) == 20 * np.log10(np.abs(EBU[16][1]).max())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_search_finds_nothing_above_the_ceiling(seed: int) -> None:
    """3000 steps uphill, each a change of some frames of the loudest output so far, do not get there."""
    random = np.random.default_rng(seed)
    best = np.sign(random.standard_normal(600)) * 10 ** random.uniform(-1, 1, 600)
    highest = start = true_peak_db(limited(best, **FASTEST))
    for _ in range(3000):
        trial = best.copy()
        at = random.integers(0, 600, random.integers(1, 6))
        trial[at] = np.sign(random.standard_normal(len(at))) * 10 ** random.uniform(-1, 1, len(at))
        peak_db = true_peak_db(limited(trial, **FASTEST))
        if peak_db > highest:
            best, highest = trial, peak_db

    assert start < highest <= CEILING_DB
