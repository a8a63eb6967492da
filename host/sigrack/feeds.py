"""Feeds: market-like data from files and sockets to signal engines and hooks."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sigrack import errors
from sigrack.config import Document
from sigrack.errors import ConfigError, EngineError, RackError, nearest
from sigrack.places import check_endpoint, check_socket_free
from sigrack.signals import SignalEngine
from sigrack.tables import FeedTable
from sigrack_engine.data import KINDS, DataError, Records, Symbols, normalised
from sigrack_engine.feeds import CsvFile, Decoder, EndpointInUseError, FeedError, Merge, NpzFile, Track, ZmqSocket
from sigrack_plugins import DataBatch

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["SLICE", "FileFeeds", "LiveFeeds", "PatientFeeds", "SocketFeed", "check_sockets", "said"]

log = logging.getLogger("sigrack")

SLICE = 512
"""Records that are delivered at once, at most."""
SHORTEST_S, LONGEST_S = 0.001, 0.05
"""How long the thread of the files sleeps."""
WAIT_MS = 100
"""How often a socket's thread looks whether it shall end."""
LOOK_S = 0.0005
"""How often freewheel looks whether an engine has room."""


def said(error: FeedError | DataError) -> str:
    """Return what is wrong, with the nearest that would be right. [any]"""
    return f"{error}{nearest(error.name, error.valid)}" if error.valid else str(error)


def _symbols(document: Document, index: int, table: FeedTable) -> Symbols:
    """Return the symbols that a feed may bring. Raises ConfigError."""
    try:
        return Symbols([normalised(symbol) for symbol in table.symbols or ()])
    except DataError as error:
        document.fail(("feed", index, "symbols"), f"symbols: {error}")


class FileFeeds:
    """The rack's csv and npz feeds as one stream in order of time."""

    def __init__(self, document: Document) -> None:
        """Open the files and read their beginnings. Raises ConfigError. [main]"""
        config = document.config
        self._tables: list[FeedTable] = []
        self._files: list[CsvFile | NpzFile] = []
        tracks = []
        try:
            for index, table in enumerate(config.feed):
                if table.driver != "zmq":
                    tracks.append(self._open(document, index, table))
        except BaseException:
            self.close()
            raise
        self._merge = Merge(tracks)
        self.epoch_ns = self._merge.epoch_ns
        """`ts_ns` of rack time 0: that of the first record of all."""
        self.counts = {table.name: 0 for table in self._tables}
        """Records read so far, by feed."""

    def _open(self, document: Document, index: int, table: FeedTable) -> Track:
        symbols = _symbols(document, index, table)
        make = CsvFile if table.driver == "csv" else NpzFile
        try:
            file = make(document.resolve(table.path), KINDS[table.kind], symbols)
            self._tables.append(table)
            self._files.append(file)
            track = Track(file, 1.0 if table.speed == "max" else table.speed)
        except FeedError as error:
            document.fail(("feed", index, "path"), said(error))
        if track.ended:
            log.warning("%s: %s holds no records", table.name, file.path)
        return track

    @property
    def next_ns(self) -> int | None:
        """Rack time of the next record; None: there is no more. Raises ConfigError as `take` does. [one thread at a time]"""
        try:
            return self._merge.next_ns
        except FeedError as error:
            raise ConfigError(said(error)) from None

    def take(self, before_ns: int | None, limit: int) -> DataBatch | None:
        """Return the next records of one feed, with rack times before `before_ns`; None: there are none. [one thread at a time]

        Raises ConfigError when a file turns out to be wrong.
        """
        try:
            taken = self._merge.take(before_ns, limit)
        except FeedError as error:
            raise ConfigError(said(error)) from None
        if taken is None:
            return None
        number, records = taken
        table = self._tables[number]
        self.counts[table.name] += len(records)
        return DataBatch(table.name, table.kind, records, self.epoch_ns)

    def take_slice(self, before_ns: int | None) -> list[DataBatch]:
        """Return the next records, of any feed, up to SLICE; else as `take`. [one thread at a time]"""
        batches: list[DataBatch] = []
        left = SLICE
        while left and (batch := self.take(before_ns, left)):
            batches.append(batch)
            left -= len(batch)
        return batches

    def close(self) -> None:
        """Close the files. [any]"""
        for file in self._files:
            file.close()


def _wanted(engine: SignalEngine, batches: Sequence[DataBatch]) -> list[DataBatch]:
    """Return those of `batches` that `engine` is to get."""
    return [batch for batch in batches if batch.source in engine.table.feeds]


def _all_fed(rack: "Rack") -> bool:
    """Whether no records of feeds wait for an engine, be it on its way out."""
    return not any(engine.data and engine.data.counts.queued for engine in rack.engines)


class PatientFeeds:
    """Freewheel and replay: data is delivered between blocks, and waits for engines that have no room."""

    def __init__(self, rack: "Rack", files: FileFeeds) -> None:
        self._rack, self._files = rack, files
        self.stopping = False
        """Set to end every wait."""

    async def deliver_before(self, before_ns: int) -> None:
        """Deliver all with rack times before `before_ns`. Raises ConfigError. [main]"""
        while not self.stopping and (batches := self._files.take_slice(before_ns)):
            await self.deliver(batches)

    async def deliver(self, batches: list[DataBatch]) -> None:
        """Deliver to engines, then to hooks. [main]"""
        for name in [engine.name for engine in self._rack.signals]:
            await self._until(partial(self._given, name, batches))
        for batch in batches:
            self._rack.dispatcher.deliver_data(batch)

    def _given(self, name: str, batches: list[DataBatch]) -> bool:
        """Give to the engine that is called `name` now, if it has room; False: it has none yet."""
        engine = self._rack.signal(name)
        if engine is None or not (mine := _wanted(engine, batches)):
            return True
        return engine.room >= sum(map(len, mine)) and engine.give(mine)

    async def finish(self) -> None:
        """Wait until the engines have got everything. [main]"""
        await self._until(partial(_all_fed, self._rack))

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Deliver what engines post until `condition` holds."""
        while not self.stopping and not condition():
            self._rack.drain_all()
            await asyncio.sleep(LOOK_S)


def _check_socket(document: Document, index: int) -> None:
    table = document.config.feed[index]
    try:
        check_endpoint(table.endpoint or "", "feed", bind=table.bind)
    except ConfigError as error:
        document.fail(("feed", index, "endpoint"), str(error))


def check_sockets(document: Document) -> None:
    """Look whether the zmq feeds could be opened; open none. Raises ConfigError, EngineError. [main]"""
    for index, table in enumerate(document.config.feed):
        if table.driver == "zmq":
            _symbols(document, index, table)
            _check_socket(document, index)


class SocketFeed:
    """One zmq feed: its socket and what it has brought."""

    def __init__(self, document: Document, index: int) -> None:
        """Open the socket. Raises ConfigError; EngineError when the endpoint is in use. [main]"""
        table = self.table = document.config.feed[index]
        self.records = 0
        self.refused = 0
        """Messages that were no data."""
        self.first_refusal = ""
        self.failure = ""
        """Why it has ended before its time."""
        endpoint = table.endpoint or ""
        self._decoder = Decoder(KINDS[table.kind], _symbols(document, index, table))
        _check_socket(document, index)
        if table.bind:
            check_socket_free(endpoint, "feed")
        try:
            self.socket = ZmqSocket(endpoint, pull=table.socket == "pull", topic=table.topic, bind=table.bind)
        except EndpointInUseError as error:
            raise EngineError(f"[[feed]] {table.name}: {error}") from None
        except FeedError as error:
            document.fail(("feed", index, "endpoint"), str(error))

    def receive(self, wait_ms: int) -> Records | None:
        """Return the records of the next message; None: there was none, or it was refused. [feed]"""
        try:
            if (payload := self.socket.receive(wait_ms)) is None:
                return None
            records = self._decoder.decode(payload)
        except DataError as error:
            self._refuse(said(error))
            return None
        self.records += len(records)
        return records

    def _refuse(self, why: str) -> None:
        self.refused += 1
        if not self.first_refusal:
            self.first_refusal = why
            log.warning("%s: refused a message: %s; later ones are only counted", self.table.name, why)


class LiveFeeds:
    """Threads that bring data in real time: one for all files, paced by rack time, and one for each socket.

    They never wait for engines or hooks: what finds no room is dropped and counted.
    """

    def __init__(self, document: Document, rack: "Rack") -> None:
        """Open all. Raises ConfigError, EngineError; then nothing is left open. [main]"""
        self._rack = rack
        self._files = FileFeeds(document)
        self.sockets: list[SocketFeed] = []
        self.failure: RackError | None = None
        """Why the files have ended before their end."""
        self._ending = threading.Event()
        self._files_ended = threading.Event()
        self._threads: list[threading.Thread] = []
        try:
            for index, table in enumerate(document.config.feed):
                if table.driver == "zmq":
                    self.sockets.append(SocketFeed(document, index))
        except BaseException:
            self._close_all()
            raise

    def start(self) -> None:
        """Begin; rack time runs. [main]"""
        if self._files.counts:
            self._spawn("files", self._run_files)
        epoch_ns = time.time_ns() - self._rack.now_ns
        for feed in self.sockets:
            self._spawn(feed.table.name, partial(self._run_socket, feed, epoch_ns))

    def _spawn(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=f"sigrack-feed-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run_files(self) -> None:
        try:
            while not self._ending.is_set() and (next_ns := self._files.next_ns) is not None:
                now_ns = self._rack.now_ns
                while not self._ending.is_set() and (batches := self._files.take_slice(now_ns + 1)):
                    self._give(batches)
                self._ending.wait(min(max((next_ns - now_ns) * 1e-9, SHORTEST_S), LONGEST_S))
        except Exception as error:
            self.failure = error if isinstance(error, RackError) else EngineError(f"the feeds of files: {errors.said(error)}")
            log.error("%s; the feeds of files end here", self.failure)
        finally:
            self._files_ended.set()

    def _run_socket(self, feed: SocketFeed, epoch_ns: int) -> None:
        try:
            while not self._ending.is_set():
                if (records := feed.receive(WAIT_MS)) is None:
                    continue
                for start in range(0, len(records), SLICE):
                    part = records[start : start + SLICE]
                    self._give([DataBatch(feed.table.name, feed.table.kind, part, epoch_ns)])
        except Exception as error:
            feed.failure = errors.said(error)
            log.error("%s: the feed ends here: %s", feed.table.name, feed.failure)
        finally:
            feed.socket.close()

    def _give(self, batches: list[DataBatch]) -> None:
        """Hand batches to all that want them. [feed]"""
        for name in [engine.name for engine in self._rack.signals]:
            self._hand_over(name, batches)
        if self._rack.dispatcher.snapshot.data_hooks:
            for batch in batches:
                self._rack.dispatcher.inbox.post(batch)

    def _hand_over(self, name: str, batches: list[DataBatch]) -> None:
        """Give to the engine that is called `name`; if it was replaced just then, to its successor. [feed]"""
        tried = None
        while (engine := self._rack.signal(name)) is not tried and engine:
            if not (mine := _wanted(engine, batches)) or engine.give(mine):
                return
            tried = engine

    @property
    def finished(self) -> bool:
        """Whether there were feeds, all of them files, and all was delivered to the engines. [main]"""
        if self.sockets or not self._files.counts or not self._files_ended.is_set():
            return False
        return _all_fed(self._rack)

    def stop(self) -> None:
        """End the threads soon. [main]"""
        self._ending.set()

    def close(self, limit_s: float) -> bool:
        """Wait for the threads; False: one did not end in time. [main]"""
        self.stop()
        stop = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(stop - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in self._threads):
            return False
        self._close_all()
        return True

    def _close_all(self) -> None:
        self._files.close()
        for feed in self.sockets:
            feed.socket.close()

    @property
    def stats(self) -> dict[str, object]:
        """Counters for STATS. [main]"""
        sockets: dict[str, object] = {
            feed.table.name: {
                "records": feed.records,
                "refused": feed.refused,
                "first_refusal": feed.first_refusal,
                "failure": feed.failure,
            }
            for feed in self.sockets
        }
        failure = str(self.failure or "")
        return sockets | {name: {"records": records, "failure": failure} for name, records in self._files.counts.items()}
