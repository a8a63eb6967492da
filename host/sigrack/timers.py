"""Calls at rack times."""

import heapq
import itertools
from collections.abc import Callable

__all__ = ["TimerEntry", "Timers"]


class TimerEntry:
    """A pending call; see `sigrack_plugins.Timer`."""

    __slots__ = ("call", "cancelled", "period_ns", "time_ns")

    def __init__(self, time_ns: int, period_ns: int, call: Callable[[], object]) -> None:
        self.time_ns, self.period_ns, self.call = time_ns, period_ns, call
        self.cancelled = False

    def cancel(self) -> None:
        """Never run it again. [main]"""
        self.cancelled = True


class Timers:
    """A heap of calls by rack time in nanoseconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, TimerEntry]] = []
        self._order = itertools.count()

    def add(self, time_ns: int, call: Callable[[], object], period_ns: int = 0) -> TimerEntry:
        """Run `call` at `time_ns`, and then each `period_ns` if that is not 0. [main]"""
        if period_ns < 0:
            raise ValueError(f"a period must be positive, not {period_ns} ns")
        entry = TimerEntry(time_ns, period_ns, call)
        self._push(entry)
        return entry

    def _push(self, entry: TimerEntry) -> None:
        heapq.heappush(self._heap, (entry.time_ns, next(self._order), entry))

    @property
    def next_ns(self) -> int | None:
        """When the next call is due, or None. [main]"""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self, now_ns: int) -> None:
        """Run what is due at `now_ns`, in order; a repeating call that is behind runs once per missed period. [main]"""
        while (due := self.next_ns) is not None and due <= now_ns:
            entry = heapq.heappop(self._heap)[2]
            if entry.period_ns:
                entry.time_ns += entry.period_ns
                self._push(entry)
            entry.call()
