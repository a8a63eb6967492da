"""What carries sound between the rings of a live rack and its files and pipes, on threads of its own."""

import time
from collections.abc import Callable
from threading import Event

from sigrack.ends import Reader, Writer
from sigrack_engine.sink import Sink
from sigrack_engine.source import Source

__all__ = ["CHUNK_FRAMES", "Drainer", "Filler"]

CHUNK_FRAMES = 16_384
"""What is read from or written to a file at once."""
POLL_S = 0.02
"""How often a ring is looked at; shorter ones are looked at more often."""
LOOKS = 8
"""How often a ring is looked at while it is played, at least."""
PARTS = 4
"""Into how many parts a ring is written at least: what the writer holds comes on top of what the ring does."""


def _poll_s(frames: int, rate_hz: int) -> float:
    return min(POLL_S, frames / rate_hz / LOOKS)


class Filler:
    """Keeps the source ring full."""

    def __init__(self, reader: Reader, source: Source, stopping: Event) -> None:
        self._reader, self._source, self._stopping = reader, source, stopping
        self._poll_s = _poll_s(source.frames, reader.rate_hz)

    def prefill(self) -> None:
        """Fill the ring before the engine starts, unless that could take for ever. Raises SoundFileError. [main]"""
        if not self._reader.waits and not self._fill():
            self._source.finish()

    def _fill(self) -> bool:
        """Fill it up; False: the stream has ended."""
        while (frames := min(self._source.space, CHUNK_FRAMES)) and not self._stopping.is_set():
            samples = self._reader.read(frames)
            if not len(samples):
                return False
            self._source.write(samples)
        return True

    def work(self) -> None:
        """Keep it full to the end of the stream. Raises SoundFileError. [worker]"""
        while self._fill() and not self._stopping.wait(self._poll_s):
            pass
        self._source.finish()


class Drainer:
    """Keeps the sink ring empty."""

    def __init__(self, make_writer: Callable[[], Writer], sink: Sink, rate_hz: int) -> None:
        self._make_writer, self._sink = make_writer, sink
        self._chunk = min(CHUNK_FRAMES, sink.frames // PARTS)
        self._poll_s = _poll_s(sink.frames, rate_hz)

    def work(self) -> None:
        """Write all that comes, until the engine has ended. Raises SoundFileError, OSError. [worker]"""
        writer = self._make_writer()
        try:
            while True:
                finished = self._sink.finished
                samples = self._sink.read(self._chunk)
                if len(samples):
                    writer.write(samples)
                elif finished:
                    break
                else:
                    time.sleep(self._poll_s)
        finally:
            writer.close()
