"""Factors from native code to the main loop."""

import ctypes as c
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sigrack_engine.bell import Bell
from sigrack_engine.core import ResultsStats, address, checked, lib

__all__ = ["CALLBACK_ADDRESS", "POST_ADDRESS", "PostCounts", "Records", "ResultRing"]

_HEADER = [
    ("sequence", "u8"),
    ("ts_ns", "i8"),
    ("frame", "u8"),
    ("posted_ns", "i8"),
    ("slot", "u4"),
    ("generation", "u4"),
    ("symbol", "u4"),
    ("count", "u4"),
]
_HEADER_BYTES = 48
_LINE = 64


def _record_type(max_values: int) -> np.dtype[np.void]:
    """Return `struct core_record` of a ring, padded to whole cache lines."""
    padding = -(_HEADER_BYTES + 8 * max_values) % _LINE
    return np.dtype([*_HEADER, ("values", "f8", (max_values,)), ("padding", "V", padding)])


Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class PostCounts:
    """What became of the records: posted == delivered + dropped + refused + stale + queued, exact at rest."""

    posted: int
    delivered: int
    dropped: int
    refused: int
    stale: int
    queued: int


class ResultRing:
    """A bounded ring of records from any number of native threads, and the handle that they post through."""

    def __init__(
        self, bell: Bell, symbols: Sequence[str], frame_now: int | None, capacity: int = 4096, max_values: int = 16
    ) -> None:
        self.symbols = tuple(symbols)
        names = (c.c_char_p * len(symbols))(*(name.encode() for name in symbols))
        self._symbols = checked(lib.core_symbols_new(names, len(symbols)), "symbols")
        self.pointer = checked(
            lib.core_results_new(capacity, max_values, self._symbols, bell.pointer, frame_now), "a result ring"
        )
        self.cookie = checked(lib.core_handle_open(self.pointer), "a handle (4096 are in use)")
        self.delivered = 0
        self.stale = 0
        self._memory = self._map(capacity, max_values)

    def _map(self, capacity: int, max_values: int) -> Records:
        """Return the ring's memory as an array of records."""
        kind = _record_type(max_values)
        count = 1 << max(capacity - 1, 1).bit_length()
        memory = (c.c_char * (count * kind.itemsize)).from_address(lib.core_results_memory(self.pointer))
        records: Records = np.ndarray(count, kind, memory)  # type: ignore[arg-type]
        return records

    @property
    def queued(self) -> int:
        """Records that wait. [main]"""
        return self.counts.queued

    def take(self, limit: int) -> tuple[Records, int] | None:
        """Take up to `limit` records: those of this handle, as a copy, and how many there were; None: no record. [main]"""
        start = c.c_uint32()
        count = lib.core_results_peek(self.pointer, limit, start)
        if not count:
            return None
        records = self._memory[start.value : start.value + count].copy()
        lib.core_results_release(self.pointer, count)
        mine = (records["slot"] | records["generation"].astype(np.uint64) << np.uint64(12)) == self.cookie
        if not mine.all():
            self.stale += int(count - mine.sum())
            records = records[mine]
        self.delivered += len(records)
        return records, count

    @property
    def counts(self) -> PostCounts:
        """What became of the records so far. [main]"""
        stats = ResultsStats()
        lib.core_results_stats(self.pointer, stats)
        return PostCounts(stats.posted, self.delivered, stats.dropped, stats.refused, self.stale, stats.queued)

    @property
    def unknown(self) -> str:
        """The first symbol that was posted without being known, or ''. [any]"""
        name: bytes = lib.core_results_unknown(self.pointer)
        return name.decode(errors="replace")

    def shut(self) -> None:
        """Let nobody post any more; late posts are counted and dropped. [any]"""
        lib.core_handle_close(self.cookie)

    def close(self, limit_s: float = 1.0) -> bool:
        """Free the ring, once nobody is inside a post any more; False: somebody is after `limit_s`, it stays. [main]"""
        self.shut()
        stop = time.monotonic() + limit_s
        while not lib.core_handle_release(self.cookie):
            if time.monotonic() > stop:
                return False
            time.sleep(0.0001)
        lib.core_results_free(self.pointer)
        lib.core_symbols_free(self._symbols)
        return True


POST_ADDRESS = address("core_post")
"""`sigrack_host.post`."""
CALLBACK_ADDRESS = address("core_signal_callback")
"""What signal engines are given as their callback."""
