"""What stands in the run list for a processor that runs in a child's process."""

import ctypes as c
import threading

from sigrack_engine.core import CoverSetup, CoverStats, address, checked, lib
from sigrack_engine.exchange import Exchange, Shape
from sigrack_engine.slot import Processor

__all__ = ["Cover", "latency_of"]


def latency_of(quantum: int, block_frames: int) -> int:
    """Return the least latency in frames for blocks that all have as many frames, but for the last. [any]"""
    return int(lib.core_cover_latency(quantum, block_frames, True))


class Cover:
    """Plays one life of a child after the other, and the dry signal where there is none. It outlives them."""

    process_address = address("core_cover_process")
    reset_address = address("core_cover_reset")

    def __init__(
        self,
        shape: Shape,
        *,
        max_frames: int,
        latency_frames: int,
        late_frames: int,
        fade_frames: int,
        patient: bool,
        fallback: Processor | None = None,
        silent: bool = False,
        warm_frames: int = 0,
    ) -> None:
        """Make what needs `latency_frames` (that go in) to exchange audio with a processor that is itself `late_frames` late.

        `patient`: the engine waits for a child that lives, in freewheel. `fallback`: as late as the child's processor, and runs
        beside it. `silent`: without one silence stands for the child, not its input. `warm_frames`: that go in, which a life must
        have heard before it takes over. Raises CoreError. [control]
        """
        setup = CoverSetup(
            fallback=fallback.process if fallback else None,
            reset=fallback.reset if fallback else None,
            self=fallback.instance if fallback else None,
            channels=shape.channels,
            outputs=shape.outputs,
            ratio=shape.ratio,
            max_frames=max_frames,
            latency_frames=latency_frames,
            late_frames=late_frames,
            fade_frames=fade_frames,
            patient=patient,
            silent=silent,
            warm_frames=warm_frames,
        )
        self.pointer = checked(lib.core_cover_new(setup), "a lane")
        self._lives: dict[int, Exchange] = {}
        self._lock = threading.Lock()
        self._last: CoverStats | None = None
        """The counters, once it is freed."""

    def give(self, life: Exchange) -> Exchange | None:
        """Let the next block begin with `life`; return one that was given and never begun. [minder]"""
        self._lives[c.addressof(life.struct)] = life
        return self._taken(lib.core_cover_give(self.pointer, life.struct))

    def collect(self) -> Exchange | None:
        """Return a life that the engine has left; while one is uncollected no other begins. [minder]"""
        return self._taken(lib.core_cover_collect(self.pointer))

    def _taken(self, pointer: int | None) -> Exchange | None:
        return self._lives.pop(pointer) if pointer else None

    @property
    def stats(self) -> CoverStats:
        """Counters, in frames and blocks. [any]"""
        stats = CoverStats()
        with self._lock:
            if self._last:
                return self._last
            lib.core_cover_stats(self.pointer, stats)
        return stats

    def close(self) -> None:
        """Free it and the lives that it has: the engine has left it. [control]"""
        last = self.stats
        with self._lock:
            self._last = last
            lib.core_cover_free(self.pointer)
        for life in self._lives.values():
            life.free()
        self._lives.clear()
