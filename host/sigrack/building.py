"""From tables of the configuration to slots and signal engines that are ready to run."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sigrack.config import Document
from sigrack.errors import ConfigError, EngineError, RackError
from sigrack.fitting import build_slot
from sigrack.lanes import LanePlugin
from sigrack.lanes.plugin import member_orders, own_home
from sigrack.lanes.shared import SharedLanes
from sigrack.loading import NativePlugin, PythonPlugin, admit_plugin, find_plugin, is_native, is_trusted
from sigrack.quarantine import QuarantinedError
from sigrack.signals import SignalEngine
from sigrack.slot import Carried, Slot
from sigrack.state import StateRefusedError
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
        self.shared = SharedLanes(rack)

    def place(self, document: Document, index: int, rate_hz: int) -> Setup:
        """Return what slot number `index` of `document` hears and writes, where this is the rate. Raises ConfigError. [any]"""
        try:
            return self._rack.bus.setup(document.config.slot[index], rate_hz)
        except ConfigError as error:
            document.fail(("slot", index, *error.key), str(error))

    def slot(self, document: Document, index: int, setup: Setup, carried: Carried | None = None) -> Slot:
        """Build slot number `index` of `document`, where `setup` comes in. Raises ConfigError, EngineError. [main, worker]"""
        with self._rack.notes.loading(document.config.slot[index].name), _located(("slot", index)):
            return self._slot(document, index, setup, carried)

    def _slot(self, document: Document, index: int, setup: Setup, carried: Carried | None) -> Slot:
        table = document.config.slot[index]
        key = ("slot", index)
        try:
            plugin = self._load(document, table, find_plugin(table.plugin, document.resolve), setup)
        except QuarantinedError as error:
            raise error.placed(document.place((*key, "plugin"))) from None
        except ConfigError as error:
            document.fail((*key, "plugin"), str(error))
        try:
            return build_slot(self._rack, table, plugin, document.resolve, setup, carried)
        except StateRefusedError as error:
            anew = self._slot(document, index, setup, Carried({}, table.bypass, table.bypass, None))
            self._rack.states.refuse(error.loan, error)
            return anew
        except ConfigError as error:
            document.fail((*key, *_blamed(table, error)), str(error))
        except CoreError as error:
            raise EngineError(f"{table.name}: {error}") from None

    def _load(
        self, document: Document, table: SlotTable, target: Path | str, setup: Setup
    ) -> NativePlugin | PythonPlugin | LanePlugin:
        admit_plugin(target)  # a lane's child could only say it in words
        control, what = self._rack.control, f"{table.name}: loading {target}"
        lane = table.lane or ("process" if is_native(target) and not is_trusted(target) else "inline")
        if lane != "inline":
            return control.call(what, self._in_lane, document, table, target, setup)
        if is_native(target):
            return control.call(what, NativePlugin, target)
        plugin = PythonPlugin(target)
        if not plugin.processes:
            return plugin
        if table.lane == "inline":
            raise ConfigError(f"{plugin.id}: is a processor in Python, which runs in a process of its own: take lane away")
        return control.call(what, self._in_lane, document, table, target, setup)

    def _in_lane(self, document: Document, table: SlotTable, target: Path | str, setup: Setup) -> LanePlugin:
        home = self.shared.enter(table, setup) if table.lane_name else own_home(self._rack, table, setup)
        return LanePlugin(home, member_orders(document, table, target, setup))

    def signal(self, document: Document, index: int) -> SignalEngine:
        """Build signal engine number `index` of `document`. Raises ConfigError, EngineError. [main, worker]"""
        table: SignalTable = document.config.signal[index]
        try:
            with self._rack.notes.loading(table.name), _located(("signal", index)):
                return SignalEngine(self._rack, table, document.resolve(table.library))
        except QuarantinedError as error:
            raise error.placed(document.place(("signal", index, "library"))) from None
        except ConfigError as error:
            document.fail(("signal", index, *(error.key or ("library",))), str(error))
        except CoreError as error:
            raise EngineError(f"{table.name}: {error}") from None


@contextmanager
def _located(key: tuple[str | int, ...]) -> Iterator[None]:
    """Let errors know which table they are about, where they do not know better."""
    try:
        yield
    except RackError as error:
        error.at = error.at or key
        raise


def _blamed(table: SlotTable, error: ConfigError) -> tuple[str, ...]:
    """Return where in the slot's table the key stands that is wrong: as the error knows, or the option that it mentions."""
    if len(error.key) < 2:
        for name in table.config:
            if re.search(rf"\b{re.escape(name)}\b", str(error)):
                return "config", name
    return error.key or ("plugin",)
