"""Audio copied out of the rack: for hooks on the main loop, and for a thread of a plugin's own."""

import ctypes as c
import select
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sigrack_engine.bell import Bell
from sigrack_engine.core import checked, lib
from sigrack_engine.pool import BlockPool, Lease

__all__ = ["TapRing", "WorkerTap"]

Samples = npt.NDArray[np.float32]


class TapRing:
    """Copies of the bus at one place. The engine drops (and counts) what finds no room."""

    def __init__(self, channels: int, frames: int, notify_frames: int, bell: Bell, heard: Sequence[int] | None = None) -> None:
        """`heard`: which channels of the bus are copied, all in order if not given. Raises CoreError. [control]"""
        self.channels = channels
        self.pointer = checked(lib.core_tap_new(channels, frames, notify_frames, bell.pointer), f"a tap of {frames} frames")
        if heard is not None:
            lib.core_tap_map(self.pointer, bytes(heard))
        self._whole = c.c_int()
        self.frame = 0
        """Engine frame number of the first frame that `read` returned last."""
        self.finished = False
        """Whether `finish` was called. [main]"""
        self._taken = 0

    @property
    def space(self) -> int:
        """Frames that can be written without loss. [writer]"""
        return int(lib.core_tap_space(self.pointer))

    @property
    def lost(self) -> int:
        """Frames dropped so far. [any]"""
        return int(lib.core_tap_lost(self.pointer))

    @property
    def written(self) -> int:
        """Frames copied so far. [any]"""
        return int(lib.core_tap_written(self.pointer))

    @property
    def unread(self) -> int:
        """Frames that wait. [reader]"""
        return self.written - self._taken

    @property
    def ended(self) -> bool:
        """Whether the stream has ended and all was read. [reader]"""
        return bool(lib.core_tap_ended(self.pointer))

    def ready(self, frames: int) -> int:
        """Return the length of the next block: `frames`, fewer before a gap or the end, 0 if it is not there yet. [reader]"""
        available = int(lib.core_tap_peek(self.pointer, frames, self._whole))
        return available if self._whole.value else 0

    def read_planar(self, pool: BlockPool, frames: int) -> tuple[Lease, int]:
        """Read `frames` (from `ready`) into a pooled array; return it and the first frame's number. [reader]"""
        lease = pool.get()
        self._taken += frames
        return lease, int(lib.core_tap_read(self.pointer, lease.address, pool.frames, frames))

    def read(self, limit: int) -> Samples:
        """Read what is there without a gap, up to `limit` frames: shape (frames, channels), C order. [reader]"""
        frames = int(lib.core_tap_peek(self.pointer, limit, self._whole))
        samples = np.empty((frames, self.channels), np.float32)
        if frames:
            self._taken += frames
            self.frame = int(lib.core_tap_read_interleaved(self.pointer, samples.ctypes.data, frames))
        return samples

    def finish(self) -> None:
        """Say that the stream has ended. [main, when the engine has left this tap]"""
        lib.core_tap_close(self.pointer)
        self.finished = True

    def close(self) -> None:
        """Free it: engine and reader have gone. [control]"""
        lib.core_tap_free(self.pointer)


class WorkerTap:
    """A tap with a bell of its own, read by one worker thread (`sigrack_plugins.Tap`)."""

    READ_FRAMES = 16384

    def __init__(self, channels: int, rate_hz: int, seconds: float, max_frames: int, heard: Sequence[int] | None = None) -> None:
        self.rate_hz = rate_hz
        self.channels = channels
        self._bell = Bell()
        self._poll = select.poll()  # not select(), which fails beyond 1024 open files
        self._poll.register(self._bell.descriptor, select.POLLIN)
        frames = max(round(seconds * rate_hz), 2 * max_frames)
        self.ring = TapRing(channels, frames, min(rate_hz // 10 + 1, frames // 2), self._bell, heard)

    @property
    def lost(self) -> int:
        """Frames dropped because this tap was read too slowly. [any]"""
        return self.ring.lost

    @property
    def frame(self) -> int:
        """Engine frame number of the first frame of the array yielded last. [worker]"""
        return self.ring.frame

    def __iter__(self) -> Iterator[Samples]:
        """Yield arrays (frames, channels) until the stream ends. [worker]"""
        while not self.ring.ended:
            samples = self.ring.read(self.READ_FRAMES)
            if len(samples):
                yield samples
            else:
                self._wait()

    def _wait(self) -> None:
        self._bell.arm()
        if not self.ring.ready(1) and not self.ring.ended:
            self._poll.poll()

    def finish(self) -> None:
        """End the iteration once all is read. [main]"""
        self.ring.finish()

    def close(self) -> None:
        """Free it: engine and worker have gone. [control]"""
        self.ring.close()
        self._bell.close()
