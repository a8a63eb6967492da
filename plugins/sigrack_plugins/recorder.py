"""Records the audio at its place into a FLAC, WAV or RF64 file.

The file keeps the stream's time: its frame n is the rack's frame `first_frame` + n, and silence stands where the tap has lost
frames. Which frame is the first, and when it was, stands in the comment that the formats have for such things (ICMT, COMMENT).
"""

import contextlib
import difflib
import io
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile

from sigrack_plugins._take import CONTAINERS, Stamp, Take, open_sound
from sigrack_plugins.api import SECOND, Plugin, Setup, Tap

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["Recorder", "RecorderConfig"]

LOST_LOG_S = 10.0
"""At most one line about lost frames in so many seconds of wall time."""

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

    Silence stands for frames that the tap lost, and the log says how many. If the file cannot be written any more (disk full),
    the recording ends with a line in the log, the file is closed as it is, and the rack goes on.
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
            with contextlib.closing(self._take(tap)) as take:
                self.ctx.log(f"recording to {take.path} ({self.config.format}, {self.config.subtype})")
                self._record(tap, take)
        except (OSError, soundfile.LibsndfileError) as error:
            self.ctx.log(f"recording stopped: {error} {_free(self.config.path.parent)}")
        else:
            silence = f", {take.silent} of them silence for lost ones" if take.silent else ""
            self.ctx.log(f"closed {take.path} with {take.frames} frames ({take.frames / tap.rate_hz:.1f} s){silence}")

    def _take(self, tap: Tap) -> Take:
        config = self.config
        return Take(config.path, config.format, config.subtype, tap.rate_hz, tap.channels, overwrite=config.overwrite)

    def _record(self, tap: Tap, take: Take) -> None:
        first: int | None = None
        for samples in self._report_lost(tap):
            if first is None:
                first = tap.frame
                take.stamp(self._stamp(first, tap.rate_hz))
            take.write_silence(tap.frame - first - take.frames)
            take.write(samples)

    def _stamp(self, frame: int, rate_hz: int) -> Stamp:
        """Say when `frame` was: so long ago as rack time says. True to within a block, where rack time follows the clock."""
        rack_time_ns = frame * SECOND // rate_hz
        return Stamp(frame, rate_hz, rack_time_ns, time.time_ns() - (self.ctx.now() - rack_time_ns))

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
        with open_sound(io.BytesIO(), config.format, config.subtype, setup.rate_hz, setup.channels) as trial:
            trial.buffer_write(bytes(4 * setup.channels), "float32")
    except soundfile.LibsndfileError as error:
        what = f"{config.format} {config.subtype} cannot hold {setup.channels} channels at {setup.rate_hz} Hz"
        raise ValueError(f"format: {what}: {error.error_string} Set 'wav'.") from error
