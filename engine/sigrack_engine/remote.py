"""Factors that are posted in a child's process: their way through the host's ring, and books that outlive the child."""

import ctypes as c
import fcntl
import mmap
import os
import threading
from collections.abc import Sequence

from sigrack_engine.bell import Bell
from sigrack_engine.core import Books, lib
from sigrack_engine.exchange import SEALS, memory_file
from sigrack_engine.results import PostCounts, ResultRing

__all__ = ["ChildBooks", "RemoteRing", "SharedBooks"]

MOST = 1 << 48
"""What a child can have counted."""


class SharedBooks:
    """What one child has posted and lost, as it says itself: memory that it writes and the host reads, also when it is dead."""

    def __init__(self) -> None:
        """Raises OSError. [control]"""
        size = c.sizeof(Books)
        self._descriptor = memory_file("sigrack-books", size)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_SEAL)
            self._memory = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ)
        except OSError:
            os.close(self._descriptor)
            raise

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the child maps."""
        return (self._descriptor,)

    def read(self) -> Books:
        """Return what they say now; anything may stand there. [any]"""
        return Books.from_buffer_copy(self._memory)

    def lose(self) -> None:
        """Nothing: nobody waits for it."""

    def free(self) -> None:
        """Unmap them. [any]"""
        if not self._memory.closed:
            self._memory.close()
            os.close(self._descriptor)


class ChildBooks:
    """The child's side."""

    def __init__(self, descriptor: int) -> None:
        """Map what the host has made. [child]"""
        self._memory = mmap.mmap(descriptor, c.sizeof(Books))
        self.address = c.addressof(Books.from_buffer(self._memory))


class RemoteRing(ResultRing):
    """The ring of a source that posts in children, one after the other; its counts are those of all of them and its own.

    Whatever a child says of itself, the sums are exact: what it says it has posted, and what never came, is lost with it.
    """

    def __init__(
        self, bell: Bell, symbols: Sequence[str], frame_now: int | None, capacity: int = 4096, max_values: int = 16
    ) -> None:
        super().__init__(bell, symbols, frame_now, capacity, max_values)
        self._lock = threading.Lock()
        self._books: SharedBooks | None = None
        """Of the child that lives."""
        self._came = 0
        """Records that came from it."""
        self._posted = self._dropped = self._refused = 0
        """Of children that are gone."""
        self._late = 0
        """Records that came when the ring was shut."""
        self._unknown = ""
        self._too_long = 0
        self.lost = 0
        """Records that children which died had posted, and that never came."""

    def follow(self, books: SharedBooks) -> None:
        """Count with the books of a new child. [minder]"""
        with self._lock:
            self._books, self._came = books, 0

    def has_room(self, size: int) -> bool:
        """Whether records of `size` bytes find room now, or never will. [minder]"""
        count = min(size // self._kind.itemsize, self.capacity)
        return self._last is not None or self.capacity - self.queued >= count

    def append(self, data: bytes) -> None:
        """Post the records that a child has sent. [minder]"""
        count = len(data) // self._kind.itemsize
        with self._lock:
            posted = lib.core_results_append(self.cookie, data, count, self._kind.itemsize)
            self._came += count
            self._late += count - posted

    def settle(self) -> None:
        """Close the books of a child that is gone, all of whose records have come or never will. [minder]"""
        with self._lock:
            if self._books is None:
                return
            there = self._there()
            self.lost += there.queued
            self._posted += there.posted
            self._dropped += there.dropped + there.queued
            self._refused += there.refused
            self._unknown, self._too_long = self._named()
            self._books = None

    def _there(self) -> PostCounts:
        """Return what the child that lives has counted; queued: what is on its way. [with the lock]"""
        if self._books is None:
            return PostCounts(0, 0, 0, 0, 0, 0)
        books = self._books.read()
        posted, dropped, refused = (min(count, MOST) for count in (books.posted, books.dropped, books.refused))
        queued = max(posted - dropped - refused - self._came, 0)
        return PostCounts(self._came + dropped + refused + queued, 0, dropped, refused, 0, queued)

    def _named(self) -> tuple[str, int]:
        """Return the first unknown symbol and the first record too long, of all children. [with the lock]"""
        if self._books is None:
            return self._unknown, self._too_long
        books = self._books.read()
        name = books.unknown.decode(errors="replace") if books.unknown_state == 2 else ""
        return self._unknown or name, self._too_long or books.too_long

    @property
    def counts(self) -> PostCounts:
        """What became of the records so far. [main]"""
        own = super().counts
        with self._lock:
            there = self._there()
            return PostCounts(
                self._posted + there.posted,
                own.delivered,
                own.dropped + self._dropped + there.dropped,
                own.refused + self._refused + there.refused,
                own.stale + self._late,
                own.queued + there.queued,
            )

    @property
    def unknown(self) -> str:
        """The first symbol that was posted without being known, or ''. [main]"""
        with self._lock:
            return super().unknown or self._named()[0]

    @property
    def too_long(self) -> tuple[str, int] | None:
        """Symbol and length of the first record that was refused because it had more than `max_values` values. [main]"""
        with self._lock:
            first = self._named()[1]
        symbol = (first >> 32) - 1
        return (self.symbols[symbol], first & 0xFFFFFFFF) if 0 <= symbol < len(self.symbols) else super().too_long
