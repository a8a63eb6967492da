"""What the last host of a rack died of, and the record for who asks the same of this one."""

import faulthandler
import logging
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from sigrack.places import runtime_folder
from sigrack_engine.crash import THREADS, CrashFile, Record, read
from sigrack_engine.errors import CoreError

__all__ = ["CrashLog", "Death", "Notes", "Unrecorded"]

log = logging.getLogger("sigrack")

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a host that did not end in order: else it would have left no record."""

    pid: int
    signal: str
    """Its name; empty: none that can be handled, as SIGKILL, or it called _exit."""
    thread: str
    """Where the signal came; empty without one."""
    where: str
    """The slot, the plugin with the hook, or the native call; empty: none is known."""
    began_unix_s: float
    ran_s: float | None
    """None without a signal."""

    def __str__(self) -> str:
        """In one line."""
        where = f", in {self.where}" if self.where else ""
        if self.signal:
            return f"process {self.pid} died of {self.signal} on {self.thread}{where}, after {self.ran_s:.1f} s"
        return f"process {self.pid} was killed or called _exit{where}"


def _death(record: Record) -> Death:
    number, began = int(record.signal), record.began_ns / SECOND
    name = signal.Signals(number).name if number else ""
    text = record.where if number else record.call  # a kill blames nobody, but for who was being loaded
    thread = THREADS[record.thread] if number and record.thread < len(THREADS) else ""
    ran = (record.died_ns - record.began_ns) / SECOND if number else None
    return Death(record.pid, name, thread, text.decode("utf-8", "replace"), began, ran)


class Mark(Protocol):
    """Something that holds one number, at index 0."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Set it."""


class Notes(Protocol):
    """What the parts of a rack note of what they do."""

    @property
    def mark(self) -> Mark:
        """Of the plugin whose hook runs, 0 for none. [main]"""

    def number(self, name: str) -> int:
        """Return the number that stands for a plugin. [main]"""

    def control_thread(self) -> None:
        """Say that the calling thread is the control thread. [control]"""

    def call(self, what: str) -> None:
        """Note what the control thread does. [control]"""

    def steps(self, serial: int, names: bytes) -> None:
        """Note whose the steps of run list `serial` are. [main]"""

    def watch(self, engine: int | None) -> None:
        """Tell of this engine. [main]"""


class Unrecorded:
    """Notes that nobody reads: of renders, and of racks in other programs."""

    def __init__(self) -> None:
        self.mark: Mark = [0]

    def number(self, name: str) -> int:
        """Return 0. [main]"""
        return 0

    def control_thread(self) -> None:
        """Nothing. [control]"""

    def call(self, what: str) -> None:
        """Nothing. [control]"""

    def steps(self, serial: int, names: bytes) -> None:
        """Nothing. [main]"""

    def watch(self, engine: int | None) -> None:
        """Nothing. [main]"""


class CrashLog:
    """The record of a rack's hosts. The rack's lock is held: there is one at a time."""

    def __init__(self, name: str) -> None:
        """Say what the last host died of, and begin anew. [main]"""
        path = self.path_of(name)
        record = read(path)
        self.last = _death(record) if record else None
        """The death of the host before this one, if it had one."""
        if self.last:
            log.warning("the last host of this rack: %s", self.last)
        self._file: CrashFile | None = None
        if sys.__stderr__:
            faulthandler.enable(sys.__stderr__)  # first: the record's handler lets it write the Python stacks
        try:
            self._file = CrashFile(path)
        except CoreError as error:
            log.warning("%s; a crash will not be explained", error)

    @staticmethod
    def path_of(name: str) -> Path:
        """Where the record of the rack `name` is. [any]"""
        return runtime_folder() / f"{name}.crash"

    @property
    def notes(self) -> Notes:
        """What the rack writes to. [main]"""
        return self._file or Unrecorded()

    @property
    def described(self) -> dict[str, Any] | None:
        """The last death, for GET_STATUS. [main]"""
        return asdict(self.last) if self.last else None

    def close(self) -> None:
        """The host ends in order, or is ended by itself and has said why. [any]"""
        if self._file:
            self._file.close()
