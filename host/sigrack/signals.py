"""Signal engines: libraries with threads of their own, the C ABI of `sigrack_signal.h`."""

import ctypes as c
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sigrack.config import as_json
from sigrack.dispatch import Source
from sigrack.errors import ConfigError, RackError, nearest
from sigrack.lifecycle import start_thread
from sigrack.loading.libraries import Library, open_library
from sigrack.tables import FeedTable, SignalTable
from sigrack_engine.core import lib
from sigrack_engine.data import KINDS
from sigrack_engine.feeds import DataQueue
from sigrack_engine.results import CALLBACK_ADDRESS, ResultRing
from sigrack_engine.tap import TapRing, WorkerTap
from sigrack_plugins import DataBatch

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["SignalEngine", "SignalLibrary"]

log = logging.getLogger("sigrack")

ABI = 1  # SIGRACK_SIGNAL_ABI
AUDIO = 200  # SIGNAL_AUDIO
FEED_FRAMES = 1024
FEED_S = 4.0
POLL_S = 0.001
"""How often an engine is polled that gets no audio."""
DATA_RECORDS = 8192
"""Records of feeds that may wait for an engine."""

SPAN = np.dtype([("records", "u8"), ("count", "u4"), ("stride", "u4"), ("type", "i4"), ("reserved", "u4")])
"""`struct core_span`."""


class _Audio(c.Structure):
    """`struct signal_audio`."""

    _fields_ = [
        ("size", c.c_uint32),
        ("rate_hz", c.c_uint32),
        ("channels", c.c_uint32),
        ("frames", c.c_uint32),
        ("frame", c.c_uint64),
        ("samples", c.c_void_p),
    ]


def _span(batch: DataBatch) -> tuple[int, int, int, int, int]:
    """Return a batch as `struct core_span`."""
    records = batch.records
    return records.__array_interface__["data"][0], len(records), records.strides[0], KINDS[batch.kind].number, 0


def _data_sizes(feeds: Sequence[FeedTable], audio: bool) -> dict[int, tuple[str, int]]:
    """Return name and size of the struct of each kind of data that an engine is to get."""
    kinds = [KINDS[feed.kind] for feed in feeds]
    sizes = {kind.number: (kind.struct, kind.dtype.itemsize) for kind in kinds}
    return sizes | ({AUDIO: ("signal_audio", c.sizeof(_Audio))} if audio else {})


class SignalLibrary:
    """The functions of a signal engine's library, checked."""

    def __init__(self, library: Library, path: Path) -> None:
        """`path`: where the user has it; the library may have been opened first from an equal file elsewhere."""
        self.library, self.path = library, path
        cdll = library.cdll
        for name in ("signal_create", "signal_on_data", "signal_destroy"):
            if not hasattr(cdll, name):
                raise ConfigError(f"{path}: not a signal engine: it exports no {name}")
        if hasattr(cdll, "signal_abi_version") and (version := cdll.signal_abi_version()) != ABI:
            raise ConfigError(f"{path}: has signal ABI {version}, this host needs {ABI}: rebuild it")
        library.unloadable = hasattr(cdll, "signal_unloadable") and cdll.signal_unloadable() == 1
        self.create = cdll.signal_create
        self.create.argtypes, self.create.restype = [c.c_char_p], c.c_void_p
        self.register = getattr(cdll, "signal_register_callback", None)
        if self.register:
            self.register.argtypes = [c.c_void_p, c.c_void_p, c.c_void_p]
        self.on_data = cdll.signal_on_data
        self.on_data.argtypes, self.on_data.restype = [c.c_void_p, c.c_int, c.c_void_p], None
        self.on_data_address = c.cast(self.on_data, c.c_void_p).value
        self.poll = getattr(cdll, "signal_poll_callbacks", None)
        if self.poll:
            self.poll.argtypes = [c.c_void_p]
        self.destroy = cdll.signal_destroy
        self.destroy.argtypes, self.destroy.restype = [c.c_void_p], None

    def check_sizes(self, sizes: dict[int, tuple[str, int]], name: str) -> None:
        """Raise ConfigError if it knows another struct than the host, or does not take what it is to get."""
        cdll, path = self.library.cdll, self.path
        if not hasattr(cdll, "signal_data_size"):
            return
        for number, (struct, ours) in sizes.items():
            theirs = int(cdll.signal_data_size(number))
            if not theirs:
                what = struct.removeprefix("signal_")
                remedy = f'set feed = "none" for "{name}"' if number == AUDIO else f'give "{name}" another feed'
                raise ConfigError(f"{path}: takes no {what}; {remedy}")
            if theirs != ours:
                raise ConfigError(f"{path}: its struct {struct} has {theirs} bytes, this host's {ours}: rebuild it")


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
        self.ring = ResultRing(rack.bell, table.symbols, rack.engine.frame_address, table.queue, width)
        self.source = Source(table.name, self.ring, None)
        self.tap: WorkerTap | None = None
        self.data: DataQueue | None = DataQueue(DATA_RECORDS) if table.feeds else None
        """What feeds bring it."""
        self.fed = 0
        """Frames handed to the engine."""
        self._number = rack.notes.number(table.name)
        self._rate_hz = rack.out_setup.rate_hz
        self._live = rack.live
        self._feeder: threading.Thread | None = None
        self._ending = threading.Event()
        self._stop = c.c_uint32()
        self._warned = False
        self._overran = False
        feeds = [feed for feed in rack.document.config.feed if feed.name in table.feeds]
        sizes = _data_sizes(feeds, table.feed == "audio")
        try:
            self._engine, self._handle = rack.control.call(f"{table.name}: signal_create", self._create, path, sizes)
        except RackError:
            self.ring.close()
            raise
        if table.feed == "audio":
            channels, heard = rack.out_setup.channels, rack.bus.heard(rack.bus.out)
            self.tap = WorkerTap(channels, self._rate_hz, FEED_S, rack.block_at(self._rate_hz), heard)

    def _create(self, path: Path, sizes: dict[int, tuple[str, int]]) -> tuple[SignalLibrary, int]:
        library = open_library(path)
        try:
            engine = SignalLibrary(library, path)
            engine.check_sizes(sizes, self.table.name)
            return engine, self._create_handle(engine)
        except ConfigError:
            library.close()
            raise

    def _create_handle(self, engine: SignalLibrary) -> int:
        path = engine.path
        handle: int | None = engine.create(as_json(self.table.config))
        if not handle:
            raise ConfigError(f'{path}: signal_create failed for "{self.table.name}"; see its own messages')
        self.ring.set_patient(not self._live)  # it may post from here on
        if engine.register and engine.register(handle, CALLBACK_ADDRESS, self.ring.cookie):
            self.ring.set_patient(False)
            engine.destroy(handle)
            raise ConfigError(f'{path}: signal_register_callback failed for "{self.table.name}"')
        return handle

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
        if self.tap or self.data or self._engine.poll:
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
        while self._engine.poll and not self._ending.wait(POLL_S):
            self._engine.poll(self._handle)

    def _feed_audio(self, tap: WorkerTap) -> None:
        planes = (c.c_void_p * tap.channels)()
        for samples in tap:
            for start in range(0, len(samples), FEED_FRAMES):
                part = np.ascontiguousarray(samples[start : start + FEED_FRAMES].T)
                for channel, plane in enumerate(part):
                    planes[channel] = plane.ctypes.data
                self._give_audio(planes, part.shape, tap.frame + start)

    def _give_audio(self, planes: "c.Array[c.c_void_p]", shape: tuple[int, ...], frame: int) -> None:
        channels, frames = shape
        audio = _Audio(c.sizeof(_Audio), self._rate_hz, channels, frames, frame, c.addressof(planes))
        self._engine.on_data(self._handle, AUDIO, c.addressof(audio))
        self.fed += frames
        if self._engine.poll:
            self._engine.poll(self._handle)

    def _feed_data(self, data: DataQueue) -> None:
        """Hand over all that waits in one call of the core: after each call Python may let us wait for 5 ms."""
        wait_s = POLL_S if self._engine.poll else None
        while (batches := data.take(wait_s)) or not data.ended:
            if batches:
                data.done(batches, self._give_records(batches))
            if self._engine.poll:
                self._engine.poll(self._handle)

    def _give_records(self, batches: Sequence[DataBatch]) -> int:
        """Return how many records the engine has got: all, unless it is being stopped."""
        spans = np.array([_span(batch) for batch in batches], SPAN)
        on_data, stop = self._engine.on_data_address, c.addressof(self._stop)
        return int(lib.core_feed(on_data, self._handle, spans.ctypes.data, len(spans), stop))

    def end_streams(self) -> None:
        """Say that no more audio and data will come. [main, when the engine has left the tap]"""
        self._ending.set()
        if self.tap:
            self.tap.finish()
        if self.data:
            self.data.finish()

    def hurry(self) -> None:
        """Drop what waits of feeds, counted, and wait for nobody. [main]"""
        self._stop.value = 1
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
        self._engine.destroy(self._handle)
        self.ring.shut()

    def close_hooks(self) -> None:
        """It has none. [main]"""

    def stop(self) -> None:
        """Say what was wrong with what it has posted. [main]"""
        self.warn()

    def destroy(self) -> None:
        """Let the library go: none of its threads is inside a post. [control]"""
        self._engine.library.close()

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
