"""Lets another program hear the channels at its place: raw samples into a named pipe, without ever waiting for the reader."""

import contextlib
import errno
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sigrack_plugins.api import Plugin, Tap

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["Monitor", "MonitorConfig", "Pipe"]

PIPE_BYTES = 1 << 20
"""What a pipe shall hold: what an unprivileged user can have by default."""
FULL_SCALE = 32_768


@dataclass
class MonitorConfig:
    """Settings of a monitor slot."""

    path: Path
    """A named pipe: `mkfifo mic.pipe` makes one."""
    format: Literal["float32", "int16"] = "float32"
    """Of the samples, little-endian, channel after channel."""


class Monitor(Plugin):
    """Writes what it hears into a named pipe, live; what nobody takes in time is left out, never waited for."""

    id = "monitor"
    version = "1"
    Config = MonitorConfig

    config: MonitorConfig

    def on_start(self) -> None:
        """Look whether there is a pipe. Raises ValueError. [main]"""
        if not self.config.path.is_fifo():
            raise ValueError(f"path: {self.config.path} is not a named pipe: make one with mkfifo")

    def work(self, tap: Tap) -> None:
        """Write until the tap ends. [worker]"""
        size = tap.channels * (2 if self.config.format == "int16" else 4)
        written = frames = 0
        with contextlib.closing(Pipe(self.config.path, size)) as pipe:
            for samples in tap:
                frames += len(samples)
                written += pipe.write(self._encoded(samples))
        self.ctx.log(f"{written} of {frames} frames were taken by {self.config.path}")

    def _encoded(self, samples: "Samples") -> bytes:
        if self.config.format == "float32":
            return samples.astype("<f4", copy=False).tobytes()
        return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2").tobytes()


class Pipe:
    """The writing end of a named pipe, which is open while somebody reads. [worker]"""

    def __init__(self, path: Path, frame_bytes: int) -> None:
        self._path, self._frame_bytes = path, frame_bytes
        self._fd: int | None = None
        self._rest = b""
        """The end of a frame that was cut."""

    def write(self, data: bytes) -> int:
        """Write whole frames, as many as find room; return how many. What does not is dropped."""
        if self._fd is None and not self._open():
            return 0
        assert self._fd is not None
        waiting = self._rest + data
        try:
            sent = os.write(self._fd, waiting)
        except BlockingIOError:
            return 0
        except OSError:  # the reader has gone
            self.close()
            return 0
        cut = (sent - len(self._rest)) % self._frame_bytes
        frames = (sent - len(self._rest) + self._frame_bytes - 1) // self._frame_bytes
        self._rest = waiting[sent : sent + (self._frame_bytes - cut if cut else 0)]
        return max(frames, 0)

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):  # nobody reads yet, or the pipe is being made anew
                return False
            raise
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return True

    def close(self) -> None:
        """Let the pipe go."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._rest = None, b""
