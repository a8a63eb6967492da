"""Overrides and answered requests as they stand in the database."""

from collections import OrderedDict

from sigrack.saved.database import Statement
from sigrack.saved.overlay import Entry, Overlay, Path
from sigrack.saved.settings import pack, unpack

__all__ = ["Requests", "changed", "entry_text", "everything", "read_entry", "read_overlay"]

MOST_REQUESTS = 4096
"""Answered requests that are kept."""


def entry_text(entry: Entry) -> str:
    """Return an override as JSON, but for why it waits: that is found anew. [any]"""
    return pack([entry.value, entry.base])


def read_entry(text: str) -> Entry:
    """Read what `entry_text` gave. Raises ValueError. [any]"""
    value, base = unpack(text)
    return Entry(value, base)


def read_overlay(rows: "list[tuple[str, str, str]]") -> Overlay:
    """Return the overlay of a database. Raises ValueError. [any]"""
    return {tuple(unpack(path)): Entry(unpack(value), unpack(base)) for path, value, base in rows}


def changed(before: Overlay, after: Overlay) -> list[Statement]:
    """Return what turns one overlay into another. [any]"""
    gone = [path for path in before if path not in after]
    new = {path: entry for path, entry in after.items() if (old := before.get(path)) is None or _kept(old) != _kept(entry)}
    return [*(("delete from overlay where path = ?", (_path(path),)) for path in gone), *_written(new)]


def everything(overlay: Overlay) -> list[Statement]:
    """Return what writes all of an overlay anew. [any]"""
    return [("delete from overlay", ()), *_written(overlay)]


def _kept(entry: Entry) -> tuple[object, object]:
    return entry.value, entry.base


def _path(path: Path) -> str:
    return pack(list(path))


def _written(overlay: Overlay) -> list[Statement]:
    sql = "insert or replace into overlay values (?, ?, ?)"
    return [(sql, (_path(path), pack(entry.value), pack(entry.base))) for path, entry in overlay.items()]


class Requests:
    """The last answered requests by id: who asks again gets the same reply."""

    def __init__(self) -> None:
        self._answered: OrderedDict[str, tuple[int, bytes, bytes]] = OrderedDict()
        self._next = 1

    def read(self, rows: "list[tuple[int, str, bytes, bytes]]") -> None:
        """Take what was kept. [main]"""
        for number, name, digest, reply in rows:
            self._answered[name] = number, digest, reply
            self._next = number + 1

    def find(self, name: str) -> tuple[bytes, bytes] | None:
        """Return the digest of the request with this id, and its reply. [main]"""
        found = self._answered.get(name)
        return found and found[1:]

    def add(self, name: str, digest: bytes, reply: bytes) -> list[Statement]:
        """Note a reply; return what to write. [main]"""
        self._answered[name] = self._next, digest, reply
        statements = [_noted(name, self._answered[name])]
        self._next += 1
        while len(self._answered) > MOST_REQUESTS:
            _, (number, *_) = self._answered.popitem(last=False)
            statements.append(("delete from requests where n = ?", (number,)))
        return statements

    def everything(self) -> list[Statement]:
        """Return what writes all of it anew. [main]"""
        return [("delete from requests", ()), *(_noted(name, found) for name, found in self._answered.items())]


def _noted(name: str, found: tuple[int, bytes, bytes]) -> Statement:
    number, digest, reply = found
    return "insert or replace into requests values (?, ?, ?, ?)", (number, name, digest, reply)
