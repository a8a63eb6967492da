"""From rings to hooks: the one place where plugins are called with audio and results."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sigrack.hooks import Hooked
from sigrack.timers import Timers
from sigrack_engine.inbox import Inbox, Post
from sigrack_engine.pool import BlockPool
from sigrack_engine.results import Records, ResultRing
from sigrack_engine.tap import TapRing
from sigrack_plugins import SECOND, Block, FactorBatch

__all__ = ["Dispatcher", "HookTap", "Source"]

TURN_NS = 2_000_000
"""The longest the main loop is kept by one turn."""
BATCH = 512
"""Records that one source may deliver before the next one's turn."""


@dataclass(eq=False, slots=True)
class Source:
    """A ring that delivers factors. `rack_time`: its records carry frames, not a clock of their own."""

    name: str
    ring: ResultRing
    rack_time: bool


@dataclass(eq=False, slots=True)
class HookTap:
    """A tap whose blocks go to one plugin."""

    hooked: Hooked
    tap: TapRing
    pool: BlockPool


@dataclass(slots=True)
class Dispatcher:
    """Drains all that waits, in a stated order: the inbox first, then the result rings and the taps, each round robin.

    The tuples are replaced whole, never changed, so that a hook may load and unload plugins while it is being called.
    """

    rate_hz: int
    inbox: Inbox = field(default_factory=Inbox)
    timers: Timers = field(default_factory=Timers)
    sources: tuple[Source, ...] = ()
    taps: tuple[HookTap, ...] = ()
    listeners: tuple[Hooked, ...] = ()
    latest: dict[tuple[str, str], tuple[int, list[float]]] = field(default_factory=dict)
    """The last record of each source and symbol: (ts_ns, values)."""
    blocks: int = 0
    records: int = 0
    turns: int = 0
    _offset: int = 0

    def drain(self, now_ns: int, turn_ns: int = TURN_NS) -> bool:
        """Deliver what is there for at most `turn_ns`, run the timers due at rack time `now_ns`; True: there is more. [main]"""
        stop = time.monotonic_ns() + turn_ns
        self.turns += 1
        self._drain_inbox()
        more = True
        while more and time.monotonic_ns() < stop:
            more = self._round()
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
        for tap in self.taps:
            while self._tap(tap):
                pass
        self.timers.run_due(now_ns)

    def _round(self) -> bool:
        """Give each source and each tap one go, beginning with another one each time; False: nothing was there."""
        ways: Sequence[Source | HookTap] = (*self.sources, *self.taps)
        any_work = False
        for index in range(len(ways)):
            way = ways[(index + self._offset) % len(ways)]
            any_work |= bool(self._source(way, BATCH) if isinstance(way, Source) else self._tap(way))
        self._offset += 1
        return any_work

    def _source(self, source: Source, limit: int) -> int:
        """Deliver up to `limit` records; return how many the ring gave."""
        taken = source.ring.take(limit)
        if taken is None:
            return 0
        records, count = taken
        if len(records):
            self._deliver(self._batch(source, records))
        return count

    def _batch(self, source: Source, records: Records) -> FactorBatch:
        ts_ns = _rack_times(records["frame"], self.rate_hz) if source.rack_time else records["ts_ns"]
        return FactorBatch(
            source=source.name,
            symbols=source.ring.symbols,
            symbol_ids=records["symbol"],
            ts_ns=ts_ns,
            frame=records["frame"],
            posted_ns=records["posted_ns"],
            counts=records["count"],
            values=records["values"],
        )

    def _drain_inbox(self) -> None:
        posts = self.inbox.take()
        for start in range(0, len(posts), BATCH):
            chunk = posts[start : start + BATCH]
            for source in dict.fromkeys(post.source for post in chunk):
                self._deliver(_python_batch(source, [post for post in chunk if post.source == source]))

    def _deliver(self, batch: FactorBatch) -> None:
        self.records += len(batch)
        self._remember(batch)
        for hooked in self.listeners:
            if (wanted := _filtered(batch, hooked)) is None:
                continue
            if "on_factors" in hooked.methods:
                hooked.hook("on_factors", wanted)
            else:
                for symbol, ts_ns, values in wanted:
                    hooked.hook("on_factor", wanted.source, symbol, ts_ns, values)

    def _remember(self, batch: FactorBatch) -> None:
        last = dict(zip(batch.symbol_ids.tolist(), range(len(batch)), strict=True))
        for symbol, row in last.items():
            values = batch.values[row, : batch.counts[row]].tolist()
            self.latest[batch.source, batch.symbols[symbol]] = (int(batch.ts_ns[row]), values)

    def _tap(self, way: HookTap) -> bool:
        frames = way.tap.ready(way.pool.frames)
        if not frames:
            return False
        lease, frame = way.tap.read_planar(way.pool, frames)
        self.blocks += 1
        way.hooked.hook("on_block", Block(lease.view[:frames], self.rate_hz, frame))
        way.pool.done(lease)
        return True


def _rack_times(frames: npt.NDArray[np.uint64], rate_hz: int) -> npt.NDArray[np.int64]:
    """Return frame / rate in nanoseconds; frame * 10^9 would pass 64 bits within days."""
    seconds, rest = np.divmod(frames.astype(np.int64), rate_hz)
    times: npt.NDArray[np.int64] = seconds * SECOND + rest * SECOND // rate_hz
    return times


def _python_batch(source: str, posts: list[Post]) -> FactorBatch:
    symbols = tuple(dict.fromkeys(post.symbol for post in posts))
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    counts = np.array([len(post.values) for post in posts], np.uint32)
    values = np.zeros((len(posts), int(counts.max())))
    for row, post in zip(values, posts, strict=True):
        row[: len(post.values)] = post.values
    return FactorBatch(
        source=source,
        symbols=symbols,
        symbol_ids=np.array([numbers[post.symbol] for post in posts], np.uint32),
        ts_ns=np.array([post.ts_ns for post in posts], np.int64),
        frame=np.array([post.frame for post in posts], np.uint64),
        posted_ns=np.array([post.posted_ns for post in posts], np.int64),
        counts=counts,
        values=values,
    )


def _filtered(batch: FactorBatch, hooked: Hooked) -> FactorBatch | None:
    """Return what `hooked` has subscribed to of `batch`, or None."""
    if not hooked.filters or {(None, None), (batch.source, None)} & hooked.filters:
        return batch
    names = {symbol for source, symbol in hooked.filters if source in (None, batch.source)}
    wanted = np.array([symbol in names for symbol in batch.symbols])
    keep = wanted[batch.symbol_ids]
    if not keep.any():
        return None
    return FactorBatch(
        batch.source,
        batch.symbols,
        batch.symbol_ids[keep],
        batch.ts_ns[keep],
        batch.frame[keep],
        batch.posted_ns[keep],
        batch.counts[keep],
        batch.values[keep],
    )
