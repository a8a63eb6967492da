"""Signal engines: libraries with threads of their own, the C ABI of `sigrack_signal.h`."""

import ctypes as c
import json
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sigrack.config import SignalTable
from sigrack.dispatch import Source
from sigrack.errors import ConfigError, RackError, nearest
from sigrack.loading.libraries import open_library
from sigrack_engine.results import CALLBACK_ADDRESS, ResultRing
from sigrack_engine.tap import WorkerTap

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["SignalEngine"]

log = logging.getLogger("sigrack")

ABI = 1  # SIGRACK_SIGNAL_ABI
AUDIO = 200  # SIGNAL_AUDIO
FEED_FRAMES = 1024
FEED_S = 4.0
POLL_S = 0.001
"""How often an engine that gets no audio is polled."""


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


class _Library:
    """The functions of a signal engine, checked."""

    def __init__(self, path: Path) -> None:
        library = open_library(path)
        for name in ("signal_create", "signal_on_data", "signal_destroy"):
            if not hasattr(library, name):
                raise ConfigError(f"{path}: not a signal engine: it exports no {name}")
        if hasattr(library, "signal_abi_version") and (version := library.signal_abi_version()) != ABI:
            raise ConfigError(f"{path}: has signal ABI {version}, this host needs {ABI}: rebuild it")
        self.takes_audio = self._check_size(library, path)
        self.create = library.signal_create
        self.create.argtypes, self.create.restype = [c.c_char_p], c.c_void_p
        self.register = getattr(library, "signal_register_callback", None)
        if self.register:
            self.register.argtypes = [c.c_void_p, c.c_void_p, c.c_void_p]
        self.on_data = library.signal_on_data
        self.on_data.argtypes, self.on_data.restype = [c.c_void_p, c.c_int, c.c_void_p], None
        self.poll = getattr(library, "signal_poll_callbacks", None)
        if self.poll:
            self.poll.argtypes = [c.c_void_p]
        self.destroy = library.signal_destroy
        self.destroy.argtypes, self.destroy.restype = [c.c_void_p], None

    @staticmethod
    def _check_size(library: c.CDLL, path: Path) -> bool:
        """Return whether the engine takes audio; an engine that knows another struct is refused."""
        if not hasattr(library, "signal_data_size"):
            return True
        size = int(library.signal_data_size(AUDIO))
        if size not in (0, c.sizeof(_Audio)):
            raise ConfigError(f"{path}: its struct signal_audio has {size} bytes, this host's {c.sizeof(_Audio)}: rebuild it")
        return bool(size)


class SignalEngine:
    """One `[[signal]]`: created, fed by a thread of its own, destroyed in the right order."""

    def __init__(self, rack: "Rack", table: SignalTable, path: Path) -> None:
        """Load and create. Raises ConfigError, EngineError. [main, worker]"""
        self.table = table
        width = max(16, rack.setup.channels)
        self.ring = ResultRing(rack.bell, table.symbols, rack.engine.frame_address, max_values=width)
        self.source = Source(table.name, self.ring, rack_time=False)
        self.tap: WorkerTap | None = None
        self.fed = 0
        """Frames handed to the engine."""
        self._rate_hz = rack.setup.rate_hz
        self._feeder: threading.Thread | None = None
        self._ending = threading.Event()
        self._warned = False
        try:
            self._library, self._handle = rack.control.call(f"{table.name}: signal_create", self._create, path)
        except RackError:
            self.ring.close()
            raise
        if table.feed == "audio":
            self.tap = WorkerTap(rack.setup.channels, self._rate_hz, FEED_S, rack.block_frames)

    def _create(self, path: Path) -> tuple[_Library, int]:
        library = _Library(path)
        if self.table.feed == "audio" and not library.takes_audio:
            raise ConfigError(f'{path}: takes no audio; set feed = "none" for "{self.table.name}"')
        handle = library.create(json.dumps(self.table.config, default=str).encode())
        if not handle:
            raise ConfigError(f'{path}: signal_create failed for "{self.table.name}"; see its own messages')
        if library.register and library.register(handle, CALLBACK_ADDRESS, self.ring.cookie):
            library.destroy(handle)
            raise ConfigError(f'{path}: signal_register_callback failed for "{self.table.name}"')
        return library, handle

    @property
    def name(self) -> str:
        """The engine's name in the rack."""
        return self.table.name

    def start(self) -> None:
        """Start feeding. [main]"""
        if self.tap or self._library.poll:
            name = f"sigrack-{self.table.name}"
            self._feeder = threading.Thread(target=self._feed, name=name, daemon=True)
            self._feeder.start()

    def _feed(self) -> None:
        if self.tap:
            self._feed_audio(self.tap)
        while self._library.poll and not self._ending.wait(POLL_S):
            self._library.poll(self._handle)

    def _feed_audio(self, tap: WorkerTap) -> None:
        planes = (c.c_void_p * tap.channels)()
        for samples in tap:
            for start in range(0, len(samples), FEED_FRAMES):
                part = np.ascontiguousarray(samples[start : start + FEED_FRAMES].T)
                for channel, plane in enumerate(part):
                    planes[channel] = plane.ctypes.data
                self._give(planes, part.shape, tap.frame + start)

    def _give(self, planes: "c.Array[c.c_void_p]", shape: tuple[int, ...], frame: int) -> None:
        channels, frames = shape
        audio = _Audio(c.sizeof(_Audio), self._rate_hz, channels, frames, frame, c.addressof(planes))
        self._library.on_data(self._handle, AUDIO, c.addressof(audio))
        self.fed += frames
        if self._library.poll:
            self._library.poll(self._handle)

    def end_streams(self) -> None:
        """Say that no more audio will come. [main, when the engine has left the tap]"""
        self._ending.set()
        if self.tap:
            self.tap.finish()

    def join(self, limit_s: float) -> bool:
        """Wait for the feeder; False: the engine did not return from on_data in time. [main]"""
        if self._feeder:
            self._feeder.join(limit_s)
            return not self._feeder.is_alive()
        return True

    def destroy(self) -> None:
        """Stop the engine's own threads; what it posts later is refused and counted. [control]"""
        self._library.destroy(self._handle)
        self.ring.shut()

    def warn(self) -> None:
        """Log, once, the first unknown symbol that was posted. [main]"""
        if not self._warned and (unknown := self.ring.unknown):
            self._warned = True
            near = nearest(unknown, self.table.symbols)
            log.warning('%s: posted the unknown symbol "%s"%s', self.table.name, unknown, near)

    def close(self, _: object) -> bool:
        """Free all: feeder and engine have gone. False: a thread of it is still inside a post; its ring stays. [main, worker]"""
        self.warn()
        if self.tap:
            self.tap.close()
        return self.ring.close()
