"""The sink ring: from the engine to a worker."""

import numpy as np
import numpy.typing as npt

from sigrack_engine.core import SinkSetup, SinkStats, checked, lib

__all__ = ["OVERFLOWS", "Sink"]

Samples = npt.NDArray[np.float32]

OVERFLOWS = ("drop-newest", "drop-oldest")
"""What is dropped when it is read too slowly, in the order of `enum core_sink_overflow`."""


class Sink:
    """A bounded ring of frames that the engine fills. Where it overflows, it drops frames between fades."""

    def __init__(self, channels: int, frames: int, *, block_frames: int, fade_frames: int, overflow: str) -> None:
        """Let the reader fall `frames` frames behind at most; that is four blocks or more."""
        self.channels, self.frames = channels, frames
        setup = SinkSetup(
            channels=channels,
            limit_frames=frames,
            block_frames=block_frames,
            fade_frames=fade_frames,
            overflow=OVERFLOWS.index(overflow),
        )
        self.pointer = checked(lib.core_sink_new(setup), f"a ring of {frames} frames")

    def read(self, frames: int) -> Samples:
        """Take up to `frames` frames, shape (frames, channels). [worker]"""
        samples = np.empty((frames, self.channels), np.float32)
        return samples[: lib.core_sink_read_interleaved(self.pointer, samples.ctypes.data, frames)]

    @property
    def finished(self) -> bool:
        """Whether the engine has ended; read once more after this. [worker]"""
        return bool(lib.core_sink_closed(self.pointer))

    @property
    def stats(self) -> SinkStats:
        """Counters. [any]"""
        stats = SinkStats()
        lib.core_sink_stats(self.pointer, stats)
        return stats

    def close(self) -> None:
        """Free it: engine and worker have gone. [control]"""
        lib.core_sink_free(self.pointer)
