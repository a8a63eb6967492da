"""The rack in real time: an engine thread on the clock, and workers for what lies behind its rings."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from sigrack.config import Document
from sigrack.ends import Reader, Silence, open_sink
from sigrack.errors import ConfigError, EngineError, RackError, said
from sigrack.feeds import LiveFeeds
from sigrack.rack import Rack
from sigrack_engine.clock import Clock
from sigrack_engine.files import SoundFileError
from sigrack_engine.ring import Ring

__all__ = ["ClockDriver"]

log = logging.getLogger("sigrack")

CHUNK_FRAMES = 16_384
"""What is read from or written to a file at once."""
RING_S = 1.0
"""How much the rings of a live rack hold."""
FADE_OUT_S, LATE_S = 2.0, 0.1
"""How long the fade before a stop may take, for somebody waits for the end; by how much the engine may be late with it."""
TURN_S = 0.002
"""How often that fade is looked at."""
POLL_S = 0.02
"""How often a file worker looks at its ring."""


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
