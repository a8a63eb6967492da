"""Several feeds of files as one stream, in order of time."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sigrack_engine.data import Records

__all__ = ["Merge", "Track"]

MOST_NS = 1 << 62
"""The end of rack time, beyond a century."""

Times = npt.NDArray[np.int64]


class Track:
    """One feed on its way into the stream: a chunk of records and what comes after it."""

    def __init__(self, read: Iterable[Records], speed: float = 1.0) -> None:
        """`read` yields chunks in order of time; `speed`: how fast its clock goes, measured in rack time.

        Raises FeedError if the first chunk is wrong. [main]
        """
        self._chunks: Iterator[Records] = iter(read)
        self._speed = speed
        self._epoch_ns = 0
        self.ended = False
        """Whether there are no more records."""
        self.records: Records
        """What was not taken of the chunk."""
        self.times: Times
        """The rack times of these."""
        self._next()

    def _next(self) -> None:
        """Go on to the next chunk that is not empty."""
        chunk = next((chunk for chunk in self._chunks if len(chunk)), None)
        if chunk is None:
            self.ended = True
        else:
            self.records, self.times = chunk, self._rack_times(chunk)

    def _rack_times(self, records: Records) -> Times:
        since: Times = records["ts_ns"] - self._epoch_ns
        return since if self._speed == 1.0 else np.minimum(since / self._speed, MOST_NS).astype(np.int64)

    def begin(self, epoch_ns: int) -> None:
        """Set `ts_ns` of rack time 0, before anything is taken. [main]"""
        self._epoch_ns = epoch_ns
        if not self.ended:
            self.times = self._rack_times(self.records)

    def refill(self) -> None:
        """Read the next chunk if this one was taken. Raises FeedError. [one thread at a time]"""
        if not self.ended and not len(self.times):
            self._next()

    def take(self, count: int) -> tuple[Records, Times]:
        """Take the next `count` records of the chunk. [one thread at a time]"""
        taken = self.records[:count], self.times[:count]
        self.records, self.times = self.records[count:], self.times[count:]
        return taken


@dataclass(slots=True)
class _Run:
    """Records of one track with none of another between them."""

    track: int
    records: Records
    times: Times
    first_ns: int
    last_ns: int

    def split(self, count: int) -> "_Run":
        """Cut the first `count` records off and return them."""
        head = _Run(self.track, self.records[:count], self.times[:count], self.first_ns, int(self.times[count - 1]))
        self.records, self.times = self.records[count:], self.times[count:]
        self.first_ns = int(self.times[0])
        return head


class Merge:
    """Tracks as one stream: by rack time, of equal times that of the earlier track first. Always the same."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        """Put rack time 0 at the first record of all. [main]"""
        self._tracks = tuple(tracks)
        self.epoch_ns = min((int(track.records["ts_ns"][0]) for track in tracks if not track.ended), default=0)
        """`ts_ns` of rack time 0."""
        for track in tracks:
            track.begin(self.epoch_ns)
        self._runs: deque[_Run] = deque()

    @property
    def next_ns(self) -> int | None:
        """Rack time of the next record; None: the stream has ended. Raises FeedError as `take` does. [one thread at a time]"""
        return run.first_ns if (run := self._first()) else None

    def take(self, before_ns: int | None, limit: int) -> tuple[int, Records] | None:
        """Return the next run of records of one track, and its number; None: no record is before `before_ns`.

        Raises FeedError when a track turns out to be wrong, once what was read before has been taken. [one thread at a time]
        """
        run = self._first()
        if run is None or (before_ns is not None and run.first_ns >= before_ns):
            return None
        count = min(len(run.records), limit)
        if before_ns is not None and run.last_ns >= before_ns:
            count = min(count, int(np.searchsorted(run.times, before_ns)))
        if count < len(run.records):
            run = run.split(count)
        else:
            self._runs.popleft()
        return run.track, run.records

    def _first(self) -> _Run | None:
        """Return the run that comes next."""
        if not self._runs:
            for track in self._tracks:
                track.refill()
            if waiting := [(number, track) for number, track in enumerate(self._tracks) if not track.ended]:
                self._plan(waiting)
        return self._runs[0] if self._runs else None

    def _plan(self, waiting: list[tuple[int, Track]]) -> None:
        """Put into order what nothing that is still to be read can come before."""
        bound_ns, last = min((int(track.times[-1]), number) for number, track in waiting)
        parts = []
        for number, track in waiting:
            side = "right" if number <= last else "left"
            parts.append((number, *track.take(int(np.searchsorted(track.times, bound_ns, side)))))  # type: ignore[call-overload]
        order = np.argsort(np.concatenate([times for _, _, times in parts]), kind="stable")
        owners = np.repeat(np.arange(len(parts)), [len(times) for _, _, times in parts])[order]
        edges = np.flatnonzero(np.diff(owners, prepend=-1)).tolist()
        taken = [0] * len(parts)
        for start, end in zip(edges, [*edges[1:], len(owners)], strict=True):
            part = int(owners[start])
            number, records, times = parts[part]
            place = slice(taken[part], taken[part] + end - start)
            taken[part] = place.stop
            self._runs.append(_Run(number, records[place], times[place], int(times[place.start]), int(times[place.stop - 1])))
