"""The way into the main loop for what is born on Python threads."""

import threading
from collections import deque
from collections.abc import Sized
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import janus

__all__ = ["Inbox"]

Batch = TypeVar("Batch", bound=Sized)


class Inbox(Generic[Batch]):
    """A bounded number of records, in batches, and one janus token that says it is not empty.

    janus carries doorbells, never records: each put made while the loop is busy costs a callback and a task, so a thousand
    records would cost a thousand of them. posted == delivered + dropped + refused + queued, in records.
    """

    def __init__(self, capacity: int = 16_384) -> None:
        self.capacity = capacity
        """In records. A batch finds room as long as the inbox is empty, however long it is."""
        self.posted = 0
        self.delivered = 0
        self.dropped = 0
        self.refused = 0
        """Posted for a plugin that is gone."""
        self.queued = 0
        self.patient = False
        """Freewheel: threads wait for room; the main thread, which empties it, never waits and always finds room."""
        self._main = threading.get_ident()
        self._room = threading.Condition()
        self._batches: deque[Batch] = deque()
        self._rung = False
        self._bell: janus.Queue[None] | None = None

    def attach(self, bell: "janus.Queue[None] | None") -> None:
        """Ring `bell` from now on; None: nobody listens, records wait for `take`. [main]"""
        with self._room:
            self._bell = bell
            self._rung = False
            self._ring()

    def _ring(self) -> None:
        if self._bell is not None and self._batches and not self._rung:
            self._rung = True
            self._bell.sync_q.put_nowait(None)

    def _has_room(self, records: int) -> bool:
        return not self._batches or self.queued + records <= self.capacity

    def post(self, batch: Batch) -> bool:
        """Queue a batch; False: dropped and counted, for the inbox is full. Waits only when `patient`. [any but engine]"""
        records = len(batch)
        with self._room:
            self.posted += records
            if threading.get_ident() != self._main:
                self._room.wait_for(lambda: not self.patient or self._has_room(records))
            if not self._has_room(records) and not self.patient:
                self.dropped += records
                return False
            self._batches.append(batch)
            self.queued += records
            self._ring()
            return True

    def refuse(self, records: int) -> None:
        """Count what a plugin that is gone wanted to post. [any but engine]"""
        with self._room:
            self.posted += records
            self.refused += records

    def give_up(self) -> None:
        """Be patient no more: who waits drops what he has. [main]"""
        with self._room:
            self.patient = False
            self._room.notify_all()

    def take(self, most: int | None = None) -> list[Batch]:
        """Take what waits, up to about `most` records: the last batch is taken whole. [main]"""
        with self._room:
            batches: list[Batch] = []
            records = 0
            while self._batches and (most is None or records < most):
                batches.append(self._batches.popleft())
                records += len(batches[-1])
            self._rung = False
            self.delivered += records
            self.queued -= records
            self._room.notify_all()
            return batches
