"""The rack: slots and signal engines, the engine that runs them, and every change of them."""

import asyncio
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path

from sigrack.config import Config, Document, SignalTable, SlotTable
from sigrack.dispatch import Dispatcher
from sigrack.errors import ConfigError, EngineError, RackError, nearest, said
from sigrack.lifecycle import ControlThread
from sigrack.loading import NativePlugin, PythonPlugin, find_plugin, load_plugin
from sigrack.signals import SignalEngine
from sigrack.slot import Slot, build_slot
from sigrack_engine.bell import Bell
from sigrack_engine.engine import Engine
from sigrack_plugins import SECOND, Setup

__all__ = ["Rack"]

log = logging.getLogger("sigrack")

SETTLE_S = 0.002
"""How often a change looks whether the engine has taken it."""


class Rack:
    """A configured bus of slots. Made, changed and closed on the main thread; drivers run its engine."""

    def __init__(self, document: Document, setup: Setup) -> None:
        """Load and build everything. Raises ConfigError, EngineError; then nothing is left behind. [main]"""
        self.document = document
        self.setup = setup
        self.main_thread = threading.get_ident()
        config = document.config
        self.block_frames = config.rack.block_frames
        self.hook_frames = config.rack.hook_frames
        self.fade_frames = max(1, round(config.rack.fade_ms * 1e-3 * setup.rate_hz))
        self.control = ControlThread()
        self.bell = Bell()
        self.engine = Engine(setup.channels, self.block_frames, self.fade_frames)
        self.dispatcher = Dispatcher(setup.rate_hz)
        self.slots: tuple[Slot, ...] = ()
        self.signals: tuple[SignalEngine, ...] = ()
        self.left_behind: list[str] = []
        """Threads and native calls that did not end."""
        self._changing = asyncio.Lock()
        self._leaving: tuple[list[Slot], list[SignalEngine]] = ([], [])
        """Out of the run list, but perhaps not yet out of the engine."""
        try:
            self.slots = self._build_slots(document, {})
            self.signals = self._build_signals(document, {})
        except RackError:
            self.close()
            raise
        self._publish(dip=False)

    # Building

    def _build_slots(self, document: Document, kept: dict[str, Slot]) -> tuple[Slot, ...]:
        """Return the slots that `document` asks for, taking what is in `kept`; on failure no new one is left. [main, worker]"""
        slots: list[Slot] = []
        try:
            for index, table in enumerate(document.config.slot):
                slots.append(kept.get(table.name) or self._build_slot(document, index, table))
        except RackError:
            for slot in slots:
                if slot.name not in kept:
                    self._discard(slot)
            raise
        return tuple(slots)

    def _build_slot(self, document: Document, index: int, table: SlotTable) -> Slot:
        key = ("slot", index)
        try:
            target = find_plugin(table.plugin, document.resolve)
        except ConfigError as error:
            document.fail((*key, "plugin"), str(error))
        try:
            plugin = self._load(table.name, target)
        except ConfigError as error:
            document.fail((*key, "plugin"), str(error))
        try:
            return build_slot(self, table, plugin, document.resolve)
        except ConfigError as error:
            document.fail((*key, *_blamed(table, error)), str(error))

    def _load(self, name: str, target: Path | str) -> NativePlugin | PythonPlugin:
        if isinstance(target, Path) and target.suffix == ".so":
            return self.control.call(f"{name}: loading {target}", NativePlugin, target)
        return load_plugin(target)

    def _build_signals(self, document: Document, kept: dict[str, SignalEngine]) -> tuple[SignalEngine, ...]:
        signals: list[SignalEngine] = []
        try:
            for index, table in enumerate(document.config.signal):
                signals.append(kept.get(table.name) or self._build_signal(document, index, table))
        except RackError:
            for signal in signals:
                if signal.table.name not in kept:
                    self._destroy(f"{signal.table.name}: signal_destroy", signal.destroy)
                    signal.close()
            raise
        return tuple(signals)

    def _build_signal(self, document: Document, index: int, table: SignalTable) -> SignalEngine:
        try:
            return SignalEngine(self, table, document.resolve(table.library))
        except ConfigError as error:
            document.fail(("signal", index, "library"), str(error))

    # What runs

    def _publish(self, *, dip: bool) -> None:
        """Hand the present slots to the engine and to the dispatcher."""
        steps = [step for slot in self.slots for step in slot.steps]
        steps += [signal.tap.ring for signal in self.signals if signal.tap]
        self.engine.publish(steps, dip=dip)
        sources = [slot.source for slot in self.slots if slot.source and slot.source.ring.symbols]
        self.dispatcher.sources = (*sources, *(signal.source for signal in self.signals))
        self.dispatcher.taps = tuple(slot.hook_tap for slot in self.slots if slot.hook_tap)
        hooked = [slot.hooked for slot in self.slots if slot.hooked]
        self.dispatcher.listeners = tuple(h for h in hooked if {"on_factors", "on_factor"} & h.methods)

    def start(self) -> None:
        """Call every `on_start`, start workers and feeders. Raises ConfigError if a plugin cannot work. [main]"""
        for index, slot in enumerate(self.slots):
            try:
                slot.start()
            except (Exception, SystemExit) as error:
                self.document.fail(("slot", index), f"{slot.name}: on_start: {said(error)}")
        for signal in self.signals:
            signal.start()

    @property
    def now_ns(self) -> int:
        """Rack time in nanoseconds. [any]"""
        return self.engine.frame * SECOND // self.setup.rate_hz

    @property
    def latency_frames(self) -> int:
        """From source to sink, over all slots. [main]"""
        return sum(slot.processor.latency_frames for slot in self.slots if slot.processor)

    def tap_space(self) -> int:
        """Frames that the engine can process before a tap would lose some. [main]"""
        taps = [tap for slot in self.slots for tap in slot.taps]
        taps += [signal.tap.ring for signal in self.signals if signal.tap]
        return min((tap.space for tap in taps), default=1 << 30)

    def drain(self) -> bool:
        """Deliver what waits, for one turn; True: there is more. [main]"""
        for signal in self.signals:
            signal.warn()
        return self.dispatcher.drain(self.now_ns)

    def drain_all(self) -> None:
        """Deliver all that waits, and once what hooks have posted meanwhile (freewheel, stop). [main]"""
        self.dispatcher.flush(self.now_ns)
        if self.dispatcher.inbox.queued:
            self.dispatcher.flush(self.now_ns)

    # Changes

    def slot(self, name: str) -> Slot:
        """Return a slot. Raises KeyError with the nearest name. [main]"""
        for slot in self.slots:
            if slot.name == name:
                return slot
        raise KeyError(f'there is no slot "{name}"{nearest(name, [slot.name for slot in self.slots])}')

    def set_param(self, slot: str, param: str, value: object) -> float:
        """Set a parameter of a slot. Raises KeyError, ValueError. [main]"""
        return self.slot(slot).set_param(param, value)

    def check_subscription(self, source: str | None, symbol: str | None) -> None:
        """Raise KeyError unless somebody can post that. [main]"""
        posted = {slot.name: list(slot.plugin.factors) for slot in self.slots if slot.plugin.factors}
        posted |= {signal.table.name: signal.table.symbols for signal in self.signals}
        if source is not None and source not in posted:
            raise KeyError(f'no source "{source}" posts factors{nearest(source, list(posted))}')
        symbols = posted[source] if source is not None else sorted({s for names in posted.values() for s in names})
        if symbol is not None and symbol not in symbols:
            raise KeyError(f'{source or "no source"} does not post "{symbol}"{nearest(symbol, symbols)}')

    async def apply(self, document: Document) -> list[str]:
        """Change the running rack to `document`; return what changed, in words. Raises ConfigError; then nothing has. [main]"""
        async with self._changing:
            old, new = self.document.config, document.config
            for name in ("rack", "source", "sink", "control"):
                if getattr(old, name) != getattr(new, name):
                    document.fail((name,), f"[{name}] cannot change while the rack runs; restart it")
            kept = {slot.name: slot for slot in self.slots if _same(slot, new)}
            for slot in kept.values():
                _check_kept(document, slot)
            kept_signals = {s.table.name: s for s in self.signals if s.table in new.signal}
            slots = await asyncio.to_thread(self._build_slots, document, kept)
            try:
                signals = await asyncio.to_thread(self._build_signals, document, kept_signals)
            except RackError:
                for slot in slots:
                    if slot.name not in kept:
                        self._discard(slot)
                raise
            return await self._replace(document, slots, signals)

    async def _replace(self, document: Document, slots: tuple[Slot, ...], signals: tuple[SignalEngine, ...]) -> list[str]:
        gone = [slot for slot in self.slots if slot not in slots]
        gone_signals = [signal for signal in self.signals if signal not in signals]
        fresh = [slot for slot in slots if slot not in self.slots]
        fresh_signals = [signal for signal in signals if signal not in self.signals]
        changed = [f"removed {slot.name}" for slot in gone] + [f"added {slot.name}" for slot in fresh]
        changed += [f"removed {s.table.name}" for s in gone_signals] + [f"added {s.table.name}" for s in fresh_signals]
        moved = slots != self.slots or signals != self.signals
        if moved and not changed:
            changed.append("changed the order")
        changed += self._adjust(document.config, [slot for slot in slots if slot not in fresh])
        self.document, self.slots, self.signals = document, slots, signals
        if moved:
            self._leaving = gone, gone_signals
            self._publish(dip=True)
            for slot in fresh:
                self._start_late(slot)
            for signal in fresh_signals:
                signal.start()
            await self._settle()
            self._leaving = [], []
            self._retire(gone, gone_signals)
        return changed

    def _adjust(self, config: Config, slots: list[Slot]) -> list[str]:
        """Bring to kept slots what the file says now and did not say before; what was set by control stays otherwise."""
        changed = []
        tables = {table.name: table for table in config.slot}
        for slot in slots:
            table = tables[slot.name]
            initial = {info.id: info.initial for info in slot.plugin.params}
            before = initial | slot.table.params
            for name, value in (initial | table.params).items():
                if value != before[name]:
                    changed.append(f"{slot.name}.{name} = {slot.set_param(name, value):g}")
            if table.bypass != slot.table.bypass:
                slot.set_bypass(table.bypass)
                changed.append(f"{slot.name} {'bypassed' if table.bypass else 'active'}")
            slot.table = table
        return changed

    def _start_late(self, slot: Slot) -> None:
        """Start a slot that joins a running rack: it is too late to refuse, so what on_start raises is counted as any hook's."""
        try:
            slot.start()
        except (Exception, SystemExit) as error:
            log.warning("%s: on_start raised %s: %s", slot.name, type(error).__name__, error)

    async def _settle(self) -> None:
        """Wait until the engine has left the old run list, and free it."""
        while not self.engine.collect():
            await asyncio.sleep(SETTLE_S)

    # Going

    def _retire(self, slots: list[Slot], signals: list[SignalEngine]) -> None:
        """End and free what the engine has left: intake, threads, what waits, hooks, native objects."""
        for thing in slots:
            thing.end_streams()
        for signal in signals:
            signal.end_stream()
        stuck = [slot for slot in slots if not slot.join(1.0)]
        stuck_signals = [signal for signal in signals if not signal.join(1.0)]
        self.left_behind += [slot.name for slot in stuck] + [signal.table.name for signal in stuck_signals]
        for signal in signals:
            if signal not in stuck_signals:
                self._destroy(f"{signal.table.name}: signal_destroy", signal.destroy)
        self._drain_last(slots, signals)
        for slot in slots:
            slot.stop()
        for slot in slots:
            if slot not in stuck:
                slot.close(self._destroy)
        for signal in signals:
            if signal not in stuck_signals and not signal.close():
                self.left_behind.append(signal.table.name)

    def _drain_last(self, slots: list[Slot], signals: list[SignalEngine]) -> None:
        """Deliver what the leaving ones have posted, although they are no longer among those that the dispatcher asks."""
        dispatcher = self.dispatcher
        saved = dispatcher.sources, dispatcher.taps
        leaving = [slot.source for slot in slots if slot.source] + [signal.source for signal in signals]
        dispatcher.sources = (*dict.fromkeys((*dispatcher.sources, *leaving)),)
        dispatcher.taps = (*dict.fromkeys((*dispatcher.taps, *(slot.hook_tap for slot in slots if slot.hook_tap))),)
        self.drain_all()
        dispatcher.sources, dispatcher.taps = saved

    def _destroy(self, what: str, call: Callable[[], None]) -> None:
        try:
            self.control.call(what, call)
        except EngineError as error:
            log.warning("%s", error)
            self.left_behind.append(what)

    def _discard(self, slot: Slot) -> None:
        """Free a slot that never ran."""
        slot.stop()
        slot.close(self._destroy)

    def close(self) -> None:
        """End and free everything; the driver has stopped. [main]"""
        slots, signals = self._leaving
        self._retire([*self.slots, *slots], [*self.signals, *signals])
        self.dispatcher.sources = self.dispatcher.taps = self.dispatcher.listeners = ()
        self.slots, self.signals = (), ()
        self.engine.close()
        self.bell.close()
        self.control.close()


def _blamed(table: SlotTable, error: ConfigError) -> tuple[str, ...]:
    """Return where in the slot's table the key stands that is wrong: as the error knows, or the option that it mentions."""
    if len(error.key) < 2:
        for name in table.config:
            if re.search(rf"\b{re.escape(name)}\b", str(error)):
                return "config", name
    return error.key or ("plugin",)


def _check_kept(document: Document, slot: Slot) -> None:
    """Raise ConfigError if a running slot cannot take its new parameters."""
    for index, table in enumerate(document.config.slot):
        if table.name != slot.name:
            continue
        if table.bypass and slot.core is None:
            document.fail(("slot", index, "bypass"), f'"{slot.name}" only listens: there is nothing to bypass')
        for name, value in table.params.items():
            try:
                slot.param(name).check(value)
            except ValueError as error:
                document.fail(("slot", index, "params", name), f"{slot.name}: {error}")


def _same(slot: Slot, config: Config) -> bool:
    """Whether a running slot can go on under a new configuration: same plugin, same fixed options."""
    for table in config.slot:
        if table.name == slot.name:
            return (table.plugin, table.config) == (slot.table.plugin, slot.table.config) and not (
                set(table.params) - set(slot.values)
            )
    return False
