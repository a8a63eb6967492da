"""Every change of a running rack: load, unload, swap, reload, and a whole new configuration."""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sigrack.config import Document, SignalTable, SlotTable, check_signals
from sigrack.errors import ConfigError, RackError, nearest, said
from sigrack.groups import Group, Parts, Variant, variant_of
from sigrack.lifecycle import AbandonedError, start_thread
from sigrack.loading import NativePlugin
from sigrack.plans import Plan, adjust, can_stay, check_fixed, check_kept, check_latency, check_rates, in_words
from sigrack.reaper import Thing
from sigrack.signals import SignalEngine
from sigrack.slot import Carried, Slot
from sigrack.state import PluginState
from sigrack_engine.errors import CoreError
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Prepared, Rack

__all__ = ["Changes"]

log = logging.getLogger("sigrack")

Result = TypeVar("Result")

SAMPLES = 100_000
"""Measured commits that are kept."""
BUSY_S = 1.0
"""How long a swap waits for coroutine hooks of the old instance."""
SLOW_S, BUILD_S = 10.0, 300.0
"""How long something may be built until that is told; until it is given up, so that other changes have their turn."""
LAST_S = 2.0
"""How long the end of the rack waits for the change that is being made."""


class Request(Future[None]):
    """What became of a change that was asked for; done when it is in force, or when nothing was changed."""

    def __init__(self, main_thread: int) -> None:
        super().__init__()
        self._main_thread = main_thread

    def result(self, timeout: float | None = None) -> None:
        """Wait for it. Raises what has kept it from being made; RuntimeError in a hook, which would wait for ever. [any]"""
        self._check()
        super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for it, and return what `result` would raise. [any]"""
        self._check()
        return super().exception(timeout)

    def _check(self) -> None:
        if not self.done() and threading.get_ident() == self._main_thread:
            raise RuntimeError("a change begins when the hook has returned: a hook cannot wait for it; a coroutine can")


class Changes:
    """One change at a time: build beside the rack, commit on the main loop without a pause, let the reaper end what has left.

    Until its commit a change that fails leaves everything as it was, and what it has built is taken back. Each runs in a task of
    its own: who asked for it may go away.
    """

    def __init__(self, rack: "Rack") -> None:
        self._rack = rack
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = False
        self._asked: set[Request] = set()
        self._asking = threading.Lock()
        self._early: list[Callable[[], None]] = []
        self._regrouping = False
        """Groups are about to be compiled anew."""
        self._committing = False
        self._ahead: asyncio.Task[None] | None = None
        self.abandoned = 0
        """Things that were not built in time."""
        self.unfinished = False
        """A thread still builds something: it may use all that the rack has."""
        self.commit_ns: deque[int] = deque(maxlen=SAMPLES)
        """What each commit took of the main loop."""

    # What can be asked for

    async def load(self, table: SlotTable | SignalTable, before: str | None = None) -> None:
        """Add a slot (before the slot `before`, else at the end) or a signal engine. Raises KeyError, RackError. [main]"""

        async def make(plan: Plan) -> None:
            rack = self._rack
            names = [*(thing.name for thing in rack.things), *(feed.name for feed in rack.document.config.feed)]
            if table.name in names:
                raise ConfigError(f'the name "{table.name}" is taken; in the rack: {", ".join(names)}')
            place = len(rack.slots) if before is None else rack.slots.index(rack.slot(before))
            setup = rack.out_setup if place == len(rack.slots) else rack.slots[place].setup
            thing = await self._build(plan, table, None, setup)
            if isinstance(thing, Slot):
                plan.slots.insert(place, thing)
            else:
                plan.signals.append(thing)
            await self._commit(plan)
            self._tell("loaded", table.name)

        await self._run(make)

    async def unload(self, name: str, *, drain: bool = True) -> None:
        """Take a slot or a signal engine out. `drain`: deliver first what it has posted. Raises KeyError, RackError. [main]"""

        async def make(plan: Plan) -> None:
            thing = self._find(name)
            plan.drain = drain
            plan.slots = [slot for slot in plan.slots if slot is not thing]
            plan.signals = [signal for signal in plan.signals if signal is not thing]
            await self._commit(plan)
            self._tell("unloaded", name)

        await self._run(make)

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

        async def make(plan: Plan) -> None:
            old = self._find(name)
            plan.drain = drain
            given = {"config": config, "params": params, ("plugin" if isinstance(old, Slot) else "library"): plugin}
            table = _changed(old, {key: value for key, value in given.items() if value is not None})
            new = await self._build(plan, table, old, old.setup if isinstance(old, Slot) else self._rack.out_setup)
            plan.heirs[new] = old
            plan.slots = [new if slot is old and isinstance(new, Slot) else slot for slot in plan.slots]
            plan.signals = [new if s is old and isinstance(new, SignalEngine) else s for s in plan.signals]
            await self._commit(plan)
            self._tell("swapped", name)

        await self._run(make)

    async def apply(self, document: Document) -> list[str]:
        """Change the rack to `document`; return what changed, in words. Raises RackError; then nothing has. [main]"""

        async def make(plan: Plan) -> list[str]:
            return await self._apply(plan, document)

        return await self._run(make)

    def regroup(self) -> None:
        """Compile groups anew, one of whose members was switched; what comes meanwhile is done with it. [main]"""
        if self._regrouping or self._loop is None or self._ending:
            return
        self._regrouping = True
        task = self._loop.create_task(self._regroup())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def look_ahead(self) -> None:
        """Compile what groups will need when one of their members is switched, beside all else. [main]"""
        if self._rack.live and self._loop is not None and not self._ending and (self._ahead is None or self._ahead.done()):
            self._ahead = self._loop.create_task(self._compile_ahead())

    async def _compile_ahead(self) -> None:
        budget = self._rack.document.config.rack.ahead_mb << 20
        while (wanted := next(self._missing(), None)) is not None:
            group, parts = wanted
            held = sum(variant.fir.bytes for other in self._rack.groups for variant in other.ahead.values())
            if held + group.memory_bytes > budget:
                return
            try:
                variant: Variant = await self._beside(f"{group.name}, with a switch turned", variant_of, self._rack, parts)
            except (RackError, CoreError) as error:
                log.warning("not compiled ahead: %s", error)
                return
            if group in self._rack.groups and parts in group.switches:
                group.ahead[parts] = variant
            else:
                variant.free()

    def _missing(self) -> "Iterator[tuple[Group, Parts]]":
        return ((g, parts) for g in self._rack.groups for parts in g.switches if parts not in g.ahead)

    async def _regroup(self) -> None:
        async def make(plan: Plan) -> None:
            self._regrouping = False
            await self._commit(plan)

        try:
            await self._run(make)
        except RackError as error:
            log.warning("a bypass is not heard: %s", error)
        finally:
            self._regrouping = False

    def request(self, make: Callable[[], Coroutine[Any, Any, None]], who: str) -> Request:
        """Ask for a change from anywhere, also from inside a hook; it is carried out when the hook has returned.

        What it raises is in the log, too. Raises ConfigError when the rack is stopping. [any]
        """
        request, begin = self.ask(make, who)
        with self._asking:
            if self._loop is None:
                self._early.append(begin)
            else:
                self._loop.call_soon_threadsafe(begin)
        return request

    def refuse(self, request: Request, why: str) -> None:
        """Let a change that has not begun never begin. [main]"""
        self._asked.discard(request)
        if not request.done():
            request.set_exception(ConfigError(f"{why}: nothing was changed"))

    def ask(self, make: Callable[[], Coroutine[Any, Any, None]], who: str) -> tuple[Request, Callable[[], None]]:
        """Note that a change is asked for; return what becomes of it, and what lets it begin. Raises ConfigError. [any]"""
        request = Request(self._rack.main_thread)

        def begin() -> None:
            if request.done() or not request.set_running_or_notify_cancel():
                self._asked.discard(request)
                return
            task = asyncio.get_running_loop().create_task(self._carry_out(request, make, who))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        with self._asking:
            self.check_open()
            self._asked.add(request)
        return request, begin

    async def _carry_out(self, request: Request, make: Callable[[], Coroutine[Any, Any, None]], who: str) -> None:
        failure: BaseException | None = None
        try:
            await make()
        except BaseException as error:
            failure = error
            if isinstance(error, RackError | KeyError | ValueError):
                log.warning("%s asked for a change: %s; nothing was changed", who, said(error))
            elif not isinstance(error, asyncio.CancelledError):
                log.exception("%s asked for a change, which failed", who)
        self._asked.discard(request)
        if request.done():
            return
        if failure:
            failure.__cause__ = failure.__context__ = None  # their frames would hold instances
            request.set_exception(failure.with_traceback(None))
        else:
            request.set_result(None)

    @property
    def preparing(self) -> bool:
        """Whether a change was asked for that is neither committed nor given up. [main]"""
        return bool(self._asked) or self._regrouping or self._committing

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Carry changes out on `loop`, those first that were asked for before it ran. [main]"""
        with self._asking:
            self._loop = loop
            for begin in self._early:
                loop.call_soon(begin)
            self._early.clear()
        self.look_ahead()

    async def end(self) -> None:
        """Let the change that is being made come to its end, for a while; refuse others. [main]"""
        with self._asking:
            self._ending = True
        if self._ahead:
            self._ahead.cancel()
        for request in list(self._asked):
            if not request.running():
                self.refuse(request, "the rack is stopping")
        try:
            await asyncio.wait_for(self._lock.acquire(), LAST_S)
        except TimeoutError:
            log.warning("stopped in the middle of a change of the rack that takes too long")
            self.unfinished = True
            for request in list(self._asked):
                request.set_exception(ConfigError("the rack has stopped: nothing was changed"))
            self._asked.clear()
        else:
            self._lock.release()

    def check_open(self) -> None:
        """Raise ConfigError when the rack is ending. [any]"""
        if self._ending:
            raise ConfigError("the rack is stopping: nothing can be changed")

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
            self.check_open()
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

    def _tell(self, what: str, name: str) -> None:
        log.info('%s "%s"', what, name)
        self._rack.on_event(what, name=name)

    def _find(self, name: str) -> Thing:
        for thing in self._rack.things:
            if thing.name == name:
                return thing
        names = [thing.name for thing in self._rack.things]
        raise KeyError(f'there is no slot and no signal engine "{name}"{nearest(name, names)}')

    async def _build(self, plan: Plan, table: SlotTable | SignalTable, old: Thing | None, setup: Setup) -> Thing:
        """Build one thing that no file describes."""
        document = self._rack.document
        changed = {"slot": [table]} if isinstance(table, SlotTable) else {"signal": [table]}
        config = msgspec.structs.replace(document.config, **changed)
        one = Document(document.path, document.text, config, given=("slot", "signal"))
        if isinstance(table, SignalTable):
            check_signals(one)
            thing: Thing = await self._beside(table.name, self._rack.builder.signal, one, 0)
        else:
            carried = await self._carried(old, table) if isinstance(old, Slot) else None
            thing = await self._beside(table.name, self._rack.builder.slot, one, 0, setup, carried)
        plan.fresh.append(thing)
        return thing

    async def _carried(self, old: Slot, table: SlotTable) -> Carried:
        """Take from a running slot what its successor begins with. Raises RackError."""
        state = None
        if isinstance(old.plugin, NativePlugin) and old.plugin.stateful:
            state = await self._native_state(old)
        same = {name: value for name, value in old.values.items() if table.params.get(name) == old.table.params.get(name)}
        return Carried(same, old.bypass, state)

    async def _native_state(self, old: Slot) -> PluginState | None:
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
        check_latency(rack.document, rack.slots, plan.slots)
        for old in plan.heirs.values():
            await _pause(old)
        self._committing = True
        try:
            await self._put_in_force(plan)
        finally:
            self._committing = False

    async def _put_in_force(self, plan: Plan) -> None:
        rack = self._rack
        prepared: Prepared = await self._beside("the run list", rack.prepare, plan.slots, plan.signals, plan.heirs)
        try:  # from here on without a pause
            if self.unfinished:
                raise ConfigError("the rack has stopped: nothing was changed")
            begun = time.perf_counter_ns()
            rack.coming = tuple(plan.things)
            _start(plan)
        except BaseException:
            prepared.free()
            raise
        finally:
            rack.coming = ()
        serial = self._replace(plan, prepared)
        self.commit_ns.append(time.perf_counter_ns() - begun)
        rack.reaper.take((*prepared.gone, *prepared.old_groups), serial, drain=plan.drain)
        self.look_ahead()

    def _replace(self, plan: Plan, prepared: "Prepared") -> int:
        """Do what cannot fail; return the run list's serial."""
        rack = self._rack
        plan.committed = True
        for new, old in plan.heirs.items():
            _take_place(new, old, drain=plan.drain)
        for thing in prepared.gone if not plan.drain else ():
            _cut_off(thing)
        serial = rack.publish(prepared)
        for thing in plan.fresh:
            if rack.idle:
                thing.end_streams()
            if isinstance(thing, Slot) and thing.context:
                thing.context.release()
        return serial

    async def _beside(self, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Run `call` on a thread of its own. It is a daemon: what hangs there does not keep the host from ending.

        Raises ConfigError when it takes longer than BUILD_S; what it makes after all is let go.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        made: list[Any] = []

        def fail(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)

        def give() -> None:  # the thread holds nothing of it any more: plugins end on the main thread
            if future.done():
                self._let_go(made.pop())
            else:
                future.set_result(made.pop())

        def run() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                try:
                    made.append(call(*arguments))
                except Exception as error:
                    loop.call_soon_threadsafe(fail, error)
                except BaseException as error:  # what ends programs must not end the loop
                    loop.call_soon_threadsafe(fail, ConfigError(f"{what}: what was loaded raised {said(error)}"))
                else:
                    loop.call_soon_threadsafe(give)

        start_thread("build", run)
        try:
            if not (await asyncio.wait((future,), timeout=SLOW_S))[0]:
                log.warning("%s is still being built after %g s", what, SLOW_S)
                await asyncio.wait((future,), timeout=BUILD_S - SLOW_S)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not future.done():
            future.cancel()
            self.abandoned += 1
            raise ConfigError(f"{what} was not built within {BUILD_S:g} s; it was abandoned")
        return future.result()

    def _let_go(self, result: Any) -> None:
        """Take back what was built for nobody. [main]"""
        if isinstance(result, Slot | SignalEngine):
            result.close_hooks()
            self._rack.reaper.take([result], 0, drain=False)
        else:
            result.free()

    # A whole configuration

    async def _apply(self, plan: Plan, document: Document) -> list[str]:
        rack = self._rack
        check_fixed(rack.document.config, document)
        kept = await self._plan_slots(plan, document)
        await self._plan_signals(plan, document)
        if document.config.publish:
            from sigrack.publish import check_factors
            from sigrack.rack import posted

            check_factors(document, posted(plan.things))
        words = in_words(rack.things, plan)
        await self._commit(plan)
        rack.document = document
        return [*words, *adjust(document.config, kept)]

    async def _plan_slots(self, plan: Plan, document: Document) -> list[Slot]:
        """Build the slots that are new or different; return the others."""
        running = {slot.name: slot for slot in self._rack.slots}
        kept: list[Slot] = []
        plan.slots = []
        setup = self._rack.setup
        for index, table in enumerate(document.config.slot):
            old = running.get(table.name)
            if old and can_stay(old, table) and old.setup == setup:
                check_kept(document, index, old)
                kept.append(old)
                plan.slots.append(old)
                setup = Setup(old.out_rate_hz, setup.channels)
                continue
            same = old if old and old.table.plugin == table.plugin else None
            carried = await self._carried(same, table) if same else None
            slot: Slot = await self._beside(table.name, self._rack.builder.slot, document, index, setup, carried)
            plan.fresh.append(slot)
            plan.slots.append(slot)
            setup = Setup(slot.out_rate_hz, setup.channels)
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
            signal: SignalEngine = await self._beside(table.name, self._rack.builder.signal, document, index)
            plan.fresh.append(signal)
            plan.signals.append(signal)
            if old:
                plan.heirs[signal] = old


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


def _start(plan: Plan) -> None:
    """Start what is new, and hand the states over: all that may be refused. Raises RackError; then the old ones go on."""
    for thing in plan.fresh:
        if isinstance(thing, Slot):
            if thing.context:
                thing.context.hold()
            thing.start()
            if isinstance(old := plan.heirs.get(thing), Slot):
                thing.inherit(old)
        thing.begin()


def _take_place(new: Thing, old: Thing, *, drain: bool) -> None:
    """Let an instance follow an old one. `drain`: what the old one has not delivered comes first, its blocks to the new one."""
    if isinstance(new, Slot) and isinstance(old, Slot):
        new.replace(old, drain=drain)
    if drain and new.source and old.source:
        new.source.after = old.source
    if drain and new.hook_tap and new.hooked:
        new.hook_tap.after = way = old.hook_tap
        while way:  # it may still wait for what it has itself replaced
            way.hooked, way = new.hooked, way.after


def _cut_off(thing: Thing) -> None:
    """Let nothing more come of a thing: what waits is stale."""
    if thing.source:
        thing.source.ring.shut()
        thing.source.ring.discard()
        thing.source.gone = True
    if thing.hook_tap:
        thing.hook_tap.gone = True
    if thing.hooked:
        thing.hooked.drop_waiting()


def _changed(old: Thing, given: dict[str, Any]) -> SlotTable | SignalTable:
    """Return the table of `old` with `given` in it. Raises ConfigError for what such a table does not have."""
    if isinstance(old, SignalEngine) and "params" in given:
        raise ConfigError(f'"{old.name}" is a signal engine: it has no parameters')
    table: SlotTable | SignalTable = msgspec.structs.replace(old.table, **given)
    return table
