"""Every change of a running rack: load, unload, swap, reload, and a whole new configuration."""

import asyncio
import datetime
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sigrack.beside import Beside
from sigrack.checks import check_signals
from sigrack.config import Document, signal_table, slot_table
from sigrack.errors import ConfigError, nearest
from sigrack.handover import cut_off, hand_over, pause, start, take_place
from sigrack.hooks import nothing
from sigrack.lanes import LanePlugin
from sigrack.lanes.shared import is_whole, lane_of, lane_runs
from sigrack.lifecycle import AbandonedError
from sigrack.loading import NativePlugin
from sigrack.plans import Plan, adjust, can_stay, check_fixed, check_kept, check_latency, check_rates, in_words
from sigrack.prepared import Prepared
from sigrack.reaper import Thing
from sigrack.requests import Requests
from sigrack.signals import SignalEngine
from sigrack.slot import Carried, Slot
from sigrack.state import PluginState
from sigrack.subscriptions import posted
from sigrack.switches import Switches
from sigrack.tables import SignalTable, SlotTable
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["Changes"]

log = logging.getLogger("sigrack")

DATES = datetime.date, datetime.datetime, datetime.time
"""TOML has them, so a plugin's configuration may."""

Result = TypeVar("Result")
Then = Callable[[], object]

SAMPLES = 100_000
"""Measured changes that are kept."""
LAST_S = 2.0
"""How long the end of the rack waits for the change that is being made."""


class Changes:
    """One change at a time: build beside the rack, commit on the main loop without a pause, let the reaper end what has left.

    Until its commit a change that fails leaves everything as it was, and what it has built is taken back. Each runs in a task of
    its own: who asked for it may go away.
    """

    def __init__(self, rack: "Rack") -> None:
        self._rack = rack
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._committing = False
        self.requests = Requests(rack.main_thread)
        self.switches = Switches(rack, self)
        self.beside = Beside(self._let_go)
        self.unfinished = False
        """A thread still builds something: it may use all that the rack has."""
        self.held_ns: deque[int] = deque(maxlen=SAMPLES)
        """For how long each change has kept the main loop at a stretch: in the starts of what is new, or in its commit."""

    # What can be asked for

    # `then` is called when the change is in force, before anything else can happen.

    async def load(self, table: SlotTable | SignalTable, before: str | None = None, then: Then = nothing) -> None:
        """Add a slot (before the slot `before`, else at the end) or a signal engine. Raises KeyError, RackError. [main]"""

        async def make(plan: Plan) -> None:
            rack = self._rack
            names = [*(thing.name for thing in rack.things), *(feed.name for feed in rack.document.config.feed)]
            if table.name in names:
                raise ConfigError(f'the name "{table.name}" is taken; in the rack: {", ".join(names)}')
            place = len(rack.slots) - len(self._own) if before is None else rack.slots.index(rack.slot(before))
            rate_hz = (rack.out_setup if place == len(rack.slots) else rack.slots[place].setup).rate_hz
            thing = await self._build(plan, table, None, rate_hz)
            if isinstance(thing, Slot):
                plan.slots.insert(place, thing)
            else:
                plan.signals.append(thing)
            await self._commit(plan)
            then()
            self._tell("loaded", table.name)

        await self._run(make)

    async def unload(self, name: str, *, drain: bool = True, then: Then = nothing) -> None:
        """Take a slot or a signal engine out. `drain`: deliver first what it has posted. Raises KeyError, RackError. [main]"""

        async def make(plan: Plan) -> None:
            thing = self._find(name)
            self._check_own(name, "be unloaded")
            plan.drain = drain
            plan.slots = [slot for slot in plan.slots if slot is not thing]
            plan.signals = [signal for signal in plan.signals if signal is not thing]
            await self._commit(plan)
            then()
            self._tell("unloaded", name)

        await self._run(make)

    async def swap(
        self,
        name: str,
        plugin: str | None = None,
        config: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
        *,
        lane: str | None = None,
        drain: bool = True,
        then: Then = nothing,
    ) -> None:
        """Put a new instance into the place of `name`: of its own plugin, as its file is now, or of another one, in a `lane`.

        Its parameters, its bypass and, for the same plugin id, its state are handed over. `drain`: what the old one has posted
        is delivered, and audio that still waits for its hooks goes to the new one. On failure the old one plays on.
        Raises KeyError, RackError. [main]
        """

        async def make(plan: Plan) -> None:
            old = self._find(name)
            if plugin is not None or lane is not None:
                self._check_own(name, "become another plugin" if plugin is not None else "get a lane")
            plan.drain = drain
            target = "plugin" if isinstance(old, Slot) else "library"
            given = {"config": config, "params": params, "lane": lane, target: plugin}
            table = _changed(old, {key: value for key, value in given.items() if value is not None})
            new = await self._build(plan, table, old, (old.setup if isinstance(old, Slot) else self._rack.out_setup).rate_hz)
            plan.heirs[new] = old
            plan.slots = [new if slot is old and isinstance(new, Slot) else slot for slot in plan.slots]
            plan.signals = [new if s is old and isinstance(new, SignalEngine) else s for s in plan.signals]
            await self._commit(plan)
            if isinstance(new, Slot) and isinstance(old, Slot):
                new.keep_wanted(old)
            then()
            self._tell("swapped", name)

        await self._run(make)

    async def apply(
        self, document: Document | Callable[[], Document], then: Callable[[list[str]], object] = lambda words: None
    ) -> list[str]:
        """Change the rack to `document`; return what changed, in words. Raises RackError; then nothing has. [main]

        A document that depends on what runs is made when it is this change's turn.
        """

        async def make(plan: Plan) -> list[str]:
            words = await self._apply(plan, document if isinstance(document, Document) else document())
            then(words)
            return words

        return await self._run(make)

    async def renew(self, begin: Callable[[], object]) -> None:
        """Put the rack as it is into force once more: its groups follow their switches. Raises RackError. [main]

        `begin` is called when it is this change's turn.
        """

        async def make(plan: Plan) -> None:
            begin()
            await self._commit(plan)

        await self._run(make)

    @property
    def preparing(self) -> bool:
        """Whether a change was asked for that is neither committed nor given up. [main]"""
        return self.requests.waiting or self.switches.waiting or self._committing

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Carry changes out on `loop`. [main]"""
        self.requests.attach(loop)
        self.switches.attach(loop)

    async def end(self) -> None:
        """Let the change that is being made come to its end, for a while; refuse others. [main]"""
        self.requests.end()
        self.switches.end()
        try:
            await asyncio.wait_for(self._lock.acquire(), LAST_S)
        except TimeoutError:
            log.warning("stopped in the middle of a change of the rack that takes too long")
            self.unfinished = True
            self.requests.give_up()
        else:
            self._lock.release()

    # How it is done

    async def _run(self, make: Callable[[Plan], Awaitable[Result]]) -> Result:
        task = asyncio.get_running_loop().create_task(self._alone(make))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        finally:
            del task  # an exception that it holds would hold this frame, and with it what the change was about

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # somebody may have stopped waiting for it

    async def _alone(self, make: Callable[[Plan], Awaitable[Result]]) -> Result:
        async with self._lock:
            self.requests.check_open()
            self._rack.builder.shared.begin()
            plan = Plan(list(self._rack.slots), list(self._rack.signals))
            try:
                return await make(plan)
            except BaseException:
                if not plan.committed:
                    self._take_back(plan)
                raise

    def _take_back(self, plan: Plan) -> None:
        """Let go of what was built and never ran; those that were to be replaced go on."""
        for old in plan.heirs.values():
            if old.hooked:
                old.hooked.resume()
        for thing in plan.fresh:
            thing.close_hooks()
            if isinstance(thing, Slot) and thing.context:
                thing.context.drop()
        self._rack.reaper.take(plan.fresh, 0, drain=False)

    @property
    def _own(self) -> list[str]:
        """The names of the slots that the host has put at the end."""
        return [table.name for table in self._rack.document.config.own_slots]

    def _check_own(self, name: str, what: str) -> None:
        if name in self._own:
            raise ConfigError(f'"{name}" is the rack\'s own and cannot {what}: bypass it, or change [rack] {name} and restart')

    def _tell(self, what: str, name: str) -> None:
        log.info('%s "%s"', what, name)
        self._rack.on_event(what, name=name)

    def _find(self, name: str) -> Thing:
        for thing in self._rack.things:
            if thing.name == name:
                return thing
        names = [thing.name for thing in self._rack.things]
        raise KeyError(f'there is no slot and no signal engine "{name}"{nearest(name, names)}')

    async def _build(self, plan: Plan, table: SlotTable | SignalTable, old: Thing | None, rate_hz: int) -> Thing:
        """Build one thing that no file describes."""
        document = self._rack.document
        changed = {"slot": [table]} if isinstance(table, SlotTable) else {"signal": [table]}
        config = msgspec.structs.replace(document.config, **changed)
        one = Document(document.path, document.text, config, given=("slot", "signal"))
        if isinstance(table, SignalTable):
            check_signals(one)
            thing: Thing = await self.beside.build(table.name, self._rack.builder.signal, one, 0)
        else:
            setup = self._rack.builder.place(one, 0, rate_hz)
            if old is None:
                carried = Carried({}, table.bypass, table.bypass, None)  # it begins anew, whatever is kept under its name
            elif isinstance(old, Slot) and not old.held:
                carried = await self._carried(old, setup, set(table.params))
            else:
                carried = None
            thing = await self.beside.build(table.name, self._rack.builder.slot, one, 0, setup, carried)
        plan.fresh.append(thing)
        return thing

    async def _carried(self, old: Slot, setup: Setup, given: set[str], bypass: bool | None = None) -> Carried:
        """Take from a running slot what its successor begins with: a state only if that hears the same. Raises RackError.

        `given`: parameters that its table sets anew; `bypass`: as its table sets it anew.
        """
        state = None
        if isinstance(old.plugin, NativePlugin | LanePlugin) and old.plugin.stateful and setup == old.setup:
            state = await self.native_state(old)
        kept = {name: value for name, value in old.values.items() if name not in given}
        return Carried(kept, old.bypass if bypass is None else bypass, old.bypass, state)

    async def native_state(self, old: Slot) -> PluginState | None:
        """Ask a native plugin for its state. Raises RackError. [main]"""
        if old.occupied:
            raise ConfigError(f"{old.name}: an earlier state_save has not returned: it can be unloaded, but not replaced")
        try:
            return await self._rack.control.run(f"{old.name}: state_save", old.native_state)
        except AbandonedError as error:
            old.lost_call = error.call
            raise

    async def _commit(self, plan: Plan) -> None:
        """Put a plan into force. Raises RackError; then nothing has changed. [main]"""
        rack = self._rack
        check_rates(rack.document, rack.setup, plan.slots)
        await self._fill_lanes(plan)
        for old in plan.heirs.values():
            await pause(old)
        self._committing = True
        try:
            await self._put_in_force(plan)
        finally:
            self._committing = False

    async def _put_in_force(self, plan: Plan) -> None:
        rack = self._rack
        prepared: Prepared = await self.beside.build("the run list", rack.prepare, plan.slots, plan.signals, plan.heirs)
        try:
            self._check_running()
            check_latency(rack.document, rack, prepared)
            rack.coming = tuple(plan.things)
            started = time.perf_counter_ns()
            start(plan.fresh)
            started = time.perf_counter_ns() - started
            await asyncio.sleep(0)  # on_start may have taken long, and others have hooks too
            self._check_running()
            begun = time.perf_counter_ns()  # from here on without a pause
            hand_over(plan)
        except BaseException:
            self._let_go(prepared)
            raise
        finally:
            rack.coming = ()
        serial = self._replace(plan, prepared)
        for new in plan.along:
            if isinstance(old := plan.heirs[new], Slot):
                new.keep_wanted(old)
        self.held_ns.append(max(started, time.perf_counter_ns() - begun))
        rack.reaper.take((*prepared.gone, *prepared.old), serial, drain=plan.drain)
        self.switches.look_ahead()

    async def _fill_lanes(self, plan: Plan) -> None:
        """Build those anew that are to share a lane with others than they do. Raises RackError. [main]"""
        for run in lane_runs(self._rack, plan.slots):
            for old in () if is_whole(run) else [slot for slot in run if lane_of(slot).members]:
                new = await self._build(plan, _changed(old, {}), old, old.setup.rate_hz)
                assert isinstance(new, Slot)
                plan.along.append(new)
                plan.heirs[new] = old
                plan.slots = [new if slot is old else slot for slot in plan.slots]

    def _check_running(self) -> None:
        if self.unfinished:
            raise ConfigError("the rack has stopped: nothing was changed")

    def _replace(self, plan: Plan, prepared: "Prepared") -> int:
        """Do what cannot fail; return the run list's serial."""
        rack = self._rack
        plan.committed = True
        for new, old in plan.heirs.items():
            take_place(new, old, drain=plan.drain)
        for thing in prepared.gone if not plan.drain else ():
            cut_off(thing)
        serial = rack.publish(prepared)
        for thing in plan.fresh:
            if rack.idle:
                thing.end_streams()
            if isinstance(thing, Slot) and thing.context:
                thing.context.release()
        return serial

    def _let_go(self, result: Any) -> None:
        """Take back what was built for nobody. [main]"""
        if isinstance(result, Slot | SignalEngine):
            result.close_hooks()
            self._rack.reaper.take([result], 0, drain=False)
            return
        if isinstance(result, Prepared):
            self._rack.reaper.take(result.give_up(), 0, drain=False)
        result.free()

    # A whole configuration

    async def _apply(self, plan: Plan, document: Document) -> list[str]:
        rack = self._rack
        check_fixed(rack.document.config, document)
        kept = await self._plan_slots(plan, document)
        await self._plan_signals(plan, document)
        if document.config.publish:
            from sigrack.publish import check_factors

            check_factors(document, posted(plan.things))
        words = in_words(rack.things, plan)
        await self._commit(plan)
        rack.document = document
        heirs = {old: new for new, old in plan.heirs.items() if isinstance(new, Slot)}
        return [*words, *adjust(document.config, [heirs.get(slot, slot) for slot in kept])]

    async def _plan_slots(self, plan: Plan, document: Document) -> list[Slot]:
        """Build the slots that are new or different; return the others."""
        running = {slot.name: slot for slot in self._rack.slots}
        kept: list[Slot] = []
        plan.slots = []
        rate_hz = self._rack.setup.rate_hz
        for index, table in enumerate(document.config.slot):
            old = running.get(table.name)
            setup = self._rack.builder.place(document, index, rate_hz)
            if old and can_stay(old, table) and old.setup == setup:
                check_kept(document, index, old)
                kept.append(old)
                plan.slots.append(old)
                rate_hz = old.out_rate_hz
                continue
            same = old if old and old.table.plugin == table.plugin else None
            carried = None
            if same:
                given = {name for name in same.values if table.params.get(name) != same.table.params.get(name)}
                bypass = None if table.bypass == same.table.bypass else table.bypass
                carried = await self._carried(same, setup, given, bypass)
            slot: Slot = await self.beside.build(table.name, self._rack.builder.slot, document, index, setup, carried)
            plan.fresh.append(slot)
            plan.slots.append(slot)
            rate_hz = slot.out_rate_hz
            if same:
                plan.heirs[slot] = same
        return kept

    async def _plan_signals(self, plan: Plan, document: Document) -> None:
        """Build the signal engines that are new or different."""
        running = {signal.name: signal for signal in self._rack.signals}
        plan.signals = []
        for index, table in enumerate(document.config.signal):
            old = running.get(table.name)
            if old and old.table == table:
                plan.signals.append(old)
                continue
            signal: SignalEngine = await self.beside.build(table.name, self._rack.builder.signal, document, index)
            plan.fresh.append(signal)
            plan.signals.append(signal)
            if old:
                plan.heirs[signal] = old


def _changed(old: Thing, given: dict[str, Any]) -> SlotTable | SignalTable:
    """Return the table of `old` with `given` in it. Raises ConfigError for what such a table cannot have."""
    if isinstance(old, SignalEngine) and "params" in given:
        raise ConfigError(f'"{old.name}" is a signal engine: it has no parameters')
    if isinstance(old, Slot):  # others are carried over, as far as the new plugin takes them; who is held back has none to carry
        here = old.table.params if old.held and "plugin" not in given else {}
        given = given | {"params": here | given.get("params", {})}
    values = msgspec.to_builtins(msgspec.structs.replace(old.table, **given), builtin_types=DATES)
    return slot_table(values) if isinstance(old, Slot) else signal_table(values)
