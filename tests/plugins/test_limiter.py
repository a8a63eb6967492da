"""The limiter's gain: nothing below the ceiling, down in time, held, released; what it counts; what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from limiting import RATE_HZ, Floats, Limiter, hard, limited
from oracles.truepeak import true_peak_db
from racks import noise
from sigrack.errors import ConfigError
from sigrack.loading import NativePlugin
from sigrack.rendering import render
from sigrack_plugins import bundled

MS = RATE_HZ // 1000
"""Frames of 1 ms."""
QUIET = np.float32(2.0**-10)
"""A constant in a second channel that shows the gain: products with a power of two are exact."""
SMOOTH = round(1.5 * MS)
"""Frames in which the gain falls by default."""
GUARD = 16
"""Frames around a peak over which the gain keeps still."""
REACH = 50
"""Frames from which the sound between two frames is made, on each side."""
MARGIN_DB = 0.4
"""How far below the ceiling the gain aims."""


def gain_of(sound: Floats, *changes: tuple[int, str, float], **params: float) -> Floats:
    """The gain that each frame of a mono sound gets."""
    both = np.stack([sound, np.full_like(sound, QUIET)])
    with Limiter(2, **params) as limiter:
        return np.asarray(limiter.play(both, *changes)[1] / QUIET)


def click(at: int, frames: int, size: float = 10.0) -> Floats:
    """One sample."""
    return np.asarray(size * (np.arange(frames) == at), np.float32)


def scaled(sound: Floats, peak_db: float) -> Floats:
    """The sound with this true peak."""
    return np.asarray(sound * 10 ** ((peak_db - true_peak_db(sound)) / 20), np.float32)


@pytest.mark.parametrize("channels", [1, 2, 32])
@pytest.mark.parametrize("rate_hz", [8_000, 48_000, 705_600])
def test_below_the_ceiling_the_output_is_the_input(channels: int, rate_hz: int) -> None:
    """Up to 0.6 dB below the ceiling each sample is kept to the bit, denormals and minus zero too."""
    sound = scaled(np.ascontiguousarray(noise(3000, channels).T), -0.7)
    sound[:, :3] = [[-0.0, 1e-42, -1e-38]]

    assert np.array_equal(sound.view(np.uint32), limited(sound, rate_hz).view(np.uint32))


def test_just_above_it_is_not() -> None:
    """At the ceiling itself the gain is below 1."""
    sound = scaled(noise(3000, 1).T, -0.05)

    assert not np.array_equal(sound, limited(sound))


@pytest.mark.parametrize(
    ("rate_hz", "lookahead_ms", "latency"),
    [
        (48_000, None, 72),
        (48_000, 10.0, 480),
        (48_000, 0.5, 64),
        (8_000, 1.5, 64),
        (705_600, 1.5, 1058),
        (1_600_000, 10.0, 16_000),
    ],
)
def test_latency(rate_hz: int, lookahead_ms: float | None, latency: int) -> None:
    """It is the look-ahead, 64 frames at least, and 64 frames that the measurement takes; the output comes that late."""
    with Limiter(1, rate_hz, lookahead_ms) as limiter:
        sound = np.asarray(noise(40_000, 1).T / 4, np.float32)
        out = limiter.block(sound)

    assert latency + 64 == limiter.latency
    assert not out[:, : limiter.latency].any()
    assert np.array_equal(sound[:, : -limiter.latency], out[:, limiter.latency :])


def test_all_channels_get_one_gain() -> None:
    """A loud channel turns the others down as much."""
    loud = hard("jumping noise")
    gain = gain_of(loud)

    assert gain.min() < 0.1
    assert np.array_equal(loud * gain, limited(np.stack([loud, np.full_like(loud, QUIET)]))[0])


@pytest.mark.parametrize("size", [1.2, 2.0, 10.0])
def test_the_gain_is_down_in_time(size: float) -> None:
    """It falls within the look-ahead, is where it must be 15 frames before a peak, and stays there through the hold."""
    gain = gain_of(click(2000, 4000, size))
    wanted = 10 ** ((-0.1 - MARGIN_DB) / 20) / size
    first, last = 2000 - (GUARD - 1), 2000 + GUARD + 10 * MS

    assert np.all(1.0 == gain[: first - SMOOTH - REACH])
    assert np.allclose(wanted, gain[first:last], rtol=1e-5, atol=0)
    assert gain[first - SMOOTH // 2] > 0.4
    assert gain[last + 10 * MS] > wanted


def curvature(gain: Floats) -> float:
    """The largest change of a change."""
    return float(np.abs(np.diff(gain, 2)).max())


def test_the_gain_never_steps() -> None:
    """Whatever comes, it bends no more than the averages' triangle allows; one that steps at block edges does not pass."""
    most = 2 * 4 / SMOOTH**2
    gain = gain_of(hard("jumping noise"), hold_ms=0.0, release_ms=10.0)
    stepping = gain.reshape(-1, 240).min(1).repeat(240)

    assert gain.min() < 0.01
    assert curvature(gain) <= most
    assert np.abs(np.diff(gain)).max() <= 2 / SMOOTH
    assert curvature(stepping) > most


@pytest.mark.parametrize("release_ms", [10.0, 80.0, 500.0])
def test_the_release_is_exponential(release_ms: float) -> None:
    """After the hold the rest of a small reduction falls by a factor of e in each release_ms, and in the end nothing is left."""
    frames = round(release_ms * MS)
    begin = 2000 + GUARD + 5 * MS + SMOOTH
    reduction = 1.0 - gain_of(click(2000, begin + 20 * frames, 1.1), hold_ms=5.0, release_ms=release_ms).astype(np.float64)

    assert pytest.approx(np.exp(-1), abs=0.01) == reduction[begin + 3 * frames] / reduction[begin + 2 * frames]
    assert np.all(0.0 == reduction[begin + 17 * frames :])


def test_deep_reductions_are_released_at_a_bounded_rate() -> None:
    """Far below 1 the gain rises by a factor of e in each release_ms, no faster."""
    frames = 20 * MS
    gain = gain_of(click(2000, 2000 + 8 * frames, 10_000.0), hold_ms=0.0, release_ms=20.0)
    begin = 2000 + GUARD + SMOOTH

    assert pytest.approx(np.exp(3), rel=0.01) == gain[begin + 3 * frames] / gain[begin]


def test_a_lower_ceiling_holds_from_its_frame_on() -> None:
    """A change of ceiling_db travels with the sound: what comes from its offset on is below the new one."""
    sound = np.asarray(0.9 * np.sin(np.arange(20_000) * 0.05), np.float32)
    with Limiter() as limiter:
        out = limiter.play(sound, (10_000, "ceiling_db", -20.0))[0]

    before = 10_000 - REACH - SMOOTH - GUARD

    assert np.array_equal(sound[:before], out[:before])
    assert true_peak_db(out[10_000:]) <= -20.0
    assert np.abs(out[10_000:]).max() > 0.95 * 0.1


@pytest.mark.parametrize("ms", [0.0, 1.0, 20.0])
def test_the_soft_start_is_a_line(ms: float) -> None:
    """The first soft_start_ms of sound after activation and after a reset rise from 0 to what they are."""
    frames = round(ms * MS)
    line = np.ones(3000)
    line[:frames] = np.arange(1, frames + 1) / max(frames, 1)
    with Limiter(soft_start_ms=ms) as limiter:
        first = limiter.play(np.full(3000, 0.5, np.float32))[0]
        limiter.reset()
        second = limiter.play(np.full(3000, 0.5, np.float32))[0]

    assert np.allclose(0.5 * line, first, rtol=0, atol=1e-6)
    assert np.array_equal(first, second)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2e6, -3e38])
def test_what_is_no_sound_becomes_silence(bad: float) -> None:
    """NaN, infinity and what is beyond +120 dBFS are played as 0 and counted; nothing else changes."""
    sound = np.ascontiguousarray(noise(3000, 2).T)
    silenced = sound.copy()
    silenced[1, 1000:1003] = 0.0
    sound[1, 1000:1003] = bad
    with Limiter(2, interval_ms=1.0) as limiter:
        out = limiter.play(sound)
        _, overloads = limiter.posted("overloads")

    assert np.array_equal(silenced, out)
    assert 3 == overloads[-1, 3]


def test_what_is_counted() -> None:
    """Frames limited, frames over 0 dBTP and clipped samples are those that numpy counts."""
    sound = np.full((2, 24_000), QUIET)
    sound[0, 6000:6100] = 2.0
    with Limiter(2, release_ms=10.0) as limiter:
        gain = limiter.block(sound)[1, limiter.latency :] / QUIET
        frames, overloads = limiter.posted("overloads")

    assert [4800, 9600, 14_400, 19_200, 24_000] == frames
    assert [0, 0, 0, 0] == overloads[0].tolist()
    assert [np.count_nonzero(gain < 1.0), pytest.approx(100, abs=2), 100, 0] == overloads[-1].tolist()


def test_gain_reduction_is_that_of_each_interval() -> None:
    """Each report holds the deepest reduction since the last one, and of all so far."""
    sound = click(2000, 9600, 10.0) + click(6000, 9600, 2.0)
    both = np.stack([sound, np.full_like(sound, QUIET)])
    with Limiter(2, interval_ms=10.0, hold_ms=0.0, release_ms=10.0) as limiter:
        gain = limiter.block(both)[1, limiter.latency :] / QUIET
        frames, depth = limiter.posted("gain_reduction_db")
    gain = np.concatenate([np.ones(limiter.latency), gain])
    wanted = [-20 * np.log10(gain[end - 480 : end].min()) for end in frames]

    assert list(range(480, 9601, 480)) == frames
    assert np.allclose(wanted, depth[:, 0], rtol=0, atol=1e-4)
    assert np.allclose(np.maximum.accumulate(wanted), depth[:, 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "config", [{"lookahead_ms": 0.4}, {"lookahead_ms": "2"}, {"lookahead": 2}, {"lookahead_ms": 2, "hold_ms": 1}]
)
def test_a_configuration_that_it_does_not_know_is_refused(config: dict[str, object]) -> None:
    """The one key is lookahead_ms, 0.5 to 10."""
    with pytest.raises(ConfigError, match=r"lookahead_ms.*0\.5 to 10.*slot\.params"):
        NativePlugin(bundled()["limiter"]).create(config, 0, 0)


def test_a_rack_with_a_limiter_is_aligned_and_safe(tmp_path: Path) -> None:
    """Rendered, what is quiet is the same file, and what is loud has no true peak above the ceiling."""
    rack = tmp_path / "rack.toml"
    rack.write_text(
        '[source]\ndriver = "file"\npath = "-"\n[[slot]]\nname = "safety"\nplugin = "limiter"\n'
        "config = { lookahead_ms = 2.5 }\nparams = { ceiling_db = -1.0, soft_start_ms = 0.0 }\n"
    )
    for gain in (1.0, 20.0):
        sound = np.float32(gain) * noise(20_000) / 4
        soundfile.write(tmp_path / "in.wav", sound, RATE_HZ, subtype="FLOAT")
        render(rack, tmp_path / "in.wav", tmp_path / "out.wav", overwrite=True)
        heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")

        assert np.array_equal(sound, heard) == (gain == 1.0)
        assert true_peak_db(heard.T) <= -1.0
