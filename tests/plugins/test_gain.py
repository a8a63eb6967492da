"""The gain, called as the engine calls it."""

import ctypes as c
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from racks import noise
from sigrack.errors import ConfigError
from sigrack.loading import NativePlugin
from sigrack_engine.results import POST_ADDRESS
from sigrack_plugins import abi, bundled

Floats = npt.NDArray[np.float32]
Change = tuple[int, int, float]
"""Frame, parameter, value."""

RATE_HZ = 48_000
GAIN_DB, SMOOTH_MS = 0, 1
PROCESS = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(abi.Block))
ROUNDING = 3e-5
"""Of a ramp in single precision, cut into single frames."""


def planes(sound: Floats) -> "c.Array[c.c_void_p]":
    """The channels' addresses."""
    return (c.c_void_p * len(sound))(*(channel.ctypes.data for channel in sound))


def cuts(frames: int, block: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each block."""
    return ((start, min(start + block, frames)) for start in range(0, frames, block))


def play(sound: Floats, values: Sequence[float], changes: Sequence[Change] = (), block: int = 512) -> Floats:
    """Send (channels, frames) through a new gain."""
    instance = NativePlugin(bundled()["gain"]).create({}, 0, POST_ADDRESS)
    instance.activate(rate_hz=RATE_HZ, max_frames=block, channels=len(sound), values=list(values))
    process, out = PROCESS(instance.process_address), np.full_like(sound, np.nan)
    for start, stop in cuts(sound.shape[1], block):
        inputs, outputs = planes(sound[:, start:stop]), planes(out[:, start:stop])
        events = [abi.Event(frame - start, param, value) for frame, param, value in changes if start <= frame < stop]
        array = (abi.Event * len(events))(*events)
        addresses = c.addressof(inputs), c.addressof(outputs)
        call = abi.Block(c.sizeof(abi.Block), stop - start, start, *addresses, len(sound), len(events), array)
        assert 0 == process(instance.pointer, call)
    instance.destroy()
    return out


def linear(db: float) -> np.float32:
    """The factor."""
    return np.float32(10.0 ** (db / 20.0))


def ones(frames: int, channels: int = 1) -> Floats:
    """A signal that shows the gain itself."""
    return np.ones((channels, frames), np.float32)


@pytest.mark.parametrize("db", [24.0, 6.0, 0.0, -6.0, -60.0, -119.9])
@pytest.mark.parametrize("block", [1, 100, 512])
def test_a_steady_gain_is_one_multiplication(db: float, block: int) -> None:
    """From the first frame on each sample is multiplied by 10^(dB/20) in single precision, without smoothing."""
    sound = np.ascontiguousarray(noise(1000, 3).T)

    assert np.array_equal(sound * linear(db), play(sound, [db, 20.0], block=block))


@pytest.mark.parametrize("block", [1, 64, 100, 512, 4096])
@pytest.mark.parametrize("at", [0, 1, 63, 64, 777])
def test_a_change_is_a_line_over_smooth_ms(at: int, block: int) -> None:
    """From the change's frame on the gain moves in equal steps, and smooth_ms later it is exact, wherever blocks end."""
    frames = 480  # 10 ms
    gain = play(ones(2000), [0.0, 10.0], [(at, GAIN_DB, -20.0)], block)[0]
    line = 1.0 + (linear(-20.0) - 1.0) * np.arange(1, frames + 1) / frames

    assert np.all(1.0 == gain[:at])
    assert np.allclose(line, gain[at : at + frames], rtol=0, atol=ROUNDING)
    assert linear(-20.0) < gain[at + frames - 2]
    assert np.all(linear(-20.0) == gain[at + frames :])


@pytest.mark.parametrize("block", [1, 100, 512])
def test_a_change_during_a_change_begins_where_that_is(block: int) -> None:
    """The second line begins at the first one's value at that frame, without a step, and takes smooth_ms of its own."""
    gain = play(ones(1500), [0.0, 10.0], [(100, GAIN_DB, -120.0), (340, GAIN_DB, 0.0)], block)[0]
    line = 0.5 + 0.5 * np.arange(1, 481) / 480

    assert np.isclose(0.5, gain[339], rtol=0, atol=ROUNDING)
    assert np.allclose(line, gain[340:820], rtol=0, atol=ROUNDING)
    assert np.all(1.0 == gain[820:])


@pytest.mark.parametrize("block", [1, 100, 512])
def test_changes_without_smoothing_are_steps_at_their_frames(block: int) -> None:
    """With smooth_ms = 0 several changes in one block each hold from their own frame on."""
    changes = [(5, GAIN_DB, 6.0), (6, GAIN_DB, -6.0), (99, GAIN_DB, -20.0), (400, GAIN_DB, 0.0)]
    expected = np.repeat([linear(db) for db in (0.0, 6.0, -6.0, -20.0, 0.0)], [5, 1, 93, 301, 100])

    assert np.allclose(expected, play(ones(500), [0.0, 0.0], changes, block)[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("block", [1, 100, 512])
def test_smooth_ms_holds_for_the_changes_after_it(block: int) -> None:
    """A change under way keeps its length; the next one takes the new one, also at the same frame."""
    changes = [(10, GAIN_DB, -6.0), (20, SMOOTH_MS, 1.0), (490, SMOOTH_MS, 2.0), (490, GAIN_DB, -12.0)]
    gain = play(ones(1000), [0.0, 10.0], changes, block)[0]
    long = 1.0 + (linear(-6.0) - 1.0) * np.arange(1, 481) / 480
    short = linear(-6.0) + (linear(-12.0) - linear(-6.0)) * np.arange(1, 97) / 96

    assert np.allclose(long, gain[10:490], rtol=0, atol=ROUNDING)
    assert np.allclose(short, gain[490:586], rtol=0, atol=ROUNDING)
    assert np.all(linear(-12.0) == gain[586:])


@pytest.mark.parametrize("block", [1, 512])
def test_minus_120_db_is_silence(block: int) -> None:
    """The lowest gain is zero, at the start and at the end of a change."""
    sound = np.ascontiguousarray(noise(1000).T)
    faded = play(sound, [0.0, 10.0], [(100, GAIN_DB, -120.0)], block)

    assert not play(sound, [-120.0, 20.0], block=block).any()
    assert np.array_equal(sound[:, :100], faded[:, :100])
    assert np.abs(faded[:, 578]).max() > np.abs(faded[:, 579]).max()
    assert not faded[:, 580:].any()


def test_all_channels_move_alike() -> None:
    """32 channels have the gain of one."""
    changes = [(100, GAIN_DB, -30.0), (300, GAIN_DB, 12.0)]
    alone = play(ones(1000), [3.0, 5.0], changes)

    assert np.array_equal(np.repeat(alone, 32, 0), play(ones(1000, 32), [3.0, 5.0], changes))


def test_a_configuration_is_refused() -> None:
    """Gain has parameters only."""
    with pytest.raises(ConfigError, match=r"slot\.params"):
        NativePlugin(bundled()["gain"]).create({"db": 1}, 0, POST_ADDRESS)
