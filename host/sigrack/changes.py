"""Every change of a running rack: load, unload, swap, reload, and a whole new configuration."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from sigrack.config import Config, Document, SignalTable, SlotTable
from sigrack.errors import ConfigError, RackError, nearest, said
from sigrack.loading import NativePlugin
from sigrack.reaper import Thing
from sigrack.signals import SignalEngine
from sigrack.slot import Carried, Slot

if TYPE_CHECKING:
    from sigrack.rack import Prepared, Rack

__all__ = ["Changes"]

log = logging.getLogger("sigrack")

SAMPLES = 100_000
"""Measured commits that are kept."""
BUSY_S = 1.0
"""How long a swap waits for coroutine hooks of the old instance."""


@dataclass(slots=True)
class _Plan:
    """What the rack is to hold, once all of it is built."""

    slots: list[Slot]
    signals: list[SignalEngine]
    fresh: list[Thing]
    heirs: list[tuple[Thing, Thing]]
    """New ones, and whose place they take."""
    drain: bool = True


class Changes:
    """One change at a time: build beside the rack, commit on the main loop without a pause, let the reaper end what has left.

    Until its commit a change that fails leaves everything as it was. What it has built is then taken back.
    """

    def __init__(self, rack: "Rack") -> None:
        self._rack = rack
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = False
        self._asked: set[Future[None]] = set()
        self._asking = threading.Lock()
        self._early: list[Callable[[], None]] = []
        self.commit_ns: deque[int] = deque(maxlen=SAMPLES)
        """What each commit took of the main loop."""

    # What can be asked for

    async def load(self, table: SlotTable | SignalTable, before: str | None = None) -> None:
        """Add a slot (before the slot `before`, else at the end) or a signal engine. Raises KeyError, RackError. [main]"""
        async with self._change():
            rack = self._rack
            if table.name in (names := [thing.name for thing in rack.things]):
                raise ConfigError(f'the name "{table.name}" is taken; in the rack: {", ".join(names)}')
            slots, signals = list(rack.slots), list(rack.signals)
            place = len(slots) if before is None else slots.index(rack.slot(before))
            thing = await self._build(table, None)
            if isinstance(thing, Slot):
                slots.insert(place, thing)
            else:
                signals.append(thing)
            await self._commit(_Plan(slots, signals, [thing], []))
            log.info('loaded "%s"', table.name)
            rack.on_event("loaded", name=table.name)

    async def unload(self, name: str, *, drain: bool = True) -> None:
        """Take a slot or a signal engine out. `drain`: deliver first what it has posted. Raises KeyError. [main]"""
        async with self._change():
            rack, thing = self._rack, self._find(name)
            slots = [slot for slot in rack.slots if slot is not thing]
            signals = [signal for signal in rack.signals if signal is not thing]
            await self._commit(_Plan(slots, signals, [], [], drain))
            log.info('unloaded "%s"', name)
            rack.on_event("unloaded", name=name)

    async def swap(
        self,
        name: str,
        plugin: str | None = None,
        config: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
        *,
        drain: bool = True,
    ) -> None:
        """Put a new instance into the place of `name`: of its own plugin, as its file is now, or of another one.

        Its parameters, its bypass and, for the same plugin id, its state are handed over. `drain`: what the old one has posted
        is delivered, and audio that still waits for its hooks goes to the new one. On failure the old one plays on.
        Raises KeyError, RackError. [main]
        """
        async with self._change():
            rack, old = self._rack, self._find(name)
            given = {"config": config, "params": params, ("plugin" if isinstance(old, Slot) else "library"): plugin}
            new = await self._build(_changed(old, {key: value for key, value in given.items() if value is not None}), old)
            slots: list[Slot] = [new if slot is old and isinstance(new, Slot) else slot for slot in rack.slots]
            signals: list[SignalEngine] = [new if s is old and isinstance(new, SignalEngine) else s for s in rack.signals]
            await self._commit(_Plan(slots, signals, [new], [(new, old)], drain))
            log.info('swapped "%s"', name)
            rack.on_event("swapped", name=name)

    async def apply(self, document: Document) -> list[str]:
        """Change the rack to `document`; return what changed, in words. Raises RackError; then nothing has. [main]"""
        async with self._change():
            return await self._apply(document)

    def request(self, make: Callable[[], Coroutine[Any, Any, None]], who: str) -> "Future[None]":
        """Ask for a change from anywhere, also from inside a hook; it is carried out when the hook has returned. [any]

        The future is done when the change is committed. What it raises is in the log, too.
        """
        future: Future[None] = Future()

        async def carry_out() -> None:
            try:
                await make()
            except (RackError, KeyError, ValueError) as error:
                log.warning("%s asked for a change: %s; nothing was changed", who, said(error))
                future.set_exception(error.with_traceback(None))  # its frames would hold instances
            except BaseException as error:
                future.set_exception(error)
                raise
            else:
                future.set_result(None)
            finally:
                self._asked.discard(future)

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(carry_out())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        with self._asking:
            self.check_open()
            self._asked.add(future)
            if self._loop is None:
                self._early.append(begin)
            else:
                self._loop.call_soon_threadsafe(begin)
        return future

    @property
    def preparing(self) -> bool:
        """Whether a change was asked for that is neither committed nor given up. [main]"""
        return bool(self._asked)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Carry changes out on `loop`, those first that were asked for before it ran. [main]"""
        with self._asking:
            self._loop = loop
            for begin in self._early:
                loop.call_soon(begin)
            self._early.clear()

    async def end(self) -> None:
        """Let the change that is being made come to its end; refuse others. [main]"""
        with self._asking:
            self._ending = True
        async with self._lock:
            pass

    # How it is done

    def _change(self) -> "_Turn":
        return _Turn(self, self._lock)

    def check_open(self) -> None:
        """Raise ConfigError when the rack is ending. [main]"""
        if self._ending:
            raise ConfigError("the rack is stopping: nothing can be changed")

    def _find(self, name: str) -> Thing:
        for thing in self._rack.things:
            if thing.name == name:
                return thing
        names = [thing.name for thing in self._rack.things]
        raise KeyError(f'there is no slot and no signal engine "{name}"{nearest(name, names)}')

    async def _worker(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Run `call` on a worker thread; not even a cancellation leaves it alone there."""
        future = asyncio.get_running_loop().run_in_executor(None, call, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait((future,))
            raise

    async def _build(self, table: SlotTable | SignalTable, old: Thing | None) -> Thing:
        """Build one thing that no file describes."""
        document = self._rack.document
        changed = {"slot": [table]} if isinstance(table, SlotTable) else {"signal": [table]}
        one = Document(
            document.path, document.text, msgspec.structs.replace(document.config, **changed), given=("slot", "signal")
        )
        if isinstance(table, SignalTable):
            built: Thing = await self._worker(self._rack.builder.signal, one, 0)
        else:
            carried = await self._carried(old, table) if isinstance(old, Slot) else None
            built = await self._worker(self._rack.builder.slot, one, 0, carried)
        return built

    async def _carried(self, old: Slot, table: SlotTable) -> Carried:
        """Take from a running slot what its successor begins with. Raises RackError."""
        state = None
        if isinstance(old.plugin, NativePlugin) and old.plugin.stateful:
            state = await self._rack.control.run(f"{old.name}: state_save", old.native_state)
        same = {name: value for name, value in old.values.items() if table.params.get(name) == old.table.params.get(name)}
        return Carried(same, old.bypass, state)

    async def _discard(self, things: list[Thing]) -> None:
        """Take back what was built and never ran."""
        self._rack.reaper.take(things, 0, drain=False)

    async def _commit(self, plan: _Plan) -> None:
        """Put a plan into force. Raises RackError; then nothing has changed. [main]"""
        rack = self._rack
        prepared: Prepared | None = None
        try:
            prepared = await self._worker(rack.prepare, plan.slots, plan.signals)
            for _, old in plan.heirs:
                await _pause(old)
            if plan.drain:
                self._deliver([old for _, old in plan.heirs])  # from here on without a pause
            begun = time.perf_counter_ns()
            heirs = dict(plan.heirs)
            for thing in plan.fresh:
                self._take_over(thing, heirs.get(thing), drain=plan.drain)
        except RackError:
            if prepared:
                prepared.free()
            for _, old in plan.heirs:
                if old.hooked:
                    old.hooked.resume()
            await self._discard(plan.fresh)
            raise
        gone = [thing for thing in rack.things if thing not in plan.slots and thing not in plan.signals]
        replaced = [old for _, old in plan.heirs]
        for thing in gone if not plan.drain else ():
            _cut_off(thing)
        assert prepared is not None
        serial = rack.publish(prepared, gone, deaf=replaced)
        for thing in plan.fresh:
            thing.begin()
        self.commit_ns.append(time.perf_counter_ns() - begun)
        if gone:
            rack.reaper.take(gone, serial, drain=plan.drain)

    def _take_over(self, new: Thing, old: Thing | None, *, drain: bool) -> None:
        """Start a new instance and hand over to it. Raises ConfigError; then the old one goes on. [main, without a pause]"""
        if isinstance(new, Slot):
            new.start()
            if isinstance(old, Slot):
                new.inherit(old, waiting=drain)
                if old.context:
                    old.context.cancel_timers()
        if old is None:
            return
        if drain and new.source and old.source:
            new.source.after = old.source
        if drain and new.hook_tap and new.hooked:
            new.hook_tap.after = way = old.hook_tap
            while way:  # it may still wait for what it has itself replaced
                way.hooked, way = new.hooked, way.after

    def _deliver(self, things: list[Thing]) -> None:
        """Deliver what waits for their hooks, and what they have posted, before their state is taken."""
        dispatcher = self._rack.dispatcher
        for thing in things:
            if thing.source:
                dispatcher.flush_source(thing.source)
            if thing.hook_tap:
                dispatcher.flush_tap(thing.hook_tap)

    # A whole configuration

    async def _apply(self, document: Document) -> list[str]:
        rack = self._rack
        _check_fixed(rack.document.config, document)
        running = {slot.name: slot for slot in rack.slots}
        plan = _Plan([], [], [], [])
        kept: list[Slot] = []
        try:
            for index, table in enumerate(document.config.slot):
                old = running.get(table.name)
                if old and can_stay(old, table):
                    check_kept(document, index, old)
                    kept.append(old)
                    plan.slots.append(old)
                    continue
                same = old if old and old.table.plugin == table.plugin else None
                slot = await self._worker(rack.builder.slot, document, index, await self._carried(same, table) if same else None)
                plan.fresh.append(slot)
                plan.slots.append(slot)
                if same:
                    plan.heirs.append((slot, same))
            signals = {signal.name: signal for signal in rack.signals}
            for index, signal_table in enumerate(document.config.signal):
                signal = signals.get(signal_table.name)
                if signal is None or signal.table != signal_table:
                    signal = await self._worker(rack.builder.signal, document, index)
                    plan.fresh.append(signal)
                plan.signals.append(signal)
            _check_latency(document, plan.slots, rack.latency_frames)
        except BaseException:
            await self._discard(plan.fresh)
            raise
        words = _words(rack.slots, rack.signals, plan)
        await self._commit(plan)
        rack.document = document
        return [*words, *_adjust(document.config, kept)]


class _Turn:
    """Holds the lock for one change."""

    def __init__(self, changes: Changes, lock: asyncio.Lock) -> None:
        self._changes, self._lock = changes, lock

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        try:
            self._changes.check_open()
        except ConfigError:
            self._lock.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


async def _pause(thing: Thing) -> None:
    """Wait for the coroutine hook that runs, and let no other begin. Raises ConfigError if it does not end."""
    if thing.hooked is None:
        return
    thing.hooked.pause()
    stop = time.monotonic() + BUSY_S
    while thing.hooked.busy:
        if time.monotonic() > stop:
            raise ConfigError(f"{thing.name}: a coroutine hook did not end within {BUSY_S:g} s")
        await asyncio.sleep(0.001)


def _cut_off(thing: Thing) -> None:
    """Let nothing more come of a thing: what waits is stale."""
    if thing.source:
        thing.source.ring.shut()
        thing.source.ring.discard()
        thing.source.gone = True
    if thing.hook_tap:
        thing.hook_tap.gone = True


def _changed(old: Thing, given: dict[str, Any]) -> SlotTable | SignalTable:
    """Return the table of `old` with `given` in it. Raises ConfigError for what such a table does not have."""
    if isinstance(old, SignalEngine) and "params" in given:
        raise ConfigError(f'"{old.name}" is a signal engine: it has no parameters')
    table: SlotTable | SignalTable = msgspec.structs.replace(old.table, **given)
    return table


def can_stay(slot: Slot, table: SlotTable) -> bool:
    """Whether a running slot can go on under a new table: same plugin, same fixed options. [main]"""
    return (table.plugin, table.config) == (slot.table.plugin, slot.table.config) and not set(table.params) - set(slot.values)


def check_kept(document: Document, index: int, slot: Slot) -> None:
    """Raise ConfigError if a running slot cannot take its new parameters. [main]"""
    table = document.config.slot[index]
    if table.bypass and slot.core is None:
        document.fail(("slot", index, "bypass"), f'"{slot.name}" only listens: there is nothing to bypass')
    for name, value in table.params.items():
        try:
            slot.param(name).check(value)
        except ValueError as error:
            document.fail(("slot", index, "params", name), f"{slot.name}: {error}")


def _check_fixed(old: Config, document: Document) -> None:
    for name in set(Config.__struct_fields__) - {"slot", "signal"}:
        if getattr(old, name) != getattr(document.config, name):
            document.fail((name,), f"[{name}] cannot change while the rack runs; restart it")


def _check_latency(document: Document, slots: list[Slot], latency_frames: int) -> None:
    """A file's output is aligned with its input: its head is trimmed by the latency that the run began with."""
    if document.config.source.driver == "file" and sum(slot.latency_frames for slot in slots) != latency_frames:
        raise ConfigError(f"{document.path}: the latency cannot change while a file source runs; start again")


def _words(slots: tuple[Slot, ...], signals: tuple[SignalEngine, ...], plan: _Plan) -> list[str]:
    """Return what a plan changes, in words."""
    before: list[Thing] = [*slots, *signals]
    after: list[Thing] = [*plan.slots, *plan.signals]
    swapped = [new for new, _ in plan.heirs]
    replaced = [old for _, old in plan.heirs]
    words = [f"removed {thing.name}" for thing in before if thing not in after and thing not in replaced]
    words += [f"added {thing.name}" for thing in plan.fresh if thing not in swapped]
    words += [f"changed {thing.name}" for thing in swapped]
    if not words and before != after:
        words.append("changed the order")
    return words


def _adjust(config: Config, slots: list[Slot]) -> list[str]:
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
