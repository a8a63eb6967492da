"""A sound file that is readable while it is written, whatever becomes of the process.

libsndfile hands each block to the system at once, but writes the length into the header only when the file is closed.
What a killed process leaves would be empty (RF64, and WAV for strict readers) or of unknown length, which libsndfile
cannot read (FLAC). So the length in the header is patched after each block. What the system holds survives the death of
the process, so nothing waits for the disk; a power cut can cost what the system had not yet written back.
"""

import contextlib
import io
import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import soundfile

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["CONTAINERS", "FlacHeader", "Stamp", "Take", "WaveHeader", "open_sound"]

CONTAINERS = {"flac": "FLAC", "wav": "RF64", "rf64": "RF64"}
"""What libsndfile writes for each format: "wav" may outgrow 4 GiB, so it is an RF64 file whose header says WAV."""
SILENCE_FRAMES = 16_384
"""Of silence, written at once."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a recording begins."""

    first_frame: int
    """Number of its first frame in the rack, at the recording's rate."""
    rate_hz: int
    rack_time_ns: int
    """That frame's rack time."""
    utc_ns: int
    """The time of day at that frame, since 1970."""

    @property
    def date(self) -> str:
        """The day, in UTC."""
        return self._utc.date().isoformat()

    @property
    def comment(self) -> str:
        """All of it, as words with a value each."""
        utc = self._utc.replace(tzinfo=None).isoformat(timespec="microseconds")
        return f"first_frame={self.first_frame} rate_hz={self.rate_hz} rack_time_ns={self.rack_time_ns} utc={utc}Z"

    @property
    def _utc(self) -> datetime:
        return datetime.fromtimestamp(self.utc_ns // 1000 / 1e6, UTC)


class Take:
    """One file that is being recorded. [worker]"""

    def __init__(
        self, path: Path, file_format: str, subtype: str, rate_hz: int, channels: int, *, overwrite: bool = False
    ) -> None:
        """Make the file: "take.wav", or "take-2.wav" and so on if that exists. Raises OSError, LibsndfileError."""
        self.path, self._fd = _create(path, overwrite=overwrite)
        self._file = open_sound(self._fd, file_format, subtype, rate_hz, channels)
        self._format = file_format
        self._header = _header(self._fd, self._format)
        self.frames = 0
        """Frames written."""
        self.silent = 0
        """How many of them stand for lost ones."""
        self._header.update(self.frames)

    def stamp(self, stamp: Stamp) -> None:
        """Write into the header when the recording begins; before the first frame."""
        self._file.comment, self._file.date = stamp.comment, stamp.date

    def write(self, samples: "Samples") -> None:
        """Append frames. A reader then finds all of them; of FLAC all but the last 4096 at most."""
        self._file.write(samples)
        if not self.frames:
            self._header = _header(self._fd, self._format)  # the stamp has come into it
        self.frames += len(samples)
        self._header.update(self.frames)

    def write_silence(self, frames: int) -> None:
        """Append silence for lost frames."""
        self.silent += frames
        while frames:
            length = min(frames, SILENCE_FRAMES)
            self._file.buffer_write(bytes(4 * length * self._file.channels), "float32")
            self.frames += length
            self._header.update(self.frames)
            frames -= length

    def close(self) -> None:
        """Complete the file. After a failed `write` it ends with the frames before that."""
        try:
            self._file.close()
            self._header.finish(self.frames)
        finally:
            os.close(self._fd)


class Header(Protocol):
    """The length in a file's header."""

    def update(self, frames: int) -> None:
        """Make the file readable as it is after `frames` frames were given to libsndfile."""

    def finish(self, frames: int) -> None:
        """Put right what libsndfile wrote when it closed the file."""


class FlacHeader:
    """Number of samples in a FLAC file's STREAMINFO, which libFLAC leaves at 0, "unknown", until it is closed.

    libFLAC writes a block as soon as it has one frame more than the block. Layout: RFC 9639, section 8.2.
    """

    BLOCK_AT = 8
    TOTAL_AT = 18
    TOTAL_BITS = 36

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def update(self, frames: int) -> None:
        """See `Header`."""
        head = os.pread(self._fd, self.TOTAL_AT + 8, 0)
        if frames == 0 or len(head) < self.TOTAL_AT + 8:
            return
        block = int.from_bytes(head[self.BLOCK_AT : self.BLOCK_AT + 2], "big")
        total = min((frames - 1) // block * block, (1 << self.TOTAL_BITS) - 1)
        others = int.from_bytes(head[self.TOTAL_AT :], "big") >> self.TOTAL_BITS
        os.pwrite(self._fd, (others << self.TOTAL_BITS | total).to_bytes(8, "big"), self.TOTAL_AT)

    def finish(self, frames: int) -> None:
        """Nothing: libFLAC wrote the true length, or, after a failed write, left the header alone."""


class WaveHeader:
    """Sizes in an RF64 file, which says that it is a WAV file while that is wanted and it is below 4 GiB.

    Layout: EBU Tech 3306, with the chunks of libsndfile: ds64, fmt, LIST if it is stamped, data. A WAV file has JUNK in place of
    ds64.
    """

    FORM = struct.Struct("<4sI4s4sIQQQ")
    FIRST_AT = 12
    ALIGN_AT = 68
    MOST = 4096
    """No header is as long."""
    UNKNOWN = 0xFFFFFFFF
    """A size of 32 bits that stands in ds64."""

    def __init__(self, fd: int, *, plain: bool) -> None:
        self._fd = fd
        self._plain = plain
        self._header, marks = _wave_header(fd)
        if marks[:3] != [b"RF64", b"ds64", b"fmt "] or marks[3:] not in ([b"data"], [b"LIST", b"data"]):
            version = soundfile.__libsndfile_version__
            raise RuntimeError(f"libsndfile {version} lays out RF64 in a way that the recorder does not know: {marks}")
        (self._frame_bytes,) = struct.unpack_from("<H", self._header, self.ALIGN_AT)

    def update(self, frames: int) -> None:
        """See `Header`."""
        data = frames * self._frame_bytes
        riff = len(self._header) - 8 + data
        if self._plain and riff < self.UNKNOWN:
            self.FORM.pack_into(self._header, 0, b"RIFF", riff, b"WAVE", b"JUNK", 28, 0, 0, 0)
            struct.pack_into("<I", self._header, len(self._header) - 4, data)
        else:
            self.FORM.pack_into(self._header, 0, b"RF64", self.UNKNOWN, b"WAVE", b"ds64", 28, riff, data, frames)
            struct.pack_into("<I", self._header, len(self._header) - 4, self.UNKNOWN)
        os.pwrite(self._fd, self._header, 0)

    finish = update


def _wave_header(fd: int) -> tuple[bytearray, list[bytes]]:
    """Return what stands before the sound, and the names of the file and of the chunks in it, the last one's too."""
    head = os.pread(fd, WaveHeader.MOST, 0)
    at, marks = WaveHeader.FIRST_AT, [head[:4]]
    while at + 8 <= len(head):
        name, size = struct.unpack_from("<4sI", head, at)
        marks.append(name)
        if name == b"data":
            break
        at += 8 + size + size % 2
    return bytearray(head[: at + 8]), marks


def _create(path: Path, *, overwrite: bool) -> tuple[Path, int]:
    """Make and open a file: `path` itself, or the first with a number that does not exist."""
    mode = os.O_TRUNC if overwrite else os.O_EXCL
    for candidate in _names(path):
        with contextlib.suppress(FileExistsError):
            return candidate, os.open(candidate, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | mode, 0o666)
    raise AssertionError("there is always another number")


def _header(fd: int, file_format: str) -> Header:
    return FlacHeader(fd) if file_format == "flac" else WaveHeader(fd, plain=file_format == "wav")


def _names(path: Path) -> Iterator[Path]:
    yield path
    yield from (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))


def open_sound(file: int | io.BytesIO, file_format: str, subtype: str, rate_hz: int, channels: int) -> soundfile.SoundFile:
    """Begin a new file. Raises LibsndfileError for what the format cannot hold. [any]"""
    return soundfile.SoundFile(file, "w", rate_hz, channels, subtype, format=CONTAINERS[file_format], closefd=False)
