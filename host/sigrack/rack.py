"""The rack: slots and signal engines, the engine that runs them, and what is delivered to whom."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, TypeVar
from weakref import ref

from sigrack.building import Builder
from sigrack.changes import Changes
from sigrack.config import Document
from sigrack.dispatch import Dispatcher, Snapshot
from sigrack.errors import ConfigError, EngineError, nearest
from sigrack.groups import Group, GroupPlan, plan_groups
from sigrack.guards import tell_failures
from sigrack.headroom import Gains, Headroom
from sigrack.lifecycle import ControlThread
from sigrack.reaper import Reaper, Thing
from sigrack.signals import SignalEngine
from sigrack.slot import Slot
from sigrack.tally import Tally, tally
from sigrack.watch import HookWatch
from sigrack_engine.bell import Bell
from sigrack_engine.data import DataError, normalised
from sigrack_engine.engine import Engine, RunList
from sigrack_engine.feeds import DataCounts
from sigrack_engine.results import PostCounts
from sigrack_engine.slot import SlotCore
from sigrack_engine.tap import TapRing
from sigrack_plugins import SECOND, Setup

__all__ = ["Prepared", "Rack", "posted"]

log = logging.getLogger("sigrack")

Result = TypeVar("Result")
Counts = TypeVar("Counts", PostCounts, DataCounts, Tally)

LAST_S = 1.0
"""How long the end waits for what is leaving, before it takes the rest."""
MOST_STEPS = 255
"""In a run list: the engine's progress word has eight bits for them."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Slots and signal engines, and what the engine and the dispatcher need to run them."""

    slots: tuple[Slot, ...]
    signals: tuple[SignalEngine, ...]
    groups: tuple[Group, ...]
    plan: GroupPlan
    """How they come to be."""
    run_list: RunList | None
    """None: the one that runs."""
    names: tuple[str, ...]
    """Whose each step is."""
    snapshot: Snapshot
    gone: tuple[Thing, ...] = ()
    """What is taken out: what it still has is delivered until `forget`."""
    deaf: frozenset[Thing] = frozenset()
    """Those of them that no longer get what others post."""
    leaving: Snapshot = field(default_factory=Snapshot)
    """The dispatcher's, of all that is gone."""
    old_groups: tuple[Group, ...] = ()
    """Groups that go."""
    gains: dict[Group, Gains] = field(default_factory=dict)
    """Of the groups, if the rack's headroom follows them."""

    def free(self) -> None:
        """It will not be published. [main, worker]"""
        self.plan.free()
        if self.run_list:
            self.run_list.free()


class Rack:
    """A configured bus of slots. Made, changed and closed on the main thread; drivers run its engine."""

    def __init__(self, document: Document, setup: Setup, *, live: bool) -> None:
        """Load and build everything. Raises ConfigError, EngineError; then nothing is left behind. [main]

        `live`: time is real, and nobody waits for slow hooks.
        """
        self.document = document
        self.setup = setup
        self.live = live
        self.main_thread = threading.get_ident()
        config = document.config
        self.block_frames = config.rack.block_frames
        self.hook_frames = config.rack.hook_frames
        self._fade_s = config.rack.fade_ms * 1e-3
        self.control = ControlThread()
        self.bell = Bell()
        self.engine = Engine(setup.channels, self.block_frames, self.fade_at(setup.rate_hz))
        self.dispatcher = Dispatcher()
        self.dispatcher.inbox.patient = not live
        self.watch = HookWatch(config.rack.hook_budget_ms, config.rack.hook_limit_ms)
        self.builder = Builder(self)
        self.changes = Changes(self)
        self.reaper = Reaper(self)
        self.headroom = Headroom(self)
        self.slots: tuple[Slot, ...] = ()
        self.groups: tuple[Group, ...] = ()
        """What the linear slots were compiled into, in their order."""
        self.signals: tuple[SignalEngine, ...] = ()
        self.out_setup = setup
        """What goes out."""
        self.on_event: Callable[..., object] = lambda kind, **data: None
        """Is told of what comes and goes. [main]"""
        self.coming: tuple[Thing, ...] = ()
        """What the rack is to hold, while the new ones are started."""
        self.left_behind: list[str] = []
        """Threads and native calls that did not end."""
        self.engine_lost = False
        """The engine thread did not stop: nothing that it may touch can be freed."""
        self.idle = False
        """The engine runs no more: the stream has ended."""
        self.stopped = False
        """The rack ends: nobody is waited for without limit."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving: tuple[Thing, ...] = ()
        """Out of the rack, but perhaps not yet out of the engine."""
        self._deaf: frozenset[Thing] = frozenset()
        """Those of them that no longer get what others post: their heirs do."""
        self._past_data: dict[str, DataCounts] = {}
        """What became of the records of feeds at signal engines that are gone, by name."""
        self._past_tallies: dict[str, Tally] = {}
        """What instances that are gone did and lost, by name."""
        self._steps: tuple[SlotCore | TapRing, ...] | None = None
        self._names: tuple[str, ...] = ()
        self._cores: tuple[SlotCore, ...] = ()
        self._serial = 0
        try:
            for index in range(len(config.slot)):
                slot = self.builder.slot(document, index, self.out_setup)
                self.slots = (*self.slots, slot)
                self.out_setup = Setup(slot.out_rate_hz, setup.channels)
            self.engine.set_ratio(self.out_setup.rate_hz // setup.rate_hz)
            if live:
                self.engine.fade_in()
            for index in range(len(config.signal)):
                self.signals = (*self.signals, self.builder.signal(document, index))
            self.publish(self.prepare(self.slots, self.signals))
        except BaseException:
            self.close()
            raise

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let changes run on `loop`. [main]"""
        self._loop = loop
        self.changes.attach(loop)
        self.headroom.attach(loop)

    def start(self) -> None:
        """Call every `on_start`, start workers and feeders. Raises ConfigError if a plugin cannot work. [main]"""
        for index, slot in enumerate(self.slots):
            try:
                slot.start()
            except ConfigError as error:
                self.document.fail(("slot", index), str(error))
        for thing in self.things:
            thing.begin()

    def block_at(self, rate_hz: int) -> int:
        """Return the most frames of a block at the place where this is the rate. [any]"""
        return self.block_frames * (rate_hz // self.setup.rate_hz)

    def fade_at(self, rate_hz: int) -> int:
        """Return the frames of a fade at this rate. [any]"""
        return max(1, round(self._fade_s * rate_hz))

    # What runs

    @property
    def things(self) -> tuple[Thing, ...]:
        """All that is in the rack. [main]"""
        return (*self.slots, *self.signals)

    def publish(self, prepared: Prepared) -> int:
        """Make what was prepared the rack; return the run list's serial. [main]"""
        self.slots, self.signals, self.groups = prepared.slots, prepared.signals, prepared.groups
        self._regroup(prepared.plan)
        if (run_list := prepared.run_list) is not None:
            dip = bool(self._serial) and run_list.cores != self._cores
            self._serial = self.engine.publish(run_list, dip=dip)
            self._steps, self._cores, self._names = run_list.steps, run_list.cores, prepared.names
        self.dispatcher.snapshot = prepared.snapshot
        for source in prepared.leaving.sources:
            source.last = self._serial
        self._leaving += prepared.gone
        self._deaf |= prepared.deaf
        self.dispatcher.leaving = self.dispatcher.leaving.joined(prepared.leaving)
        self.headroom.publish(prepared.gains, self._serial)
        return self._serial

    def tell_applied(self, group: "ref[Group]") -> None:
        """Tell all that a group's new filter is faded in. [worker]"""
        if self._loop is not None and (changed := group()) is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(partial(self.on_event, "applied", name=changed.name))

    def _regroup(self, plan: GroupPlan) -> None:
        """Let groups that stay fade over to their new filters, and slots know their groups."""
        for morph in plan.morphs:
            group = morph.group
            group.parts, group.linear = morph.parts, morph.variant.linear
            group.convolver.change(morph.variant.fir)
        for run, group in plan.runs:
            group.members = run
            for slot in run:
                slot.group = group
            if any(slot.bypass != left_out for slot, left_out in group.parts) and len(group.members) > 1:
                self.changes.switches.turned()  # switched while this was compiled
            group.core.activate(not (len(group.members) == 1 and group.members[0].bypass))
            group.forget_variants(but=group.switches)

    def prepare(
        self, slots: Sequence[Slot], signals: Sequence[SignalEngine], heirs: Mapping[Thing, Thing] | None = None
    ) -> Prepared:
        """Make what a rack of these needs. Raises ConfigError if that is too much for one. [main, worker]

        `heirs`: new ones, and whose place they take: they get from now on what others post.
        """
        heirs = heirs or {}
        taking = {new: old for new, old in heirs.items() if isinstance(new, Slot) and isinstance(old, Slot)}
        plan = plan_groups(self, slots, self.groups, taking)
        try:
            gains = self.headroom.measure(plan)
            named = _steps(slots, plan, signals)
            steps, names = tuple(step for step, _ in named), tuple(name for _, name in named)
            if len(steps) > MOST_STEPS:
                raise ConfigError(f"{self.document.path}: the rack has more than {MOST_STEPS} processors and taps")
            run_list = RunList(steps) if steps != self._steps else None
            if run_list and run_list.ratio != self.engine.ratio:
                run_list.free()
                raise ConfigError(f"{self.document.path}: the rate that goes out cannot change while the rack runs; restart it")
        except BaseException:
            plan.free()
            raise
        things: tuple[Thing, ...] = (*slots, *signals)
        groups = plan.groups
        gone = tuple(thing for thing in self.things if thing not in things)
        deaf = frozenset(heirs.values())
        return Prepared(
            slots=tuple(slots),
            signals=tuple(signals),
            groups=groups,
            plan=plan,
            run_list=run_list,
            names=names,
            snapshot=_snapshot(things),
            gone=gone,
            deaf=deaf,
            old_groups=tuple(group for group in self.groups if group not in groups),
            gains=gains,
            leaving=_snapshot(gone, deaf),
        )

    def _refresh(self) -> None:
        """Tell the dispatcher what is leaving."""
        self.dispatcher.leaving = _snapshot(self._leaving, self._deaf)

    def forget(self, thing: Thing) -> None:
        """Deliver nothing more of `thing`, which was leaving; keep its counts. [main]"""
        self._leaving = tuple(other for other in self._leaving if other is not thing)
        self._deaf -= {thing}
        if source := thing.source:
            source.gone = True
            self.dispatcher.past[source.name] = _sum(self.dispatcher.past.get(source.name), source.ring.counts)
        if isinstance(thing, SignalEngine) and thing.data:
            self._past_data[thing.name] = _sum(self._past_data.get(thing.name), thing.data.counts)
        if thing.hook_tap:
            thing.hook_tap.gone = True
        self._past_tallies[thing.name] = _sum(self._past_tallies.get(thing.name), tally(thing))
        if thing.name not in {other.name for other in (*self._leaving, *self.things)}:
            self.dispatcher.latest.forget(thing.name)
        self._refresh()

    def counts(self) -> dict[str, PostCounts]:
        """What became of the records of each source, those of its predecessors included. [main]"""
        total = dict(self.dispatcher.past)
        for source in (*self.dispatcher.leaving.sources, *self.dispatcher.snapshot.sources):
            total[source.name] = _sum(total.get(source.name), source.ring.counts)
        return total

    def tallies(self) -> dict[str, Tally]:
        """What all instances of each name did and lost, those that are gone included. [main]"""
        total = dict(self._past_tallies)
        for thing in (*self._leaving, *self.things):
            total[thing.name] = _sum(total.get(thing.name), tally(thing))
        return total

    @property
    def now_ns(self) -> int:
        """Rack time in nanoseconds. [any]"""
        return self.engine.frame * SECOND // self.setup.rate_hz

    @property
    def latency_frames(self) -> int:
        """From source to sink, over all slots, in frames that go out. [main]"""
        return sum(slot.latency_frames * (self.out_setup.rate_hz // slot.out_rate_hz) for slot in self.slots)

    @property
    def engines(self) -> list[SignalEngine]:
        """The signal engines that are in the rack or on their way out. [any]"""
        return [thing for thing in (*self._leaving, *self.things) if isinstance(thing, SignalEngine)]

    def signal(self, name: str) -> SignalEngine | None:
        """Return the signal engine that is called `name` now. [any]"""
        return next((signal for signal in self.signals if signal.name == name), None)

    def data_counts(self) -> dict[str, DataCounts]:
        """What became of the records that feeds gave each signal engine, its predecessors included. [main]"""
        total = dict(self._past_data)
        for engine in self.engines:
            if engine.data:
                total[engine.name] = _sum(total.get(engine.name), engine.data.counts)
        return total

    def tap_space(self) -> int:
        """Frames that may come in before a tap would lose some. [main]"""
        things = (*self._leaving, *self.things)
        taps = [(tap, thing.out_rate_hz // self.setup.rate_hz) for thing in things for tap in thing.taps]
        return min((tap.space // ratio for tap, ratio in taps if not tap.finished), default=1 << 30)

    def drain(self) -> bool:
        """Deliver what waits, for one turn; True: there is more. [main]"""
        return self.dispatcher.drain(self.now_ns)

    def drain_all(self) -> None:
        """Deliver all that waits, and once what hooks have posted meanwhile (freewheel, stop). [main]"""
        self.dispatcher.flush(self.now_ns)
        if self.dispatcher.inbox.queued:
            self.dispatcher.flush(self.now_ns)

    def turn(self) -> None:
        """Deliver as this rack does: for a while when live, else all. [main]"""
        if self.live:
            self.drain()
        else:
            self.drain_all()

    @property
    def quiet(self) -> bool:
        """Whether freewheel may go on: no coroutine hook runs, no change is prepared, no ring fills behind another. [main]"""
        if self.changes.preparing or any(group.convolver.catching_up for group in self.groups):
            return False
        if any(thing.hooked.busy for thing in (*self._leaving, *self.things) if thing.hooked):
            return False
        heirs = [s for s in (*self.dispatcher.leaving.sources, *self.dispatcher.snapshot.sources) if s.after]
        return not heirs or not any(heir.crowded(self.engine.stats.running) for heir in heirs)

    def tell_failures(self) -> None:
        """Log which slots and groups had to be replaced for a block, once for each. [main]"""
        tell_failures((*self.slots, *self.groups))

    def step_name(self, number: int) -> str:
        """Return what step `number` (from 1) of the run list belongs to, for messages. [main]"""
        return self._names[number - 1] if 0 < number <= len(self._names) else "no slot"

    def slot(self, name: str) -> Slot:
        """Return a slot. Raises KeyError with the nearest name. [main]"""
        return _slot_of(self.slots, name)

    def check_param(self, slot: str, param: str, value: object) -> None:
        """Raise KeyError or ValueError if that could not be set, also in a slot that is only coming. [main]"""
        _slot_of([thing for thing in self.coming or self.slots if isinstance(thing, Slot)], slot).param(param).check(value)

    def set_param(self, slot: str, param: str, value: object) -> float:
        """Set a parameter of a slot. Raises KeyError, ValueError. [main]"""
        return self.slot(slot).set_param(param, value)

    def check_subscription(self, source: str | None, symbol: str | None) -> set[str | None]:
        """Return the forms of `symbol` to look for: as it is in factors, normalised in what feeds bring. [main]

        Raises KeyError unless somebody can post that, or a feed may bring it.
        """
        feeds = {t.name: t.symbols and [normalised(symbol) for symbol in t.symbols] for t in self.document.config.feed}
        sources: dict[str, list[str] | None] = {**posted(self.coming or self.things), **feeds}
        if source is not None and source not in sources:
            raise KeyError(f'no source "{source}" posts factors, and there is no such feed{nearest(source, list(sources))}')
        if symbol is None:
            return {None}
        forms = {symbol} if source is not None and source not in feeds else _forms(symbol, factors=source is None)
        lists = [sources[source]] if source is not None else list(sources.values())
        symbols = sorted({name for names in lists for name in names or ()})
        if None not in lists and forms.isdisjoint(symbols):  # a feed without a list may bring any symbol
            raise KeyError(f'{source or "no source"} does not post "{symbol}"{nearest(symbol, symbols)}')
        return {*forms}

    def on_main(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """Run `call` on the main loop and wait for it: plugin objects are made there. [main, worker]"""
        if threading.get_ident() == self.main_thread:
            return call(*arguments)
        assert self._loop is not None
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(call(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return future.result()

    # Ending

    def lose_engine(self) -> None:
        """Note that the engine thread does not stop: from now on nothing is freed that it may touch. [main]"""
        self.engine_lost = True
        self.left_behind.append(f"the engine, in {self.step_name(self.engine.stats.progress & 0xFF)}")

    def end_streams(self) -> None:
        """Say to all that no more audio will come. [main, when the engine runs no more]"""
        self.idle = True
        for thing in (*self.things, *self.groups):
            thing.end_streams()

    def joined(self) -> bool:
        """Whether all workers and feeders have finished what they had, and what has left the rack has delivered all. [main]"""
        return all(thing in self.reaper.held for thing in self._leaving) and all(thing.join(0) for thing in self.things)

    def destroy(self, what: str, call: Callable[[], None]) -> None:
        """Run a native destructor of what never ran, on the control thread; one that hangs is noted. [main, worker]"""
        try:
            self.control.call(what, call)
        except EngineError as error:
            log.warning("%s", error)
            self.left_behind.append(what)

    def _warn_of_losses(self) -> None:
        """Freewheel loses nothing unless a plugin posts more in one block than its ring takes."""
        for name, counts in self.counts().items() if not self.live else ():
            if counts.dropped:
                log.warning("%s: posted too much at once: %d of its %d records were dropped", name, counts.dropped, counts.posted)

    async def end(self) -> None:
        """End everything in order; the driver has stopped. [main]"""
        await self.changes.end()
        self.tell_failures()
        self.idle = self.stopped = True
        self._warn_of_losses()
        await self.reaper.idle(LAST_S)  # so that those that stay hear the last of those that leave
        self.dispatcher.inbox.give_up()
        things, groups = self.things, self.groups
        self.slots, self.signals, self.groups = (), (), ()
        self.dispatcher.snapshot = Snapshot()
        self._leaving = (*self._leaving, *things)
        self._refresh()
        self.reaper.take((*things, *groups), 0, drain=True)
        await self.reaper.idle()

    def close(self) -> None:
        """End what has not ended and free the rest. [main, no loop running]"""
        if not self.stopped:
            asyncio.run(self.end())
        self.dispatcher.snapshot = self.dispatcher.leaving = Snapshot()
        self.control.close()
        if not self.left_behind and not self.changes.unfinished:  # else somebody may still use them
            self.engine.close()
            self.bell.close()


def posted(things: Iterable[Thing]) -> dict[str, list[str]]:
    """Return the symbols that each of `things` may post. [any]"""
    symbols = {thing.name: list(thing.plugin.factors if isinstance(thing, Slot) else thing.table.symbols) for thing in things}
    return {name: names for name, names in symbols.items() if names}


def _forms(symbol: str, *, factors: bool) -> set[str]:
    """Return the form of a symbol in what feeds bring, with `factors` also as it is. Raises KeyError if it can have none."""
    try:
        return {normalised(symbol), symbol} if factors else {normalised(symbol)}
    except DataError as error:
        if factors:
            return {symbol}
        raise KeyError(str(error)) from None


def _snapshot(things: Iterable[Thing], deaf: frozenset[Thing] = frozenset()) -> Snapshot:
    listening = [thing.hooked for thing in things if thing.hooked and thing not in deaf]
    return Snapshot(
        sources=tuple(thing.source for thing in things if thing.source),
        taps=tuple(thing.hook_tap for thing in things if thing.hook_tap),
        factor_hooks=tuple(hooked for hooked in listening if hooked.methods & {"on_factors", "on_factor"}),
        data_hooks=tuple(hooked for hooked in listening if "on_data" in hooked.methods),
    )


def _steps(slots: Sequence[Slot], plan: GroupPlan, signals: Sequence[SignalEngine]) -> list[tuple[SlotCore | TapRing, str]]:
    """Return the steps of a run list, and whose each is. A group stands where its first member does."""
    first = {run[0]: group for run, group in plan.runs}
    steps: list[tuple[SlotCore | TapRing, str]] = []
    for slot in slots:
        if group := first.get(slot):
            steps.append((group.core, slot.name))
        steps += [(step, slot.name) for step in slot.steps]
    return [*steps, *((tap, signal.name) for signal in signals for tap in signal.taps)]


def _slot_of(slots: Iterable[Slot], name: str) -> Slot:
    found = {slot.name: slot for slot in slots}
    if name not in found:
        raise KeyError(f'there is no slot "{name}"{nearest(name, list(found))}')
    return found[name]


def _sum(one: Counts | None, other: Counts) -> Counts:
    if one is None:
        return other
    return type(other)(*(getattr(one, field.name) + getattr(other, field.name) for field in fields(other)))
