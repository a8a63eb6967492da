"""Who has taken the host down before, and is not loaded until a person says so."""

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sigrack import kept
from sigrack.config import Document
from sigrack.deaths import Death
from sigrack.errors import nearest
from sigrack.places import runtime_folder
from sigrack.tables import SignalTable, SlotTable
from sigrack_plugins import bundled

__all__ = ["Book", "Custody", "Held", "book_path"]

log = logging.getLogger("sigrack")

WINDOW_S = 60.0
SUSPECT_DEATHS = 2
"""Of one suspect within the window: it is held back."""
SAFE_DEATHS = 3
"""Of anybody within the window: nothing is loaded."""
MOST_DEATHS = 32
"""That are remembered."""
SPARED = "gain"
"""The bundled plugin that is loaded in safe mode, too: without it the dry audio could be far louder than what was heard."""


Table = SlotTable | SignalTable
Tables = Mapping[str, Table]


class Held(msgspec.Struct, frozen=True):
    """One slot or signal engine that is not loaded."""

    why: str
    plugin: str
    """What its table named."""
    since_unix_s: float


class Book(msgspec.Struct):
    """What is remembered over the lives of a rack's hosts."""

    deaths: list[Death] = []
    """The last ones, those of suspects that were released left out."""
    held: dict[str, Held] = {}
    safe_mode: str = ""
    """Why nothing was loaded; empty: that was not so, or was ended."""
    ratios: dict[str, int] = {}
    """By how much slots raise the rate, while all is well."""


def book_path(name: str) -> Path:
    """Where the book of the rack `name` is. [any]"""
    return runtime_folder() / f"{name}.deaths"


class Custody:
    """The slots and signal engines of one rack that are held back. Without a path it holds nobody and remembers nothing."""

    def __init__(self, path: Path | None = None, document: Document | None = None, death: Death | None = None) -> None:
        """`death`: of the host before this one, which may make somebody a suspect. [main]"""
        self._path = path
        self._kept_out: dict[str, Held] = {}
        """Who is in quarantine: that is no memory of this rack."""
        self._book = kept.load(path, Book) if path else Book()
        if document is None:
            return
        things: list[Table] = [*document.config.slot, *document.config.signal]
        tables = {table.name: table for table in things}
        self._let_go(tables, document)
        if death and not self._knows(death):
            self._book.deaths = [*self._book.deaths, death][-MOST_DEATHS:]
            self._judge(tables, document)
        self._save()
        self._tell()

    # Looking

    def why(self, name: str) -> str:
        """Return why a slot or signal engine is not to be loaded; empty: it is. [any]"""
        held = self._book.held.get(name)
        return held.why if held else ""

    def ratio(self, name: str) -> int:
        """Return by how much a slot raised the rate when it was loaded; 1 if it never was. [any]"""
        return self._book.ratios.get(name, 1)

    @property
    def held(self) -> dict[str, dict[str, Any]]:
        """Who is held back, for GET_STATUS. [main]"""
        return {name: msgspec.to_builtins(held) for name, held in self._all.items()}

    @property
    def _all(self) -> dict[str, Held]:
        return self._book.held | self._kept_out

    @property
    def safe_mode(self) -> str:
        """Why no plugin was loaded; empty: this is no safe mode. [main]"""
        return self._book.safe_mode

    # Changing

    def settle(self, loaded: Mapping[str, int]) -> list[str]:
        """Take note of who is in the rack for real, with its ratio; return whom that has released. [main]"""
        released = self.release(loaded) + [name for name in loaded if self._kept_out.pop(name, None)]
        ratios = self._book.ratios | {name: ratio for name, ratio in loaded.items() if ratio > 1 or name in self._book.ratios}
        if ratios != self._book.ratios:
            self._book.ratios = ratios
            self._save()
        return released

    def keep_out(self, name: str, table: Table, why: str) -> None:
        """Note that a plugin in quarantine was not loaded, as long as this host lives. [main]"""
        self._kept_out[name] = Held(why, _plugin(table), time.time())
        log.error('"%s" is not loaded: %s', name, why)

    def release(self, names: Iterable[str]) -> list[str]:
        """Hold these no longer; return those that were. [main]"""
        released = [name for name in names if self._book.held.pop(name, None)]
        if released:
            self._forgive(released)
            self._save()
        return released

    def find(self, name: str | None) -> list[str]:
        """Return who is meant: one that is held back, or all that are. Raises KeyError. [any]"""
        if name is None:
            return list(self._all)
        if name not in self._all:
            raise KeyError(f'"{name}" is not held back{nearest(name, list(self._all)) or "; nobody is"}')
        return [name]

    def end(self) -> None:
        """Forget deaths for which nobody is held back: the host ends in order. [any]"""
        if not self._book.held and self._book.deaths:
            self._book.deaths = []
            self._save()

    def _forgive(self, names: list[str]) -> None:
        """Let what they have done count no more. When the last one is free, nothing counts."""
        everybody = not self._book.held
        self._book.deaths = [] if everybody else [death for death in self._book.deaths if death.suspect not in names]
        self._book.safe_mode = "" if everybody else self._book.safe_mode

    def _let_go(self, tables: Tables, document: Document) -> None:
        """Release whom somebody has changed meanwhile: it is another plugin now, or another version."""
        for name, held in list(self._book.held.items()):
            table = tables.get(name)
            if table is None or _plugin(table) != held.plugin or _changed_s(table, document) > held.since_unix_s:
                self.release([name])
                log.info('"%s" is no longer held back: %s', name, "it was changed" if table else "it is not in the rack")

    def _knows(self, death: Death) -> bool:
        """Whether it was noted by a host that was killed before it could begin a record of its own."""
        return any((known.pid, known.began_unix_s) == (death.pid, death.began_unix_s) for known in self._book.deaths)

    def _judge(self, tables: Tables, document: Document) -> None:
        """Hold back whom the last death makes a suspect, or all."""
        last = self._book.deaths[-1]
        recent = [
            death
            for death in self._book.deaths
            if death.counts
            and abs(last.unix_s - death.unix_s) <= WINDOW_S
            and not (death.suspect in tables and _changed_s(tables[death.suspect], document) > death.unix_s)
        ]
        if not last.counts or last not in recent:
            return
        mine = [death for death in recent if death.suspect == last.suspect]
        if len(recent) >= SAFE_DEATHS:
            self._book.safe_mode = f"{len(recent)} deaths within {WINDOW_S:g} s, the last one {last.how}"
            for name, table in tables.items():
                if _plugin(table) != SPARED or name == last.suspect:
                    self._hold(name, table, f"safe mode: {self._book.safe_mode}")
        elif last.suspect in tables and len(mine) >= SUSPECT_DEATHS:
            why = f"it took the host down {len(mine)} times within {WINDOW_S:g} s, the last time {last.how}"
            self._hold(last.suspect, tables[last.suspect], why)

    def _hold(self, name: str, table: Table, why: str) -> None:
        self._book.held.setdefault(name, Held(why, _plugin(table), time.time()))

    def _tell(self) -> None:
        if self._book.safe_mode:
            log.error(
                "safe mode: no plugin is loaded, dry audio goes out (%s); `sigrack ctl RELEASE` loads them", self._book.safe_mode
            )
        else:
            for name, held in self._book.held.items():
                log.error('"%s" is not loaded: %s; `sigrack ctl RELEASE name=%s` loads it', name, held.why, name)

    def _save(self) -> None:
        if self._path and self._book == Book():
            self._path.unlink(missing_ok=True)
        elif self._path:
            kept.save(self._path, self._book)


def _plugin(table: Table) -> str:
    return table.plugin if isinstance(table, SlotTable) else table.library


def _changed_s(table: Table, document: Document) -> float:
    """When a plugin's file was last changed, in Unix time; 0: it has none that is known."""
    text = _plugin(table)
    try:
        return (bundled().get(text) or document.resolve(text)).stat().st_mtime
    except OSError:
        return 0.0
