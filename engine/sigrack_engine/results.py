"""Factors from native code to the main loop."""

import ctypes as c
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sigrack_engine.bell import Bell
from sigrack_engine.core import ResultsStats, Span, address, checked, lib, quick

__all__ = ["CALLBACK_ADDRESS", "POST_ADDRESS", "PostCounts", "Records", "ResultRing"]

_HEADER = [
    ("sequence", "u8"),
    ("ts_ns", "i8"),
    ("frame", "u8"),
    ("posted_ns", "i8"),
    ("cookie", "u8"),
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

_peek = quick("core_results_peek")
_give_back = quick("core_results_release")
_stats = quick("core_results_stats")


@dataclass(frozen=True, slots=True)
class PostCounts:
    """What became of the records: posted == delivered + dropped + refused + stale + queued, exact at rest."""

    posted: int
    delivered: int
    dropped: int
    refused: int
    stale: int
    queued: int


@dataclass(frozen=True, slots=True)
class _Account:
    """What a ring tells about itself, also when it is freed."""

    counts: PostCounts
    unknown: str
    too_long: tuple[str, int] | None


class ResultRing:
    """A bounded ring of records from any number of native threads, and the handle that they post through.

    Its memory is freed by `release`, not before nobody is inside a post; what it tells about itself stays.
    """

    def __init__(
        self, bell: Bell, symbols: Sequence[str], frame_now: int | None, capacity: int = 4096, max_values: int = 16
    ) -> None:
        self.symbols = tuple(symbols)
        self.max_values = max_values
        names = (c.c_char_p * len(symbols))(*(name.encode() for name in symbols))
        self._symbols = checked(lib.core_symbols_new(names, len(symbols)), "symbols")
        self.pointer = checked(
            lib.core_results_new(capacity, max_values, self._symbols, bell.pointer, frame_now), "a result ring"
        )
        self.cookie = checked(lib.core_handle_open(self.pointer), "a handle (4096 are in use)")
        self.delivered = 0
        self.stale = 0
        self._kind = _record_type(max_values)
        self._memory = self._map(capacity)
        self._span = Span()
        self._last: _Account | None = None

    def _map(self, capacity: int) -> npt.NDArray[np.uint64]:
        """Return the ring's memory, a row of words per record: NumPy copies words eight times as fast as structs."""
        count = 1 << max(capacity - 1, 1).bit_length()
        memory = (c.c_char * (count * self._kind.itemsize)).from_address(lib.core_results_memory(self.pointer))
        return np.ndarray((count, self._kind.itemsize // 8), np.uint64, memory)  # type: ignore[arg-type]

    @property
    def capacity(self) -> int:
        """Records that it holds; 0 when it is freed. [main]"""
        return len(self._memory)

    @property
    def queued(self) -> int:
        """Records that wait. [any]"""
        return self._last.counts.queued if self._last else self._count().queued

    def keep_books(self, memory: int) -> None:
        """Count in `struct core_books` at this address, which others may read. Before anybody posts. [control]"""
        lib.core_results_set_books(self.pointer, memory)

    def take(self, limit: int) -> tuple[Records, int] | None:
        """Take up to `limit` records: those of this handle, a read-only copy, and how many there were; None: none. [main]"""
        if self._last or not (count := _peek(self.pointer, self.cookie, limit, self._span)):
            return None
        start, strange = self._span.start, self._span.strange
        words = self._memory[start : start + count].copy()
        _give_back(self.pointer, count)
        words.setflags(write=False)  # for all views of it: plugins share batches
        records: Records = np.ndarray(count, self._kind, words)
        if strange:
            records = records[records["cookie"] == self.cookie]
            records.setflags(write=False)
            self.stale += strange
        self.delivered += count - strange
        return records, count

    def discard(self) -> None:
        """Throw away what is queued now; it counts as stale. [main]"""
        owed = self.queued
        while owed > 0 and self._last is None and (count := _peek(self.pointer, self.cookie, owed, self._span)):
            _give_back(self.pointer, count)
            self.stale += count
            owed -= count

    def set_patient(self, patient: bool) -> None:
        """Let engines wait for room instead of dropping (freewheel, replay), or no longer; a shut ring holds nobody up. [main]

        Only `CALLBACK_ADDRESS` waits, never `POST_ADDRESS`. While it is set, somebody must drain: so a caller that waits for an
        engine which may be posting (to register, to destroy) drains meanwhile, or withdraws patience first.
        """
        if self._last is None:
            lib.core_results_patient(self.pointer, patient)

    def _account(self) -> _Account:
        if self._last:
            return self._last
        name: bytes = lib.core_results_unknown(self.pointer)
        symbol, count = c.c_uint32(), c.c_uint32()
        long = lib.core_results_too_long(self.pointer, symbol, count)
        return _Account(self._count(), name.decode(errors="replace"), (self.symbols[symbol.value], count.value) if long else None)

    def _count(self) -> PostCounts:
        stats = ResultsStats()
        _stats(self.pointer, stats)
        return PostCounts(stats.posted, self.delivered, stats.dropped, stats.refused, self.stale, stats.queued)

    @property
    def counts(self) -> PostCounts:
        """What became of the records so far. [main]"""
        return self._last.counts if self._last else self._count()

    @property
    def unknown(self) -> str:
        """The first symbol that was posted without being known, or ''. [main]"""
        return self._account().unknown

    @property
    def too_long(self) -> tuple[str, int] | None:
        """Symbol and length of the first record that was refused because it had more than `max_values` values. [main]"""
        return self._account().too_long

    def shut(self) -> None:
        """Let nobody post any more; late posts are counted and dropped. [any]"""
        lib.core_handle_close(self.cookie)

    def release(self) -> bool:
        """Shut the ring and free it if nobody is inside a post; False: somebody is, ask again. [main]

        Never waits. What is queued is discarded. Once it has returned True it does so again, and does nothing.
        """
        if self._last is None:
            self.shut()
            if not lib.core_handle_release(self.cookie):
                return False
            self.discard()
            self._last = self._account()
            self._memory = self._memory[:0].copy()
            lib.core_results_free(self.pointer)
            lib.core_symbols_free(self._symbols)
        return True

    def close(self, limit_s: float = 1.0) -> bool:
        """`release`, waiting up to `limit_s` for posts under way; False: somebody is still inside, it stays. [main, worker]"""
        stop = time.monotonic() + limit_s
        while not self.release():
            if time.monotonic() > stop:
                return False
            time.sleep(0.0001)
        return True


POST_ADDRESS = address("core_post")
"""`sigrack_host.post`."""
CALLBACK_ADDRESS = address("core_signal_callback")
"""What signal engines are given as their callback."""
