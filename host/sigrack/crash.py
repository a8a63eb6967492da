"""What the last host of a rack died of, and the record for who asks the same of this one."""

import faulthandler
import logging
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import msgspec

from sigrack.config import Document
from sigrack.custody import Custody, book_path
from sigrack.deaths import death_of
from sigrack.places import runtime_folder
from sigrack_engine.crash import Beats, CrashFile, read
from sigrack_engine.errors import CoreError

__all__ = ["CrashLog", "Notes", "Unrecorded"]

log = logging.getLogger("sigrack")


class Mark(Protocol):
    """Something that holds one number, at index 0."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Set it."""


class Notes(Protocol):
    """What the parts of a rack note of what they do."""

    @property
    def mark(self) -> Mark:
        """Of the plugin whose hook runs, 0 for none. [main]"""

    @property
    def beats(self) -> Beats:
        """The heartbeats. [main]"""

    def loading(self, name: str) -> AbstractContextManager[None]:
        """Note that a plugin is loaded or started meanwhile. [main, worker; for one plugin at a time]"""

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
        self.beats = Beats()

    def loading(self, name: str) -> AbstractContextManager[None]:
        """Nothing. [main, worker]"""
        return nullcontext()

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

    def __init__(self, document: Document) -> None:
        """Say what the last host of the rack died of, hold back whom that makes a suspect, and begin anew. [main]"""
        path = self.path_of(document.name)
        record = read(path)
        self.last = death_of(record) if record else None
        """The death of the host before this one, if it had one."""
        if self.last:
            log.warning("the last host of this rack: %s", self.last)
        self.custody = Custody(book_path(document.name), document, self.last)
        self._file: CrashFile | None = None
        if sys.__stderr__:
            # First: the record's handler lets it write the Python stack. Those of threads that run on cannot be read safely.
            faulthandler.enable(sys.__stderr__, all_threads=False)
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
        return msgspec.to_builtins(self.last) if self.last else None

    def close(self) -> None:
        """The host ends in order, or is ended by itself and has said why. [any]"""
        self.custody.end()
        if self._file:
            self._file.close()
