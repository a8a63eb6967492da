"""The rack: slots and signal engines, the engine that runs them, and what is delivered to whom."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar
from weakref import ref

from sigrack.accounts import Accounts
from sigrack.backends import Backends
from sigrack.building import Builder
from sigrack.bus import bus_of
from sigrack.changes import Changes
from sigrack.channels import Channels
from sigrack.config import Document
from sigrack.crash import Notes, Unrecorded
from sigrack.custody import Custody
from sigrack.dispatch import Dispatcher, Snapshot
from sigrack.errors import ConfigError, EngineError, nearest
from sigrack.groups import Group, GroupPlan
from sigrack.guards import tell_failures
from sigrack.headroom import Headroom
from sigrack.lanes import Minder
from sigrack.lanes.gpu import GpuGroup
from sigrack.lanes.shared import SharedLane
from sigrack.lifecycle import ControlThread
from sigrack.prepared import Prepared, Steps, prepare, snapshot_of
from sigrack.quarantine import QuarantinedError
from sigrack.reaper import Leaver, Reaper, Thing
from sigrack.signals import SignalEngine
from sigrack.slot import Slot
from sigrack.standins import HeldSignal, held_slot
from sigrack.state import Lender
from sigrack.subscriptions import check_subscription, posted
from sigrack.tables import SignalTable, SlotTable
from sigrack.watch import HookWatch
from sigrack_engine.bell import Bell
from sigrack_engine.engine import Engine
from sigrack_engine.slot import SlotCore
from sigrack_plugins import SECOND, Setup

__all__ = ["Rack"]

log = logging.getLogger("sigrack")

Result = TypeVar("Result")

LAST_S = 1.0
"""How long the end waits for what is leaving, before it takes the rest."""


class Rack:
    """A configured bus of slots. Made, changed and closed on the main thread; drivers run its engine."""

    def __init__(
        self,
        document: Document,
        setup: Setup,
        *,
        live: bool,
        notes: Notes | None = None,
        custody: Custody | None = None,
        states: Lender | None = None,
    ) -> None:
        """Load and build everything. Raises ConfigError, EngineError; then nothing is left behind. [main]

        `live`: time is real, and nobody waits for slow hooks. `notes`: of the crash record. `custody`: who is not to be loaded.
        `states`: those of earlier hosts' plugins.
        """
        self.custody = custody or Custody()
        self.states = states or Lender()
        self.notes = notes or Unrecorded()
        self.document = document
        self.setup = setup
        self.bus = bus_of(document, setup.channels)
        self.live = live
        self.main_thread = threading.get_ident()
        config = document.config
        self.block_frames = config.rack.block_frames
        self.hook_frames = config.rack.hook_frames
        self._fade_s = config.rack.fade_ms * 1e-3
        self.control = ControlThread(notes=self.notes)
        self.minder = Minder()
        self.bell = Bell()
        self.engine = Engine(len(self.bus.channels), self.block_frames, self.fade_at(setup.rate_hz))
        self.notes.watch(self.engine.pointer)
        self.engine.set_ends(setup.channels, self.bus.numbers(self.bus.out))
        self.dispatcher = Dispatcher()
        self.dispatcher.inbox.patient = not live
        self.watch = HookWatch(config.rack.hook_budget_ms, config.rack.hook_limit_ms, self.notes)
        self.builder = Builder(self)
        self.backends = Backends(self)
        self.changes = Changes(self)
        self.reaper = Reaper(self)
        self.headroom = Headroom(self)
        self.accounts = Accounts(self)
        self.slots: tuple[Slot, ...] = ()
        self.groups: tuple[Group, ...] = ()
        """What the linear slots were compiled into, in their order."""
        self.lanes: tuple[SharedLane, ...] = ()
        """Processes that several slots share."""
        self.signals: tuple[SignalEngine, ...] = ()
        self.out_setup = setup
        """What goes out."""
        self.channels = Channels(self.bus, config.bus.mute, document.channels)
        """Mute, solo and level of its channels."""
        self.channels.on_level = self.headroom.follow
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
        self.steps: Steps | None = None
        """Of the run list that was published last."""
        self._names: tuple[str, ...] = ()
        self._cores: tuple[SlotCore, ...] = ()
        self._serial = 0
        try:
            self._build_slots()
            self.engine.set_ratio(self.out_setup.rate_hz // setup.rate_hz)
            self.channels.begin(self.fade_at(self.out_setup.rate_hz))
            if live:
                self.engine.fade_in()
            for index, table in enumerate(config.signal):
                self.signals = (*self.signals, self._build_signal(document, index, table))
            self.publish(self.prepare(self.slots, self.signals))
        except BaseException:
            self.close()
            raise

    def _build_slots(self) -> None:
        rate_hz = self.setup.rate_hz
        for index, table in enumerate(self.document.config.slot):
            setup = self.builder.place(self.document, index, rate_hz)
            slot = self._build_slot(index, table, setup)
            self.slots = (*self.slots, slot)
            rate_hz = slot.out_rate_hz
        self.out_setup = Setup(rate_hz, len(self.bus.out), self.bus.out, self.bus.out)

    def _build_slot(self, index: int, table: SlotTable, setup: Setup) -> Slot:
        """Build a slot, or what stands for one that is held back: a live rack goes without what is in quarantine."""
        if not (why := self.custody.why(table.name)):
            try:
                return self.builder.slot(self.document, index, setup)
            except QuarantinedError as error:
                if not self.live:
                    raise
                why = str(error)
                self.custody.keep_out(table.name, table, why)
        return held_slot(self, table, setup, why, self.custody.ratio(table.name))

    def _build_signal(self, document: Document, index: int, table: SignalTable) -> SignalEngine:
        if not (why := self.custody.why(table.name)):
            try:
                return self.builder.signal(document, index)
            except QuarantinedError as error:
                if not self.live:
                    raise
                why = str(error)
                self.custody.keep_out(table.name, table, why)
        return HeldSignal(self, table, why)

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

    @property
    def present(self) -> tuple[Thing, ...]:
        """All that is in the rack or on its way out. [any]"""
        return (*self._leaving, *self.things)

    def publish(self, prepared: Prepared) -> int:
        """Make what was prepared the rack; return the run list's serial. [main]"""
        self.slots, self.signals, self.groups = prepared.slots, prepared.signals, prepared.groups
        self.lanes = prepared.lanes
        self._regroup(prepared.plan)
        if (run_list := prepared.run_list) is not None:
            dip = bool(self._serial) and run_list.cores != self._cores
            self.notes.steps(self._serial + 1, prepared.noted)
            self._serial = self.engine.publish(run_list, dip=dip)
            self.steps, self._cores, self._names = run_list.steps, run_list.cores, prepared.names
        self.dispatcher.snapshot = prepared.snapshot
        for source in prepared.leaving.sources:
            source.last = self._serial
        self._leaving += prepared.gone
        self._deaf |= prepared.deaf
        self.dispatcher.leaving = self.dispatcher.leaving.joined(prepared.leaving)
        self.headroom.publish(prepared.paths, self._serial)
        self._settle()
        return self._serial

    def _settle(self) -> None:
        """Release from custody whom somebody has loaded all the same."""
        slots = {slot.name: slot.ratio for slot in self.slots if not slot.held}
        signals = {signal.name: 1 for signal in self.signals if not signal.held}
        for name in self.custody.settle(slots | signals):
            self.on_event("released", name=name)

    def tell_applied(self, group: "ref[Group]") -> None:
        """Tell all that a group's new filter is faded in. [worker]"""
        if (changed := group()) is not None:
            self.tell("applied", name=changed.name)

    def soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Run `call` on the main loop, if it still turns. [any]"""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(partial(call, *arguments))

    def tell(self, kind: str, **data: object) -> None:
        """Publish an event. [any]"""
        self.soon(partial(self.on_event, kind, **data))

    def _regroup(self, plan: GroupPlan) -> None:
        """Let groups that stay fade over to their new filters, and slots know their groups."""
        for morph in plan.morphs:
            morph.group.change(morph.parts, morph.variant)
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
        """Make what a rack of these needs; see `sigrack.prepared`. Raises ConfigError. [main, worker]"""
        return prepare(self, slots, signals, heirs or {})

    def _refresh(self) -> None:
        """Tell the dispatcher what is leaving."""
        self.dispatcher.leaving = snapshot_of(self._leaving, self._deaf)

    def forget(self, thing: Thing) -> None:
        """Deliver nothing more of `thing`, which was leaving; keep its counts. [main]"""
        self._leaving = tuple(other for other in self._leaving if other is not thing)
        self._deaf -= {thing}
        if thing.source:
            thing.source.gone = True
        if thing.hook_tap:
            thing.hook_tap.gone = True
        self.accounts.close(thing)
        if thing.name not in {other.name for other in (*self._leaving, *self.things)}:
            self.dispatcher.latest.forget(thing.name)
        self._refresh()

    @property
    def now_ns(self) -> int:
        """Rack time in nanoseconds. [any]"""
        return self.engine.frame * SECOND // self.setup.rate_hz

    @property
    def latency_frames(self) -> int:
        """From source to sink, over all slots and lanes, in frames that go out. [main]"""
        rate_hz = self.out_setup.rate_hz
        own = sum(slot.latency_frames * (rate_hz // slot.out_rate_hz) for slot in self.slots)
        own += sum(group.convolver.late_frames * (rate_hz // group.out_rate_hz) for group in self.groups)
        return own + sum(lane.latency_frames * (rate_hz // lane.rate_hz) for lane in self.lanes)

    @property
    def engines(self) -> list[SignalEngine]:
        """The signal engines that are in the rack or on their way out. [any]"""
        return [thing for thing in self.present if isinstance(thing, SignalEngine)]

    def signal(self, name: str) -> SignalEngine | None:
        """Return the signal engine that is called `name` now. [any]"""
        return next((signal for signal in self.signals if signal.name == name), None)

    def tap_space(self) -> int:
        """Frames that may come in before a tap would lose some. [main]"""
        taps = [(tap, thing.out_rate_hz // self.setup.rate_hz) for thing in self.present for tap in thing.taps]
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
        if any(thing.hooked.busy for thing in self.present if thing.hooked):
            return False
        heirs = [source for source in self.dispatcher.sources if source.after]
        return not heirs or not any(heir.crowded(self.engine.stats.running) for heir in heirs)

    def check_gpus(self) -> None:
        """Raise EngineError if a GPU has failed that nothing covers for. [main, in freewheel]"""
        for group in self.groups:
            if isinstance(group.convolver, GpuGroup) and (why := group.convolver.failure()):
                raise EngineError(
                    f'{group.name}: the GPU failed: {why}; backend = "cpu" in [rack], or --backend cpu, does without it'
                )

    def tell_failures(self) -> None:
        """Log which slots and groups had to be replaced for a block, once for each. [main]"""
        tell_failures((*self.slots, *self.groups, *self.lanes))

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
        return check_subscription(posted(self.coming or self.things), self.document.config.feed, source, symbol)

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
        for thing in (*self.things, *self.groups, *self.lanes):
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

    async def end(self) -> None:
        """End everything in order; the driver has stopped. [main]"""
        await self.changes.end()
        self.tell_failures()
        self.idle = self.stopped = True
        if not self.live:
            self.accounts.warn_of_losses()
        await self.reaper.idle(LAST_S)  # so that those that stay hear the last of those that leave
        self.dispatcher.inbox.give_up()
        leaving: list[Leaver] = [*self.things, *self.groups, *self.lanes]
        things = self.things
        self.slots, self.signals, self.groups, self.lanes = (), (), (), ()
        self.dispatcher.snapshot = Snapshot()
        self._leaving = (*self._leaving, *things)
        self._refresh()
        self.reaper.take(leaving, 0, drain=True)
        await self.reaper.idle()

    def close(self) -> None:
        """End what has not ended and free the rest. [main, no loop running]"""
        if not self.stopped:
            asyncio.run(self.end())
        self.dispatcher.snapshot = self.dispatcher.leaving = Snapshot()
        self.control.close()
        self.minder.close()
        if not self.left_behind and not self.changes.unfinished:  # else somebody may still use them
            self.notes.watch(None)
            self.engine.close()
            self.bell.close()
            self.channels.close()


def _slot_of(slots: Iterable[Slot], name: str) -> Slot:
    found = {slot.name: slot for slot in slots}
    if name not in found:
        raise KeyError(f'there is no slot "{name}"{nearest(name, list(found))}')
    return found[name]
