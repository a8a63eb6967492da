"""Calls at rack times."""

import heapq
import itertools
import time
from collections.abc import Callable

__all__ = ["TimerEntry", "Timers"]


MOST_CANCELLED = 64
"""Cancelled calls that may wait for their time to be forgotten."""


def _nothing() -> None:
    pass


class TimerEntry:
    """A pending call; see `sigrack_plugins.Timer`."""

    __slots__ = ("__weakref__", "_timers", "call", "cancelled", "period_ns", "time_ns")

    def __init__(self, timers: "Timers", time_ns: int, period_ns: int, call: Callable[[], object]) -> None:
        self.time_ns, self.period_ns, self.call = time_ns, period_ns, call
        self.cancelled = False
        self._timers = timers

    def cancel(self) -> None:
        """Never run it again, and let go of what it would have called. [main]"""
        if not self.cancelled:
            self.cancelled = True
            self.call = _nothing
            self._timers.count_cancelled()


class Timers:
    """A heap of calls by rack time in nanoseconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, TimerEntry]] = []
        self._order = itertools.count()
        self._cancelled = 0
        self._added: list[tuple[int, int, TimerEntry]] | None = None
        """What was added while calls run."""
        self.on_earlier: Callable[[], object] = _nothing
        """Called when a call was added that comes before all others. [main]"""

    def add(self, entry: TimerEntry) -> None:
        """Run its call at its time, and then each of its periods if that is not 0. [main]"""
        item = (entry.time_ns, next(self._order), entry)
        if self._added is not None:
            self._added.append(item)
            return
        heapq.heappush(self._heap, item)
        if self._heap[0] is item:
            self.on_earlier()

    def count_cancelled(self) -> None:
        """Forget the cancelled ones when they are the greater part. [main]"""
        self._cancelled += 1
        if self._cancelled > MOST_CANCELLED and 2 * self._cancelled > len(self._heap):
            self._heap = [item for item in self._heap if not item[2].cancelled]
            heapq.heapify(self._heap)
            self._cancelled = 0

    @property
    def next_ns(self) -> int | None:
        """When the next call is due, or None. [main]"""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self, now_ns: int, *, stop_ns: int | None = None) -> bool:
        """Run what is due at rack time `now_ns`, in order. Returns whether something due is left. [main]

        Without `stop_ns` a repeating call runs once per period that has passed. With it (a value of time.monotonic_ns) calls
        begin only before that moment, and a repeating call that is behind runs once, for all the periods it has missed. What
        is added meanwhile waits for the next time.
        """
        self._added = []
        try:
            return self._run(now_ns, stop_ns)
        finally:
            added, self._added = self._added, None
            for item in added:
                heapq.heappush(self._heap, item)

    def _run(self, now_ns: int, stop_ns: int | None) -> bool:
        while (due := self.next_ns) is not None and due <= now_ns:
            if stop_ns is not None and time.monotonic_ns() >= stop_ns:
                return True
            _, order, entry = heapq.heappop(self._heap)
            if entry.period_ns:
                behind = (now_ns - entry.time_ns) // entry.period_ns if stop_ns is not None else 0
                entry.time_ns += entry.period_ns * (behind + 1)
                heapq.heappush(self._heap, (entry.time_ns, order, entry))
            entry.call()
        return False
