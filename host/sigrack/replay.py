"""Replay: data as fast as possible, with the rack time that it tells."""

import asyncio
import time

from sigrack.config import Document
from sigrack.feeds import FileFeeds, PatientFeeds
from sigrack.rack import Rack
from sigrack_engine.engine import FreewheelBuffers
from sigrack_plugins import SECOND

__all__ = ["ReplayDriver"]

TURN_S = 0.002
"""How long replay keeps the main loop to itself."""
WAIT_S = 0.002


class ReplayDriver:
    """Delivers every record in order of time; nothing is dropped, and timers run between the records where they are due.

    Rack time 0 is the first record's. It moves in whole frames: before records are delivered it is brought to the last of them,
    by blocks of silence, or at one stroke when no slot and no tap would see them.
    """

    def __init__(self, document: Document, rack: Rack) -> None:
        """Open the feeds. Raises ConfigError. [main]"""
        self._rack = rack
        self._files = FileFeeds(document)
        self._feeds = PatientFeeds(rack, self._files)
        self._buffers = FreewheelBuffers(rack.engine, rack.block_frames)
        self._yielded = 0.0

    def start(self) -> None:
        """Nothing to do."""

    async def run(self) -> None:
        """Deliver everything. Raises ConfigError for a bad file. [main]"""
        rack, files = self._rack, self._files
        while not self._feeds.stopping and (next_ns := files.next_ns) is not None:
            due_ns = rack.dispatcher.timers.next_ns
            if due_ns is not None and due_ns < next_ns:
                await self._advance(_frames_until(due_ns, rack.setup.rate_hz))
            elif batches := files.take_slice(None if due_ns is None else due_ns + 1):
                last_ns = int(batches[-1].records["ts_ns"][-1]) - files.epoch_ns
                await self._advance(last_ns * rack.setup.rate_hz // SECOND)
                await self._feeds.deliver(batches)
            rack.drain_all()
            await self._breathe()
        await self._finish()

    async def _advance(self, frame: int) -> None:
        """Bring rack time to `frame`, if it is not there yet."""
        engine, block = self._rack.engine, self._rack.block_frames
        while not self._feeds.stopping and (left := frame - engine.frame) > 0:
            if engine.skip(left):
                return
            while self._rack.tap_space() < block and not self._feeds.stopping:
                self._rack.drain_all()
                await asyncio.sleep(WAIT_S)
            self._buffers.run(0, min(left, block))
            self._rack.check_gpus()
            self._rack.drain_all()
            await self._breathe()

    async def _breathe(self) -> None:
        """Give the rest of the main loop a turn now and then; wait for hooks that are coroutines and for changes."""
        while not self._rack.quiet and not self._feeds.stopping:
            await asyncio.sleep(WAIT_S)
        if time.monotonic() - self._yielded > TURN_S:
            await asyncio.sleep(0)
            self._yielded = time.monotonic()

    async def _finish(self) -> None:
        """Let everybody finish what they have; only a request to stop sets a limit."""
        await self._feeds.finish()
        self._rack.end_streams()
        self._rack.drain_all()
        while not self._rack.joined() and not self._feeds.stopping:
            await asyncio.sleep(WAIT_S)
            self._rack.drain_all()

    async def fade_out(self) -> None:
        """Nothing: nobody hears it."""

    def stop(self) -> None:
        """End after the running slice. [main]"""
        self._feeds.stopping = True

    def close(self) -> None:
        """Close the files. [main]"""
        self._files.close()

    @property
    def stats(self) -> dict[str, object]:
        """Counters for STATS. [main]"""
        return {"driver": "replay", "feeds": {name: {"records": count} for name, count in self._files.counts.items()}}


def _frames_until(time_ns: int, rate_hz: int) -> int:
    """Return the first frame that is not before a rack time."""
    return -(-time_ns * rate_hz // SECOND)
