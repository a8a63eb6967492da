"""One slot's processor in a child, life after life."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sigrack.errors import ConfigError
from sigrack.lanes.lives import LOAD_S, Lives
from sigrack.lanes.messages import Message
from sigrack.lanes.minder import EndedError, Life, Minder, RefusedError
from sigrack.quarantine import Quarantine
from sigrack_engine.core import CoverStats
from sigrack_engine.cover import Cover
from sigrack_engine.exchange import Exchange, Shape
from sigrack_engine.keeping import Death

__all__ = ["Lane", "Orders"]

log = logging.getLogger("sigrack")

CHILD = "sigrack.lanes.child:main"
SAVE_S = 2.0
"""What a child may take; below the control thread's limit."""
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
    """The slot's."""
    target: str
    """The plugin's file or module."""
    is_file: bool
    file: str
    """The rack's, where relative paths of the configuration begin."""
    shape: Shape
    rate_hz: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    memory_mb: int
    """What a child may allocate; 0: no limit."""
    budget: int
    """Deaths within a minute that end in quarantine; 0: none does."""
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
    """Starts lives, gives them to the engine, ends what hangs, and counts. All on the minder's loop but what says otherwise."""

    table = "slot"
    meanwhile = "its input is played meanwhile"
    given_up = "it stays bypassed"

    def __init__(self, minder: Minder, orders: Orders) -> None:
        super().__init__(minder, orders.name, orders.target, orders.budget)
        self._orders = orders
        self._cover: Cover | None = None
        self._begin: Message = {}
        self._description: Message = {}
        self._sha256 = ""
        """Of the content that the last life has loaded."""
        self._contract: Message = {}
        self._values: Mapping[str, float] = {}
        self._names: Sequence[str] = ()
        self._snapshot: tuple[str, bytes] | None = None
        """Version and state that the next life gets."""
        self.said = ""
        """What the processor has raised last."""
        self.lost_records = 0
        """Results that found no room in the child."""
        self.on_results: Callable[[Message], object] = lambda message: None
        """Is given records that the child has posted. [minder]"""
        self.on_life: Callable[[list[float]], object] = lambda values: None
        """Called when another life begins, with the parameters that it was given. [minder]"""

    async def load(self) -> Message:
        """Begin the first life; return what the plugin is. Raises ConfigError, EngineError."""
        _, self._description = await self._new_life()
        return self._description

    async def _new_life(self) -> tuple[Life[Exchange], Message]:
        """Raises ConfigError if the child dies or refuses, EngineError if there can be none."""
        orders = self._orders
        argument = {"name": orders.name, "priority": orders.priority, "patient": orders.patient, "shape": orders.shape}
        life = await self._minder.start(CHILD, partial(Exchange, orders.shape), orders.memory_mb, argument)
        self._life = life
        life.on_note = self._hear
        description: Message = await self._ask(life, "load", target=orders.target, is_file=orders.is_file)
        self._sha256 = description.pop("sha256")
        return life, description

    def _quarantine(self, why: str) -> None:
        if self._sha256:
            Quarantine.open().add(Path(self._description["file"]), self._description["id"], why, self._sha256)

    async def begin(self, config: Mapping[str, Any], state: tuple[str, bytes] | None, values: Mapping[str, float]) -> Message:
        """Let the processor of the first life begin; return its contract. Raises ConfigError."""
        assert self._life
        orders = self._orders
        self._begin = {
            "config": dict(config),
            "file": orders.file,
            "rate_hz": orders.rate_hz,
            "inputs": orders.inputs,
            "outputs": orders.outputs,
        }
        self._snapshot, self._names = state, tuple(values)
        self._contract = await self._ask(self._life, "begin", **self._begin, state=state, values=list(values.values()))
        return self._contract

    async def run(self, cover: Cover, values: Mapping[str, float]) -> None:
        """Give the first life to `cover` and look after it and those that follow; `values`: parameters as they will be."""
        self._cover, self._values = cover, values
        assert self._life
        self._look_after(self._life)
        while self.state == "loading" and self._task and not self._task.done():  # a render's first block must find it
            await asyncio.sleep(0)

    async def _again(self) -> Life[Exchange]:
        """Begin one more life, with the parameters as they are. Raises ConfigError, EngineError."""
        life, description = await self._new_life()
        if description != self._description:
            raise await self._changed(life)
        values = [self._values[name] for name in self._names]
        try:
            contract = await self._ask(life, "begin", **self._begin, state=self._snapshot, values=values)
        except ConfigError:
            self._snapshot = None  # it may be what they die of
            raise
        if contract != self._contract:
            raise await self._changed(life)
        self.on_life(values)
        return life

    async def _live(self, life: Life[Exchange]) -> Death:
        """Let the engine have a life until it ends."""
        assert self._cover
        if never_begun := self._cover.give(life.exchange):
            never_begun.free()
        self.state = "running"
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

    async def _save(self, life: Life[Exchange]) -> None:
        try:
            self._snapshot = await life.ask("save", SAVE_S * self._orders.patience) or self._snapshot
        except RefusedError as error:
            log.warning("%s: its state cannot be had: %s", self._orders.name, error)
        except EndedError:
            pass

    def _hear(self, message: Message) -> None:
        match message["note"]:
            case "results":
                self.lost_records += int(message["lost"])
                self.on_results(message)
            case "raised":
                self.said = str(message.get("text", ""))[:1000]
                log.warning(
                    "%s: process raised: %s; its input is played for that quantum; more are counted", self._orders.name, self.said
                )
            case "log":
                log.info("%s: %s", self._orders.name, str(message.get("text", ""))[:1000])

    async def save(self) -> tuple[str, bytes] | None:
        """Return version and state as they are now, or as they were kept. Raises ConfigError if it is refused."""
        if self._life and not self._life.ended.done():
            try:
                limit_s = LOAD_S if self._orders.patient else SAVE_S
                self._snapshot = await self._life.ask("save", limit_s) or self._snapshot
            except RefusedError as error:
                raise ConfigError(str(error)) from None
            except EndedError:
                pass
        return self._snapshot

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
            "raised": self.said,
            "lost_records": self.lost_records,
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
