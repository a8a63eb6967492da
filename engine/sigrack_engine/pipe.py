"""Raw samples into a pipe."""

import sys

import numpy as np
import numpy.typing as npt

from sigrack_engine.files import SoundFileError

__all__ = ["PipeWriter", "encode"]

Samples = npt.NDArray[np.float32]


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
