"""What moves audio through the rack: which driver a configuration asks for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sigrack.config import Document
from sigrack.ends import Reader, open_source, ring_frames
from sigrack.errors import ConfigError
from sigrack.feeds import FileFeeds, check_sockets
from sigrack.freewheel import FileDriver
from sigrack.places import check_endpoint
from sigrack.rack import Rack
from sigrack.realtime import ClockDriver
from sigrack.replay import ReplayDriver
from sigrack.subscriptions import posted
from sigrack_plugins import Setup

__all__ = ["Driver", "built", "make_driver"]


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
        _check_rings(document, rack)
        _check_publish(document, rack)
        yield rack
    finally:
        rack.close()


def _check_rings(document: Document, rack: Rack) -> None:
    """Look whether the rings of a live rack would hold its blocks. Raises ConfigError."""
    if document.config.live:
        ring_frames(document, "source", rack.setup.rate_hz, rack.block_frames)
        ring_frames(document, "sink", rack.out_setup.rate_hz, rack.block_frames * rack.engine.ratio)


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
