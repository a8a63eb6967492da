"""All that control can change of a rack, as one value: slots, signal engines, channels."""

import json
import tomllib
from datetime import date, datetime, time
from typing import Any, TypeVar

import msgspec

from sigrack.checks import check_signals
from sigrack.config import Document
from sigrack.errors import ConfigError
from sigrack.explaining import explain
from sigrack.tables import SignalTable, SlotTable

__all__ = ["CHANNEL", "KINDS", "Settings", "pack", "plain", "table_of", "unpack", "with_bypass", "with_param"]

Table = SlotTable | SignalTable
T = TypeVar("T", SlotTable, SignalTable)
TIMES = (datetime, date, time)
KINDS: dict[str, type[SlotTable] | type[SignalTable]] = {"slot": SlotTable, "signal": SignalTable}

CHANNEL: dict[str, Any] = {"mute": False, "solo": False, "gain_db": 0.0}
"""A channel that goes out, as long as nobody has set anything."""


class Settings(msgspec.Struct, frozen=True):
    """What a rack is to hold. Tables that did not change are the same objects: that is what comparisons look at first."""

    slots: tuple[SlotTable, ...] = ()
    signals: tuple[SignalTable, ...] = ()
    channels: dict[str, dict[str, Any]] = {}
    """By name: mute, solo, gain_db, as far as they were set."""

    @classmethod
    def of(cls, document: Document) -> "Settings":
        """Return what a configuration says. [any]"""
        config = document.config
        return cls(tuple(config.slot), tuple(config.signal), {name: {"mute": True} for name in config.bus.mute})

    def tables(self, kind: str) -> tuple[Table, ...]:
        """Return the slots or the signal engines. [any]"""
        return self.slots if kind == "slot" else self.signals

    def find(self, name: str) -> Table | None:
        """Return the table of that name. [any]"""
        tables: tuple[Table, ...] = (*self.slots, *self.signals)
        return next((table for table in tables if table.name == name), None)

    def replaced(self, table: Table) -> "Settings":
        """Return it with another table in the place of the one with its name; unchanged if there is none. [any]"""
        return Settings(_put(self.slots, table), _put(self.signals, table), self.channels)

    def without(self, name: str) -> "Settings":
        """Return it without a slot or a signal engine. [any]"""
        slots = tuple(table for table in self.slots if table.name != name)
        return Settings(slots, tuple(table for table in self.signals if table.name != name), self.channels)

    def with_slot(self, table: SlotTable, followers: "list[str] | tuple[str, ...]") -> "Settings":
        """Return it with one more slot, before the first of `followers` that it has. [any]"""
        place = next((i for i, slot in enumerate(self.slots) if slot.name in followers), len(self.slots))
        return Settings((*self.slots[:place], table, *self.slots[place:]), self.signals, self.channels)

    def with_signal(self, table: SignalTable) -> "Settings":
        """Return it with one more signal engine. [any]"""
        return Settings(self.slots, (*self.signals, table), self.channels)

    def with_channel(self, name: str, given: dict[str, Any]) -> "Settings":
        """Return it with what is given of a channel. [any]"""
        return Settings(self.slots, self.signals, {**self.channels, name: {**self.channels.get(name, {}), **given}})

    def document(self, base: Document) -> Document:
        """Return the configuration of these settings over the file `base`. Raises ConfigError if it cannot be one. [any]"""
        config = msgspec.structs.replace(base.config, slot=list(self.slots), signal=list(self.signals))
        other = [kind for kind in KINDS if getattr(config, kind) != getattr(base.config, kind)]  # these have no lines in the file
        document = Document(base.path, base.text, config, given=(*base.given, *other))
        document.play, document.channels = base.play, self.channels
        _check_names(document)
        check_signals(document)
        return document

    def text(self) -> str:
        """Return it as JSON. [any]"""
        tables = {kind: [plain(table) for table in self.tables(kind)] for kind in KINDS}
        return pack({**tables, "channels": self.channels})

    @classmethod
    def read(cls, text: str) -> "Settings":
        """Read what `text` gave. Raises ConfigError where this version does not know it. [any]"""
        found = unpack(text)
        slots = tuple(table_of(values, SlotTable) for values in found["slot"])
        return cls(slots, tuple(table_of(values, SignalTable) for values in found["signal"]), found["channels"])


def _check_names(document: Document) -> None:
    """Raise ConfigError if the file has something else with the name of what control has loaded."""
    config = document.config
    taken = [feed.name for feed in config.feed]
    for index, signal in enumerate(config.signal):
        if signal.name in taken:
            document.fail(("signal", index, "name"), f'the name "{signal.name}" is taken')
    taken += [signal.name for signal in config.signal]
    for index, slot in enumerate(config.slot):
        if slot.name in taken:
            document.fail(("slot", index, "name"), f'the name "{slot.name}" is taken')


def with_param(settings: Settings, *, slot: str, param: str, value: float) -> Settings:
    """Return settings with another value of a parameter; unchanged if there is no such slot. [any]"""
    table = settings.find(slot)
    if not isinstance(table, SlotTable):
        return settings
    return settings.replaced(msgspec.structs.replace(table, params={**table.params, param: value}))


def with_bypass(settings: Settings, *, slot: str, bypass: bool) -> Settings:
    """Return settings with a bypass turned; unchanged if there is no such slot. [any]"""
    table = settings.find(slot)
    return settings.replaced(msgspec.structs.replace(table, bypass=bypass)) if isinstance(table, SlotTable) else settings


def _put(tables: tuple[T, ...], table: Table) -> tuple[T, ...]:
    return tuple(table if old.name == table.name and type(old) is type(table) else old for old in tables)


def plain(table: Table) -> dict[str, Any]:
    """Return a table as it is written in a file: dicts, lists, text, numbers, times; not to be changed. [any]"""
    if (found := _plain.get(id(table))) is not None:
        return found[1]
    values: dict[str, Any] = msgspec.to_builtins(table, builtin_types=TIMES)
    if len(_plain) >= MOST_PLAIN:
        _plain.clear()
    _plain[id(table)] = table, values
    return values


MOST_PLAIN = 2048
_plain: dict[int, tuple[Table, dict[str, Any]]] = {}
"""What was made of tables, which never change: a change of one slot must not cost what the whole rack does."""


def table_of(values: dict[str, Any], kind: type[T]) -> T:
    """Return the table of what `plain` gave. Raises ConfigError. [any]"""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(explain(error)[1]) from None


def pack(value: object) -> str:
    """Return a value of a TOML file as JSON; equal values give equal texts. [any]"""
    return json.dumps(value, default=lambda moment: {"$time": moment.isoformat()}, sort_keys=True, separators=(",", ":"))


def unpack(text: str) -> Any:
    """Return what `pack` was given. Raises ValueError. [any]"""
    return json.loads(text, object_hook=_with_times)


def _with_times(found: dict[str, Any]) -> Any:
    if found.keys() == {"$time"} and isinstance(found["$time"], str):
        return tomllib.loads(f"time = {found['$time']}")["time"]
    return found
