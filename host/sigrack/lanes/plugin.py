"""A plugin whose instance runs in a child, as the rack sees it: like one that was loaded into the host."""

import ctypes as c
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sigrack.config import Document
from sigrack.errors import ConfigError
from sigrack.lanes.lane import Orders
from sigrack.lanes.messages import Message
from sigrack.lanes.minder import Minder
from sigrack.lanes.plugin_lane import MemberOrders, PluginLane
from sigrack.loading import ParamInfo
from sigrack.tables import SlotTable
from sigrack_engine.cover import Cover, latency_of
from sigrack_engine.exchange import Shape
from sigrack_plugins import Setup, abi

if TYPE_CHECKING:
    from sigrack.lanes.shared import SharedLane
    from sigrack.rack import Rack

__all__ = ["Home", "LaneInstance", "LanePlugin", "Room", "extent", "member_orders", "own_home"]

Result = TypeVar("Result")

RING_S = 0.25
"""By how much a child may fall behind before it gets no more input."""
MOST_QUANTUM, MOST_QUANTA = 65_536, 1024


@dataclass(frozen=True, slots=True)
class Room:
    """What the rack gives a lane beside its orders."""

    max_frames: int
    """Of an engine block at its place."""
    latency_frames: int
    """What the exchange of audio takes."""
    fade_frames: int


def extent(frames: int, rate_hz: int, blocks: int = 1) -> tuple[int, int, int]:
    """Return a quantum, how many a ring holds, and the latency, for a child that may take `blocks` of `frames` for one. [any]"""
    quantum = 1 << (min(frames, MOST_QUANTUM).bit_length() - 1)
    latency_frames = latency_of(quantum, frames) + (blocks - 1) * frames
    reach = latency_frames + frames + round(RING_S * rate_hz)
    return quantum, min(-(-reach // quantum), MOST_QUANTA), latency_frames


class Home:
    """The lane of one slot, or of several: it ends with the last who holds it."""

    def __init__(self, minder: Minder, orders: Orders, room: Room, *, shared: bool = False) -> None:
        """Nothing runs yet. [any]"""
        self.lane = PluginLane(minder, orders, shared=shared, fade_frames=room.fade_frames)
        self.orders, self.room = orders, room
        self.owner: SharedLane | None = None
        """Of several slots."""
        self._minder = minder
        self._lock = threading.Lock()
        self._holders = 0

    def call(self, work: "Coroutine[Any, Any, Result]") -> Result:
        """Let the minder do something, and wait for it. [control, worker]"""
        return self._minder.call(work)

    def submit(self, work: "Coroutine[Any, Any, Result]") -> "Future[Result]":
        """Let the minder do something. [any]"""
        return self._minder.submit(work)

    def hold(self) -> None:
        """Keep it. [control, worker]"""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """Let it go: the last one ends the child; the engine has left the lane. [control]"""
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last:
            self._minder.call(self.lane.end())

    @property
    def held(self) -> bool:
        """Whether anybody does."""
        return self._holders > 0

    def cover(self, late_frames: int) -> Cover:
        """Make what stands for it in the run list; `late_frames`: of what runs in it. Raises CoreError. [control, worker]"""
        return Cover(
            self.orders.shape,
            max_frames=self.room.max_frames,
            latency_frames=self.room.latency_frames,
            late_frames=late_frames,
            fade_frames=self.room.fade_frames,
            patient=self.orders.patient,
        )


def own_home(rack: "Rack", table: SlotTable, setup: Setup, name: str = "") -> Home:
    """Return the lane that a slot asks for, its own or the one of that name. Raises ConfigError. [any]"""
    if setup.out_channels != setup.channels:
        raise ConfigError(f"{table.name}: a processor gives as many channels as it takes: name as many in out as in in", ("out",))
    frames = rack.block_at(setup.rate_hz)
    quantum, quanta, latency_frames = extent(frames, setup.rate_hz, table.lane_blocks)
    orders = Orders(
        name=name or table.name,
        shape=Shape(setup.channels, setup.channels, 1, quantum, quanta),
        rate_hz=setup.rate_hz,
        memory_mb=table.memory_mb,
        budget=table.crash_budget,
        priority=max(rack.document.config.rack.priority - 1, 0) if rack.live else 0,
        patient=not rack.live,
        soundless_blocks=max(setup.rate_hz // frames, 1),
    )
    return Home(rack.minder, orders, Room(frames, latency_frames, rack.fade_at(setup.rate_hz)), shared=bool(name))


def member_orders(document: Document, table: SlotTable, target: Path | str, setup: Setup) -> MemberOrders:
    """Return what a lane is to load for a slot. [any]"""
    return MemberOrders(
        name=table.name,
        target=str(target),
        is_file=isinstance(target, Path),
        file=str(document.path.absolute()),
        inputs=setup.inputs,
        outputs=setup.outputs,
    )


class LanePlugin:
    """What the first child has said of the plugin. One instance."""

    def __init__(self, home: Home, orders: MemberOrders) -> None:
        """Let the lane's child load the plugin. Raises ConfigError, EngineError. [control]"""
        self.home = home
        home.hold()
        self._held = True
        try:
            self.member = home.call(home.lane.load(orders))
        except BaseException:
            self.close()
            raise
        said = self.member.description
        self.path = Path(orders.target) if orders.is_file else orders.target
        self.kind = str(said["kind"])
        self.id = str(said["id"])
        self.name = str(said["name"])
        self.version = str(said["version"])
        self.description = str(said["description"])
        self.stateful = bool(said["stateful"])
        self.params = [ParamInfo(**info) for info in said["params"]]
        self.factors: dict[str, str] = dict(said["factors"])

    def create(self, config: Mapping[str, Any], cookie: int, post: int) -> "LaneInstance":
        """Make the instance, which posts through `cookie`. [control]"""
        self._held = False
        return LaneInstance(self, config, cookie, post)

    def close(self) -> None:
        """Let the lane go, if there was never an instance. [control]"""
        if self._held:
            self._held = False
            self.home.release()


class LaneInstance:
    """The processor in the child. Its methods stand for those of a native instance."""

    def __init__(self, plugin: LanePlugin, config: Mapping[str, Any], cookie: int, post: int) -> None:
        self.plugin, self.home, self.member, self.lane = plugin, plugin.home, plugin.member, plugin.home.lane
        self._config = config
        self._state: tuple[str, bytes] | None = None
        self._cover: Cover | None = None
        self._post = abi.Post(post)
        self._cookie = cookie
        self.member.on_results = self._deliver
        self.process_address = self.pointer = 0
        """Of what stands for a lane of its own in the run list; a shared lane stands there for all its members."""
        self.reset_address: int | None = None

    def load_state(self, version: str, data: bytes) -> None:
        """Keep what the first life begins with. [control]"""
        self._state = version, data

    def activate(self, *, rate_hz: int, max_frames: int, channels: int, values: list[float]) -> abi.Contract:
        """Let the first life begin; the latency is the processor's and that of its own lane. Raises ConfigError. [control]"""
        assert (rate_hz, channels) == (self.home.orders.rate_hz, self.home.orders.shape.channels)
        names = [info.id for info in self.plugin.params]
        begun = self.lane.begin(self.member, self._config, self._state, dict(zip(names, values, strict=True)))
        late_frames = int(self.home.call(begun)["latency_frames"])
        if self.home.owner:
            return abi.Contract(size=c.sizeof(abi.Contract), latency_frames=late_frames)
        self._cover = self.home.cover(late_frames)
        self.process_address, self.reset_address, self.pointer = Cover.process_address, Cover.reset_address, self._cover.pointer
        return abi.Contract(size=c.sizeof(abi.Contract), latency_frames=self.home.room.latency_frames + late_frames)

    def run(self, values: Mapping[str, float]) -> None:
        """Give the child to the engine, from the next block on; `values`: parameters as they will be. [control, worker]"""
        assert self._cover
        self.member.values = values
        self.home.call(self.lane.start([self.member], self._cover))

    def save_state(self) -> bytes | None:
        """Return the state, None: there is none. Raises ConfigError. [control]"""
        saved = self.home.call(self.lane.save(self.member))
        return saved[1] if saved else None

    def settle(self) -> "Future[None]":
        """Let the results come that are still on their way; the engine gives it no more. [main]"""
        return self.home.submit(self.lane.settle())

    def _deliver(self, message: Message) -> None:
        """Post what the child has posted. [minder]"""
        for factor, frame, values in message["records"]:
            numbers = (c.c_double * len(values))(*values)
            self._post(self._cookie, factor, frame, numbers, len(values))

    def destroy(self) -> None:
        """Leave the lane: the engine has left the slot for good. [control]"""
        self.home.call(self.lane.leave(self.member))
        self.home.release()
