"""Factors from native code to the main loop."""

import ctypes as c
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sigrack_engine.bell import Bell
from sigrack_engine.core import ResultsStats, address, checked, lib

__all__ = ["CALLBACK_ADDRESS", "POST_ADDRESS", "PostCounts", "Records", "ResultRing"]

_HEADER = [
    ("sequence", np.uint64),
    ("ts_ns", np.int64),
    ("frame", np.uint64),
    ("posted_ns", np.int64),
    ("slot", np.uint32),
    ("generation", np.uint32),
    ("symbol", np.uint32),
    ("count", np.uint32),
]
_LINE = 64

HEADER_TYPE = np.dtype(_HEADER)
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
        stride = -(-(HEADER_TYPE.itemsize + max_values * 8) // _LINE) * _LINE
        layout = np.dtype(
            {
                "names": [name for name, _ in _HEADER] + ["values"],
                "formats": [kind for _, kind in _HEADER] + [(np.float64, max_values)],
                "offsets": [HEADER_TYPE.fields[name][1] for name, _ in _HEADER] + [HEADER_TYPE.itemsize],  # type: ignore[index]
                "itemsize": stride,
            }
        )
        rounded = 1 << (capacity - 1).bit_length()
        memory = (c.c_char * (rounded * stride)).from_address(lib.core_results_memory(self.pointer))
        return np.frombuffer(memory, layout)

    def take(self, limit: int) -> Records | None:
        """Take up to `limit` records as a copy, or None if there are none. [main]"""
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
        return records

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

    def close(self) -> bool:
        """Free the ring if nobody is inside a post any more; False: ask again. [control]"""
        if not lib.core_handle_release(self.cookie):
            return False
        lib.core_results_free(self.pointer)
        lib.core_symbols_free(self._symbols)
        return True


POST_ADDRESS = address("core_post")
"""`sigrack_host.post`."""
CALLBACK_ADDRESS = address("core_signal_callback")
"""What signal engines are given as their callback."""
