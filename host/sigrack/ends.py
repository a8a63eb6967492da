"""Where the bus begins and ends: the files and pipes that [source] and [sink] name."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sigrack.config import Document
from sigrack.demo import provide
from sigrack.tables import RATES_HZ
from sigrack_engine.files import SoundFileError, SoundReader, SoundWriter, check_target
from sigrack_engine.pipe import PipeReader, PipeWriter
from sigrack_plugins import Setup
from sigrack_plugins.abi import MAX_CHANNELS

__all__ = ["STANDARD", "Reader", "Silence", "Writer", "check_sink", "open_sink", "open_source", "ring_frames"]

Samples = npt.NDArray[np.float32]

SILENCE_RATE_HZ, SILENCE_CHANNELS = 48_000, 2
STANDARD = "-"
"""What stands for standard input and output."""
RING_S, RING_BLOCKS = 1.0, 4
"""What a ring of a live rack holds unless it is said, and at least."""


class Reader(Protocol):
    """A source."""

    @property
    def waits(self) -> bool:
        """Whether `read` waits for what somebody else has not written yet."""

    @property
    def rate_hz(self) -> int:
        """Frames per second."""

    @property
    def channels(self) -> int:
        """Number of channels."""

    @property
    def frames(self) -> int:
        """Length in frames."""

    @property
    def position(self) -> int:
        """Frames read so far."""

    def read(self, frames: int) -> Samples:
        """Return up to `frames` frames, shape (frames, channels), none at the end. Raises SoundFileError."""

    def interrupt(self) -> None:
        """Let a `read` that waits return none. [any]"""

    def close(self) -> None:
        """Let it go."""


class Silence:
    """What stands for a source that brings no audio."""

    waits = False
    frames = 0
    position = 0

    def __init__(self, rate_hz: int, channels: int) -> None:
        self.rate_hz, self.channels = rate_hz, channels

    def read(self, frames: int) -> Samples:
        """Return nothing."""
        return np.empty((0, self.channels), np.float32)

    def interrupt(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


def open_source(document: Document) -> Reader:
    """Open the file or the pipe that `[source]` names. Raises ConfigError."""
    source = document.config.source
    rate_hz, channels = source.rate_hz or SILENCE_RATE_HZ, source.channels or SILENCE_CHANNELS
    if source.driver == "none":
        return Silence(rate_hz, channels)
    if source.driver == "pipe":
        pipe = _pipe(document, "source", source.path)
        return PipeReader(pipe, source.format or "float32", rate_hz=rate_hz, channels=channels, reopen=source.reopen)
    path = document.resolve(source.path)
    provide(path)
    try:
        reader = SoundReader(path, loop=source.loop)
    except SoundFileError as error:
        document.fail(("source", "path"), str(error))
    if reader.rate_hz not in RATES_HZ:
        known = ", ".join(map(str, sorted(RATES_HZ)))
        document.fail(("source", "path"), f"{reader.path}: unknown sample rate {reader.rate_hz} Hz; valid: {known}")
    if source.rate_hz not in (None, reader.rate_hz):
        document.fail(("source", "rate_hz"), f"{reader.path} has {reader.rate_hz} Hz, not {source.rate_hz} Hz")
    if source.channels not in (None, reader.channels):
        document.fail(("source", "channels"), f"{reader.path} has {reader.channels} channels, not {source.channels}")
    if reader.channels > MAX_CHANNELS:
        document.fail(("source", "path"), f"{reader.path} has {reader.channels} channels; the bus takes {MAX_CHANNELS}")
    return reader


class Writer(Protocol):
    """A sink."""

    def write(self, samples: Samples) -> None:
        """Append (frames, channels). Raises SoundFileError."""

    def close(self) -> None:
        """Complete it."""


def check_sink(document: Document) -> None:
    """Look whether the sink could be opened; make nothing. Raises ConfigError."""
    sink = document.config.sink
    if sink.driver == "pipe":
        _pipe(document, "sink", sink.path or STANDARD)
    elif sink.driver == "file":
        try:
            check_target(_target(document), sink.format, overwrite=sink.overwrite)
        except SoundFileError as error:
            document.fail(("sink", "path"), str(error))


def _pipe(document: Document, end: Literal["source", "sink"], path: str) -> str:
    """Return the pipe at one end. Raises ConfigError if it is none."""
    if path == STANDARD:
        return path
    pipe = document.resolve(path)
    if not pipe.is_fifo():
        document.fail((end, "path"), f"{pipe} is not a named pipe: make one with mkfifo")
    if end == "sink":
        _check_apart(document, pipe)
    return str(pipe)


def _target(document: Document) -> Path:
    """Return the sink's sound file. Raises ConfigError if it is the source."""
    target = document.resolve(document.config.sink.path or "")
    _check_apart(document, target)
    return target


def _check_apart(document: Document, target: Path) -> None:
    source = document.resolve(document.config.source.path)
    if target.exists() and source.exists() and target.samefile(source):
        document.fail(("sink", "path"), f"{target}: is the source as well; give another name")


def ring_frames(document: Document, end: Literal["source", "sink"], rate_hz: int, block_frames: int) -> int:
    """Return the length of the ring at one end of a live rack. Raises ConfigError if it is too short for its blocks. [main]"""
    seconds = getattr(document.config, end).ring_s
    frames, least = round((seconds or RING_S) * rate_hz), RING_BLOCKS * block_frames
    if seconds and frames < least:
        wanted = f"{least} frames ({least / rate_hz:.3g} s at {rate_hz} Hz)"
        document.fail((end, "ring_s"), f"ring_s: {seconds:g} s is too short: a ring holds {RING_BLOCKS} blocks, here {wanted}")
    return max(frames, least)


def open_sink(document: Document, setup: Setup, expected_frames: int) -> Callable[[], Writer] | None:
    """Return a function that gives the sink's writer; sound files are opened here and now. Raises ConfigError."""
    sink = document.config.sink
    if sink.driver == "none":
        return None
    if sink.driver == "pipe":
        pipe = _pipe(document, "sink", sink.path or STANDARD)
        return lambda: PipeWriter(pipe, sink.format or "float32")
    try:
        writer = SoundWriter(
            _target(document),
            rate_hz=setup.rate_hz,
            channels=setup.channels,
            samples=sink.format,
            overwrite=sink.overwrite,
            expected_frames=expected_frames,
        )
    except SoundFileError as error:
        document.fail(("sink", "path"), str(error))
    return lambda: writer
