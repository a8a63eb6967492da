"""The filter of adjacent linear slots, which is replaced while it plays."""

import threading
import time
from collections.abc import Callable

from sigrack_engine.core import GroupSetup, address, checked, lib
from sigrack_engine.filter import Filter

__all__ = ["GroupCore"]

LOST = 2**64 - 1
"""GROUP_LOST."""
LOOK_S = 0.001
PATIENCE_S = 0.05
"""How long an offer stands before it is taken back to catch up once more."""


class GroupCore:
    """Runs one filter; another one catches up beside it and is faded in. Of changes that come faster the newest counts."""

    process_address = address("core_group_process")
    reset_address = address("core_group_reset")
    late_frames = 0
    """By which what goes out is late."""

    def __init__(self, coming: Filter, *, max_frames: int, history_frames: int, fade_frames: int) -> None:
        """Take `coming` over. `history_frames`: of input, kept for others to catch up; `fade_frames`: of output. [control]"""
        self.ratio = coming.phases
        self.history_frames = history_frames
        setup = GroupSetup(coming.inputs, coming.outputs, max_frames, coming.phases, history_frames, max(fade_frames, 1))
        self.pointer = checked(lib.core_group_new(setup, coming.pointer), "a group")
        self.filter = coming
        """What plays, or will when it has caught up."""
        self.on_change: Callable[[], object] = lambda: None
        """Called when a new filter is in force. [worker]"""
        self._lock = threading.Lock()
        self._wanted: Filter | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._behind = False
        """The worker lets a filter catch up."""

    def change(self, coming: Filter) -> None:
        """Fade over to `coming`, which is taken over, as soon as it has caught up. [main]"""
        with self._lock:
            if self._wanted is not None:
                self._wanted.close()
            self._wanted, self.filter = coming, coming
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="sigrack-group", daemon=True)
                self._thread.start()

    @property
    def catching_up(self) -> bool:
        """Whether a filter is on its way for which no block must run: freewheel waits. [main]"""
        return self._behind or (self._wanted is not None and not lib.core_group_busy(self.pointer))

    @property
    def changing(self) -> bool:
        """Whether a filter is on its way or being faded in. [any]"""
        return self._thread is not None

    @property
    def changes(self) -> int:
        """Fades that have ended. [any]"""
        return int(lib.core_group_changes(self.pointer))

    def _next(self) -> Filter | None:
        with self._lock:
            coming, self._wanted = self._wanted, None
            self._behind = coming is not None
            if coming is None:
                self._thread = None
            return coming

    def _work(self) -> None:
        while (coming := self._next()) is not None:
            if self._ending.is_set() or not self._bring(coming):
                coming.close()
                continue
            self.on_change()

    def _bring(self, coming: Filter) -> bool:
        """Let `coming` catch up, offer it, wait until it is faded in; False: the group ends, or another one is wanted more."""
        before, at = self.changes, LOST
        while not self._ending.is_set():
            if at == LOST:
                at = self._catch_up(coming)
                continue
            at = int(lib.core_group_offer(self.pointer, coming.pointer, at))
            if at == LOST:
                coming.reset()
                continue
            self._behind = False
            if self._taken():
                return self._faded(before)
            self._behind = True
        return False

    def _catch_up(self, coming: Filter) -> int:
        start = max(lib.core_group_oldest(self.pointer), lib.core_group_written(self.pointer) - self.history_frames)
        at = int(lib.core_group_feed(self.pointer, coming.pointer, start, 2**32 - 1, True))
        if at == LOST:
            coming.reset()
        else:
            coming.catch_up()
        return at

    def _taken(self) -> bool:
        """Wait until the engine has taken the offer; False: it was taken back."""
        stop = time.monotonic() + PATIENCE_S
        written = lib.core_group_written(self.pointer)
        while time.monotonic() < stop or lib.core_group_written(self.pointer) == written:
            if self._ending.wait(LOOK_S):
                break
            if not lib.core_group_offered(self.pointer):
                return True
        return not lib.core_group_withdraw(self.pointer)

    def _faded(self, before: int) -> bool:
        """Wait for the end of the fade, and free the filter that was faded out."""
        while self.changes == before:
            if self._ending.wait(LOOK_S):
                return True  # the group is freed with all it holds
        lib.core_filter_free(lib.core_group_collect(self.pointer))
        return True

    def end(self) -> None:
        """Let no change go on: the engine has left it. [main]"""
        self._ending.set()

    def join(self, limit_s: float) -> bool:
        """Wait until nobody is at work on it; False: not within `limit_s`. [main]"""
        if (thread := self._thread) is not None:
            thread.join(limit_s)
        return self._thread is None

    def destroy(self) -> None:
        """Nothing: it has no process. [control]"""

    def close(self) -> None:
        """Free it and its filters: the engine has left it, and `join` has returned True. [control]"""
        lib.core_group_free(self.pointer)
