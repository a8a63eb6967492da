"""From rings to hooks: the one place where plugins are called with audio, data and results."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sigrack.batches import Post, from_posts, from_records, selected
from sigrack.hooks import Hooked
from sigrack.latest import Latest
from sigrack.timers import Timers
from sigrack_engine.inbox import Inbox
from sigrack_engine.pool import BlockPool
from sigrack_engine.results import ResultRing
from sigrack_engine.tap import TapRing
from sigrack_plugins import Block, DataBatch, FactorBatch

__all__ = ["Dispatcher", "HookTap", "Snapshot", "Source"]

TURN_NS = 2_000_000
"""The longest the main loop is kept by one turn."""
BATCH = 512
"""Records that one source may deliver before the next one's turn."""

MOST_MASKS = 256
"""Subscriptions worked out per plugin; sources in Python may come with ever new symbols."""

Mask = npt.NDArray[np.bool_]


@dataclass(eq=False, slots=True)
class Source:
    """A ring that delivers factors."""

    name: str
    ring: ResultRing
    rate_hz: int | None
    """Its records carry frames at this rate, not a clock of their own."""
    after: "Source | None" = None
    """What it has replaced: delivered to the end first."""
    last: int | None = None
    """The first run list without it; None: it is in the rack."""
    gone: bool = False
    """Nothing comes from it any more."""

    def crowded(self, running: int) -> bool:
        """Whether it fills while what it has replaced, out of the engine's list `running`, is still being delivered. [main]"""
        before = self.after
        if before is None or before.gone or before.last is None or running < before.last:
            return False
        return 2 * self.ring.queued > self.ring.capacity


@dataclass(eq=False, slots=True)
class HookTap:
    """A tap whose blocks go to one plugin."""

    hooked: Hooked
    tap: TapRing
    pool: BlockPool
    rate_hz: int
    after: "HookTap | None" = None
    """What it has replaced: delivered to the end first."""
    gone: bool = False
    """It was read to its end, or nobody reads it any more."""


class Snapshot(NamedTuple):
    """What a turn asks and calls. Replaced whole, never changed: a change during a turn counts from the next on."""

    sources: tuple[Source, ...] = ()
    taps: tuple[HookTap, ...] = ()
    factor_hooks: tuple[Hooked, ...] = ()
    """Plugins with on_factors or on_factor."""
    data_hooks: tuple[Hooked, ...] = ()
    """Plugins with on_data."""

    def joined(self, other: "Snapshot") -> "Snapshot":
        """Return what is in both."""
        if not any(self):
            return other
        return Snapshot(
            self.sources + other.sources,
            self.taps + other.taps,
            self.factor_hooks + other.factor_hooks,
            self.data_hooks + other.data_hooks,
        )


@dataclass(slots=True)
class Dispatcher:
    """Drains all that waits, in rounds: the inbox first, then result rings and taps, beginning with another one each time."""

    inbox: Inbox[Post | DataBatch] = field(default_factory=Inbox)
    timers: Timers = field(default_factory=Timers)
    snapshot: Snapshot = field(default_factory=Snapshot)
    leaving: Snapshot = field(default_factory=Snapshot)
    """Of what is no longer in the rack, but has something to deliver or still listens."""
    latest: Latest = field(default_factory=Latest)
    on_batch: Callable[[FactorBatch], object] | None = None
    """Is given every batch, after the hooks. [main]"""
    blocks: int = 0
    records: int = 0
    turns: int = 0
    _offset: int = 0

    @property
    def sources(self) -> tuple[Source, ...]:
        """All that may still deliver. [main]"""
        return (*self.leaving.sources, *self.snapshot.sources)

    def drain(self, now_ns: int, turn_ns: int = TURN_NS) -> bool:
        """Deliver what is there for at most `turn_ns`, run the timers due at rack time `now_ns`; True: there is more. [main]"""
        stop = time.monotonic_ns() + turn_ns
        self.turns += 1
        more = self._round(stop)
        while more and time.monotonic_ns() < stop:
            more = self._round(stop)
        return self.timers.run_due(now_ns, stop_ns=stop) or more

    def flush(self, now_ns: int) -> None:
        """Deliver what was there when this was called, without a time limit, and run the timers due (freewheel, stop). [main]

        What engines and hooks post meanwhile waits for the next call, so a fast poster cannot hold it for ever.
        """
        self.turns += 1
        self._drain_inbox()
        for source in self.sources:
            owed = source.ring.queued
            while owed > 0 and (taken := self._source(source, min(owed, BATCH))):
                owed -= taken
        for tap in (*self.leaving.taps, *self.snapshot.taps):
            while self._tap(tap):  # the engine writes nothing meanwhile
                pass
        self.timers.run_due(now_ns)

    def _round(self, stop_ns: int) -> bool:
        """Give the inbox, then each source and tap one go, until `stop_ns`; False: nothing was there.

        A round that was cut short goes on where it was; a whole one begins with another one than before.
        """
        any_work = self._drain_inbox(BATCH)
        leaving, present = self.leaving, self.snapshot
        ways: tuple[Source | HookTap, ...] = (*leaving.sources, *present.sources, *leaving.taps, *present.taps)
        for _ in ways:
            way = ways[self._offset % len(ways)]
            self._offset += 1
            if self._source(way, BATCH) if isinstance(way, Source) else self._tap(way):
                any_work = True
                if time.monotonic_ns() >= stop_ns:
                    return True
        self._offset += 1
        return any_work

    def _source(self, source: Source, limit: int) -> int:
        """Deliver up to `limit` records; return how many the ring gave."""
        if source.gone or _waits(source):
            return 0
        taken = source.ring.take(limit)
        if taken is None:
            return 0
        records, count = taken
        if len(records):
            batch = from_records(source.name, source.ring.symbols, records, source.rate_hz)
            self._deliver(batch)
            self.latest.note(batch)
        return count

    def _drain_inbox(self, most: int | None = None) -> bool:
        if not self.inbox.queued:  # who posts after this look rings
            return False
        posts: list[Post] = []
        for batch in self.inbox.take(most):
            if isinstance(batch, Post):
                posts.append(batch)
                continue
            self._deliver_posts(posts)
            self.deliver_data(batch)
            posts = []
        self._deliver_posts(posts)
        return True

    def _deliver_posts(self, posts: list[Post]) -> None:
        for batch in from_posts(posts):
            self._deliver(batch)
            self.latest.note_posts(batch)

    def _deliver(self, batch: FactorBatch) -> None:
        self.records += len(batch)
        for hooked in (*self.leaving.factor_hooks, *self.snapshot.factor_hooks):
            keep = _mask(hooked, batch.source, batch.symbols)
            wanted = batch if keep is None else selected(batch, keep[batch.symbol_ids])
            if not len(wanted):
                continue
            if "on_factors" in hooked.methods:
                hooked.hook("on_factors", wanted)
            else:
                hooked.each("on_factor", _items(wanted))
        if self.on_batch:
            self.on_batch(batch)

    def deliver_data(self, batch: DataBatch) -> None:
        """Hand a feed's records to those that listen. [main]"""
        for hooked in (*self.leaving.data_hooks, *self.snapshot.data_hooks):
            wanted = _wanted_data(hooked, batch)
            if len(wanted):
                hooked.hook("on_data", wanted)

    def _tap(self, way: HookTap) -> bool:
        if way.gone or _waits(way):
            return False
        frames = way.tap.ready(way.pool.frames)
        if not frames:
            way.gone = way.tap.ended
            return way.gone  # its heir has its turn now
        lease, frame = way.tap.read_planar(way.pool, frames)
        self.blocks += 1
        way.hooked.hook("on_block", Block(lease.view[:frames], way.rate_hz, frame))
        way.pool.done(lease)
        return True


def _waits(way: Source | HookTap) -> bool:
    """Whether what `way` has replaced still has something to deliver."""
    while way.after and way.after.gone:
        way.after = way.after.after  # it may have gone without a word while it waited itself
    return way.after is not None


def _items(batch: FactorBatch) -> Any:
    """Return the arguments of on_factor for each record."""
    return ((batch.source, symbol, ts_ns, values) for symbol, ts_ns, values in batch)


def _mask(hooked: Hooked, source: str, symbols: tuple[str, ...]) -> Mask | None:
    """Return which of `symbols` a plugin has subscribed to, by number; None: all."""
    if not hooked.filters:
        return None
    key = (source, symbols)
    if key not in hooked.masks:
        if len(hooked.masks) >= MOST_MASKS:
            hooked.masks.clear()
        names = hooked.wanted(source)
        hooked.masks[key] = None if names is None else np.array([symbol in names for symbol in symbols], bool)
    mask: Mask | None = hooked.masks[key]
    return mask


def _wanted_data(hooked: Hooked, batch: DataBatch) -> DataBatch:
    """Return what a plugin has subscribed to of a feed's records."""
    names = hooked.wanted(batch.source)
    if names is None:
        return batch
    keep = np.isin(batch.records["symbol"], np.array([name.encode() for name in names], "S32"))
    records = batch.records[keep]
    records.flags.writeable = False
    return DataBatch(batch.source, batch.kind, records, batch.epoch_ns)
