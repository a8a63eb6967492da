"""Signal engines in the rack: what feeds them, and what they post."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from sigrack.config import as_json
from sigrack.dispatch import Source
from sigrack.errors import RackError, nearest
from sigrack.lanes import EngineLane, EngineOrders, LaneEngine
from sigrack.lifecycle import start_thread
from sigrack.loading.engines import AUDIO, NativeEngine
from sigrack.quarantine import admit, content_hash
from sigrack.tables import SignalTable
from sigrack_engine.data import Records
from sigrack_engine.feeds import DataQueue
from sigrack_engine.remote import RemoteRing
from sigrack_engine.results import ResultRing
from sigrack_engine.tap import TapRing, WorkerTap
from sigrack_plugins import DataBatch

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["SignalEngine"]

log = logging.getLogger("sigrack")

FEED_FRAMES = 1024
FEED_S = 4.0
POLL_S = 0.001
"""How often an engine is polled that gets no audio."""
DATA_RECORDS = 8192
"""Records of feeds that may wait for an engine."""


class _Engine(Protocol):
    """An instance, here or in a child."""

    @property
    def polls(self) -> bool:
        """Whether `poll` must be called now and then."""

    def poll(self) -> None:
        """Let it run callbacks that wait. [feeder]"""

    def give_audio(self, planes: npt.NDArray[np.float32], rate_hz: int, frame: int) -> int:
        """Hand over audio; return how many frames it got. [feeder]"""

    def give_records(self, parts: Sequence[tuple[str, Records]]) -> int:
        """Hand over data, each with its kind; return how many records it got. [feeder]"""

    def hurry(self) -> None:
        """Let what is being handed over come to its end. [any]"""

    def destroy(self) -> None:
        """Stop its own threads. [control]"""

    def close(self) -> None:
        """Let its code go. [control]"""


class SignalEngine:
    """One `[[signal]]`: created, fed by a thread of its own, destroyed in the right order."""

    hooked = None
    hook_tap = None
    occupied = False
    held = ""
    """Why its library was not loaded, and this is what stands for it; empty: it was."""

    def __init__(self, rack: "Rack", table: SignalTable, path: Path) -> None:
        """Load and create. Raises ConfigError, EngineError. [main, worker]"""
        self.table = table
        width = max(16, rack.out_setup.channels)
        make = RemoteRing if table.lane == "process" else ResultRing
        self.ring = make(rack.bell, table.symbols, rack.engine.frame_address, table.queue, width)
        self.source = Source(table.name, self.ring, None)
        self.tap: WorkerTap | None = None
        self.data: DataQueue | None = DataQueue(DATA_RECORDS) if table.feeds else None
        """What feeds bring it."""
        self.fed = self.unfed = 0
        """Frames that the engine got, and that were lost on the way to one which has died."""
        self.lane: EngineLane | None = None
        """Of one in a process of its own."""
        self._number = rack.notes.number(table.name)
        self._rate_hz = rack.out_setup.rate_hz
        self._feeder: threading.Thread | None = None
        self._ending = threading.Event()
        self._warned = False
        self._overran = False
        try:
            self._engine: _Engine = rack.control.call(f"{table.name}: signal_create", self._create, rack, path)
        except RackError:
            self.ring.close()
            raise
        if table.feed == AUDIO:
            channels, heard = rack.out_setup.channels, rack.bus.heard(rack.bus.out)
            self.tap = WorkerTap(channels, self._rate_hz, FEED_S, rack.block_at(self._rate_hz), heard)

    def _create(self, rack: "Rack", path: Path) -> _Engine:
        """Make the instance, which may post from here on. [control]"""
        table, config = self.table, as_json(self.table.config)
        kinds = [feed.kind for feed in rack.document.config.feed if feed.name in table.feeds]
        takes = [*dict.fromkeys(kinds), *([AUDIO] if table.feed == AUDIO else [])]
        if isinstance(self.ring, RemoteRing):
            admit(path, content_hash(path))  # the child could only say it in words
            orders = EngineOrders(
                name=table.name,
                path=path,
                config=config,
                takes=takes,
                queue=table.queue,
                memory_mb=table.memory_mb,
                budget=table.crash_budget,
                patient=not rack.live,
            )
            remote = LaneEngine(rack.minder, orders, self.ring, rack.tell)
            self.lane = remote.lane
            return remote
        engine = NativeEngine(path, table.name, takes)
        engine.begin(config, self.ring, patient=not rack.live)
        return engine

    @property
    def out_rate_hz(self) -> int:
        """The rate that its tap sees."""
        return self._rate_hz

    @property
    def name(self) -> str:
        """The engine's name in the rack."""
        return self.table.name

    @property
    def taps(self) -> list[TapRing]:
        """Where audio is copied out for it."""
        return [self.tap.ring] if self.tap else []

    @property
    def steps(self) -> list[TapRing]:
        """Its part of the run list."""
        return self.taps

    def begin(self) -> None:
        """Start feeding. Raises EngineError. [main]"""
        if self.tap or self.data or self._engine.polls:
            self._feeder = start_thread(self.name, self._number, self._feed)

    def give(self, batches: Sequence[DataBatch]) -> bool:
        """Queue records of feeds, or drop and count them; False: it takes no more, its successor may. Never waits. [any]"""
        return self.data is not None and self.data.give(batches)

    @property
    def room(self) -> int:
        """Records that `give` takes now. [any]"""
        return self.data.room if self.data else 0

    def _feed(self) -> None:
        if self.tap:
            self._feed_audio(self.tap)
        if self.data:
            self._feed_data(self.data)
        while self._engine.polls and not self._ending.wait(POLL_S):
            self._engine.poll()

    def _feed_audio(self, tap: WorkerTap) -> None:
        for samples in tap:
            for start in range(0, len(samples), FEED_FRAMES):
                planes = np.ascontiguousarray(samples[start : start + FEED_FRAMES].T)
                fed = self._engine.give_audio(planes, self._rate_hz, tap.frame + start)
                self.fed += fed
                self.unfed += planes.shape[1] - fed
                self._engine.poll()

    def _feed_data(self, data: DataQueue) -> None:
        wait_s = POLL_S if self._engine.polls else None
        while (batches := data.take(wait_s)) or not data.ended:
            if batches:
                data.done(batches, self._engine.give_records([(batch.kind, batch.records) for batch in batches]))
            self._engine.poll()

    def end_streams(self) -> None:
        """Say that no more audio and data will come. [main, when the engine has left the tap]"""
        self._ending.set()
        if self.tap:
            self.tap.finish()
        if self.data:
            self.data.finish()

    def hurry(self) -> None:
        """Drop what waits of feeds, counted, and wait for nobody. [main]"""
        self._engine.hurry()
        self.ring.set_patient(False)
        if self.data:
            self.data.end()

    def join(self, limit_s: float) -> bool:
        """Wait for the feeder; False: the engine did not return from on_data in time. [main]"""
        if self._feeder:
            self._feeder.join(limit_s)
            return not self._feeder.is_alive()
        return True

    def halt(self) -> None:
        """Stop the engine's own threads; what it posts later is refused and counted. [control]"""
        self._engine.destroy()
        self.ring.shut()

    def close_hooks(self) -> None:
        """It has none. [main]"""

    def stop(self) -> None:
        """Say what was wrong with what it has posted. [main]"""
        self.warn()

    def destroy(self) -> None:
        """Let the library go: none of its threads is inside a post. [control]"""
        self._engine.close()

    def free(self) -> None:
        """Free what the engine used. [main, worker]"""
        if self.tap:
            self.tap.close()

    def warn(self) -> None:
        """Log, once each, that records of feeds were dropped, and the first that was refused, for symbol or length. [main]"""
        if self.data and self.data.overran and not self._overran:
            self._overran = True
            dropped = self.data.counts.dropped
            log.warning("%s: too slow for its feeds: %d records dropped so far; STATS counts them", self.table.name, dropped)
        if self._warned:
            return
        if unknown := self.ring.unknown:
            near = nearest(unknown, self.table.symbols)
            log.warning('%s: posted the unknown symbol "%s"%s', self.table.name, unknown, near)
        elif long := self.ring.too_long:
            log.warning("%s: posted %s with %d values, more than its ring takes", self.table.name, *long)
        else:
            return
        self._warned = True
