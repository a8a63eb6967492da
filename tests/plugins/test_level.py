"""The level meter, called as the engine calls it, against numpy."""

import ctypes as c
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from racks import noise
from sigrack.errors import ConfigError
from sigrack.loading import NativePlugin
from sigrack_engine.bell import Bell
from sigrack_engine.results import POST_ADDRESS, ResultRing
from sigrack_plugins import abi, bundled

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

RATE_HZ = 48_000
INTERVAL_MS = 0
MS = RATE_HZ // 1000
"""Frames of 1 ms."""
FLOOR_DB = -200.0
PROCESS = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(abi.Block))


class Meter:
    """A level meter and what it has posted."""

    def __init__(self, channels: int, interval_ms: float, rate_hz: int = RATE_HZ) -> None:
        self.bell = Bell()
        plugin = NativePlugin(bundled()["level"])
        self.results = ResultRing(self.bell, list(plugin.factors), None, max_values=abi.MAX_CHANNELS)
        self.instance = plugin.create({}, self.results.cookie, POST_ADDRESS)
        self.instance.activate(rate_hz=rate_hz, max_frames=1 << 16, channels=channels, values=[interval_ms])
        self.frame = 0

    def __enter__(self) -> "Meter":
        return self

    def __exit__(self, *_: object) -> None:
        self.instance.destroy()
        assert self.results.close()
        self.bell.close()

    def play(self, sound: Floats, *changes: tuple[int, float]) -> Floats:
        """One block of (channels, frames); each change is the interval in ms from an offset on."""
        out = np.full_like(sound, np.nan)
        inputs, outputs = planes(sound), planes(out)
        events = (abi.Event * len(changes))(*(abi.Event(offset, INTERVAL_MS, value) for offset, value in changes))
        addresses = c.addressof(inputs), c.addressof(outputs)
        frames = sound.shape[1]
        block = abi.Block(c.sizeof(abi.Block), frames, self.frame, *addresses, len(sound), len(changes), events)
        assert 0 == PROCESS(self.instance.process_address)(self.instance.pointer, block)
        self.frame += frames
        return out

    def posted(self, symbol: str) -> tuple[list[int], Doubles]:
        """Frames and values, of shape (records, channels), of what waits; the other factor's records are dropped."""
        taken = self.results.take(4096)
        if taken is None:
            return [], np.empty((0, 0))
        records = taken[0]
        mine = records[records["symbol"] == self.results.symbols.index(symbol)]
        return mine["frame"].tolist(), mine["values"][:, : records["count"][0]]


def planes(sound: Floats) -> "c.Array[c.c_void_p]":
    """The channels' addresses."""
    return (c.c_void_p * len(sound))(*(channel.ctypes.data for channel in sound))


def sound_of(frames: int, channels: int = 2) -> Floats:
    """Noise, each channel with a level of its own."""
    scale = 10.0 ** (-np.arange(channels) / 4)
    return np.ascontiguousarray((noise(frames, channels) * scale).T, np.float32)


def db(amplitude: Doubles) -> Doubles:
    """In dBFS."""
    decibels: Doubles = 20.0 * np.log10(amplitude)
    return decibels


def peaks_db(sound: Floats, ends: Sequence[int]) -> Doubles:
    """The peaks of the intervals that end there."""
    return np.array([db(np.abs(part.astype(np.float64)).max(1)) for part in intervals(sound, ends)])


def rms_db(sound: Floats, ends: Sequence[int]) -> Doubles:
    """The RMS of the intervals that end there."""
    return np.array([db(np.sqrt((part.astype(np.float64) ** 2).mean(1))) for part in intervals(sound, ends)])


def intervals(sound: Floats, ends: Sequence[int]) -> Iterator[Floats]:
    """The parts of a signal."""
    return (sound[:, start:stop] for start, stop in zip([0, *ends[:-1]], ends, strict=True))


def assert_posts(meter: Meter, sound: Floats, ends: Sequence[int]) -> None:
    """Both factors come at these frames, with numpy's values; nothing is lost."""
    taken = meter.results.take(4096)
    assert taken is not None
    records = taken[0]
    names = [meter.results.symbols[number] for number in records["symbol"]]
    values = records["values"][:, : len(sound)]

    assert ["peak_db", "rms_db"] * len(ends) == names
    assert np.repeat(ends, 2).tolist() == records["frame"].tolist()
    assert np.all(len(sound) == records["count"])
    assert np.allclose(peaks_db(sound, ends), values[0::2], rtol=0, atol=1e-9)
    assert np.allclose(rms_db(sound, ends), values[1::2], rtol=0, atol=1e-4)
    assert 0 == meter.results.counts.dropped + meter.results.counts.refused


@pytest.mark.parametrize("block", [1, 7, 64, 479, 480, 481, 4800])
def test_peak_and_rms_are_numpys(block: int) -> None:
    """Each interval ends at its frame with the values of its own samples, whatever the blocks; the output is the input."""
    sound = sound_of(4800)
    with Meter(2, 10.0) as meter:
        out = np.hstack([meter.play(np.ascontiguousarray(sound[:, at : at + block])) for at in range(0, 4800, block)])

        assert_posts(meter, sound, range(480, 4801, 480))
        assert np.array_equal(sound, out)


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 192_000])
def test_the_interval_is_whole_frames_of_its_rate(rate_hz: int) -> None:
    """2.5 ms are rounded down to frames."""
    frames = int(rate_hz * 0.0025)
    sound = sound_of(3 * frames)
    with Meter(2, 2.5, rate_hz) as meter:
        meter.play(sound)

        assert_posts(meter, sound, [frames, 2 * frames, 3 * frames])


def test_one_block_holds_many_intervals() -> None:
    """A block of 20.5 ms ends 20 intervals of 1 ms; the rest waits for the next block."""
    sound = sound_of(21 * MS)
    with Meter(2, 1.0) as meter:
        meter.play(np.ascontiguousarray(sound[:, : 20 * MS + MS // 2]))
        first, _ = meter.posted("rms_db")
        meter.play(np.ascontiguousarray(sound[:, 20 * MS + MS // 2 :]))
        then, last = meter.posted("rms_db")

    assert list(range(MS, 20 * MS + 1, MS)) == first
    assert [21 * MS] == then
    assert np.allclose(rms_db(sound[:, 20 * MS :], [MS]), last, rtol=0, atol=1e-4)


@pytest.mark.parametrize("offset", [0, 1, 3 * MS, 4 * MS - 1, 4 * MS])
def test_a_longer_interval_holds_from_its_offset_on(offset: int) -> None:
    """Intervals that end before the offset keep the old length; the one that runs there gets the new one."""
    sound = sound_of(40 * MS)
    begun = offset // (2 * MS) * 2 * MS  # of the interval that runs at the offset
    ends = [*range(2 * MS, begun + 1, 2 * MS), *range(begun + 7 * MS, 40 * MS + 1, 7 * MS)]
    with Meter(2, 2.0) as meter:
        meter.play(sound, (offset, 7.0))

        assert_posts(meter, sound, ends)


def test_a_shorter_interval_than_what_is_counted_ends_at_the_offset() -> None:
    """What was measured so far is posted at the offset of the change, not at the start of the block."""
    sound = sound_of(20 * MS)
    with Meter(2, 100.0) as meter:
        meter.play(np.ascontiguousarray(sound[:, : 4 * MS]))
        meter.play(np.ascontiguousarray(sound[:, 4 * MS :]), (5 * MS + 11, 3.0))

        assert_posts(meter, sound, [9 * MS + 11, 12 * MS + 11, 15 * MS + 11, 18 * MS + 11])


def test_several_changes_in_one_block_each_have_their_frame() -> None:
    """The last of two changes at one frame counts; the others hold in between."""
    sound = sound_of(30 * MS)
    with Meter(2, 5.0) as meter:
        meter.play(sound, (10 * MS, 1.0), (12 * MS, 8.0), (12 * MS, 4.0), (20 * MS, 10.0))

        assert_posts(meter, sound, [5 * MS, 10 * MS, 11 * MS, 12 * MS, 16 * MS, 20 * MS, 30 * MS])


def test_32_channels_are_told_apart() -> None:
    """One record holds a value per channel, in their order."""
    sound = sound_of(10 * MS, 32)
    with Meter(32, 5.0) as meter:
        meter.play(sound)

        assert_posts(meter, sound, [5 * MS, 10 * MS])


def test_silence_is_the_floor() -> None:
    """Zeros, and what is below -200 dBFS, measure -200 dB; a channel with sound beside them does not."""
    sound = np.zeros((3, 4 * MS), np.float32)
    sound[1] = 1e-12
    sound[2] = -0.5
    with Meter(3, 4.0) as meter:
        meter.play(sound)
        taken = meter.results.take(10)

    assert taken is not None
    half_db = 20 * np.log10(0.5)
    assert np.allclose([[FLOOR_DB, FLOOR_DB, half_db]] * 2, taken[0]["values"][:, :3], rtol=0, atol=1e-6)


def test_an_interval_begins_with_nothing_of_the_last() -> None:
    """Silence after a loud interval measures the floor."""
    loud, silent = np.ones((1, MS), np.float32), np.zeros((1, MS), np.float32)
    with Meter(1, 1.0) as meter:
        meter.play(np.hstack([loud, silent, loud]))
        _, peaks = meter.posted("peak_db")

    assert [[0.0], [FLOOR_DB], [0.0]] == peaks.tolist()


def test_a_configuration_is_refused() -> None:
    """Level has parameters only."""
    with pytest.raises(ConfigError, match=r"slot\.params"):
        NativePlugin(bundled()["level"]).create({"interval": 1}, 0, POST_ADDRESS)
