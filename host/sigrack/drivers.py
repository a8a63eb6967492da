"""What moves audio through the rack: the freewheel file driver and the real-time clock."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sigrack.config import Document
from sigrack.ends import Reader, Silence, open_sink, open_source
from sigrack.errors import ConfigError, EngineError, RackError, said
from sigrack.feeds import FileFeeds, LiveFeeds, PatientFeeds, check_sockets
from sigrack.places import check_endpoint
from sigrack.rack import Rack
from sigrack.replay import ReplayDriver
from sigrack.subscriptions import posted
from sigrack_engine.clock import Clock
from sigrack_engine.engine import FreewheelBuffers
from sigrack_engine.files import SoundFileError
from sigrack_engine.ring import Ring
from sigrack_plugins import SECOND, Setup

__all__ = ["ClockDriver", "Driver", "FileDriver", "built", "make_driver"]

log = logging.getLogger("sigrack")

Samples = npt.NDArray[np.float32]

CHUNK_FRAMES = 16_384
"""What is read from or written to a file at once."""
RING_S = 1.0
"""How much the rings of a live rack hold."""
TURN_S = 0.002
"""How long freewheel keeps the main loop to itself."""
FADE_OUT_S, LATE_S = 2.0, 0.1
"""How long the fade before a stop may take, for somebody waits for the end; by how much the engine may be late with it."""
POLL_S = 0.02
"""How often a file worker looks at its ring."""


@contextmanager
def built(document: Document) -> Iterator[Rack]:
    """Build the rack of `document` to look at it: plugins are created, no audio runs. Raises ConfigError, EngineError. [main]"""
    reader = open_source(document)
    try:
        rack = Rack(document, Setup(reader.rate_hz, reader.channels), live=False)
    finally:
        reader.close()
    try:
        FileFeeds(document).close()
        check_sockets(document)
        _check_publish(document, rack)
        yield rack
    finally:
        rack.close()


def _check_publish(document: Document, rack: Rack) -> None:
    """Look whether the factors could be published; bind nothing. Raises ConfigError, EngineError."""
    if (table := document.config.publish) is None:
        return
    from sigrack.publish import check_factors

    check_factors(document, posted(rack.things))
    try:
        check_endpoint(table.endpoint, "publish")
    except ConfigError as error:
        document.fail(("publish", "endpoint"), str(error))


class Driver(Protocol):
    """What moves audio through the rack."""

    def start(self) -> None:
        """Begin; a live driver processes its first block. Raises EngineError. [main]"""

    async def run(self) -> None:
        """Return at the end of the stream, or when `stop` was called. Raises EngineError, ConfigError. [main]"""

    async def fade_out(self) -> None:
        """Bring what is heard to silence before `stop`. [main]"""

    def stop(self) -> None:
        """End soon. [main]"""

    def close(self) -> None:
        """Complete the sink and let go of everything; the rack does not run any more. [main]"""

    @property
    def stats(self) -> dict[str, object]:
        """Counters for STATS. [main]"""


def make_driver(document: Document, rack: Rack, reader: Reader, progress: Callable[[int], None] | None = None) -> Driver:
    """Return what runs the rack: real time, freewheel or replay. Raises ConfigError. [main]"""
    if document.config.replay:
        return ReplayDriver(document, rack)
    if document.config.live:
        return ClockDriver(document, rack, reader)
    return FileDriver(document, rack, reader, progress)


class FileDriver:
    """Freewheel: as fast as it can, block after block, hooks for one before the next; nothing is dropped.

    The rack's latency is trimmed from the head, and as much silence is fed at the tail: the output is as long as the input and
    aligned with it.
    """

    def __init__(self, document: Document, rack: Rack, reader: Reader, progress: Callable[[int], None] | None = None) -> None:
        self._rack, self._reader = rack, reader
        self._progress = progress
        with ExitStack() as undo:
            self._files = FileFeeds(document)
            undo.callback(self._files.close)
            make = open_sink(document, rack.out_setup, reader.frames * rack.engine.ratio)
            undo.pop_all()
        self._feeds = PatientFeeds(rack, self._files)
        self._writer = make() if make else None
        self._stopping = False
        self.finished = False
        """Whether the whole file has gone through."""
        self.total_frames = reader.frames
        """Length of the file in frames."""
        self._block = rack.block_frames
        chunk = max(CHUNK_FRAMES // self._block, 1) * self._block
        self._buffers = FreewheelBuffers(rack.engine, chunk)
        self._skip = rack.latency_frames
        self._owed = 0
        """Frames of output that belong to what was read and are not written yet."""
        self._yielded = 0.0

    def start(self) -> None:
        """Nothing to do."""

    async def run(self) -> None:
        """Process the file. Raises ConfigError for a bad file, EngineError if the sink fails. [main]"""
        chunk = self._buffers.input.shape[1]
        while not self._stopping:
            samples = self._read(chunk)
            if not len(samples):
                await self._flush(-(-self._rack.latency_frames // self._rack.engine.ratio))
                self.finished = True
                break
            self._owed += len(samples) * self._rack.engine.ratio
            await self._process(samples)
            if self._progress:
                self._progress(len(samples))
        await self._wait_for_workers()

    async def _wait_for_workers(self) -> None:
        """Let everybody finish the whole stream, however slow; only a request to stop sets a limit."""
        await self._feeds.finish()
        self._rack.end_streams()
        self._rack.drain_all()
        while not self._rack.joined() and not self._stopping:
            await asyncio.sleep(0.002)
            self._rack.drain_all()

    def _read(self, frames: int) -> Samples:
        try:
            return self._reader.read(frames)
        except SoundFileError as error:
            raise ConfigError(str(error)) from None

    async def _flush(self, frames: int) -> None:
        chunk = self._buffers.input.shape[1]
        for start in range(0, frames, chunk):
            await self._process(np.zeros((min(chunk, frames - start), self._rack.setup.channels), np.float32))

    async def _process(self, samples: Samples) -> None:
        frames = len(samples)
        self._buffers.input[:, :frames] = samples.T
        for start in range(0, frames, self._block):
            length = min(self._block, frames - start)
            await self._feeds.deliver_before(self._time_ns(self._rack.engine.frame + length))
            while self._rack.tap_space() < length and not self._stopping:
                self._rack.drain_all()  # an engine that waits for room in its ring reads no tap
                await asyncio.sleep(0.001)
            if self._stopping:
                frames = start
                break
            self._buffers.run(start, length)
            self._rack.drain_all()
            while not self._rack.quiet and not self._stopping:
                await asyncio.sleep(0)
                self._rack.drain_all()
            if time.monotonic() - self._yielded > TURN_S:
                await asyncio.sleep(0)
                self._yielded = time.monotonic()
        self._write(self._buffers.output[:, : frames * self._rack.engine.ratio].T)

    def _time_ns(self, frame: int) -> int:
        return frame * SECOND // self._rack.setup.rate_hz

    def _write(self, samples: Samples) -> None:
        skip = min(self._skip, len(samples))
        self._skip -= skip
        samples = samples[skip : skip + self._owed]
        self._owed -= len(samples)
        if self._writer is None or not len(samples):
            return
        try:
            self._writer.write(np.ascontiguousarray(samples))
        except SoundFileError as error:
            raise EngineError(str(error)) from None

    async def fade_out(self) -> None:
        """Nothing: a file holds what the rack makes, to the last sample."""

    def stop(self) -> None:
        """End after the running block. [main]"""
        self._stopping = self._feeds.stopping = True

    def close(self) -> None:
        """Complete the sink. [main]"""
        self._files.close()
        self._reader.close()
        if self._writer:
            self._writer.close()
        if clipped := getattr(self._writer, "clipped", 0):
            log.warning("%d samples were beyond full scale and clipped: lower the gain or write float32", clipped)

    @property
    def stats(self) -> dict[str, object]:
        """Counters for STATS. [main]"""
        return {
            "driver": "file",
            "frames_read": self._reader.position,
            "frames_total": self.total_frames,
            "feeds": {name: {"records": records} for name, records in self._files.counts.items()},
        }


class ClockDriver:
    """Real time: a native thread runs one block per period; worker threads keep its rings filled and emptied."""

    def __init__(self, document: Document, rack: Rack, reader: Reader) -> None:
        self._rack, self._reader = rack, reader
        setup = rack.setup
        with ExitStack() as undo:
            self._feeds = LiveFeeds(document, rack)
            undo.callback(self._feeds.close, 0.0)
            self._make_writer = open_sink(document, rack.out_setup, 0)
            undo.pop_all()
        frames = max(round(RING_S * setup.rate_hz), 4 * rack.block_frames)
        self._source = None if isinstance(reader, Silence) else Ring(setup.channels, frames)
        self._sink = Ring(rack.out_setup.channels, frames * rack.engine.ratio) if self._make_writer else None
        self._clock = Clock(
            rack.engine,
            self._source,
            self._sink,
            rack.bell,
            rate_hz=setup.rate_hz,
            frames=rack.block_frames,
            priority=document.config.rack.priority,
        )
        fade_s = document.config.rack.fade_ms * 1e-3 + 2 * rack.block_frames / setup.rate_hz
        self._fade_out_s = min(fade_s + LATE_S, FADE_OUT_S)
        self._stopping = threading.Event()
        self._failure: RackError | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Fill the source ring once and start the engine thread: its first block is real. [main]"""
        try:
            self._fill()
        except SoundFileError as error:
            raise ConfigError(str(error)) from None
        self._clock.start()
        if self._source:
            self._spawn("source", self._feed, ConfigError)
        self._feeds.start()
        if self._make_writer:
            self._spawn("sink", self._collect, EngineError)

    def _spawn(self, name: str, work: Callable[[], None], failure: type[RackError]) -> None:
        thread = threading.Thread(target=self._guarded, args=(work, failure), name=f"sigrack-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: Callable[[], None], failure: type[RackError]) -> None:
        try:
            work()
        except (SoundFileError, OSError) as error:
            self._fail(failure(str(error)))
        except Exception as error:
            log.exception("a file worker failed")
            self._fail(EngineError(said(error)))

    def _fail(self, error: RackError) -> None:
        self._failure = error
        self._stopping.set()

    def _fill(self) -> bool:
        """Top the source ring up; False at the end of the file. [worker]"""
        if self._source is None:
            return False
        while (frames := min(self._source.space, CHUNK_FRAMES)) and not self._stopping.is_set():
            samples = self._reader.read(frames)
            self._source.write(samples)
            if len(samples) < frames:
                return False
        return True

    def _feed(self) -> None:
        while self._fill() and not self._stopping.wait(POLL_S):
            pass
        assert self._source is not None
        self._source.finish()

    def _collect(self) -> None:
        assert self._make_writer is not None
        assert self._sink is not None
        writer = self._make_writer()
        try:
            while True:
                finished = self._sink.finished
                samples = self._sink.read(CHUNK_FRAMES)
                if len(samples):
                    writer.write(samples)
                elif finished:
                    break
                else:
                    time.sleep(POLL_S)
        finally:
            writer.close()

    async def run(self) -> None:
        """Wait for the end of the stream. Raises ConfigError if the source is bad, EngineError if the sink fails. [main]"""
        while self._clock.stats.running and not self._stopping.is_set():
            await asyncio.sleep(POLL_S)
            if self._source is None and self._feeds.finished:
                if self._feeds.failure:
                    raise self._feeds.failure
                return
        if self._failure:
            raise self._failure

    async def fade_out(self) -> None:
        """Fade to silence while the engine still runs, if there is a sink; a fade of seconds is cut short. [main]"""
        if self._sink is None:
            return
        engine, stop = self._rack.engine, time.monotonic() + self._fade_out_s
        engine.fade_out()
        while self._clock.stats.running and not engine.stats.silent and time.monotonic() < stop:
            await asyncio.sleep(TURN_S)

    def stop(self) -> None:
        """Stop the engine thread; if a native plugin keeps it, say which. [main]"""
        self._stopping.set()
        self._feeds.stop()
        if not self._rack.engine_lost and not self._clock.stop():
            self._rack.lose_engine()

    def close(self) -> None:
        """Complete the sink. A worker that hangs in a pipe is left behind. [main]"""
        self.stop()
        if not self._feeds.close(1.0):
            self._rack.left_behind.append("a feed")
        for thread in self._threads:
            thread.join(1.0)
        if any(thread.is_alive() for thread in self._threads):
            self._rack.left_behind.append("a file worker")
        if self._rack.left_behind:
            return
        self._reader.close()
        self._clock.close()
        if self._source:
            self._source.close()
        if self._sink:
            self._sink.close()

    @property
    def fifo(self) -> int:
        """1: the engine thread has SCHED_FIFO; 0: not asked for; else minus the errno of the refusal. [main]"""
        return int(self._clock.stats.fifo)

    @property
    def stats(self) -> dict[str, object]:
        """Counters for STATS. [main]"""
        stats = self._clock.stats
        return {
            "driver": "clock",
            "blocks": stats.blocks,
            "late": stats.late,
            "resyncs": stats.resyncs,
            "latest_us": stats.latest_ns / 1000,
            "source_underrun_frames": stats.source_underrun,
            "sink_overrun_frames": stats.sink_overrun,
            "real_time_priority": stats.fifo == 1,
            "lateness_us_log2": list(stats.lateness),
            "feeds": self._feeds.stats,
        }
