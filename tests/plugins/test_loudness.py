"""Loudness against EBU Tech 3341, libebur128 and a per-sample recursion."""

import math
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from pyebur128 import pyebur128 as ebur128

from sigrack_plugins import loudness
from sigrack_plugins.api import SECOND, Block, Context, Setup
from sigrack_plugins.loudness import FLOOR_LUFS, GatedMean, KWeighting, Loudness, LoudnessConfig, k_weighting, lufs

Signal = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class FakeContext:
    """Keeps what a plugin posts."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.times: list[int] = []
        self.rows: list[list[float]] = []

    def post(self, symbol: str, values: list[float], ts_ns: int) -> bool:
        assert symbol == "loudness_lufs"
        self.times.append(ts_ns)
        self.rows.append(values)
        return True


class Meter:
    """A Loudness plugin that is fed by hand."""

    def __init__(self, channels: int, rate_hz: int = 48000, weights: list[float] | None = None) -> None:
        self.context = FakeContext(Setup(rate_hz, channels))
        self.plugin = Loudness()
        self.plugin.ctx = cast(Context, self.context)
        self.plugin.config = LoudnessConfig(weights or [])
        self.plugin.on_start()

    def feed(self, signal: Signal, frame: int = 0, block: int = 1024) -> "Meter":
        for at in range(0, len(signal), block):
            samples = np.asfortranarray(signal[at : at + block])
            self.plugin.on_block(Block(samples, self.context.setup.rate_hz, frame + at))
        return self

    @property
    def rows(self) -> Doubles:
        """Columns: momentary, short-term, integrated."""
        return np.array(self.context.rows)


def tone(parts: list[tuple[float, float]], channels: int = 2, hz: float = 1000.0, rate_hz: int = 48000) -> Signal:
    """A sine in all channels, in parts of (peak level in dBFS, seconds)."""
    level = np.concatenate([np.full(round(seconds * rate_hz), 10 ** (dbfs / 20)) for dbfs, seconds in parts])
    sine = level * np.sin(2 * np.pi * hz / rate_hz * np.arange(len(level)))
    return np.repeat(sine[:, None].astype(np.float32), channels, axis=1)


def music(rate_hz: int, channels: int = 2, seconds: float = 20.0) -> Signal:
    """Falling-spectrum noise with bass, beats, quiet passages and a pause."""
    rng = np.random.default_rng(rate_hz)
    frames = round(seconds * rate_hz)
    spectrum = np.fft.rfft(rng.standard_normal((frames, channels)), axis=0)
    spectrum /= np.sqrt(np.fft.rfftfreq(frames, 1 / rate_hz) + 20.0)[:, None]
    noise = np.fft.irfft(spectrum, frames, axis=0)
    t = np.arange(frames)[:, None] / rate_hz
    passages = np.choose((t / 2).astype(int) % 5, [1.0, 0.3, 0.05, 0.6, 0.0])
    shaped = (0.2 * noise / noise.std() + 0.3 * np.sin(2 * np.pi * 55 * t)) * passages * np.exp(-4 * (2 * t % 1))
    return cast(Signal, shaped.astype(np.float32))


def libebur128(signal: Signal, rate_hz: int) -> Doubles:
    """Momentary, short-term and integrated loudness after each 100 ms, by libebur128."""
    modes = ebur128.MeasurementMode
    state = ebur128.R128State(signal.shape[1], rate_hz, modes.MODE_M | modes.MODE_S | modes.MODE_I)
    rows = []
    for step in np.split(signal, range(rate_hz // 10, len(signal), rate_hz // 10)):
        state.add_frames(np.ascontiguousarray(step).ravel(), len(step))
        readings = (ebur128.get_loudness_momentary, ebur128.get_loudness_shortterm, ebur128.get_loudness_global)
        rows.append([max(read(state), FLOOR_LUFS) for read in readings])
    return np.array(rows)


def deviation(signal: Signal, rate_hz: int) -> Doubles:
    """Largest difference to libebur128 in LU, for each column, where libebur128's windows are full and not silent."""
    ours, theirs = Meter(signal.shape[1], rate_hz).feed(signal).rows, libebur128(signal, rate_hz)
    assert ours.shape == theirs.shape
    full = np.arange(len(ours))[:, None] >= [3, 29, 3]
    return cast(Doubles, np.where(full & (theirs > -70), abs(ours - theirs), 0.0).max(axis=0))


def test_coefficients_at_48_khz() -> None:
    """The filters that are derived for any rate equal the tabulated ones at 48 kHz."""
    shelf, high_pass = k_weighting(48000)

    assert pytest.approx(np.array(loudness.SHELF_48K), abs=1e-14) == np.array(shelf)
    assert pytest.approx(np.array(loudness.HIGH_PASS_48K), abs=1e-14) == np.array(high_pass)


@pytest.mark.parametrize("rate_hz", [44100, 88200, 96000, 192000, 768000])
def test_response_at_other_rates(rate_hz: int) -> None:
    """From 10 Hz to 12 kHz each rate has the response of 48 kHz within 0.01 dB."""
    hz = np.geomspace(10, 12000, 500)

    def gain_db(rate_hz: int) -> Doubles:
        z = np.exp(2j * np.pi * hz / rate_hz)
        ratios = [np.polyval(top, z) / np.polyval(bottom, z) for top, bottom in k_weighting(rate_hz)]
        return cast(Doubles, 20 * np.log10(abs(np.prod(ratios, axis=0))))

    assert pytest.approx(gain_db(48000), abs=0.01) == gain_db(rate_hz)


@pytest.mark.parametrize("rate_hz", [8000, 48000, 192000])
def test_filter_is_the_recursion(rate_hz: int) -> None:
    """Fed in pieces of any length, the filter gives what the difference equations give sample by sample."""
    samples = np.random.default_rng(1).standard_normal((2, 4000))
    keyed = KWeighting(rate_hz, 2)
    pieces = np.split(samples, [1, 33, 65, 97, 1300, 2325, 3999], axis=1)

    filtered = np.concatenate([keyed(piece) for piece in pieces], axis=1)

    shelf, high_pass = k_weighting(rate_hz)
    expected = [list(recursion(recursion(channel, *shelf), *high_pass)) for channel in samples]
    assert pytest.approx(np.array(expected), abs=1e-9) == filtered


def recursion(samples: Any, top: tuple[float, ...], bottom: tuple[float, ...]) -> Iterator[float]:
    """A biquad in direct form I."""
    x1 = x2 = y1 = y2 = 0.0
    for x in samples:
        y = top[0] * x + top[1] * x1 + top[2] * x2 - bottom[1] * y1 - bottom[2] * y2
        x1, x2, y1, y2 = x, x1, y, y1
        yield y


@pytest.mark.parametrize("rate_hz", [44100, 48000, 96000])
@pytest.mark.parametrize("level", [-23.0, -33.0])
def test_ebu_1_and_2(level: float, rate_hz: int) -> None:
    """Tech 3341 cases 1 and 2: a stereo sine of 1 kHz at -23 (-33) dBFS has -23 (-33) LUFS in all three measures."""
    rows = Meter(2, rate_hz).feed(tone([(level, 20)], rate_hz=rate_hz)).rows

    assert pytest.approx([level] * 3, abs=0.1) == rows[-1]


@pytest.mark.parametrize(
    "parts",
    [
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
        [(-26, 20), (-20, 20.1), (-26, 20)],
    ],
    ids=["case-3", "case-4", "case-5"],
)
def test_ebu_3_to_5(parts: list[tuple[float, float]]) -> None:
    """Tech 3341 cases 3 to 5: the gates leave out what they must, integrated is -23 LUFS."""
    rows = Meter(2).feed(tone(parts)).rows

    assert pytest.approx(-23.0, abs=0.1) == rows[-1, 2]


def test_ebu_6() -> None:
    """Tech 3341 case 6: 5.1 channels are weighted and the LFE is left out."""
    signal = tone([(0, 20)], channels=6) * (10 ** (np.array([-28, -28, -24, -6, -30, -30]) / 20)).astype(np.float32)

    assert pytest.approx(-23.0, abs=0.1) == Meter(6).feed(signal).rows[-1, 2]


def test_ebu_9() -> None:
    """Tech 3341 case 9: short-term stays at -23 LUFS from 3 s on."""
    rows = Meter(2).feed(tone([(-20, 1.34), (-30, 1.66)] * 5)).rows

    assert pytest.approx(np.full(len(rows) - 29, -23.0), abs=0.1) == rows[29:, 1]


@pytest.mark.parametrize("n", range(20))
def test_ebu_10(n: int) -> None:
    """Tech 3341 case 10: a tone of 3 s reaches -23 LUFS short-term wherever it begins."""
    rows = Meter(2).feed(tone([(-300, 0.15 * n), (-23, 3), (-300, 1)])).rows

    assert pytest.approx(-23.0, abs=0.1) == rows[:, 1].max()


def test_ebu_12() -> None:
    """Tech 3341 case 12: momentary stays at -23 LUFS from 1 s on."""
    rows = Meter(2).feed(tone([(-20, 0.18), (-30, 0.22)] * 25)).rows

    assert pytest.approx(np.full(len(rows) - 10, -23.0), abs=0.1) == rows[10:, 0]


@pytest.mark.parametrize("n", range(0, 20, 5))
def test_ebu_13(n: int) -> None:
    """Tech 3341 case 13: a tone of 0.4 s that begins with a step of 100 ms reaches -23 LUFS momentary."""
    rows = Meter(2).feed(tone([(-300, 0.02 * n), (-23, 0.4), (-300, 1)])).rows

    assert pytest.approx(-23.0, abs=0.1) == rows[:, 0].max()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [44100, 48000, 96000])
def test_against_libebur128(rate_hz: int, channels: int) -> None:
    """On music-like noise all three measures stay within 0.05 LU of libebur128, at every 100 ms."""
    assert (deviation(music(rate_hz, channels), rate_hz) < 0.05).all()


def test_comparison_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the K-weighting the comparison with libebur128 fails on a tone of 40 Hz, with it it does not."""
    bass = tone([(-20, 5)], hz=40.0)
    weighted = deviation(bass, 48000)
    monkeypatch.setattr(KWeighting, "__call__", lambda self, samples: samples.astype(np.float64))

    unweighted = deviation(bass, 48000)

    assert (weighted < 0.05).all()
    assert (unweighted > 1.0).all()


def test_block_size_does_not_matter() -> None:
    """Blocks of 1 to 48000 frames give the same records."""
    signal = music(48000, seconds=4)
    whole = Meter(2).feed(signal)

    for block in (31, 64, 1024, 4801, 48000):
        parts = Meter(2).feed(signal, block=block)
        assert whole.context.times == parts.context.times
        assert pytest.approx(whole.rows, abs=1e-9) == parts.rows


@pytest.mark.parametrize("rate_hz", [44100, 22050, 11025])
def test_time_is_that_of_the_end_of_the_step(rate_hz: int) -> None:
    """Records come each 100 ms of rack time, also when that is no whole number of frames."""
    meter = Meter(1, rate_hz).feed(np.zeros((rate_hz, 1), np.float32), block=333)

    expected = [math.ceil(step * rate_hz / 10) * SECOND // rate_hz for step in range(1, 11)]
    assert expected == meter.context.times


def test_late_start_waits_for_the_grid() -> None:
    """A plugin that is loaded within a step measures from the next one on."""
    meter = Meter(2).feed(tone([(-23, 0.3)]), frame=1000)

    assert [SECOND // 5, 3 * SECOND // 10] == meter.context.times


def test_gap() -> None:
    """Steps with lost frames are left out; the others are measured, and nothing looks like silence."""
    signal = tone([(-23, 8)])
    meter = Meter(2).feed(signal[:240_100], block=1000)

    meter.feed(signal[251_364:], frame=251_364, block=1000)

    steps = np.array(meter.context.times) * 10 // SECOND
    assert [*range(1, 51), *range(54, 81)] == steps.tolist()
    assert pytest.approx(np.full((len(steps) - 29, 3), -23.0), abs=0.1) == meter.rows[29:]


def test_sample_that_is_not_finite() -> None:
    """After a NaN or infinite sample the measures recover within 2 steps."""
    signal = tone([(-23, 6)])
    signal[[100_000, 150_000]] = np.nan, np.inf

    meter = Meter(2).feed(signal)

    assert len(meter.rows) >= 60 - 4
    assert pytest.approx([-23.0] * 3, abs=0.1) == meter.rows[-1]


def test_silence_has_the_floor() -> None:
    """Silence, and windows that are not full yet, read -120.0, which JSON can say."""
    silence = Meter(2).feed(np.zeros((48000 * 4, 2), np.float32)).rows
    start = Meter(2).feed(tone([(-23, 3)])).rows

    assert np.full((40, 3), -120.0).tolist() == silence.tolist()
    assert [[True] * 3] * 3 == (start[:3] == FLOOR_LUFS).tolist()
    assert [False, True, False] == (start[3] == FLOOR_LUFS).tolist()
    assert [True, False] == (start[28:, 1] == FLOOR_LUFS).tolist()


def test_weights() -> None:
    """Configured weights replace the standard's; a channel of weight 0 may hold anything."""
    signal = tone([(-23, 4)], channels=4)
    signal[:, 2:] = np.nan

    assert pytest.approx([-23.0] * 3, abs=0.1) == Meter(4, weights=[1, 1, 0, 0]).feed(signal).rows[-1]


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, math.inf]])
def test_bad_weights(weights: list[float]) -> None:
    """Weights of another number than the channels', negative or infinite ones are refused by name."""
    with pytest.raises(ValueError, match="weights"):
        Meter(2, weights=weights)


def test_rate_too_low() -> None:
    """A rate at which the shelf has no room is refused."""
    with pytest.raises(ValueError, match="8000 Hz or more, not 4000 Hz"):
        Meter(2, rate_hz=4000)


def test_gated_mean_is_that_of_the_standard() -> None:
    """The bins give what sorting a list of all blocks gives, within 0.01 LU, in memory that does not grow."""
    rng = np.random.default_rng(3)
    levels = np.concatenate([rng.normal(-23, 8, 3000), rng.uniform(-90, -20, 3000)])
    energies = 10 ** ((levels + 0.691) / 10)
    gated = GatedMean()
    size = gated._counts.nbytes + gated._energies.nbytes

    for energy in energies:
        gated.add(float(energy))

    audible = energies[levels > -70]
    loud = audible[audible > audible.mean() / 10]
    assert pytest.approx(lufs(loud.mean()), abs=0.01) == lufs(gated.mean())
    assert size == gated._counts.nbytes + gated._energies.nbytes
