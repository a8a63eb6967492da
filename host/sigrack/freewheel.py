"""Files through the rack as fast as it can."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from sigrack.config import Document
from sigrack.ends import Reader, open_sink
from sigrack.errors import ConfigError, EngineError
from sigrack.feeds import FileFeeds, PatientFeeds
from sigrack.rack import Rack
from sigrack_engine.engine import FreewheelBuffers
from sigrack_engine.files import SoundFileError
from sigrack_plugins import SECOND

__all__ = ["FileDriver"]

log = logging.getLogger("sigrack")

Samples = npt.NDArray[np.float32]

CHUNK_FRAMES = 16_384
"""What is read from or written to a file at once."""
TURN_S = 0.002
"""How long freewheel keeps the main loop to itself."""


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
        self._rack.check_gpus()
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
