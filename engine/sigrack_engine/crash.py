"""The crash record: what the process was doing when it died, in a file that outlives it."""

import ctypes as c
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sigrack_engine.core import lib
from sigrack_engine.errors import CoreError

__all__ = [
    "DUE_BLOCKS",
    "DUE_TURNS",
    "READY",
    "THREADS",
    "Beats",
    "CrashFile",
    "Record",
    "own_thread",
    "read",
    "read_beats",
    "step_names",
]

MAGIC, TEXT, NAMES, STEPS = 0x53524331, 128, 512, 256
THREADS = ("another thread", "the main loop", "the control thread", "the engine thread")
"""In the order of `enum crash_thread`."""
CONTROL = 2
"""The number of its thread."""
READY, DUE_TURNS, DUE_BLOCKS = 1, 2, 4
"""`enum crash_due`: whether the process runs, and which heartbeats must go on."""


class Beats(c.Structure):
    """`struct core_beats`: the heartbeats of a process."""

    _fields_ = [("blocks", c.c_uint64), ("turns", c.c_uint64), ("due", c.c_uint32), ("engine_thread", c.c_int32)]


class Record(c.Structure):
    """`struct core_crash_record`."""

    _fields_ = [
        ("magic", c.c_uint32),
        ("size", c.c_uint32),
        ("pid", c.c_int32),
        ("signal", c.c_int32),
        ("began_ns", c.c_int64),
        ("died_ns", c.c_int64),
        ("thread", c.c_uint32),
        ("beats", c.c_int32),
        ("address", c.c_uint64),
        ("frame", c.c_uint64),
        ("where", c.c_char * TEXT),
        ("hook", c.c_uint32),
        ("loading", c.c_uint32),
        ("loading_ns", c.c_int64),
        ("call", c.c_char * TEXT),
        ("names", c.c_char * TEXT * NAMES),
        ("serials", c.c_uint64 * 2),
        ("steps", c.c_char * TEXT * STEPS * 2),
    ]


def read(path: Path) -> Record | None:
    """Return the record that a process has left; None if there is none, or it is no such record. [main]"""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) != c.sizeof(Record):
        return None
    record = Record.from_buffer_copy(data)
    return record if (record.magic, record.size) == (MAGIC, c.sizeof(Record)) else None


def read_beats(record: Record) -> Beats | None:
    """Return the heartbeats of the process whose record this is, while it lives; None if they cannot be had. [any]"""
    try:
        with open(f"/proc/{record.pid}/fd/{record.beats}", "rb", buffering=0) as file:
            data = file.read(c.sizeof(Beats))
    except OSError:
        return None
    return Beats.from_buffer_copy(data) if len(data) == c.sizeof(Beats) else None


def own_thread(number: int) -> None:
    """Say that the calling thread works for the plugin with that number only. [any]"""
    lib.core_crash_owner(number)


def step_names(names: Sequence[str]) -> bytes:
    """Return the names of at most 256 steps as the record holds them. [any]"""
    return b"".join(_cut(name).ljust(TEXT, b"\0") for name in names[:STEPS])


def _cut(text: str) -> bytes:
    return text.encode()[: TEXT - 1]


class CrashFile:
    """The record of this process, while it runs."""

    def __init__(self, path: Path) -> None:
        """Begin it anew and handle fatal signals. Raises CoreError. [main]"""
        self._path = path
        why = c.c_int()
        pointer = lib.core_crash_open(os.fsencode(path), c.byref(why))
        if not pointer:
            raise CoreError(f"{path}: the crash record cannot be written: {os.strerror(why.value)}")
        self._record = Record.from_address(pointer)
        self._numbers: dict[str, int] = {}
        self.mark = (c.c_uint32 * 1).from_address(pointer + Record.hook.offset)
        """One number: of the plugin whose hook runs, 0 for none. [main]"""
        self.beats = Beats.from_address(lib.core_crash_beats())

    def number(self, name: str) -> int:
        """Return the number that stands for a plugin; 0 when too many had one. [main]"""
        if name not in self._numbers and len(self._numbers) + 1 < NAMES:
            number = len(self._numbers) + 1
            self._record.names[number].value = _cut(name)
            self._numbers[name] = number
        return self._numbers.get(name, 0)

    @contextmanager
    def loading(self, name: str) -> Iterator[None]:
        """Note that a plugin is loaded or started meanwhile. [main, worker; for one plugin at a time]"""
        record, before = self._record, self._record.loading
        record.loading_ns = time.time_ns()
        record.loading = self.number(name)
        try:
            yield
        finally:
            record.loading = before

    def control_thread(self) -> None:
        """Say that the calling thread is the control thread. [control]"""
        lib.core_crash_thread(CONTROL)

    def call(self, what: str) -> None:
        """Note what the control thread does; nothing: an empty text. [control]"""
        self._record.call = _cut(what)

    def steps(self, serial: int, names: bytes) -> None:
        """Note whose the steps of run list `serial` are, as `step_names` has them. [main, before it is published]"""
        side = serial % 2
        self._record.serials[side] = 0
        c.memmove(self._record.steps[side], names, len(names))
        self._record.serials[side] = serial

    def watch(self, engine: int | None) -> None:
        """Tell of this engine, or of none. [main]"""
        lib.core_crash_watch(engine)

    def close(self) -> None:
        """The process ends in order: leave no record. [any]"""
        self.watch(None)
        lib.core_crash_close()
        self._path.unlink(missing_ok=True)
