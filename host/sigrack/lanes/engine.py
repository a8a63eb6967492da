"""A signal engine in a child, life after life, and as the rack sees it: like one in the host's process."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sigrack.lanes.lives import Lives
from sigrack.lanes.messages import Message
from sigrack.lanes.minder import EndedError, Life, Minder, RefusedError
from sigrack.lanes.policy import Policy
from sigrack.quarantine import Quarantine, content_hash
from sigrack_engine.data import Records
from sigrack_engine.keeping import Death
from sigrack_engine.remote import RemoteRing, SharedBooks

__all__ = ["EngineLane", "EngineOrders", "LaneEngine"]

CHILD = "sigrack.lanes.engine_child:main"
DATA_S = 2.0
"""What data that is handed over at once may take; where the engine may wait for room ten times as long."""
PART_RECORDS = 512
"""Records that are handed over at once, at most by one batch more: what a death costs."""
PING_S, PONG_S = 1.0, 2.0
"""How often a child is asked whether it hears, and how long the answer may take."""
ROOM_S = 0.001
"""How often it is looked whether the ring has room, or the next child has begun."""


@dataclass(frozen=True, slots=True)
class EngineOrders:
    """What every life of a signal engine begins with."""

    name: str
    path: Path
    config: bytes
    """As JSON."""
    takes: Sequence[str]
    """Kinds of data that it is to get."""
    queue: int
    """Records that may wait in the child."""
    memory_mb: int
    """What a child may allocate; 0: no limit."""
    budget: int
    """Deaths within a minute after which it is given up; 0: never."""
    patient: bool
    """Freewheel and replay: nothing is dropped."""


class EngineLane(Lives[SharedBooks]):
    """Hands data to the child that lives, and what comes back to the ring. All on the minder's loop but what says otherwise."""

    table = "signal"
    meanwhile = "what it is fed waits for the next"
    given_up = "it is fed no more"

    def __init__(self, minder: Minder, orders: EngineOrders, ring: RemoteRing, tell: Callable[..., object]) -> None:
        super().__init__(minder, orders.name, str(orders.path), Policy(orders.budget))
        self.tell = tell
        self._orders, self._ring = orders, ring
        self._lives = 0
        self._sha256 = ""
        """Of the content that the last life has loaded."""
        self._hurried = asyncio.Event()
        """Set: nobody waits for the child or for room any more."""

    async def begin(self) -> None:
        """Begin the first life. Raises ConfigError, EngineError."""
        self._look_after(await self._again())

    async def _again(self) -> Life[SharedBooks]:
        orders, ring = self._orders, self._ring
        self._sha256 = content_hash(orders.path)
        life = await self._minder.start(CHILD, SharedBooks, orders.memory_mb, {"name": orders.name})
        self._life = life
        ring.follow(life.exchange)
        life.on_note = lambda message: self._hear(life, message)
        await self._ask(
            life,
            "begin",
            path=str(orders.path),
            config=orders.config,
            takes=orders.takes,
            symbols=ring.symbols,
            queue=orders.queue,
            max_values=ring.max_values,
            patient=orders.patient,
        )
        return life

    def _discard(self, life: Life[SharedBooks]) -> None:
        life.close()
        self._settle(life)

    def _settle(self, life: Life[SharedBooks]) -> None:
        """Close the books of a life that is over."""
        self._ring.settle()
        life.exchange.free()

    async def _live(self, life: Life[SharedBooks]) -> Death:
        self._lives += 1
        self.state = "running"
        while not life.ended.done():
            await asyncio.wait((life.ended,), timeout=PING_S)
            with suppress(EndedError, RefusedError):
                await life.ask("ping", PONG_S)
        await life.heard()
        self._settle(life)
        return life.ended.result()

    def _hear(self, life: Life[SharedBooks], message: Message) -> Coroutine[Any, Any, None] | None:
        records = message.get("records")
        if not isinstance(records, bytes):  # a child may send anything
            return None
        if not self._ring.has_room(len(records)):
            return self._wait_for_room(life, records)
        self._ring.append(records)
        return None

    async def _wait_for_room(self, life: Life[SharedBooks], records: bytes) -> None:
        """Hear nothing more of a child whose records find no room: its own ring fills, and waits or drops."""
        now = asyncio.get_running_loop().time
        while not self._ring.has_room(len(records)) and not self._hurried.is_set():
            since_s = now()
            await asyncio.sleep(ROOM_S)
            life.deaf_s += now() - since_s
        self._ring.append(records)

    async def give(self, data: Message) -> bool:
        """Hand data to the child that lives, or to the next; False: it was lost with the child, or there is none any more."""
        while not self._hurried.is_set() and self.state in ("loading", "running", "restarting"):
            life = self._life
            if self.state == "running" and life and not life.ended.done():
                return await self._given(life, data)
            await asyncio.sleep(ROOM_S)
        return False

    async def give_all(self, parts: Sequence[tuple[int, Message]]) -> int:
        """Hand over one part after the other; return how many records arrived. Each stands beside its number of records."""
        return sum([count for count, data in parts if await self.give(data)])

    async def _given(self, life: Life[SharedBooks], data: Message) -> bool:
        limit_s = DATA_S * (10 if self._orders.patient else 1)
        asking = asyncio.create_task(life.ask("on_data", limit_s, **data))
        hurried = asyncio.create_task(self._hurried.wait())
        try:
            await asyncio.wait((asking, hurried), return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurried.cancel()
            asking.add_done_callback(_look_at)
        return asking.done() and not asking.cancelled() and asking.exception() is None

    async def hurry(self) -> None:
        """Wait neither for the child nor for room in the ring."""
        self._hurried.set()
        if self._life and not self._life.ended.done():
            self._life.say("hurry")

    @property
    def facts(self) -> dict[str, Any]:
        """What STATS tells of it. [main]"""
        return self.history | {"lives": self._lives, "lost_records": self._ring.lost}

    def _quarantine(self, why: str) -> None:
        Quarantine.open().add(self._orders.path, "", why, self._sha256)

    async def end(self) -> None:
        """End the child in order: what it has posted until then comes first. What hangs is killed and told."""
        await self._end()
        if self._life:
            self._settle(self._life)


def _portions(parts: Sequence[tuple[str, Records]]) -> Iterator[tuple[int, Message]]:
    """Yield data in portions of PART_RECORDS, each with its number of records."""
    portion: list[tuple[str, bytes]] = []
    count = 0
    for kind, records in parts:
        portion.append((kind, records.tobytes()))
        count += len(records)
        if count >= PART_RECORDS:
            yield count, {"parts": portion}
            portion, count = [], 0
    if portion:
        yield count, {"parts": portion}


def _look_at(asking: "asyncio.Task[Any]") -> None:
    """Take note of an answer that nobody waited for."""
    if not asking.cancelled():
        asking.exception()


class LaneEngine:
    """The instance in the child. Its methods stand for those of a `NativeEngine`."""

    polls = False

    def __init__(self, minder: Minder, orders: EngineOrders, ring: RemoteRing, tell: Callable[..., object]) -> None:
        """Start a child with the engine, which may post from here on. Raises ConfigError, EngineError. [control]"""
        self._minder = minder
        self.lane = EngineLane(minder, orders, ring, tell)
        minder.call(self.lane.begin())

    def _call(self, work: Coroutine[Any, Any, int]) -> int:
        try:
            return self._minder.call(work)
        except CancelledError:  # the minder has ended
            return 0

    def poll(self) -> None:
        """Nothing: the child does."""

    def give_audio(self, planes: npt.NDArray[np.float32], rate_hz: int, frame: int) -> int:
        """Hand over audio and wait for the engine to have it; return how many frames it got. [feeder]"""
        channels, frames = planes.shape
        data = {"planes": planes.tobytes(), "channels": channels, "rate_hz": rate_hz, "frame": frame}
        return self._call(self.lane.give_all([(frames, data)]))

    def give_records(self, parts: Sequence[tuple[str, Records]]) -> int:
        """Hand over data and wait for the engine to have it; return how many records it got. [feeder]"""
        return self._call(self.lane.give_all(list(_portions(parts))))

    def hurry(self) -> None:
        """Wait for nobody. [main]"""
        self._minder.post(self.lane.hurry())

    def destroy(self) -> None:
        """End the child. [control]"""
        self._minder.call(self.lane.end())

    def close(self) -> None:
        """Nothing: the code went with the child."""
