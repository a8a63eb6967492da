"""Raw samples from and into pipes."""

import os
import select
import sys

import numpy as np
import numpy.typing as npt

from sigrack_engine.files import SoundFileError

__all__ = ["PipeReader", "PipeWriter", "decode", "encode"]

Samples = npt.NDArray[np.float32]


STANDARD_INPUT = 0
SAMPLE_BYTES = {"float32": 4, "int16": 2, "int24": 3, "int32": 4}


class PipeReader:
    """Raw interleaved little-endian samples from a named pipe or standard input.

    Writers may come late. When the last one has closed the pipe, the stream ends; with `reopen` the next one goes on. What a
    writer leaves of an incomplete frame is forgotten.
    """

    waits = True
    frames = 0
    """It tells no length."""

    def __init__(self, path: str, kind: str, *, rate_hz: int, channels: int, reopen: bool = False) -> None:
        """Open nothing yet: that is done by the first `read`."""
        self.rate_hz, self.channels = rate_hz, channels
        self.position = 0
        """Frames read so far."""
        self._path, self._kind, self._reopen = path, kind, reopen
        self._frame_bytes = SAMPLE_BYTES[kind] * channels
        self._rest = b""
        self._pipe: int | None = None
        self._interrupt = os.eventfd(0, os.EFD_CLOEXEC)

    def read(self, frames: int) -> Samples:
        """Wait for a frame and return what is there, up to `frames`, float32 (frames, channels); none at the end. [worker]

        Raises SoundFileError.
        """
        try:
            data = self._whole_frames(frames * self._frame_bytes)
        except OSError as error:
            raise SoundFileError(f"{self._path}: {error.strerror}") from None
        samples = decode(data, self._kind, self.channels)
        self.position += len(samples)
        return samples

    def _whole_frames(self, limit: int) -> bytes:
        while len(self._rest) < self._frame_bytes:
            if self._pipe is None:
                self._pipe = self._open()
            if not self._readable(self._pipe):
                return b""
            try:
                data = os.read(self._pipe, limit - len(self._rest))
            except BlockingIOError:
                continue
            self._rest += data
            if not data:
                self._rest = b""
                if not self._reopen:
                    return b""
                # The new descriptor comes first: a writer that opens the pipe now must not lose its reader.
                ended, self._pipe = self._pipe, self._open()
                os.close(ended)
        whole = len(self._rest) // self._frame_bytes * self._frame_bytes
        data, self._rest = self._rest[:whole], self._rest[whole:]
        return data

    def _open(self) -> int:
        # Not blocking, for who waits in open() cannot be interrupted. poll() then waits for the first writer as well.
        return STANDARD_INPUT if self._path == "-" else os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _readable(self, pipe: int) -> bool:
        """Wait; False: interrupted."""
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        poll.register(self._interrupt, select.POLLIN)
        return self._interrupt not in [descriptor for descriptor, _ in poll.poll()]

    def interrupt(self) -> None:
        """Let `read` return none, now and from now on. [any]"""
        os.eventfd_write(self._interrupt, 1)

    def close(self) -> None:
        """Close the pipe; nobody reads any more."""
        if self._pipe is not None and self._pipe != STANDARD_INPUT:
            os.close(self._pipe)
        os.close(self._interrupt)


class PipeWriter:
    """Raw interleaved samples into a named pipe or standard output."""

    def __init__(self, path: str, kind: str) -> None:
        self._kind = kind
        self._file = sys.stdout.buffer if path == "-" else open(path, "wb")  # noqa: SIM115 - closed by close()

    def write(self, samples: Samples) -> None:
        """Append `samples` (frames, channels); waits for the reader. Raises SoundFileError. [worker]"""
        try:
            self._file.write(encode(samples, self._kind))
            self._file.flush()
        except OSError as error:
            raise SoundFileError(f"the sink's pipe: {error.strerror}") from None

    def close(self) -> None:
        """Close the pipe."""
        if self._file is not sys.stdout.buffer:
            self._file.close()


def encode(samples: Samples, kind: str) -> bytes:
    """Return little-endian samples; int24 takes three bytes."""
    if kind == "float32":
        return bytes(samples.astype("<f4").data)
    bits = int(kind.removeprefix("int"))
    full = 2 ** (bits - 1)
    numbers = np.clip(np.rint(samples.astype(np.float64) * full), -full, full - 1).astype("<i4")
    if bits == 24:
        return bytes(np.ascontiguousarray(numbers.reshape(-1, 1).view(np.uint8)[:, :3]).data)
    return bytes(numbers.astype(f"<i{bits // 8}").data)


def decode(data: bytes, kind: str, channels: int) -> Samples:
    """Return what `encode` made into `data`, whole frames, as float32 of shape (frames, channels)."""
    if kind == "float32":
        return np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, channels)
    if kind == "int24":
        numbers = np.zeros((len(data) // 3, 4), np.uint8)
        numbers[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return _scaled(numbers.view("<i4"), 32, channels)
    bits = int(kind.removeprefix("int"))
    return _scaled(np.frombuffer(data, f"<i{bits // 8}"), bits, channels)


def _scaled(numbers: npt.NDArray[np.signedinteger], bits: int, channels: int) -> Samples:
    return (numbers.reshape(-1, channels) * 2.0 ** (1 - bits)).astype(np.float32)
