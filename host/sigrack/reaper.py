"""The end of an instance: when nobody can be inside it any more, it is destroyed, once."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from sigrack.errors import EngineError
from sigrack.groups import Group
from sigrack.guards import tell_failures
from sigrack.lanes.shared import SharedLane
from sigrack.runner import Runner
from sigrack.signals import SignalEngine
from sigrack.slot import Slot

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["Leaver", "Reaper", "Thing"]

log = logging.getLogger("sigrack")

Thing = Slot | SignalEngine
Leaver = Thing | Group | SharedLane

LOOK_S = 0.002
"""How often it looks whether somebody has left."""
JOIN_S = 1.0
"""How long threads and coroutine hooks of a plugin may take to end."""


class Reaper:
    """Takes what has left the rack to its end, beside what plays on. All on the main loop but for native calls.

    In order: the engine leaves it; its streams end; its worker or feeder ends; a signal engine's own threads end
    (signal_destroy); its handle is closed; what it has posted is delivered, or counted as stale; on_stop; nobody pins it and no
    foreign thread is inside a post; native destroy; memory.
    """

    def __init__(self, rack: "Rack") -> None:
        self._rack = rack
        self._tasks: dict[asyncio.Task[None], Sequence[Leaver]] = {}
        self.held: set[Leaver] = set()
        """Stopped, but still held by a pin, by a thread inside a post, or by a native call that was abandoned."""

    @property
    def lingering(self) -> set[str]:
        """The names of what is held. [main]"""
        return {thing.name for thing in self.held}

    def __len__(self) -> int:
        return len(self._tasks)

    def take(self, things: Sequence[Leaver], serial: int, *, drain: bool) -> None:
        """Begin the end of `things`, which are in no run list from number `serial` on. [main]

        `drain`: what they have posted, and audio that waits for them, is delivered; else it is counted as stale and lost.
        """
        groups = [list(things)] if self._rack.stopped else [[thing] for thing in things]
        self._begin(self._left(serial))  # the list that the engine leaves must be collected, whatever goes
        for group in groups:  # a running rack's each for itself: none waits for another's threads
            self._begin(self._retire(group, serial, drain=drain), group)

    def _begin(self, work: Coroutine[Any, Any, None], things: Sequence[Leaver] = ()) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = things
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()):
            log.error("a plugin's end failed", exc_info=error)

    async def idle(self, limit_s: float | None = None) -> bool:
        """Wait until all that was taken is gone; False: not within `limit_s`. [main]"""
        if not self._tasks:
            return True
        _, left = await asyncio.wait(set(self._tasks), timeout=limit_s)
        return not left

    async def gone(self, name: str, limit_s: float) -> None:
        """Wait until what was called `name` is gone, or only held by somebody; for `limit_s` at most. [main]"""
        stop = time.monotonic() + limit_s
        while name in self._going() and time.monotonic() < stop:
            await asyncio.sleep(LOOK_S)

    def _going(self) -> set[str]:
        return {thing.name for things in self._tasks.values() for thing in things if thing not in self.held}

    async def _left(self, serial: int) -> None:
        """Wait until the engine runs list `serial` or a newer one."""
        await self._until(lambda: self._rack.idle or self._rack.engine.has_left(serial))

    async def _retire(self, things: list[Leaver], serial: int, *, drain: bool) -> None:
        rack = self._rack
        if any(map(_is_run, things)):  # freewheel may wait for others before it runs the block that is waited for
            await self._left(serial)
        tell_failures(thing for thing in things if not isinstance(thing, SignalEngine))
        for thing in things:
            thing.end_streams()
            if not drain:
                thing.hurry()
        alive = await self._joined(things)
        for thing in list(alive):
            if isinstance(thing, SignalEngine) and not await self._native(f"{thing.name}: signal_destroy", thing.halt):
                alive.remove(thing)
        for thing in things:
            if thing.source:
                thing.source.ring.shut()
        await self._deliver(alive, drain=drain)
        await self._finish_hooks(alive)
        for thing in things:
            thing.stop()
        rack.turn()  # what on_stop has posted
        for thing in things:
            if thing not in alive and not isinstance(thing, Runner):
                rack.forget(thing)
        await asyncio.gather(*(self._destroy(thing) for thing in alive))

    async def _until(self, condition: Callable[[], bool], limit_s: float | None = None) -> bool:
        """Deliver until `condition` holds; False: it does not within `limit_s`."""
        stop = None if limit_s is None else time.monotonic() + limit_s
        while not condition():
            if stop is not None and time.monotonic() > stop:
                return False
            self._rack.turn()
            await asyncio.sleep(LOOK_S)
        return True

    async def _patiently(self, condition: Callable[[], bool]) -> bool:
        """Wait for `condition` for a while, in freewheel as long as the rack runs."""
        if not self._rack.live:
            await self._until(lambda: self._rack.stopped or condition())
        return await self._until(condition, JOIN_S)

    async def _served(self, call: Awaitable[None]) -> None:
        """Deliver until `call` has ended: native code may wait for room for what it posts."""
        future = asyncio.ensure_future(call)
        while not future.done():
            self._rack.turn()
            await asyncio.wait((future,), timeout=LOOK_S)
        future.result()

    async def _joined(self, things: Sequence[Leaver]) -> list[Leaver]:
        """Wait for workers and feeders, in freewheel as long as they need; return those whose have ended, note the others."""
        if not await self._patiently(lambda: all(thing.join(0) for thing in things)):
            for thing in things:
                thing.hurry()
            await self._until(lambda: all(thing.join(0) for thing in things), JOIN_S)
        stuck = [thing for thing in things if not thing.join(0)]
        self._rack.left_behind += [thing.name for thing in stuck]
        return [thing for thing in things if thing not in stuck]

    async def _native(self, what: str, call: Callable[[], None]) -> bool:
        """Make a native life-cycle call; False: it hangs, and is noted."""
        try:
            await self._served(self._rack.control.run(what, call))
        except EngineError as error:
            log.warning("%s", error)
            self._rack.left_behind.append(what)
            return False
        return True

    async def _deliver(self, things: Sequence[Leaver], *, drain: bool) -> None:
        if drain:
            await self._patiently(lambda: all(_delivered(thing) for thing in things))
        for thing in things:
            if thing.hook_tap:
                thing.hook_tap.gone = True
            if thing.source:
                thing.source.ring.discard()
                thing.source.gone = True

    async def _finish_hooks(self, things: Sequence[Leaver]) -> None:
        """Let no hook begin, and coroutine hooks end; cancel those that do not."""
        hooks = [thing.hooked for thing in things if thing.hooked]
        for thing in things:
            thing.close_hooks()
        if not await self._patiently(lambda: not any(hooked.busy for hooked in hooks)):
            for hooked in hooks:
                hooked.cancel()
            await self._until(lambda: not any(hooked.busy for hooked in hooks), JOIN_S)

    async def _destroy(self, thing: Leaver) -> None:
        if not await self._let_go(thing):
            self._rack.left_behind.append(f"{thing.name}, which somebody still holds")
            return
        if not isinstance(thing, Runner):
            self._rack.forget(thing)
        if not self._rack.engine_lost and await self._native(f"{thing.name}: destroy", thing.destroy):
            thing.free()

    async def _let_go(self, thing: Leaver) -> bool:
        """Wait until nobody holds `thing` any more; once the rack has stopped, not for long."""
        stop: float | None = None
        while not _free(thing):
            self.held.add(thing)
            if self._rack.stopped:
                stop = stop or time.monotonic() + JOIN_S
                if time.monotonic() > stop:
                    return False
            self._rack.turn()
            await asyncio.sleep(LOOK_S)
        self.held.discard(thing)
        return True


def _is_run(thing: Leaver) -> bool:
    """Whether the engine runs it, by itself or in a shared lane."""
    return bool(thing.steps) or (isinstance(thing, Slot) and thing.place is not None)


def _delivered(thing: Leaver) -> bool:
    return (thing.hook_tap is None or thing.hook_tap.gone) and (thing.source is None or not thing.source.ring.queued)


def _free(thing: Leaver) -> bool:
    """Whether nobody can be inside any more; from the first True on, its ring is gone."""
    if thing.occupied or (thing.hooked and thing.hooked.pins):
        return False
    return thing.source is None or thing.source.ring.release()
