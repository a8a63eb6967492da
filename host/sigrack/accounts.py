"""What became of all that was posted, given and heard, by name: what instances that are gone did and lost counts too."""

import logging
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

from sigrack.reaper import Thing
from sigrack.signals import SignalEngine
from sigrack.tally import Tally, tally
from sigrack_engine.feeds import DataCounts
from sigrack_engine.results import PostCounts

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["Accounts"]

log = logging.getLogger("sigrack")

Counts = TypeVar("Counts", PostCounts, DataCounts, Tally)


class Accounts:
    """The rack's books: those of instances that run are read from them, those of instances that are gone are kept here."""

    def __init__(self, rack: "Rack") -> None:
        self._rack = rack
        self.past: dict[str, PostCounts] = {}
        """Of sources that are gone."""
        self._past_data: dict[str, DataCounts] = {}
        self._past_tallies: dict[str, Tally] = {}

    def close(self, thing: Thing) -> None:
        """Keep the counts of what is going; its rings and taps are there for the last time. [main]"""
        if source := thing.source:
            _add(self.past, source.name, source.ring.counts)
        if isinstance(thing, SignalEngine) and thing.data:
            _add(self._past_data, thing.name, thing.data.counts)
        _add(self._past_tallies, thing.name, tally(thing))

    def posts(self) -> dict[str, PostCounts]:
        """What became of the records of each source. [main]"""
        total = dict(self.past)
        for source in self._rack.dispatcher.sources:
            _add(total, source.name, source.ring.counts)
        return total

    def data(self) -> dict[str, DataCounts]:
        """What became of the records that feeds gave each signal engine. [main]"""
        total = dict(self._past_data)
        for engine in self._rack.engines:
            if engine.data:
                _add(total, engine.name, engine.data.counts)
        return total

    def tallies(self) -> dict[str, Tally]:
        """What all instances of each name did and lost. [main]"""
        total = dict(self._past_tallies)
        for thing in self._rack.present:
            _add(total, thing.name, tally(thing))
        return total

    def warn_of_losses(self) -> None:
        """Say what was dropped: freewheel loses nothing unless a plugin posts more in one block than its ring takes. [main]"""
        for name, counts in self.posts().items():
            if counts.dropped:
                log.warning("%s: posted too much at once: %d of its %d records were dropped", name, counts.dropped, counts.posted)


def _add(total: dict[str, Counts], name: str, more: Counts) -> None:
    before = total.get(name)
    total[name] = more if before is None else type(more)(*(getattr(before, f.name) + getattr(more, f.name) for f in fields(more)))
