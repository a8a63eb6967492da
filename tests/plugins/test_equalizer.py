"""The equaliser: each filter against analogue prototypes, its taps against the recursion, a rack around it against float64."""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from scipy.signal import butter, fftconvolve, hilbert

from factories import MakeWav, WriteRack
from oracles import equalizer as oracle
from oracles.chain import error_db
from racks import noise
from sigrack import ConfigError, render
from sigrack_plugins._equalizer.graphic import curve_taps
from sigrack_plugins._equalizer.stages import Stage
from sigrack_plugins.api import Context, Setup
from sigrack_plugins.equalizer import Equalizer, EqualizerConfig

Doubles = npt.NDArray[np.float64]

RATES_HZ = [44_100, 48_000, 96_000, 768_000]

AUTOEQ = """\
Preamp: -6.9 dB
Filter 1: ON LSC Fc 105 Hz Gain 5.8 dB Q 0.70
Filter 2: ON PK Fc 171 Hz Gain -3.4 dB Q 0.52
Filter 3: ON PK Fc 1940 Hz Gain 2.2 dB Q 2.31
Filter 4: ON PK Fc 5213 Hz Gain -4.9 dB Q 4.80
Filter 5: ON HSC Fc 10000 Hz Gain -1.6 dB Q 0.70
"""
"""As AutoEq's ParametricEQ.txt is written; the numbers are ours."""

GRAPHIC = "GraphicEQ: " + "; ".join(
    f"{round(20 * 1.0595**step)} {-4 + 4 * math.sin(step / 9) + 1.5 * math.sin(step):.1f}" for step in range(4, 120)
)
"""As AutoEq's GraphicEQ.txt is written: 116 points, 12 per octave."""

TYPES: list[tuple[str, dict[str, Any]]] = [
    ("PK Fc 1000 Hz Gain -4.2 dB Q 0.7", {"kind": "PK", "f0_hz": 1000, "gain_db": -4.2, "q": 0.7}),
    ("PK Fc 20 Hz Gain 12 dB Q 2", {"kind": "PK", "f0_hz": 20, "gain_db": 12, "q": 2}),
    ("PEQ Fc 100 Hz Gain 1.0 dB BW Oct 0.167", {"kind": "PK", "f0_hz": 100, "gain_db": 1, "bandwidth_oct": 0.167}),
    ("PEQ Fc 15000 Hz Gain -9 dB BW Oct 1.5", {"kind": "PK", "f0_hz": 15_000, "gain_db": -9, "bandwidth_oct": 1.5}),
    ("Modal Fc 100 Hz Gain 3 dB Q 5.41 T60 target 100 ms", {"kind": "PK", "f0_hz": 100, "gain_db": 3, "q": 5.41}),
    ("LP Fc 8000 Hz", {"kind": "LP", "f0_hz": 8000, "q": math.sqrt(0.5)}),
    ("LPQ Fc 10000 Hz Q 0.4", {"kind": "LP", "f0_hz": 10_000, "q": 0.4}),
    ("LP Q Fc 80 Hz Q 3", {"kind": "LP", "f0_hz": 80, "q": 3}),
    ("LP Fc 2000 Hz BW Oct 2", {"kind": "LP", "f0_hz": 2000, "bandwidth_oct": 2}),
    ("HP Fc 30 Hz", {"kind": "HP", "f0_hz": 30, "q": math.sqrt(0.5)}),
    ("HPQ Fc 20 Hz Q 0.5", {"kind": "HP", "f0_hz": 20, "q": 0.5}),
    ("HP Fc 20000 Hz Gain 0.0 dB Q 1", {"kind": "HP", "f0_hz": 20_000, "q": 1}),
    ("BP Fc 1000 Hz Q 0.1", {"kind": "BP", "f0_hz": 1000, "q": 0.1}),
    ("BP Fc 1000 Hz", {"kind": "BP", "f0_hz": 1000, "q": math.sqrt(0.5)}),
    ("BP Fc 50 Hz BW Oct 1", {"kind": "BP", "f0_hz": 50, "bandwidth_oct": 1}),
    ("NO Fc 800 Hz", {"kind": "NO", "f0_hz": 800, "q": 30}),
    ("NO Fc 50 Hz Q 4", {"kind": "NO", "f0_hz": 50, "q": 4}),
    ("AP Fc 900 Hz Q 0.707", {"kind": "AP", "f0_hz": 900, "q": 0.707}),
    ("AP Fc 900 Hz BW Oct 1", {"kind": "AP", "f0_hz": 900, "bandwidth_oct": 1}),
    ("LS Fc 300 Hz Gain 5 dB", {"kind": "LS", "f0_hz": 300, "gain_db": 5, "shelf_slope": 0.9}),
    ("LSC Fc 300 Hz Gain -5 dB", {"kind": "LS", "f0_hz": 300, "gain_db": -5, "shelf_slope": 0.9}),
    ("LSC 10.8 dB Fc 300 Hz Gain 5 dB", {"kind": "LS", "f0_hz": 300, "gain_db": 5, "shelf_slope": 0.9}),
    ("LSC Fc 105 Hz Gain 6.4 dB Q 0.7", {"kind": "LS", "f0_hz": 105, "gain_db": 6.4, "q": 0.7}),
    ("LS 6dB Fc 50 Hz Gain 7.2 dB", {"kind": "LS", "f0_hz": 50, "gain_db": 7.2, "shelf_slope": 0.5, "corner": True}),
    ("LS 12dB Fc 2000 Hz Gain -5 dB", {"kind": "LS", "f0_hz": 2000, "gain_db": -5, "shelf_slope": 1, "corner": True}),
    ("LS Fc 100 Hz Gain -5 dB Q 0.6", {"kind": "LS", "f0_hz": 100, "gain_db": -5, "q": 0.6, "corner": True}),
    ("HS Fc 1000 Hz Gain -3 dB", {"kind": "HS", "f0_hz": 1000, "gain_db": -3, "shelf_slope": 0.9}),
    ("HSC 6 dB Fc 100 Hz Gain -6 dB", {"kind": "HS", "f0_hz": 100, "gain_db": -6, "shelf_slope": 0.5}),
    ("HSC Fc 10000 Hz Gain -1.6 dB Q 0.7", {"kind": "HS", "f0_hz": 10_000, "gain_db": -1.6, "q": 0.7}),
    ("HS 6dB Fc 12000 Hz Gain 10 dB", {"kind": "HS", "f0_hz": 12_000, "gain_db": 10, "shelf_slope": 0.5, "corner": True}),
    ("HS 12dB Fc 500 Hz Gain 5 dB", {"kind": "HS", "f0_hz": 500, "gain_db": 5, "shelf_slope": 1, "corner": True}),
    ("HS Fc 5000 Hz Gain 9 dB Q 0.8", {"kind": "HS", "f0_hz": 5000, "gain_db": 9, "q": 0.8, "corner": True}),
]
"""Each way to write a filter of Equalizer APO's reference, and what it means."""


class FakeContext:
    """Keeps what a plugin logs."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)


def equalizer(text: str = "", file: Path | None = None) -> tuple[Equalizer, FakeContext]:
    """An equaliser that can be asked for its taps."""
    plugin, context = Equalizer(), FakeContext()
    plugin.ctx, plugin.config = cast(Context, context), EqualizerConfig(file, text)
    return plugin, context


def taps_of(text: str, rate_hz: int = 48_000, channels: int = 2) -> Doubles:
    """The taps for a text."""
    return equalizer(text)[0].fir(Setup(rate_hz, channels)).astype(np.float64)


def stages_of(text: str, rate_hz: int = 48_000, channels: int = 2) -> tuple[Stage, ...]:
    """The description for a text."""
    return equalizer(text)[0].stages(Setup(rate_hz, channels))


def biquads_of(text: str, rate_hz: int = 48_000, channel: int = 0) -> list[tuple[float, ...]]:
    """The sections of one channel, in a text that mixes nothing."""
    (stage,) = stages_of(text, rate_hz)
    return [section.coefficients for section in stage.strips[channel].sections]


def spread(rate_hz: int) -> Doubles:
    """Frequencies from 5 Hz to half the rate."""
    return np.geomspace(5.0, 0.4999 * rate_hz, 500)


def difference(found: npt.NDArray[np.complex128], wanted: npt.NDArray[np.complex128]) -> tuple[float, float]:
    """The largest difference in dB, where the level is above -80 dB; and of the values, against the largest of them."""
    heard = np.abs(wanted) > 1e-4
    decibels = 20 * np.log10(np.abs(found[heard] / wanted[heard]))
    return float(np.abs(decibels).max()), float(np.abs(found - wanted).max() / np.abs(wanted).max())


# The filters


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize(("line", "meaning"), TYPES, ids=[line for line, _ in TYPES])
def test_types(line: str, meaning: dict[str, Any], rate_hz: int) -> None:
    """Each type is its analogue prototype through the bilinear transform, within 1e-6 dB and in phase, at each rate."""
    hz = spread(rate_hz)
    found = oracle.sections(biquads_of(f"Filter: ON {line}", rate_hz), hz, rate_hz)
    level_db, value = difference(found, oracle.response(hz=hz, rate_hz=rate_hz, **meaning))

    assert level_db < 1e-6
    assert value < 1e-7


def test_the_difference_sees_little() -> None:
    """Negative control: a gain that is off by 0.00001 dB, or a frequency by a thousandth of a cent, is seen."""
    hz = spread(48_000)
    found = oracle.sections(biquads_of("Filter: ON PK Fc 1000 Hz Gain 6 dB Q 2"), hz, 48_000)
    other_gain = oracle.response("PK", hz, 48_000, 1000, 6.00001, q=2)
    other_frequency = oracle.response("PK", hz, 48_000, 1000 * 2 ** (1e-3 / 1200), 6, q=2)

    assert difference(found, other_gain)[0] > 9e-6
    assert difference(found, other_frequency)[0] > 5e-6


def test_published_coefficients() -> None:
    """Equalizer APO's manual writes a low pass of 3000 Hz at 48 kHz out; LP is that, to its six digits."""
    b0, b1, b2, a0, a1, a2 = 0.0380602, 0.0761205, 0.0380602, 1.2706, -1.84776, 0.729402

    assert [(pytest.approx(b0 / a0, rel=1e-5), *(pytest.approx(value / a0, rel=1e-5) for value in (b1, b2, a1, a2)))] == (
        biquads_of("Filter: ON LP Fc 3000 Hz")
    )


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize(("name", "pass_type"), [("LP", "lowpass"), ("HP", "highpass")])
def test_butterworth(name: str, pass_type: str, rate_hz: int) -> None:
    """A low or high pass without Q is scipy's Butterworth filter of the second order."""
    wanted = butter(2, 700.0, pass_type, fs=rate_hz, output="sos")[0]

    assert np.allclose(np.delete(wanted, 3), biquads_of(f"Filter: ON {name} Fc 700 Hz", rate_hz)[0], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("name", "loud_hz", "quiet_hz"), [("LS", 5.0, 23_000.0), ("HS", 23_990.0, 50.0)])
def test_shelves_reach_their_gain(name: str, loud_hz: float, quiet_hz: float) -> None:
    """A shelf has its gain on its side and none on the other; with C, it has half of it at its frequency."""
    hz = np.array([loud_hz, 1000.0, quiet_hz])
    levels = 20 * np.log10(np.abs(oracle.sections(biquads_of(f"Filter: ON {name}C 12 dB Fc 1000 Hz Gain 6 dB"), hz, 48_000)))

    assert [6.0, 3.0, 0.0] == pytest.approx(levels, abs=1e-3)


@pytest.mark.parametrize("line", ["PK Fc 100 Hz Gain 0 dB Q 1", "HSC Fc 9000 Hz Gain 0.0 dB Q 0.7", "LS Fc 90 Hz Gain 0 dB"])
def test_no_gain_is_no_filter(line: str) -> None:
    """A filter without gain costs nothing: the taps are a single 1."""
    assert [[[1.0], [0.0]], [[0.0], [1.0]]] == taps_of(f"Filter: ON {line}").tolist()


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 8])
def test_iir(order: int) -> None:
    """A filter by its coefficients is their quotient, whatever its order, within what its sixteen digits determine."""
    b, a = butter(order, 3000.0, fs=48_000)
    values = " ".join(repr(float(value)) for value in (*b, *a))
    hz = np.geomspace(100.0, 23_000.0, 300)
    found = oracle.sections(biquads_of(f"Filter: ON IIR Order {order} Coefficients {values}"), hz, 48_000)
    _, value = difference(found, oracle.polynomials(b, a, hz, 48_000))

    assert value < 1e-8


@pytest.mark.parametrize(
    ("numerator", "denominator"),
    [
        ([0.0, 0.0, 0.5], [1.0, 0.2, -0.1]),
        ([0.0, 0.3, -0.2, 0.1, 0.0], [2.0, 0.1, 0.0, 0.0, 0.0]),
        ([0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]),
        ([0.0, 0.0, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0]),
        ([1.0, 0.0, 0.0, 0.0, -1.0], [1.0, 0.0, 0.0, 0.0, -0.5]),
    ],
)
def test_iir_with_zeros(numerator: list[float], denominator: list[float]) -> None:
    """Coefficients may be 0, those in front too: they are a delay."""
    values = " ".join(map(str, numerator + denominator))
    hz = spread(48_000)
    biquads = biquads_of(f"Filter: ON IIR Order {len(numerator) - 1} Coefficients {values}")

    assert np.abs(oracle.sections(biquads, hz, 48_000) - oracle.polynomials(numerator, denominator, hz, 48_000)).max() < 1e-12


# GraphicEQ


def points_of(line: str) -> list[tuple[float, float]]:
    """The points of a GraphicEQ line without decimal commas."""
    return [(float(pair.split()[0]), float(pair.split()[1])) for pair in line.partition(":")[2].split(";")]


def graphic_errors_db(line: str, rate_hz: int) -> tuple[Doubles, Doubles]:
    """How far the taps of a GraphicEQ are from what it draws: four frequencies in each Hz up to 200 Hz, 1000 from there on."""
    taps = taps_of(line, rate_hz, 1)[0, 0]
    spectrum = np.fft.rfft(taps, 4 * rate_hz)
    bins = np.concatenate([np.arange(800), np.geomspace(800, len(spectrum) - 1, 1000).astype(int)])
    wanted = [oracle.curve_db(points_of(line), at / 4) for at in bins]
    return bins / 4, np.abs(20 * np.log10(np.abs(spectrum[bins])) - wanted)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 96_000, pytest.param(768_000, marks=pytest.mark.slow)])
def test_graphic_eq(rate_hz: int) -> None:
    """A bumpy curve of 12 points per octave is met within 0.1 dB, from 100 Hz on within 0.02 dB, up to half the rate."""
    hz, errors_db = graphic_errors_db(GRAPHIC, rate_hz)

    assert errors_db.max() < 0.1
    assert errors_db[hz > 100].max() < 0.02


def test_graphic_eq_of_the_manual() -> None:
    """The 15 bands of Equalizer APO's manual are met within 0.01 dB."""
    gains = "25 6; 40 4.5; 63 3; 100 1.5; 160 0; 250 0; 400 0; 630 0; 1000 0; 1600 0; 2500 0; 4000 0; 6300 1.5; 10000 3; 16000 3"

    assert graphic_errors_db(f"GraphicEQ: {gains}", 48_000)[1].max() < 0.01


def test_the_curve_test_sees_another_interpolation() -> None:
    """Negative control: straight lines over the frequency itself would be off by far more."""
    points = points_of("GraphicEQ: 100 0; 1000 10")
    linear = float(np.interp(316.0, *np.array(points).T))

    assert abs(linear - oracle.curve_db(points, 316.0)) > 2.0


def test_graphic_eq_is_flat_outside() -> None:
    """Below the first and above the last point the gain stays; a single point is a gain."""
    assert 6.0 == pytest.approx(20 * math.log10(taps_of("GraphicEQ: 100 6; 1000 0").sum(axis=2)[0, 0]), abs=0.01)
    assert [10 ** (-3 / 20)] == pytest.approx(taps_of("GraphicEQ: 1000 -3")[0, 0])


def phase_error(taps: Doubles) -> float:
    """How far the phase is from the least that the magnitude can have, the Hilbert transform of its logarithm, in radians."""
    spectrum = np.fft.fft(taps, 1 << 18)
    least = -np.imag(hilbert(np.log(np.abs(spectrum))))
    return float(np.abs(np.angle(spectrum * np.exp(-1j * least))).max())


def test_graphic_eq_has_minimum_phase() -> None:
    """The phase of a curve is the least that its magnitude can have; a single frame of delay would be seen."""
    taps = curve_taps(tuple(points_of(GRAPHIC)), 48_000)

    assert phase_error(taps) < 1e-3
    assert phase_error(np.concatenate([[0.0], taps])) > 1.0


# From the description to taps


def through(stages: tuple[Stage, ...], signal: Doubles, rate_hz: int) -> Doubles:
    """What the description says, carried out by recursion, in order."""
    for stage in stages:
        signal = signal @ stage.mix.T
        columns = []
        for strip, column in zip(stage.strips, signal.T, strict=True):
            column = strip.gain * np.concatenate([np.zeros(strip.delay_frames), column])[: len(column)]
            for points in strip.curves:
                column = fftconvolve(column, curve_taps(points, rate_hz))[: len(column)]
            columns.append(oracle.recursion([section.coefficients for section in strip.sections], column))
        signal = np.array(columns).T
    return signal


MIXED = """\
Preamp: -9 dB
Channel: L
Filter: ON PK Fc 60 Hz Gain 6 dB Q 3
Delay: 2.5 ms
Channel: R
Filter: ON HP Fc 25 Hz
Copy: L=L+-0.5*R R=-6dB*L+R WIDE=L+-1*R
Channel: WIDE
Filter: ON HSC Fc 6000 Hz Gain 4 dB Q 0.7
Delay: 7 samples
Copy: L=L+0.25*WIDE R=R+-0.25*WIDE
Channel: ALL
Filter: ON NO Fc 50 Hz Q 5
"""


@pytest.mark.parametrize("rate_hz", [44_100, 96_000])
@pytest.mark.parametrize("text", [*(f"Filter: ON {line}" for line, _ in TYPES[::3]), AUTOEQ, MIXED])
def test_taps_are_the_recursion(text: str, rate_hz: int) -> None:
    """The taps' spectrum is that of the recursion run for long, within -120 dB of the highest gain, in every path."""
    taps = taps_of(text, rate_hz)
    stages = stages_of(text, rate_hz)
    impulse = np.zeros((2 * taps.shape[2] + 64, 2))
    for into in range(2):
        impulse[0] = np.eye(2)[into]
        wanted = np.fft.rfft(through(stages, impulse, rate_hz), axis=0)
        found = np.fft.rfft(taps[:, into].T, len(impulse), axis=0)

        assert np.abs(found - wanted).max() < 1e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("text", ["Filter: ON PK Fc 40 Hz Gain 6 dB Q 8", "Filter: ON LP Fc 30 Hz", AUTOEQ])
def test_cut(text: str) -> None:
    """All that is cut off sums up to at most -140 dB of the highest gain, and one tap less would be too few."""
    taps = taps_of(text)[0, 0]
    impulse = np.zeros((4 * len(taps), 2))
    impulse[0] = 1.0
    exact = through(stages_of(text), impulse, 48_000)[:, 0]
    limit = 1e-7 * np.abs(np.fft.rfft(exact)).max()

    assert np.abs(exact[len(taps) :]).sum() <= limit * (1 + 1e-6)
    assert np.abs(exact[len(taps) - 1 :]).sum() > limit * (1 - 1e-6)


def test_many_equal_filters() -> None:
    """Equal filters ring longer together than each: the taps hold all of it."""
    text = "Filter: ON HP Fc 20 Hz Q 4\n" * 12
    taps = taps_of(text)
    impulse = np.zeros((4 * taps.shape[2], 2))
    impulse[0] = 1.0
    wanted = through(stages_of(text), impulse, 48_000)[: taps.shape[2], 0]

    assert np.abs(taps[0, 0] - wanted).max() < 1e-6 * np.abs(wanted).max()
    assert taps.shape[2] > 1.3 * taps_of("Filter: ON HP Fc 20 Hz Q 4").shape[2]


@pytest.mark.parametrize(("line", "frames"), [("Delay: 3 ms", 144), ("Delay: 12 samples", 12), ("Delay: 0,51 ms", 24)])
def test_delay(line: str, frames: int) -> None:
    """A delay is one tap, at the nearest frame, and 0 before it."""
    assert [0.0] * frames + [1.0] == taps_of(line)[0, 0].tolist()


def test_mixing() -> None:
    """Copy is a matrix of the channels as they were before the line."""
    assert [[[0.0], [1.0]], [[1.0], [0.5]]] == taps_of("Copy: L=R R=L+0.5*R").tolist()
    assert [[[1.0], [0.0]], [[0.0], [0.0]]] == taps_of("Copy: 2=0.0").tolist()
    assert [[[0.0], [0.0]], [[0.0], [0.0]]] == taps_of("Copy: L=0 R=0").tolist()
    assert [[[1.0], [0.0]], [[1.0], [0.0]]] == taps_of("Copy: M=L\nCopy: R=M").tolist()


@pytest.mark.parametrize(
    ("channels", "selection", "louder"),
    [
        (1, "C", [0]),
        (2, "L", [0]),
        (2, "2 L", [0, 1]),
        (2, "all", [0, 1]),
        (3, "3", [2]),
        (4, "RL RR", [2, 3]),
        (6, "SUB", [3]),
        (6, "lfe rl", [3, 4]),
        (8, "RL SR C", [2, 4, 7]),
    ],
)
def test_channels(channels: int, selection: str, louder: list[int]) -> None:
    """Channels go by number and by Equalizer APO's names; what a 5.1 bus lacks behind is at its sides."""
    gains = taps_of(f"Channel: {selection}\nPreamp: 20 dB", channels=channels)[:, :, 0]
    wanted = np.eye(channels)
    wanted[louder] *= 10.0

    assert np.allclose(wanted, gains)


def test_preamps_add_up() -> None:
    """Several preamps of one channel add up in dB."""
    gains = taps_of("Preamp: 12 dB\nChannel: 1\nPreamp: 8\nChannel: 2\nPreamp: -12 dB")[:, :, 0]

    assert np.allclose([[10.0, 0.0], [0.0, 1.0]], gains)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "Preamp: -3 dB\nFilter: ON PK Fc 20 Hz Gain 3 dB Q 30\n",
            "the filter in {path}:2 rings longest: give the GraphicEQ a slot of",
        ),
        ("Delay: 1048576 samples\n" * 3, "its delays and GraphicEQs are too long: shorten them, give each a slot of its own, or"),
        ("Delay: 1048576 samples\n" * 4, "its delays and GraphicEQs are too long: shorten them, give each a slot of its own, or"),
    ],
)
def test_too_long_beside_a_curve(tmp_path: Path, text: str, wanted: str) -> None:
    """A curve has only taps: too many are refused with what is longest, also where that is a whole turn of the transform.

    The text is still there as data, and without the curve as biquads.
    """
    path = tmp_path / "eq.txt"
    path.write_text(f"{text}GraphicEQ: 100 0; 1000 3\n")
    plugin, _ = equalizer(file=path)
    with pytest.raises(ValueError, match=r"^.*\Z") as refusal:
        plugin.fir(Setup(768_000, 1))

    assert f"{path}: the response takes more than 1048576 taps at 768000 Hz; {wanted.format(path=path)}" in str(refusal.value)
    assert plugin.recursive(Setup(768_000, 1)) is None
    assert 1 == len(plugin.stages(Setup(768_000, 1)))
    assert equalizer(text)[0].recursive(Setup(768_000, 1)) is not None


def test_delays_that_are_too_long() -> None:
    """Delays of one channel that add up to more than the engine takes are refused with the line that is too much."""
    with pytest.raises(ValueError, match=r"^text:5: Delay: 5242880 frames of one channel are more than 4194304\Z"):
        stages_of("Delay: 1048576 samples\n" * 5)


@pytest.mark.parametrize("text", ["Preamp: 60 dB\n" * 14, "Filter: ON PK Fc 1000 Hz Gain 60 dB Q 1\n" * 150])
def test_gains_beyond_numbers(text: str) -> None:
    """Gains that no float32 holds are refused, in either form."""
    plugin, _ = equalizer(text)
    for form in (plugin.fir, plugin.recursive):
        with pytest.raises(ValueError, match=r"^text: the gains add up to more than numbers hold\Z"):
            form(Setup(48_000, 2))


@pytest.mark.parametrize(("text", "lines"), [(AUTOEQ, []), (AUTOEQ.partition("\n")[2], ["text raises some frequency by 5.8 dB"])])
def test_headroom(text: str, lines: list[str]) -> None:
    """What makes some frequency louder is logged with its decibels; with AutoEq's preamp nothing is."""
    for form in ("fir", "recursive"):
        plugin, context = equalizer(text)
        getattr(plugin, form)(Setup(48_000, 2))

        assert len(lines) == len(context.lines)
        assert all(line.startswith(wanted) for wanted, line in zip(lines, context.lines, strict=True))


# In a rack


def rack_text(config: str) -> str:
    """A rack with nothing but an equaliser."""
    return f'[rack]\nblock_frames = 200\n[[slot]]\nname = "eq"\nplugin = "equalizer"\nconfig = {{ {config} }}\n'


def heard(tmp_path: Path, rack: Path, wav: MakeWav, sound: npt.NDArray[np.float32], rate_hz: int = 48_000) -> Doubles:
    """What a rack makes of a sound."""
    render(rack, wav(sound, rate_hz=rate_hz), tmp_path / "out.wav")
    result: Doubles = soundfile.read(tmp_path / "out.wav")[0]
    return result


@pytest.mark.parametrize("text", [AUTOEQ, MIXED, f"Preamp: -6 dB\n{GRAPHIC}"], ids=["parametric", "mixed", "graphic"])
def test_rendering(tmp_path: Path, wav: MakeWav, write_rack: WriteRack, text: str) -> None:
    """A render of a real file is the recursion in float64 within -120 dB, aligned, to the last frame."""
    (tmp_path / "eq.txt").write_text(text)
    sound = noise(30_011)
    found = heard(tmp_path, write_rack(rack_text('file = "eq.txt"')), wav, sound)
    wanted = through(stages_of(text), sound.astype(np.float64), 48_000)

    assert error_db(found, wanted) < -120.0
    assert error_db(np.roll(found, 1, axis=0), wanted) > -40.0


def test_rendering_is_the_prototypes(tmp_path: Path, wav: MakeWav, write_rack: WriteRack) -> None:
    """What comes out over what went in is the product of the analogue prototypes, within 0.001 dB at 100 frequencies."""
    sound = np.zeros((60_000, 1), np.float32)
    sound[0] = 1.0
    (tmp_path / "eq.txt").write_text("".join(f"Filter: ON {line}\n" for line, _ in TYPES[:5]))
    found = heard(tmp_path, write_rack(rack_text('file = "eq.txt"')), wav, sound, 96_000)
    hz = np.geomspace(30.0, 40_000.0, 100)
    levels = [abs(np.exp(-2j * np.pi * at / 96_000 * np.arange(len(found))) @ found.ravel()) for at in hz]
    wanted = np.prod([oracle.response(hz=hz, rate_hz=96_000, **meaning) for _, meaning in TYPES[:5]], axis=0)

    assert np.abs(20 * np.log10(levels / np.abs(wanted))).max() < 1e-3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('file = "none.txt"', "none.txt: No such file or directory"),
        ('text = "Filter: ON PKK Fc 10 Hz"', 'equalizer: text:1: unknown filter type "PKK"; did you mean "PK"?'),
        ("", "equalizer: file, text: give one of them"),
        ('file = "a.txt", text = "Preamp: -3 dB"', "equalizer: file, text: give one of them"),
        ('txt = "Preamp: -3 dB"', 'did you mean "text"'),
    ],
)
def test_a_rack_that_cannot_be(tmp_path: Path, wav: MakeWav, write_rack: WriteRack, config: str, message: str) -> None:
    """What the plugin refuses ends the render with one line that names the rack's file."""
    rack = write_rack(rack_text(config))
    with pytest.raises(ConfigError) as info:
        render(rack, wav(noise(1000)), tmp_path / "out.wav")

    assert str(info.value).startswith(f"{rack}:")
    assert message in str(info.value)
    assert "\n" not in str(info.value)
