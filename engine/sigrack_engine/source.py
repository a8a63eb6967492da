"""The source ring: from a worker to the engine."""

import numpy as np
import numpy.typing as npt

from sigrack_engine.core import SourceSetup, SourceStats, checked, lib

__all__ = ["Source"]

Samples = npt.NDArray[np.float32]


class Source:
    """A bounded ring of frames that the engine plays. Where it runs dry, it fades and waits until there is enough again."""

    def __init__(
        self,
        channels: int,
        frames: int,
        *,
        block_frames: int,
        producer_frames: int = 0,
        fade_frames: int = 0,
        residue_frames: int = 0,
    ) -> None:
        """Hold `frames` frames at most.

        `producer_frames`: what is written at a time, 0: not known. `residue_frames`: the shortest fade out.
        """
        self.channels, self.frames = channels, frames
        self._ring = checked(lib.core_ring_new(channels, frames), f"a ring of {frames} frames")
        setup = SourceSetup(
            ring=self._ring,
            block_frames=block_frames,
            producer_frames=producer_frames,
            fade_frames=fade_frames,
            residue_frames=residue_frames,
        )
        self.pointer = checked(lib.core_source_new(setup), "the source")

    @property
    def space(self) -> int:
        """Frames that can be written now. [worker]"""
        return max(self.frames - int(lib.core_ring_level(self._ring)), 0)

    def write(self, samples: Samples) -> bool:
        """Append `samples` (frames, channels) whole; False if there is no room. [worker]"""
        samples = np.ascontiguousarray(samples, np.float32)
        frames = len(samples)
        return bool(lib.core_ring_write_interleaved(self._ring, samples.ctypes.data, frames)) or not frames

    def finish(self) -> None:
        """Say that nothing more will be written. [worker]"""
        lib.core_ring_close(self._ring)

    @property
    def stats(self) -> SourceStats:
        """Counters. [any]"""
        stats = SourceStats()
        lib.core_source_stats(self.pointer, stats)
        return stats

    def close(self) -> None:
        """Free it: engine and worker have gone. [control]"""
        lib.core_source_free(self.pointer)
        lib.core_ring_free(self._ring)
