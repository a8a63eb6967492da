"""Signal engines in this process: libraries with threads of their own, the C ABI of `sigrack_signal.h`."""

import ctypes as c
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sigrack.errors import ConfigError
from sigrack.loading.libraries import Library, open_library
from sigrack_engine.core import lib
from sigrack_engine.data import KINDS, Records
from sigrack_engine.results import CALLBACK_ADDRESS, ResultRing

__all__ = ["AUDIO", "NativeEngine", "SignalLibrary"]

ABI = 1  # SIGRACK_SIGNAL_ABI
AUDIO = "audio"
"""What an engine may take beside the kinds of data."""
_AUDIO = 200  # SIGNAL_AUDIO

_SPAN = np.dtype([("records", "u8"), ("count", "u4"), ("stride", "u4"), ("type", "i4"), ("reserved", "u4")])
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


def _span(kind: str, records: Records) -> tuple[int, int, int, int, int]:
    """Return records as `struct core_span`."""
    return records.__array_interface__["data"][0], len(records), records.strides[0], KINDS[kind].number, 0


def _struct(kind: str) -> tuple[int, str, int]:
    """Return number, name and size of the struct of a kind of data."""
    if kind == AUDIO:
        return _AUDIO, "signal_audio", c.sizeof(_Audio)
    return KINDS[kind].number, KINDS[kind].struct, KINDS[kind].dtype.itemsize


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

    def check_size(self, kind: str, name: str) -> None:
        """Raise ConfigError if it knows another struct than the host, or does not take what it is to get, being called `name`."""
        cdll, path = self.library.cdll, self.path
        if not hasattr(cdll, "signal_data_size"):
            return
        number, struct, ours = _struct(kind)
        theirs = int(cdll.signal_data_size(number))
        if not theirs:
            remedy = f'set feed = "none" for "{name}"' if kind == AUDIO else f'give "{name}" another feed'
            raise ConfigError(f"{path}: takes no {kind}; {remedy}")
        if theirs != ours:
            raise ConfigError(f"{path}: its struct {struct} has {theirs} bytes, this host's {ours}: rebuild it")


class NativeEngine:
    """One instance: made, begun, fed by one thread at a time, destroyed, closed."""

    def __init__(self, path: Path, name: str, kinds: Sequence[str]) -> None:
        """Load the library and check it; it is to get data of `kinds`. Raises ConfigError, EngineError. [control]"""
        self._path, self._name = path, name
        library = open_library(path)
        try:
            self._functions = SignalLibrary(library, path)
            for kind in kinds:
                self._functions.check_size(kind, name)
        except ConfigError:
            library.close()
            raise
        self._handle: int | None = None
        self._stop = c.c_uint32()

    def begin(self, config: bytes, ring: ResultRing, *, patient: bool) -> None:
        """Create it and let it post into `ring`, which waits for room if it is `patient`. Raises ConfigError. [control]"""
        handle: int | None = self._functions.create(config)
        if not handle:
            self.close()
            raise ConfigError(f'{self._path}: signal_create failed for "{self._name}"; see its own messages')
        self._handle = handle
        ring.set_patient(patient)  # it may post from here on
        register = self._functions.register
        if register and register(handle, CALLBACK_ADDRESS, ring.cookie):
            ring.set_patient(False)
            self.destroy()
            self.close()
            raise ConfigError(f'{self._path}: signal_register_callback failed for "{self._name}"')

    @property
    def polls(self) -> bool:
        """Whether it wants to be polled."""
        return bool(self._functions.poll)

    def poll(self) -> None:
        """Let it run callbacks that wait. [feeder]"""
        if self._functions.poll:
            self._functions.poll(self._handle)

    def give_audio(self, planes: npt.NDArray[np.float32], rate_hz: int, frame: int) -> int:
        """Hand over audio of shape (channels, frames), in C order, from `frame` on; return how many frames it got. [feeder]"""
        channels, frames = len(planes), len(planes[0])
        samples = (c.c_void_p * channels)(*(plane.ctypes.data for plane in planes))
        audio = _Audio(c.sizeof(_Audio), rate_hz, channels, frames, frame, c.addressof(samples))
        self._functions.on_data(self._handle, _AUDIO, c.addressof(audio))
        return frames

    def give_records(self, parts: Sequence[tuple[str, Records]]) -> int:
        """Hand over data, each with its kind; return how many records it got: all, unless it is hurried. [feeder]

        One call of the core for all: after each call Python may let us wait for 5 ms.
        """
        spans = np.array([_span(kind, records) for kind, records in parts], _SPAN)
        on_data, stop = self._functions.on_data_address, c.addressof(self._stop)
        return int(lib.core_feed(on_data, self._handle, spans.ctypes.data, len(spans), stop))

    def hurry(self) -> None:
        """Give it no more of what is being handed over. [any]"""
        self._stop.value = 1

    def destroy(self) -> None:
        """Stop its own threads. [control]"""
        self._functions.destroy(self._handle)

    def close(self) -> None:
        """Let the library go: none of its threads is inside a post. [control]"""
        self._functions.library.close()
