"""Complete settings under names."""

import time

from sigrack.config import Document
from sigrack.errors import nearest
from sigrack.saved.database import Statement
from sigrack.saved.settings import CHANNEL, Settings

__all__ = ["FILE", "Presets", "fitted"]

MOST = 1000
"""Presets that are kept."""
FILE = "file"
"""Stands for what the rack's file says."""


class Presets:
    """The presets of one rack, each as text with the time when it was saved."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, float]] = {}

    def read(self, rows: "list[tuple[str, str, float]]") -> None:
        """Take what was kept. [main]"""
        self._kept = {name: (text, saved) for name, text, saved in rows}

    @property
    def listing(self) -> list[dict[str, object]]:
        """Names and times. [main]"""
        return [{"name": name, "saved": saved} for name, (_, saved) in sorted(self._kept.items())]

    def find(self, name: str) -> str:
        """Return what was kept under a name. Raises KeyError with the nearest. [main]"""
        if name not in self._kept:
            raise KeyError(f'there is no preset "{name}"{nearest(name, [*self._kept, FILE])}')
        return self._kept[name][0]

    def save(self, name: str, settings: Settings) -> list[Statement]:
        """Keep settings; return what to write. Raises ValueError. [main]"""
        if name == FILE:
            raise ValueError(f'the preset "{FILE}" stands for the rack\'s file: choose another name')
        if len(self._kept) >= MOST and name not in self._kept:
            raise ValueError(f"there are {MOST} presets already: delete one")
        self._kept[name] = settings.text(), time.time()
        return [self._written(name)]

    def delete(self, name: str) -> list[Statement]:
        """Forget settings; return what to write. Raises KeyError. [main]"""
        self.find(name)
        del self._kept[name]
        return [("delete from presets where name = ?", (name,))]

    def everything(self) -> list[Statement]:
        """Return what writes all of it anew. [main]"""
        return [("delete from presets", ()), *map(self._written, self._kept)]

    def _written(self, name: str) -> Statement:
        return "insert or replace into presets values (?, ?, ?)", (name, *self._kept[name])


def fitted(found: Settings, base: Document, present: Settings) -> Settings:
    """Return settings that were kept, for the rack's file as it is now: it says which slots of the rack's own there are. [any]"""
    own = {table.name: table for table in base.config.own_slots}
    kept = {table.name: table for table in found.slots}
    slots = [table for table in found.slots if table.name not in own]
    channels = {name: CHANNEL | found.channels.get(name, {}) for name in {**present.channels, **found.channels}}
    return Settings((*slots, *(kept.get(name, table) for name, table in own.items())), found.signals, channels)
