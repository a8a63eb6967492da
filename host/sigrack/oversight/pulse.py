"""The heartbeats and the crash record of one rack's host, as seen from outside."""

from dataclasses import dataclass

from sigrack.crash import CrashLog
from sigrack.custody import Book, book_path
from sigrack.deaths import Death, death_of
from sigrack.kept import peek
from sigrack.oversight.processes import facts
from sigrack_engine.crash import DUE_BLOCKS, DUE_TURNS, READY, Beats, Record, read, read_beats

__all__ = ["Pulse", "Stall", "find_death", "record_of"]


def record_of(rack: str, pid: int) -> Record | None:
    """Return the record of the rack's host, if it is the process `pid`. [any]"""
    record = read(CrashLog.path_of(rack))
    return record if record and record.pid == pid else None


def find_death(rack: str, pid: int, known: set[int], since_unix_s: float) -> Death | None:
    """Return how the host ended that was process `pid`; 0: the first that began after `since_unix_s` and is not in `known`. [any]

    It is in the record, or in the book, into which the next host puts it before it begins a record of its own.
    """
    record = read(CrashLog.path_of(rack))
    deaths = peek(book_path(rack), Book).deaths
    if record and (record.pid == pid or not facts(record.pid)):
        deaths = [*deaths, death_of(record)]
    if pid:
        return next((death for death in reversed(deaths) if death.pid == pid), None)
    return next((death for death in deaths if death.began_unix_s > since_unix_s and death.pid not in known), None)


@dataclass(frozen=True, slots=True)
class Stall:
    """A heartbeat that stands."""

    what: str
    """In words."""
    thread: int
    """The thread that it is about."""


class Pulse:
    """Looks at the heartbeats of one process again and again, and counts the looks since each one rose."""

    def __init__(self, rack: str, pid: int) -> None:
        self.rack, self.pid = rack, pid
        self.ready = False
        """Whether it has been ready."""
        self.readable = False
        """Whether its heartbeats could be read at the last look."""
        self._turns = self._blocks = -1
        self._same_turns = self._same_blocks = 0
        self._engine_thread = 0

    def look(self) -> Record | None:
        """Look once; return the record. [any]"""
        record = record_of(self.rack, self.pid)
        beats = read_beats(record) if record else None
        self.readable = beats is not None
        if beats:
            self.ready = self.ready or bool(beats.due & READY)
            self._count(beats)
        return record

    def _count(self, beats: Beats) -> None:
        self._same_turns = self._same_turns + 1 if beats.due & DUE_TURNS and beats.turns == self._turns else 0
        self._same_blocks = self._same_blocks + 1 if beats.due & DUE_BLOCKS and beats.blocks == self._blocks else 0
        self._turns, self._blocks = beats.turns, beats.blocks
        self._engine_thread = beats.engine_thread

    def stall(self, looks: int) -> Stall | None:
        """Return which heartbeat has not risen for so many looks; None: both go on, or need not. [any]"""
        if self._same_turns >= looks:
            return Stall("the main loop has not turned", self.pid)
        if self._same_blocks >= looks:
            return Stall("no block was processed", self._engine_thread or self.pid)
        return None
