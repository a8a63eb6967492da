"""Raw sample formats, and pipes that are read."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sigrack_engine.files import SoundFileError
from sigrack_engine.pipe import PipeReader, decode, encode
from waiting import wait_until

SAMPLES = np.array([[0.0, 0.5], [-1.0, 1.0], [0.25, -2.0]], np.float32)


def test_float32_is_passed_through() -> None:
    """float32 samples are their own bytes, frame by frame."""

    assert SAMPLES.tobytes() == encode(SAMPLES, "float32")


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_integers_are_little_endian_and_clipped(bits: int) -> None:
    """Integers have their width in bytes; full scale and beyond is clipped, not wrapped."""
    raw = encode(SAMPLES, f"int{bits}")
    size = bits // 8
    found = [int.from_bytes(raw[i : i + size], "little", signed=True) for i in range(0, len(raw), size)]
    full = 2 ** (bits - 1)

    assert [0, full // 2, -full, full - 1, full // 4, -full] == found


@pytest.mark.parametrize("kind", ["float32", "int16", "int24", "int32"])
def test_what_was_encoded_comes_back(kind: str) -> None:
    """Decoding gives back what a format can hold: the ends of its range, nothing, and one step of it."""
    step = 2.0 ** -min(int(kind[-2:]) - 1, 23)
    samples = np.array([[-1.0, 1.0 - step], [0.0, step], [-step, 0.5]], np.float32)

    found = decode(encode(samples, kind), kind, 2)

    assert found.dtype == np.float32
    assert np.array_equal(samples, found)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A named pipe that nobody has opened."""
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


@contextmanager
def reading(path: Path | str, *, reopen: bool = False) -> Iterator[PipeReader]:
    """A reader of stereo samples."""
    reader = PipeReader(str(path), "int16", rate_hz=48_000, channels=2, reopen=reopen)
    yield reader
    reader.close()


def wait_for_readers(path: Path) -> int:
    """The write end, once the pipe is read."""

    def opened() -> list[int]:
        try:
            return [os.open(path, os.O_WRONLY | os.O_NONBLOCK)]
        except OSError:
            return []

    return wait_until(opened)[0]


def frames_of(*frames: int) -> bytes:
    """Raw stereo frames; left holds the number, right its negative."""
    return b"".join(np.array([frame, -frame], "<i2").tobytes() for frame in frames)


def read_beside(reader: PipeReader, limit: int = 100) -> tuple[threading.Thread, list[int]]:
    """Read on a thread until nothing comes; return the numbers in the frames."""
    found: list[int] = []

    def read() -> None:
        while len(samples := reader.read(limit)):
            assert len(samples) <= limit
            assert np.array_equal(samples[:, 0], -samples[:, 1])
            found.extend(np.round(samples[:, 0] * 2**15).astype(int).tolist())

    thread = threading.Thread(target=read)
    thread.start()
    return thread, found


def has_changed(reader: PipeReader, pipe: int | None) -> bool:
    """Whether it has opened the pipe again."""
    return reader._pipe != pipe


def test_frames_are_whole_however_they_are_written(fifo: Path) -> None:
    """A frame that comes in pieces is given when it is complete; what is left of one at the end is not."""
    with reading(fifo) as reader:
        thread, found = read_beside(reader, limit=3)
        pipe = wait_for_readers(fifo)
        raw = frames_of(1, 2, 3, 4, 5)
        for part in (raw[:3], raw[3:5], raw[5:], b"ab"):
            os.write(pipe, part)
        os.close(pipe)
        thread.join(10)

        assert [1, 2, 3, 4, 5] == found
        assert 5 == reader.position


def test_a_read_that_waits_for_a_first_writer_can_be_interrupted(fifo: Path) -> None:
    """A pipe that nobody writes ends at once when asked to."""
    with reading(fifo) as reader:
        thread, found = read_beside(reader)
        reader.interrupt()
        thread.join(10)

        assert not thread.is_alive()
        assert [] == found


def test_the_next_writer_begins_with_a_whole_frame(fifo: Path) -> None:
    """With `reopen` a pipe goes on, and what the last writer left of a frame is forgotten."""
    with reading(fifo, reopen=True) as reader:
        thread, found = read_beside(reader)
        for part, rest in ((frames_of(1, 2), b"abc"), (frames_of(3), b""), (frames_of(4, 5), b"a")):
            pipe = wait_for_readers(fifo)
            wait_until(partial(has_changed, reader, None))  # it has not only opened the pipe, but knows it
            before = reader._pipe
            os.write(pipe, part + rest)
            os.close(pipe)
            wait_until(partial(has_changed, reader, before))  # it has seen the end
        reader.interrupt()
        thread.join(10)

        assert [1, 2, 3, 4, 5] == found


def test_a_pipe_that_cannot_be_opened(tmp_path: Path) -> None:
    """The error names the pipe."""
    with reading(tmp_path / "none") as reader, pytest.raises(SoundFileError, match="none: No such file or directory"):
        reader.read(1)
