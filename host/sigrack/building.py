"""From tables of the configuration to slots and signal engines that are ready to run."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sigrack.config import Document
from sigrack.errors import ConfigError, EngineError
from sigrack.fitting import build_slot
from sigrack.loading import NativePlugin, PythonPlugin, find_plugin, load_plugin
from sigrack.signals import SignalEngine
from sigrack.slot import Carried, Slot
from sigrack.tables import SignalTable, SlotTable
from sigrack_engine.errors import CoreError
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["Builder"]


class Builder:
    """Loads and creates. Errors name file and line of the table that is wrong."""

    def __init__(self, rack: "Rack") -> None:
        self._rack = rack

    def place(self, document: Document, index: int, rate_hz: int) -> Setup:
        """Return what slot number `index` of `document` hears and writes, where this is the rate. Raises ConfigError. [any]"""
        try:
            return self._rack.bus.setup(document.config.slot[index], rate_hz)
        except ConfigError as error:
            document.fail(("slot", index, *error.key), str(error))

    def slot(self, document: Document, index: int, setup: Setup, carried: Carried | None = None) -> Slot:
        """Build slot number `index` of `document`, where `setup` comes in. Raises ConfigError, EngineError. [main, worker]"""
        with self._rack.notes.loading(document.config.slot[index].name):
            return self._slot(document, index, setup, carried)

    def _slot(self, document: Document, index: int, setup: Setup, carried: Carried | None) -> Slot:
        table = document.config.slot[index]
        key = ("slot", index)
        try:
            plugin = self._load(table.name, find_plugin(table.plugin, document.resolve))
        except ConfigError as error:
            document.fail((*key, "plugin"), str(error))
        try:
            return build_slot(self._rack, table, plugin, document.resolve, setup, carried)
        except ConfigError as error:
            document.fail((*key, *_blamed(table, error)), str(error))
        except CoreError as error:
            raise EngineError(f"{table.name}: {error}") from None

    def _load(self, name: str, target: Path | str) -> NativePlugin | PythonPlugin:
        if isinstance(target, Path) and target.suffix == ".so":
            return self._rack.control.call(f"{name}: loading {target}", NativePlugin, target)
        return load_plugin(target)

    def signal(self, document: Document, index: int) -> SignalEngine:
        """Build signal engine number `index` of `document`. Raises ConfigError, EngineError. [main, worker]"""
        table: SignalTable = document.config.signal[index]
        try:
            with self._rack.notes.loading(table.name):
                return SignalEngine(self._rack, table, document.resolve(table.library))
        except ConfigError as error:
            document.fail(("signal", index, *(error.key or ("library",))), str(error))
        except CoreError as error:
            raise EngineError(f"{table.name}: {error}") from None


def _blamed(table: SlotTable, error: ConfigError) -> tuple[str, ...]:
    """Return where in the slot's table the key stands that is wrong: as the error knows, or the option that it mentions."""
    if len(error.key) < 2:
        for name in table.config:
            if re.search(rf"\b{re.escape(name)}\b", str(error)):
                return "config", name
    return error.key or ("plugin",)
