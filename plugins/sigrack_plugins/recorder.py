"""Records the audio at its place into a FLAC, WAV or RF64 file that stays readable whatever becomes of the process.

libsndfile hands each block to the system at once, but writes the length into the header only when the file is closed.
What a killed process leaves would be empty (RF64, and WAV for strict readers) or of unknown length, which libsndfile
cannot read (FLAC). So the length in the header is patched after each block. What the system holds survives the death of
the process, so nothing waits for the disk; a power cut can cost what the system had not yet written back.
"""

import contextlib
import difflib
import io
import itertools
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import soundfile

from sigrack_plugins.api import Plugin, Setup, Tap

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["FlacHeader", "Recorder", "RecorderConfig", "Take", "WaveHeader"]

LOST_LOG_S = 10.0
"""At most one line about lost frames in so many seconds of wall time."""

CONTAINERS = {"flac": "FLAC", "wav": "RF64", "rf64": "RF64"}
"""What libsndfile writes for each format: "wav" may outgrow 4 GiB, so it is an RF64 file whose header says WAV."""
SUBTYPES = {"flac": "PCM_24", "wav": "FLOAT", "rf64": "FLOAT"}
"""The default of each format."""
ENDINGS = {".flac": "flac", ".wav": "wav", ".rf64": "rf64"}


@dataclass
class RecorderConfig:
    """Settings of a recorder slot. The path is taken literally; its folder must exist."""

    path: Path
    """The file. One that exists is kept, and "take.wav" becomes "take-2.wav", "take-3.wav" and so on."""
    format: str = ""
    """"flac", "wav" (turns into RF64 when it reaches 4 GiB) or "rf64". Empty: by the ending of the path."""
    subtype: str = ""
    """Kind of samples, as libsndfile names it. Empty: "PCM_24" for FLAC, else "FLOAT", which keeps every bit."""
    overwrite: bool = False
    """Replace a file that exists. A restart after a crash then replaces the recording of before."""

    def __post_init__(self) -> None:
        self.format = _known("format", self.format, CONTAINERS) if self.format else _format_of(self.path)
        self.subtype = self.subtype or SUBTYPES[self.format]
        _known("subtype", self.subtype, soundfile.available_subtypes(CONTAINERS[self.format]))


class Recorder(Plugin):
    """Writes every frame of its tap into one file.

    Frames that the tap lost are missing in the file, and the log says how many. If the file cannot be written any more
    (disk full), the recording ends with a line in the log, the file is closed as it is, and the rack goes on.
    """

    id = "recorder"
    version = "1"
    Config = RecorderConfig

    config: RecorderConfig

    def on_start(self) -> None:
        """Check what can be checked without making the file. [main]

        Raises OSError if the folder cannot be written into, ValueError if the format cannot hold the slot's audio.
        """
        _check_folder(self.config.path.parent)
        _check_setup(self.config, self.ctx.setup)

    def work(self, tap: Tap) -> None:
        """Record until the tap ends. [worker]"""
        try:
            with contextlib.closing(Take(self.config, tap.rate_hz, tap.channels)) as take:
                self.ctx.log(f"recording to {take.path} ({self.config.format}, {self.config.subtype})")
                for samples in self._report_lost(tap):
                    take.write(samples)
        except (OSError, soundfile.LibsndfileError) as error:
            self.ctx.log(f"recording stopped: {error} {_free(self.config.path.parent)}")
        else:
            self.ctx.log(f"closed {take.path} with {take.frames} frames ({take.frames / tap.rate_hz:.1f} s)")

    def _report_lost(self, tap: Tap) -> "Iterator[Samples]":
        """Pass the tap's arrays on, and log its losses now and then and at the end."""
        told, next_s = 0, 0.0
        for samples in tap:
            if tap.lost > told and time.monotonic() >= next_s:
                told, next_s = tap.lost, time.monotonic() + LOST_LOG_S
                self.ctx.log(f"{told} frames lost so far: the file is written too slowly")
            yield samples
        if tap.lost > told:
            self.ctx.log(f"{tap.lost} frames lost in all: the file was written too slowly")


class Take:
    """One file that is being recorded. [worker]"""

    def __init__(self, config: RecorderConfig, rate_hz: int, channels: int) -> None:
        self.path, self._fd = _create(config.path, overwrite=config.overwrite)
        self._file = _open(self._fd, config, rate_hz, channels)
        self._header = _header(self._fd, config.format)
        self.frames = 0
        """Frames written."""
        self._header.update(self.frames)

    def write(self, samples: "Samples") -> None:
        """Append frames. A reader then finds all of them; of FLAC all but the last 4096 at most."""
        self._file.write(samples)
        self.frames += len(samples)
        self._header.update(self.frames)

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

    Layout: EBU Tech 3306, with the chunks of libsndfile: ds64, fmt, data. A WAV file has JUNK in place of ds64.
    """

    FORM = struct.Struct("<4sI4s4sIQQQ")
    ALIGN_AT = 68
    UNKNOWN = 0xFFFFFFFF
    """A size of 32 bits that stands in ds64."""

    def __init__(self, fd: int, *, plain: bool) -> None:
        self._fd = fd
        self._plain = plain
        self._header = bytearray(os.pread(fd, os.fstat(fd).st_size, 0))
        marks = [bytes(self._header[at : at + 4]) for at in (0, 12, 48, len(self._header) - 8)]
        if marks != [b"RF64", b"ds64", b"fmt ", b"data"]:
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


def _known(what: str, value: str, choices: Iterable[str]) -> str:
    """Return `value` if it is one of the choices. Raises ValueError that names the nearest."""
    by_lower = {choice.lower(): choice for choice in choices}
    if value not in by_lower.values():
        nearest = by_lower[difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=0.0)[0]]
        raise ValueError(f"{what}: unknown {value!r}, the nearest is {nearest!r}")
    return value


def _format_of(path: Path) -> str:
    return ENDINGS[_known(f"path: ending of {path.name!r}", path.suffix.lower(), ENDINGS)]


def _check_folder(folder: Path) -> None:
    """Raise OSError in one line if no file can be made in `folder`; only an attempt tells."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise type(error)(f"cannot record into {folder}: {error.strerror}; create it or change `path`") from error


def _free(folder: Path) -> str:
    """Say how much room there is: libsndfile does not tell a full disk from another failure."""
    try:
        return f"({shutil.disk_usage(folder).free >> 20} MiB free in {folder})"
    except OSError as error:
        return f"({error})"


def _check_setup(config: RecorderConfig, setup: Setup) -> None:
    """Raise ValueError in one line if libsndfile refuses such a file; only an attempt, in memory, tells."""
    try:
        with _open(io.BytesIO(), config, setup.rate_hz, setup.channels) as trial:
            trial.buffer_write(bytes(4 * setup.channels), "float32")
    except soundfile.LibsndfileError as error:
        what = f"{config.format} {config.subtype} cannot hold {setup.channels} channels at {setup.rate_hz} Hz"
        raise ValueError(f"format: {what}: {error.error_string} Set 'wav'.") from error


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


def _open(file: int | io.BytesIO, config: RecorderConfig, rate_hz: int, channels: int) -> soundfile.SoundFile:
    container = CONTAINERS[config.format]
    return soundfile.SoundFile(file, "w", rate_hz, channels, config.subtype, format=container, closefd=False)
