"""Data on its way to one signal engine."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sigrack_plugins import DataBatch

__all__ = ["DataCounts", "DataQueue"]


@dataclass(frozen=True, slots=True)
class DataCounts:
    """What became of the records: given == fed + dropped + queued."""

    given: int
    fed: int
    dropped: int
    queued: int


class DataQueue:
    """A bounded number of records, in batches, from feeds to one feeder."""

    def __init__(self, capacity: int) -> None:
        """`capacity` in records."""
        self.capacity = capacity
        self._given = self._fed = self._dropped = 0
        self._ended = False
        self.overran = False
        """Whether records have found no room."""
        self._batches: list[DataBatch] = []
        self._change = threading.Condition()

    def give(self, batches: Sequence[DataBatch]) -> bool:
        """Queue batches; what finds no room is dropped and counted. Never waits. [any]

        False: the queue has ended; it neither takes nor counts them.
        """
        records = sum(map(len, batches))
        with self._change:
            if self._ended:
                return False
            full = self._queued() + records > self.capacity
            self._given += records
            if full:
                self._dropped += records
                self.overran = True
            else:
                self._batches += batches
                self._change.notify()
            return True

    def take(self, limit_s: float | None) -> list[DataBatch]:
        """Return all that waits; nothing: there was nothing within `limit_s`, or the queue has ended. [feeder]

        It counts as queued until `done`.
        """
        with self._change:
            self._change.wait_for(lambda: self._batches or self._ended, limit_s)
            batches, self._batches = self._batches, []
            return batches

    def done(self, batches: Sequence[DataBatch], fed: int) -> None:
        """Say how many records of those taken last the engine has got; the others are dropped. [feeder]"""
        with self._change:
            self._fed += fed
            self._dropped += sum(map(len, batches)) - fed

    def finish(self) -> None:
        """Take no more; what waits is still the feeder's. [any]"""
        with self._change:
            self._ended = True
            self._change.notify_all()

    def end(self) -> None:
        """Take no more, and drop what waits. [any]"""
        with self._change:
            self._ended = True
            self._dropped += sum(map(len, self._batches))
            self._batches = []
            self._change.notify_all()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come. [any]"""
        return self._ended

    @property
    def room(self) -> int:
        """Records that find room now. [any]"""
        return self.capacity - self.counts.queued

    def _queued(self) -> int:
        return self._given - self._fed - self._dropped

    @property
    def counts(self) -> DataCounts:
        """What became of the records so far. [any]"""
        with self._change:
            return DataCounts(self._given, self._fed, self._dropped, self._queued())
