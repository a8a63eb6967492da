"""The bundled plugin `monitor`: what is heard at its place, in a named pipe."""

import os
from pathlib import Path

import numpy as np
import pytest

from buses import bus, opened, play, slot
from racks import noise
from sigrack.errors import ConfigError
from sigrack_plugins.monitor import Pipe


@pytest.fixture(name="pipe")
def _pipe(tmp_path: Path) -> Path:
    path = tmp_path / "mic.pipe"
    os.mkfifo(path)
    return path


def reader(pipe: Path) -> int:
    """Open the reading end without waiting for a writer."""
    return os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)


def drained(descriptor: int) -> bytes:
    """Return all that is in the pipe."""
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(("kind", "dtype"), [("float32", "<f4"), ("int16", "<i2")])
def test_the_pipe_has_the_channels_of_the_slot(tmp_path: Path, pipe: Path, kind: str, dtype: str) -> None:
    """Every frame of the two channels in `in`, in that order; what goes out is not touched."""
    sound = noise(20_000, 3)
    sound[7, 2] = 1.5
    table = slot("monitor", "monitor", "ca", rest=f'config = {{ path = "{pipe}", format = "{kind}" }}')
    end = reader(pipe)
    heard = play(tmp_path, bus("abc") + table, sound)
    taken = np.frombuffer(drained(end), dtype).reshape(-1, 2)
    os.close(end)
    wanted = sound[:, [2, 0]] if kind == "float32" else np.clip(np.rint(sound[:, [2, 0]] * 32768), -32768, 32767)

    assert np.array_equal(wanted.astype(dtype), taken)
    assert np.array_equal(sound, heard.astype(np.float32))


def test_nobody_is_waited_for(tmp_path: Path, pipe: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a reader the rack runs to its end, and the log says that nothing was taken."""
    caplog.set_level("INFO", logger="sigrack")
    sound = noise(5000)
    heard = play(tmp_path, slot("monitor", "monitor", rest=f'config = {{ path = "{pipe}" }}'), sound)

    assert np.array_equal(sound, heard.astype(np.float32))
    assert f"0 of 5000 frames were taken by {pipe}" in caplog.text


@pytest.mark.parametrize("frame_bytes", [4, 12, 128])
def test_what_finds_no_room_is_left_out_by_whole_frames(pipe: Path, frame_bytes: int) -> None:
    """A reader that is too slow misses frames, but never a part of one; one that goes and comes begins with a whole one."""
    frames = 3_000_000 // frame_bytes
    numbers = np.repeat(np.arange(frames, dtype="<u4"), frame_bytes // 4).tobytes()
    writer, end, taken, written = Pipe(pipe, frame_bytes), reader(pipe), b"", 0
    for at in range(0, len(numbers), 7000 * frame_bytes):
        written += writer.write(numbers[at : at + 7000 * frame_bytes])
        taken += os.read(end, 10_001)
    writer.close()
    taken += drained(end)
    os.close(end)
    found = np.frombuffer(taken[: len(taken) // frame_bytes * frame_bytes], "<u4").reshape(-1, frame_bytes // 4)

    assert np.array_equal(found, np.repeat(found[:, :1], frame_bytes // 4, axis=1))
    assert np.all(np.diff(found[:, 0].astype(np.int64)) > 0)
    assert written - 1 <= len(found) <= written < frames

    assert 0 == writer.write(numbers[:frame_bytes])
    end = reader(pipe)
    assert 2 == writer.write(numbers[: 2 * frame_bytes])
    assert numbers[: 2 * frame_bytes] == os.read(end, 1000)
    os.close(end)
    assert 0 == writer.write(numbers[:frame_bytes])
    writer.close()


def test_what_is_no_pipe_is_said(tmp_path: Path) -> None:
    """A file, or nothing, in the pipe's place is an error of the start."""
    table = slot("monitor", "monitor", rest=f'config = {{ path = "{tmp_path / "none"}" }}')
    session = opened(tmp_path, table, noise(10))
    with pytest.raises(ConfigError, match=r"path: .*/none is not a named pipe: make one with mkfifo"):
        session.run()
