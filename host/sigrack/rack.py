"""The rack: slots and signal engines, the engine that runs them, and every change of them."""

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from sigrack.changes import can_stay, check_kept
from sigrack.config import Config, Document, SignalTable, SlotTable
from sigrack.dispatch import Dispatcher
from sigrack.errors import ConfigError, EngineError, nearest, said
from sigrack.lifecycle import ControlThread
from sigrack.loading import NativePlugin, PythonPlugin, find_plugin, load_plugin
from sigrack.signals import SignalEngine
from sigrack.slot import Slot, build_slot
from sigrack_engine.bell import Bell
from sigrack_engine.engine import Engine
from sigrack_engine.errors import CoreError
from sigrack_engine.slot import SlotCore
from sigrack_engine.tap import TapRing
from sigrack_plugins import SECOND, Setup

__all__ = ["Rack"]

log = logging.getLogger("sigrack")

MOST_STEPS = 255
"""In a run list: the engine's progress word has eight bits for them."""
JOIN_S = 1.0
"""How long each thread of a plugin may take to end."""
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
        self.engine_lost = False
        """The engine thread did not stop: nothing that it may touch can be freed."""
        self._changing = asyncio.Lock()
        self._arriving: tuple[list[Slot], list[SignalEngine]] = ([], [])
        """Built, but not yet in the run list."""
        self._leaving: tuple[list[Slot], list[SignalEngine]] = ([], [])
        """Out of the run list, but perhaps not yet out of the engine."""
        try:
            self.slots, self.signals = self._build(document, {}, {})
        except BaseException:
            self.close()
            raise
        self._arriving = [], []
        self._publish(dip=False)

    # Building

    def _build(
        self, document: Document, kept: dict[str, Slot], kept_signals: dict[str, SignalEngine]
    ) -> tuple[tuple[Slot, ...], tuple[SignalEngine, ...]]:
        """Return what `document` asks for, taking what is kept; what is new stands in `_arriving` as well. [main, worker]"""
        new_slots, new_signals = self._arriving
        slots, signals = [], []
        for index, table in enumerate(document.config.slot):
            if (slot := kept.get(table.name)) is None:
                new_slots.append(slot := self._build_slot(document, index, table))
            slots.append(slot)
        for index, signal_table in enumerate(document.config.signal):
            if (signal := kept_signals.get(signal_table.name)) is None:
                new_signals.append(signal := self._build_signal(document, index, signal_table))
            signals.append(signal)
        if len(_steps(slots, signals)) > MOST_STEPS:
            raise ConfigError(f"{document.path}: the rack has more than {MOST_STEPS} processors and taps")
        return tuple(slots), tuple(signals)

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
        except CoreError as error:
            raise EngineError(f"{table.name}: {error}") from None

    def _load(self, name: str, target: Path | str) -> NativePlugin | PythonPlugin:
        if isinstance(target, Path) and target.suffix == ".so":
            return self.control.call(f"{name}: loading {target}", NativePlugin, target)
        return load_plugin(target)

    def _build_signal(self, document: Document, index: int, table: SignalTable) -> SignalEngine:
        try:
            return SignalEngine(self, table, document.resolve(table.library))
        except ConfigError as error:
            document.fail(("signal", index, "library"), str(error))

    # What runs

    def _publish(self, *, dip: bool) -> None:
        """Hand the present slots to the engine and to the dispatcher."""
        self.engine.publish(_steps(self.slots, self.signals), dip=dip)
        sources = [slot.source for slot in self.slots if slot.source and slot.source.ring.symbols]
        self.dispatcher.sources = (*sources, *(signal.source for signal in self.signals))
        self.dispatcher.taps = tuple(slot.hook_tap for slot in self.slots if slot.hook_tap)
        hooked = [slot.hooked for slot in self.slots if slot.hooked]
        self.dispatcher.listeners = tuple(h for h in hooked if {"on_factors", "on_factor"} & h.methods)
        names = {slot.name for slot in self.slots} | {signal.table.name for signal in self.signals}
        self.dispatcher.latest = {key: value for key, value in self.dispatcher.latest.items() if key[0] in names}

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
        return _latency(self.slots)

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

    def step_name(self, number: int) -> str:
        """Return what step `number` (from 1) of the run list belongs to, for messages. [main]"""
        names = [slot.name for slot in self.slots for _ in slot.steps] + [signal.table.name for signal in self.signals]
        return names[number - 1] if 0 < number <= len(names) else "no slot"

    def lose_engine(self) -> None:
        """Note that the engine thread does not stop: from now on nothing is freed that it may touch. [main]"""
        self.engine_lost = True
        self.left_behind.append(f"the engine, in {self.step_name(self.engine.stats.progress & 0xFF)}")

    def end_streams(self) -> None:
        """Say to all that no more audio will come. [main, when the engine runs no more]"""
        _end(list(self.slots), list(self.signals))

    def joined(self) -> bool:
        """Whether all workers and feeders have finished what they had. [main]"""
        return all(thing.join(0) for thing in _things(self.slots, self.signals))

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
            kept = {slot.name: slot for slot in self.slots if can_stay(slot, new)}
            for slot in kept.values():
                check_kept(document, slot)
            kept_signals = {s.table.name: s for s in self.signals if s.table in new.signal}
            try:
                slots, signals = await asyncio.to_thread(self._build, document, kept, kept_signals)
                self._check_latency(document, slots)
                changed = self._adjust(document.config, list(kept.values()))
            except Exception:
                new_slots, new_signals = self._arriving
                self._arriving = [], []
                await self._retire_quietly(new_slots, new_signals)
                raise
            return [*await self._replace(document, slots, signals), *changed]

    def _check_latency(self, document: Document, slots: tuple[Slot, ...]) -> None:
        """A file's output is aligned with its input: its head is trimmed by the latency that the run began with."""
        if document.config.source.driver == "file" and _latency(slots) != self.latency_frames:
            raise ConfigError(f"{document.path}: the latency cannot change while a file source runs; start again")

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
        self.document, self.slots, self.signals = document, slots, signals
        self._arriving = [], []
        if moved:
            self._leaving = gone, gone_signals
            self._publish(dip=True)
            for slot in fresh:
                self._start_late(slot)
            for signal in fresh_signals:
                signal.start()
            await self._settle()
            self._leaving = [], []
            await self._retire_quietly(gone, gone_signals)
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

    # Going: end (main), wait (any thread), say goodbye (main), free (any thread)

    def _retire(self, slots: list[Slot], signals: list[SignalEngine]) -> None:
        """End and free what the engine has left. [main]"""
        _end(slots, signals)
        stuck = self._wait(slots, signals)
        self._say_goodbye(slots, signals)
        self._free(slots, signals, stuck)

    async def _retire_quietly(self, slots: list[Slot], signals: list[SignalEngine]) -> None:
        """The same while others play: what may wait does so beside the main loop. [main]"""
        _end(slots, signals)
        stuck = await asyncio.to_thread(self._wait, slots, signals)
        self._say_goodbye(slots, signals)
        await asyncio.to_thread(self._free, slots, signals, stuck)

    def _wait(self, slots: list[Slot], signals: list[SignalEngine]) -> list[Slot | SignalEngine]:
        """Wait for workers, feeders and the signal engines' own threads; return those that did not end. [main, worker]"""
        stuck = [thing for thing in _things(slots, signals) if not thing.join(JOIN_S)]
        self.left_behind += [thing.name for thing in stuck]
        for signal in signals:
            if signal not in stuck:
                self.destroy(f"{signal.name}: signal_destroy", signal.destroy)
            signal.ring.shut()
        return stuck

    def _say_goodbye(self, slots: list[Slot], signals: list[SignalEngine]) -> None:
        """Deliver what is left, then call on_stop. [main]"""
        self._drain_last(slots, signals)
        for slot in slots:
            slot.stop()

    def _free(self, slots: list[Slot], signals: list[SignalEngine], stuck: list[Slot | SignalEngine]) -> None:
        """Free what nobody uses any more. [main, worker]"""
        for thing in _things(slots, signals):
            if thing not in stuck and not self.engine_lost and not thing.close(self.destroy):
                self.left_behind.append(thing.name)

    def _drain_last(self, slots: list[Slot], signals: list[SignalEngine]) -> None:
        """Deliver what the leaving ones have posted, although they are no longer among those that the dispatcher asks."""
        dispatcher = self.dispatcher
        saved = dispatcher.sources, dispatcher.taps
        leaving = [slot.source for slot in slots if slot.source] + [signal.source for signal in signals]
        dispatcher.sources = (*dict.fromkeys((*dispatcher.sources, *leaving)),)
        dispatcher.taps = (*dict.fromkeys((*dispatcher.taps, *(slot.hook_tap for slot in slots if slot.hook_tap))),)
        self.drain_all()
        dispatcher.sources, dispatcher.taps = saved

    def destroy(self, what: str, call: Callable[[], None]) -> None:
        """Run a native destructor on the control thread; one that hangs is noted. [main, worker]"""
        try:
            self.control.call(what, call)
        except EngineError as error:
            log.warning("%s", error)
            self.left_behind.append(what)

    def close(self) -> None:
        """End and free everything; the driver has stopped. [main]"""
        slots = [*self.slots, *self._leaving[0], *self._arriving[0]]
        signals = [*self.signals, *self._leaving[1], *self._arriving[1]]
        self._retire(slots, signals)
        self.dispatcher.sources = self.dispatcher.taps = self.dispatcher.listeners = ()
        self.slots, self.signals = (), ()
        self.control.close()
        if not self.left_behind:  # else somebody may still ring the bell or read the engine's clock
            self.engine.close()
            self.bell.close()


def _steps(slots: Iterable[Slot], signals: Iterable[SignalEngine]) -> list[SlotCore | TapRing]:
    """Return the run list: the slots in order, then the signal engines' taps."""
    steps = [step for slot in slots for step in slot.steps]
    return [*steps, *(signal.tap.ring for signal in signals if signal.tap)]


def _things(slots: Iterable[Slot], signals: Iterable[SignalEngine]) -> list[Slot | SignalEngine]:
    return [*slots, *signals]


def _latency(slots: Iterable[Slot]) -> int:
    return sum(slot.processor.latency_frames for slot in slots if slot.processor)


def _end(slots: list[Slot], signals: list[SignalEngine]) -> None:
    """Say that no more audio will come. [main, when the engine has left them]"""
    for thing in _things(slots, signals):
        thing.end_streams()


def _blamed(table: SlotTable, error: ConfigError) -> tuple[str, ...]:
    """Return where in the slot's table the key stands that is wrong: as the error knows, or the option that it mentions."""
    if len(error.key) < 2:
        for name in table.config:
            if re.search(rf"\b{re.escape(name)}\b", str(error)):
                return "config", name
    return error.key or ("plugin",)
