"""Shapes of factor batches: from a ring's records, from posts of Python threads, parts of them.

All are read-only: plugins, STATS and [publish] share them, and plugins may keep them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from sigrack_engine.results import Records
from sigrack_plugins import SECOND, FactorBatch

__all__ = ["Post", "from_posts", "from_records", "rack_times", "selected"]


@dataclass(frozen=True, slots=True)
class Post:
    """Records of one symbol, posted together by a Python plugin."""

    source: str
    symbol: str
    ts_ns: npt.NDArray[np.int64]
    frame: int
    posted_ns: int
    values: npt.NDArray[np.float64]
    """Shape (records, values)."""

    def __len__(self) -> int:
        return len(self.ts_ns)


def rack_times(frames: npt.NDArray[np.uint64], rate_hz: int) -> npt.NDArray[np.int64]:
    """Return frame / rate in nanoseconds; frame * 10^9 would pass 64 bits within days. [any]"""
    seconds, rest = np.divmod(frames.astype(np.int64), rate_hz)
    times: npt.NDArray[np.int64] = seconds * SECOND + rest * SECOND // rate_hz
    times.setflags(write=False)
    return times


def from_records(source: str, symbols: tuple[str, ...], records: Records, rate_hz: int | None) -> FactorBatch:
    """Return a ring's records, which are read-only, as a batch; with `rate_hz` their time is that of their frame. [main]"""
    return FactorBatch(
        source=source,
        symbols=symbols,
        symbol_ids=records["symbol"],
        ts_ns=records["ts_ns"] if rate_hz is None else rack_times(records["frame"], rate_hz),
        frame=records["frame"],
        posted_ns=records["posted_ns"],
        counts=records["count"],
        values=records["values"],
    )


def from_posts(posts: Sequence[Post]) -> list[FactorBatch]:
    """Return batches that hold all of `posts` in their order: one for each run of posts of the same source. [main]"""
    return [_joined(source, list(run)) for source, run in groupby(posts, lambda post: post.source)]


def _joined(source: str, posts: list[Post]) -> FactorBatch:
    symbols = tuple(dict.fromkeys(post.symbol for post in posts))
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    lengths = [len(post) for post in posts]
    widths = [post.values.shape[1] for post in posts]
    values = np.zeros((sum(lengths), max(widths)))
    start = 0
    for post, length, width in zip(posts, lengths, widths, strict=True):
        values[start : start + length, :width] = post.values
        start += length
    batch = FactorBatch(
        source=source,
        symbols=symbols,
        symbol_ids=np.repeat(np.array([numbers[post.symbol] for post in posts], np.uint32), lengths),
        ts_ns=np.concatenate([post.ts_ns for post in posts]),
        frame=np.repeat(np.array([post.frame for post in posts], np.uint64), lengths),
        posted_ns=np.repeat(np.array([post.posted_ns for post in posts], np.int64), lengths),
        counts=np.repeat(np.array(widths, np.uint32), lengths),
        values=values,
    )
    return _sealed(batch)


def selected(batch: FactorBatch, keep: npt.NDArray[np.bool_]) -> FactorBatch:
    """Return the records of `batch` where `keep`, of one entry per record, holds. [main]"""
    part = FactorBatch(
        batch.source,
        batch.symbols,
        batch.symbol_ids[keep],
        batch.ts_ns[keep],
        batch.frame[keep],
        batch.posted_ns[keep],
        batch.counts[keep],
        batch.values[keep],
    )
    return _sealed(part)


def _sealed(batch: FactorBatch) -> FactorBatch:
    for array in (batch.symbol_ids, batch.ts_ns, batch.frame, batch.posted_ns, batch.counts, batch.values):
        array.setflags(write=False)
    return batch
