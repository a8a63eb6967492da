"""The way into the main loop for what is born on Python threads."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import janus

__all__ = ["Inbox", "Post"]


@dataclass(frozen=True, slots=True)
class Post:
    """One record."""

    source: str
    symbol: str
    ts_ns: int
    frame: int
    posted_ns: int
    values: npt.NDArray[np.float64]


class Inbox:
    """A bounded batch of records and one janus token that says it is not empty.

    janus carries doorbells, never records: each put made while the loop is busy costs a callback and a task, so a thousand
    records would cost a thousand of them.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self.posted = 0
        self.dropped = 0
        self.delivered = 0
        self._lock = threading.Lock()
        self._records: deque[Post] = deque()
        self._rung = False
        self._bell: janus.Queue[None] | None = None

    def attach(self, bell: "janus.Queue[None] | None") -> None:
        """Ring `bell` from now on; None: nobody listens, records wait for `take`. [main]"""
        with self._lock:
            self._bell = bell
            self._ring()

    def _ring(self) -> None:
        if self._bell is not None and self._records and not self._rung:
            self._rung = True
            self._bell.sync_q.put_nowait(None)

    def post(self, record: Post) -> bool:
        """Queue one record; False: dropped and counted, for the inbox is full. Never blocks for long. [any but engine]"""
        with self._lock:
            self.posted += 1
            if len(self._records) >= self.capacity:
                self.dropped += 1
                return False
            self._records.append(record)
            self._ring()
            return True

    def take(self) -> list[Post]:
        """Take all records. [main]"""
        with self._lock:
            records = list(self._records)
            self._records.clear()
            self._rung = False
            self.delivered += len(records)
            return records

    @property
    def queued(self) -> int:
        """Records that wait. posted == delivered + dropped + queued. [any]"""
        return len(self._records)
