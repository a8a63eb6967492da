"""A group's filter on a GPU, in a child, life after life; and beside it the same filter on the CPU, which covers for it."""

import asyncio
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from sigrack.errors import ConfigError
from sigrack.lanes.lane import Lane, Orders
from sigrack.lanes.messages import Message
from sigrack.lanes.minder import EndedError, Life, Minder, RefusedError
from sigrack.lanes.policy import Policy
from sigrack.lanes.serving import FAILED
from sigrack_engine.cover import Cover
from sigrack_engine.exchange import Exchange
from sigrack_engine.filter import Filter
from sigrack_engine.group import GroupCore
from sigrack_engine.keeping import Death
from sigrack_engine.slot import Processor

__all__ = ["GpuGroup", "GpuLane", "NoGpuError", "Room"]

CHILD = "sigrack.lanes.gpu_child:main"
LONG_S = MOST_S = 60.0
"""Of a good life; of the longest pause, so late at most a device is found that is healthy again."""
BUILD_S = 120.0
"""What a child may take to open the device and to compile its kernels, which it does once on each machine."""
CAUSE_S = 2.0
"""How long a render waits to hear why its GPU failed."""

Taps = npt.NDArray[np.floating]


class NoGpuError(ConfigError):
    """There is none that works, whatever is asked of it."""


@dataclass(frozen=True, slots=True)
class Room:
    """What filters a lane has room for."""

    most_taps: int
    all_paths: bool
    """Else those paths only that the first filter has, and as many different ones."""
    fade_frames: int
    """Of output, of a change."""


class GpuLane(Lane):
    """Lives that begin with the taps in force. All on the minder's loop but what says otherwise."""

    table = "group"
    more = ""

    def __init__(self, minder: Minder, orders: Orders, taps: Taps, room: Room, *, covered: bool) -> None:
        super().__init__(minder, orders, "the GPU", Policy(0, long_s=LONG_S, most_s=MOST_S))
        self.meanwhile = "the CPU plays meanwhile" if covered else "silence is played meanwhile"
        self._taps, self._room = taps, room
        self.device = ""
        self.device_bytes = 0
        self.changing = False
        """Other taps are on their way, or being faded in."""
        self._number = 0
        """Of the change that was asked for last."""
        self.on_change: Callable[[], object] = lambda: None
        """Called when other taps are in force. [minder]"""

    @property
    def _load_s(self) -> float:
        return BUILD_S

    async def open(self) -> None:
        """Begin the first life. Raises NoGpuError, ConfigError, EngineError."""
        await self._again()

    async def _again(self) -> Life[Exchange]:
        orders, taps = self._orders, self._taps
        argument = {"priority": orders.priority, "patient": orders.patient, "shape": orders.shape}
        life = await self._minder.start(CHILD, partial(Exchange, orders.shape, trusted=True), orders.memory_mb, argument)
        self._life = life
        life.on_note = self._hear
        try:
            self.device = await self._ask(life, "open")
        except ConfigError as error:
            raise NoGpuError(str(error)) from None
        room = {name: getattr(self._room, name) for name in Room.__slots__}
        said: Message = await self._ask(life, "load", **_packed(taps), **room)
        self.device_bytes = said["device_bytes"]
        while taps is not self._taps:  # changed meanwhile
            taps = self._taps
            await self._ask(life, "change", number=self._number, **_packed(taps))
        return life

    async def _live(self, life: Life[Exchange]) -> Death:
        self.changing = False
        return await super()._live(life)

    async def change(self, taps: Taps) -> None:
        """Let other taps fade in; the next life begins with them."""
        self._taps = taps
        self._number += 1
        if not (life := self._life) or self.state != "running":
            return
        self.changing = True
        try:
            await life.ask("change", BUILD_S, number=self._number, **_packed(taps))
        except RefusedError as error:
            life.kill("refused", str(error))
        except EndedError:
            pass

    def _hear(self, message: Message) -> None:
        if message["note"] == "changed" and message["number"] == self._number:
            self.changing = False
            self.on_change()

    def _note(self, cause: str, detail: str = "", stack: Sequence[str] = (), *, pid: int = 0, core: bool = False) -> None:
        said = detail if cause == "did not begin" else stack[0] if cause == f"exit code {FAILED}" and stack else ""
        if said:
            cause, detail, stack = _cause(said), said, ()
        super()._note(cause, detail, stack, pid=pid, core=core)

    async def cause(self) -> str:
        """Return why there is no output."""
        stop = asyncio.get_running_loop().time() + CAUSE_S
        while not self.last_death and asyncio.get_running_loop().time() < stop:
            await asyncio.sleep(0.001)
        return str(self.last_death["detail"] or self.last_death["cause"]) if self.last_death else "what it gave was no sound"

    async def end(self) -> None:
        """End the child in order, unless it still loads: that may take long, and nobody needs it any more."""
        if self.state == "restarting" and self._task and self._life and not self._life.ended.done():
            self._task.cancel()
            self._life.kill("not wanted")
            await self._life.ended
        await super().end()

    @property
    def facts(self) -> dict[str, Any]:
        """What STATS tells of it; frames are those that go out. [main]"""
        return super().facts | {"device": self.device, "device_mb": self.device_bytes / 2**20}


class GpuGroup:
    """What runs a group's filter: the lane, its cover, and the CPU's filter beside them. It stands for a GroupCore."""

    process_address, reset_address = Cover.process_address, Cover.reset_address

    def __init__(
        self, minder: Minder, orders: Orders, taps: Taps, room: Room, *, playing: Filter, fallback: GroupCore | None
    ) -> None:
        """Open the device. Raises NoGpuError, ConfigError, EngineError. [main, worker]

        `playing`: the same filter on the CPU; `fallback`, which runs it, is taken over.
        """
        self._minder, self._orders, self._fallback = minder, orders, fallback
        self.filter = playing
        """On the CPU: what plays, or will when it has caught up; without a fallback it only tells what it would take."""
        self.lane = GpuLane(minder, orders, taps, room, covered=fallback is not None)
        minder.call(self.lane.open())
        self._paths = None if room.all_paths else _paths(taps)
        self._most_taps = room.most_taps
        self.ratio = orders.shape.ratio
        self.history_frames = fallback.history_frames if fallback else -(-room.most_taps // self.ratio)
        self.late_frames = 0
        """By which what goes out is late."""
        self.on_change: Callable[[], object] = lambda: None
        """Called when a new filter is in force. [worker, minder]"""
        if fallback:
            fallback.on_change = lambda: self.on_change()
        else:
            self.lane.on_change = lambda: self.on_change()
        self._asked: Future[None] | None = None

    def begin(self, *, max_frames: int, latency_frames: int, fade_frames: int) -> None:
        """Let it play; `latency_frames` that go in, `fade_frames` that go out. Raises CoreError. [main, worker]"""
        fallback, orders = self._fallback, self._orders
        beside = Processor(GroupCore.process_address, GroupCore.reset_address, fallback.pointer) if fallback else None
        self.late_frames = latency_frames * self.ratio
        self.cover = Cover(
            orders.shape,
            max_frames=max_frames,
            latency_frames=latency_frames,
            late_frames=0,
            fade_frames=fade_frames,
            patient=orders.patient,
            fallback=beside,
            silent=True,
            warm_frames=-(-self._most_taps // self.ratio) if fallback else 0,
        )
        self.pointer = self.cover.pointer
        self._minder.call(self.lane.run(self.cover))

    def takes(self, taps: Taps) -> bool:
        """Whether the lane has room for other taps: not more of them, no other paths, and those equal that were. [any]"""
        if taps.shape[2] > self._most_taps:
            return False
        if self._paths is None:
            return True
        found: dict[int, int] = {-1: -1}
        ways = zip(self._paths, _paths(taps), strict=True)
        return all(found.setdefault(int(old), int(new)) == new for old, new in ways)

    def change(self, coming: Filter, taps: Taps) -> None:
        """Fade over to another filter: `coming` on the CPU, which is taken over, `taps` on the GPU. [main]"""
        if self._fallback:
            self._fallback.change(coming)
        else:
            self.filter.close()
        self.filter = coming
        self._asked = self._minder.submit(self.lane.change(taps))

    @property
    def catching_up(self) -> bool:
        """Whether a filter is on its way for which no block must run: freewheel waits. [main]"""
        return self._asked is not None and not self._asked.done()

    @property
    def changing(self) -> bool:
        """Whether a filter is on its way or being faded in. [any]"""
        return self.catching_up or self.lane.changing or bool(self._fallback and self._fallback.changing)

    def failure(self) -> str:
        """Return why there was no output where nothing covers for the device, or nothing. [main, in freewheel]"""
        return self._minder.call(self.lane.cause()) if self.cover.stats.dry else ""

    def end(self) -> None:
        """Let no change go on: the engine has left it. [main]"""
        if self._fallback:
            self._fallback.end()

    def join(self, limit_s: float) -> bool:
        """Wait until nobody is at work on it; False: not within `limit_s`. [main]"""
        return self._fallback.join(limit_s) if self._fallback else True

    def destroy(self) -> None:
        """End the child: the engine has left the lane for good. [control]"""
        self._minder.call(self.lane.end())

    def close(self) -> None:
        """Free the filters: it is destroyed, and `join` has returned True. [control]"""
        if self._fallback:
            self._fallback.close()
        else:
            self.filter.close()


def _cause(said: str) -> str:
    """Return what a device has said without where and when: deaths are counted by it."""
    found = re.search(r"(?:cudaError|CUDA_ERROR_)\w*: ([^\n(]+)", said)
    return found[1].strip() if found else "no output" if "output of" in said or "without output" in said else "CUDA error"


def _packed(taps: Taps) -> Message:
    """Return taps for a child."""
    samples = _floats(taps)
    return {"taps": samples.tobytes(), "paths": samples.shape}


def _floats(taps: Taps) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(taps, np.float32)


def _paths(taps: Taps) -> npt.NDArray[np.int_]:
    """Return which paths are zeros and which are equal, in one row."""
    from sigrack_engine.cuda.session import filter_of  # only racks with a GPU need it

    return np.ravel(filter_of(_floats(taps)))
