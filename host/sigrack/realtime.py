"""The rack in real time: an engine thread on the clock, and workers for what lies behind its rings."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from sigrack.carriers import CHUNK_FRAMES, Drainer, Filler
from sigrack.config import Document
from sigrack.ends import Reader, Silence, open_sink, ring_frames
from sigrack.errors import ConfigError, EngineError, RackError, said
from sigrack.feeds import LiveFeeds
from sigrack.rack import Rack
from sigrack_engine.clock import Clock
from sigrack_engine.core import SinkStats, SourceStats
from sigrack_engine.files import SoundFileError
from sigrack_engine.sink import Sink
from sigrack_engine.source import Source

__all__ = ["ClockDriver"]

log = logging.getLogger("sigrack")

LONGEST_FADE_S = 0.05
"""Of a fade at the rings, where `fade_ms` is longer: it covers a fault, and takes room in the sink's ring."""
RESIDUE_S = 0.003
"""Of the shortest fade, for which the last sample stands in when nothing else is there."""
FADE_OUT_S, LATE_S = 2.0, 0.1
"""How long the fade before a stop may take, for somebody waits for the end; by how much the engine may be late with it."""
TURN_S = 0.002
"""How often that fade is looked at."""
POLL_S = 0.02
"""How often it is looked whether the stream has ended."""


class ClockDriver:
    """Real time: a native thread runs one block per period; worker threads keep its rings filled and emptied."""

    def __init__(self, document: Document, rack: Rack, reader: Reader) -> None:
        self._rack, self._reader = rack, reader
        setup, out, block = rack.setup, rack.out_setup, rack.block_frames
        source_frames = ring_frames(document, "source", setup.rate_hz, block)
        sink_frames = ring_frames(document, "sink", out.rate_hz, block * rack.engine.ratio)
        with ExitStack() as undo:
            self._feeds = LiveFeeds(document, rack)
            undo.callback(self._feeds.close, 0.0)
            make_writer = open_sink(document, out, 0)
            undo.pop_all()
        self._stopping = threading.Event()
        fade_s = document.config.rack.fade_ms * 1e-3
        ring_fade_s = min(fade_s, LONGEST_FADE_S)
        self._source: Source | None = None
        self._filler: Filler | None = None
        if not isinstance(reader, Silence):
            self._source = Source(
                setup.channels,
                source_frames,
                block_frames=block,
                producer_frames=0 if reader.waits else CHUNK_FRAMES,
                fade_frames=round(ring_fade_s * setup.rate_hz),
                residue_frames=round(RESIDUE_S * setup.rate_hz),
            )
            self._filler = Filler(reader, self._source, self._stopping)
        self._sink: Sink | None = None
        self._drainer: Drainer | None = None
        if make_writer:
            self._sink = Sink(
                out.channels,
                sink_frames,
                block_frames=block * rack.engine.ratio,
                fade_frames=round(ring_fade_s * out.rate_hz),
                overflow=document.config.sink.overflow,
            )
            self._drainer = Drainer(make_writer, self._sink, out.rate_hz)
        self._clock = Clock(
            rack.engine,
            self._source,
            self._sink,
            rack.bell,
            rate_hz=setup.rate_hz,
            frames=block,
            priority=document.config.rack.priority,
        )
        self._fade_out_s = min(fade_s + 2 * block / setup.rate_hz + LATE_S, FADE_OUT_S)
        self._failure: RackError | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Fill the source ring once and start the engine thread: its first block is real, unless it comes from a pipe. [main]"""
        if self._filler:
            try:
                self._filler.prefill()
            except SoundFileError as error:
                raise ConfigError(str(error)) from None
        self._clock.start()
        if self._filler:
            self._spawn("source", self._filler.work, ConfigError)
        self._feeds.start()
        if self._drainer:
            self._spawn("sink", self._drainer.work, EngineError)

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
        self._reader.interrupt()
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
        source = self._source.stats if self._source else SourceStats()
        sink = self._sink.stats if self._sink else SinkStats()
        return {
            "driver": "clock",
            "blocks": stats.blocks,
            "late": stats.late,
            "resyncs": stats.resyncs,
            "latest_us": stats.latest_ns / 1000,
            "source_frames": source.read,
            "source_underruns": source.underruns,
            "source_underrun_frames": source.underrun,
            "source_waiting_frames": source.waiting,
            "source_fill_frames": source.fill,
            "sink_frames": sink.read,
            "sink_overruns": sink.overruns,
            "sink_overrun_frames": sink.dropped,
            "sink_fill_frames": sink.fill,
            "real_time_priority": stats.fifo == 1,
            "lateness_us_log2": list(stats.lateness),
            "feeds": self._feeds.stats,
        }
