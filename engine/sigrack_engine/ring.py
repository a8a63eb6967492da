"""Frames from one thread to one other."""

import numpy as np
import numpy.typing as npt

from sigrack_engine.core import checked, lib

__all__ = ["Ring"]

Samples = npt.NDArray[np.float32]


class Ring:
    """A bounded ring of frames. One thread writes, one reads; neither waits for the other."""

    def __init__(self, channels: int, frames: int) -> None:
        self.channels = channels
        self.pointer = checked(lib.core_ring_new(channels, frames), f"a ring of {frames} frames")

    @property
    def space(self) -> int:
        """Frames that can be written now. [writer]"""
        return int(lib.core_ring_space(self.pointer))

    @property
    def fill(self) -> int:
        """Frames that can be read now. [reader]"""
        return int(lib.core_ring_fill(self.pointer))

    def write(self, samples: Samples) -> bool:
        """Append `samples` (frames, channels) whole; False if there is no room. [writer]"""
        samples = np.ascontiguousarray(samples, np.float32)
        frames = len(samples)
        return bool(lib.core_ring_write_interleaved(self.pointer, samples.ctypes.data, frames)) or not frames

    def read(self, frames: int) -> Samples:
        """Take up to `frames` frames, shape (frames, channels). [reader]"""
        samples = np.empty((min(frames, self.fill), self.channels), np.float32)
        lib.core_ring_read_interleaved(self.pointer, samples.ctypes.data, len(samples))
        return samples

    def finish(self) -> None:
        """Say that nothing more will be written. [writer]"""
        lib.core_ring_close(self.pointer)

    @property
    def finished(self) -> bool:
        """Whether the writer has finished; look at `fill` after this. [reader]"""
        return bool(lib.core_ring_closed(self.pointer))

    def close(self) -> None:
        """Free it: both sides have gone. [control]"""
        lib.core_ring_free(self.pointer)
