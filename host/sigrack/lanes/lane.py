"""A processor in a child, life after life, whatever it is made of: the engine's part, and what ends a life."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sigrack.lanes.lives import LOAD_S, Lives
from sigrack.lanes.minder import EndedError, Life, Minder, RefusedError
from sigrack.lanes.policy import Policy
from sigrack_engine.core import CoverStats
from sigrack_engine.cover import Cover
from sigrack_engine.exchange import Exchange, Shape
from sigrack_engine.keeping import Death

__all__ = ["Lane", "Orders"]

SETTLE_S = 0.5
"""How long results are waited for when the slot has gone; in freewheel ten times as long."""
LOOK_S = 0.025
"""How often it is looked what a child does."""
SNAPSHOT_S = 5.0
"""How old the state is that a new life gets, at most."""
QUANTUM_CPU_S, QUANTUM_S = 0.1, 1.0
"""A quantum that takes longer, in processor time or by the clock, will never end; in freewheel ten times as long."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What every life of a lane begins with."""

    name: str
    """The slot's, or the lane's own."""
    shape: Shape
    rate_hz: int
    memory_mb: int
    """What a child may allocate; 0: no limit."""
    budget: int
    """Deaths within a minute after which it is given up; 0: never."""
    priority: int
    """SCHED_FIFO priority of a native processor's thread; 0: none."""
    patient: bool
    """Freewheel: the engine waits for the child."""
    soundless_blocks: int
    """Blocks without a sound, one after the other, after which a child is ended."""

    @property
    def patience(self) -> float:
        """By how much longer than in real time a quantum may take, and what waits for it."""
        return 10.0 if self.patient else 1.0


class Lane(Lives[Exchange]):
    """Gives lives to the engine, ends what hangs, and counts. All on the minder's loop but what says otherwise."""

    def __init__(self, minder: Minder, orders: Orders, target: str, policy: Policy | None = None) -> None:
        """`policy`: if not that of `orders`."""
        super().__init__(minder, orders.name, target, policy or Policy(orders.budget))
        self._orders = orders
        self._cover: Cover | None = None
        self.said = ""
        """What a processor has raised last."""

    async def run(self, cover: Cover) -> None:
        """Give the first life to `cover` and look after it and those that follow."""
        self._cover = cover
        assert self._life
        self._look_after(self._life)
        while self.state == "loading" and self._task and not self._task.done():  # a render's first block must find it
            await asyncio.sleep(0)

    async def _live(self, life: Life[Exchange]) -> Death:
        """Let the engine have a life until it ends."""
        assert self._cover
        if never_begun := self._cover.give(life.exchange):
            never_begun.free()
        self.state = "running"
        self._taken_up()
        watch = _Watch(self._cover, life, self._orders)
        saved = asyncio.get_running_loop().time()
        saving: asyncio.Task[None] | None = None
        try:
            while not life.ended.done():
                await asyncio.wait((life.ended,), timeout=LOOK_S)
                if left := self._cover.collect():
                    left.free()
                if found := watch.look():
                    cause, detail = found
                    life.kill(cause, self.said if cause == "refused" else detail)
                    await life.ended
                if (now := asyncio.get_running_loop().time()) > saved + SNAPSHOT_S and (not saving or saving.done()):
                    saved, saving = now, asyncio.create_task(self._save(life))
        finally:
            if saving:
                saving.cancel()
        return life.ended.result()

    def _taken_up(self) -> None:
        """Bring to the life that the engine has now what has changed since it began."""

    async def _save(self, life: Life[Exchange]) -> None:
        """Keep what the next life is to begin with."""

    @property
    def facts(self) -> dict[str, Any]:
        """What STATS tells of it; frames are those of its place. [main]"""
        cover = self._cover
        stats = cover.stats if cover else CoverStats()
        return self.history | {
            "lives": stats.lives,
            "misses": stats.misses,
            "dry_frames": stats.dry,
            "dry_ms": 1000 * stats.dry / (self._orders.rate_hz * self._orders.shape.ratio),
            "bad_blocks": stats.bad,
        }

    async def settle(self) -> None:
        """Wait until the child has processed what it was given and its results are here, if that does not take long."""
        if self._life and self.state == "running":
            with suppress(EndedError, RefusedError, TimeoutError):
                await asyncio.wait_for(self._life.ask("flush", LOAD_S), SETTLE_S * self._orders.patience)

    def _let_end(self, life: Life[Exchange]) -> None:
        life.exchange.end()

    async def end(self) -> None:
        """End the child in order; the engine has left the lane. What hangs is killed and told."""
        await self._end()
        if self._cover:
            self._cover.close()
        if self._life:
            self._life.exchange.free()


class _Watch:
    """Tells from what the engine and the child have counted whether a life should end."""

    def __init__(self, cover: Cover, life: Life[Exchange], orders: Orders) -> None:
        self._cover, self._life, self._orders = cover, life, orders
        stats = cover.stats
        self._stuck, self._lies = stats.stuck, stats.lies
        self._seen: tuple[int, float, float] | None = None
        """A quantum that is to be processed, since when, and the child's processor time then."""

    def look(self) -> tuple[str, str] | None:
        """Return why the life should end, and more about it, or nothing."""
        stats = self._cover.stats
        if stats.stuck > self._stuck:
            return "late", "it fell behind by more than its rings hold"
        if stats.lies > self._lies:
            return "false counters", "it claims to have done what it was not given"
        if stats.soundless > self._orders.soundless_blocks:
            if self._life.exchange.progress.refused >= stats.soundless:
                return "refused", ""
            return "bad samples", "NaN, infinity or beyond all measure"
        return self._look_at_quantum()

    def _look_at_quantum(self) -> tuple[str, str] | None:
        progress = self._life.exchange.progress
        if progress.written < progress.done + self._orders.shape.quantum or not self._life.pid:
            self._seen = None
            return None
        now_s, cpu_s = time.monotonic(), _cpu_s(self._life.pid)
        if self._seen is None or self._seen[0] != progress.done:
            self._seen = progress.done, now_s, cpu_s
        _, since_s, cpu_then_s = self._seen
        if cpu_s - cpu_then_s > QUANTUM_CPU_S * self._orders.patience:
            return "hang", f"{1000 * (cpu_s - cpu_then_s):.0f} ms of processor time in one quantum"
        if now_s - since_s > QUANTUM_S * self._orders.patience:
            return "hang", f"{now_s - since_s:.1f} s in one quantum"
        return None


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process; 0 when it is gone."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)
    except OSError:
        return 0.0
