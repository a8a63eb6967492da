"""A plugin whose instance runs in a child, as the rack sees it: like one that was loaded into the host."""

import ctypes as c
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigrack.config import Document
from sigrack.errors import ConfigError
from sigrack.lanes.lane import Lane, Orders
from sigrack.lanes.messages import Message
from sigrack.lanes.minder import Minder
from sigrack.loading import ParamInfo
from sigrack.tables import SlotTable
from sigrack_engine.cover import Cover, latency_of
from sigrack_engine.exchange import Shape
from sigrack_plugins import Setup, abi

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["LaneInstance", "LanePlugin", "Room", "extent", "lane_orders"]

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


def lane_orders(rack: "Rack", document: Document, table: SlotTable, target: Path | str, setup: Setup) -> tuple[Orders, Room]:
    """Return how the lane of a slot is to be. Raises ConfigError. [any]"""
    if setup.out_channels != setup.channels:
        raise ConfigError(f"{table.name}: a processor gives as many channels as it takes: name as many in out as in in", ("out",))
    frames = rack.block_at(setup.rate_hz)
    quantum, quanta, latency_frames = extent(frames, setup.rate_hz, table.lane_blocks)
    orders = Orders(
        name=table.name,
        target=str(target),
        is_file=isinstance(target, Path),
        file=str(document.path.absolute()),
        shape=Shape(setup.channels, setup.channels, 1, quantum, quanta),
        rate_hz=setup.rate_hz,
        inputs=setup.inputs,
        outputs=setup.outputs,
        memory_mb=table.memory_mb,
        budget=table.crash_budget,
        priority=max(document.config.rack.priority - 1, 0) if rack.live else 0,
        patient=not rack.live,
        soundless_blocks=max(setup.rate_hz // frames, 1),
    )
    return orders, Room(frames, latency_frames, rack.fade_at(setup.rate_hz))


class LanePlugin:
    """What the first child has said of the plugin. One instance."""

    def __init__(self, minder: Minder, orders: Orders, room: Room) -> None:
        """Start a child that loads the plugin. Raises ConfigError, EngineError. [control]"""
        self._minder, self._orders, self._room = minder, orders, room
        self.lane = Lane(minder, orders)
        self._held = True
        try:
            said = minder.call(self.lane.load())
        except BaseException:
            self._held = False
            raise
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
        """End the child, if there was never an instance. [control]"""
        if self._held:
            self._held = False
            self._minder.call(self.lane.end())


class LaneInstance:
    """The processor in the child. Its methods stand for those of a native instance."""

    def __init__(self, plugin: LanePlugin, config: Mapping[str, Any], cookie: int, post: int) -> None:
        self.plugin, self.lane = plugin, plugin.lane
        self._minder, self._orders, self._room = plugin._minder, plugin._orders, plugin._room
        self._config = config
        self._state: tuple[str, bytes] | None = None
        self._cover: Cover | None = None
        self._post = abi.Post(post)
        self._cookie = cookie
        self.lane.on_results = self._deliver

    def load_state(self, version: str, data: bytes) -> None:
        """Keep what the first life begins with. [control]"""
        self._state = version, data

    def activate(self, *, rate_hz: int, max_frames: int, channels: int, values: list[float]) -> abi.Contract:
        """Let the first life begin; the latency is the child's and the lane's. Raises ConfigError. [control]"""
        assert (rate_hz, channels) == (self._orders.rate_hz, self._orders.shape.channels)
        names = [info.id for info in self.plugin.params]
        said = self._minder.call(self.lane.begin(self._config, self._state, dict(zip(names, values, strict=True))))
        late_frames = int(said["latency_frames"])
        self._cover = Cover(
            self._orders.shape,
            max_frames=max_frames,
            latency_frames=self._room.latency_frames,
            late_frames=late_frames,
            fade_frames=self._room.fade_frames,
            patient=self._orders.patient,
        )
        self.process_address, self.reset_address, self.pointer = Cover.process_address, Cover.reset_address, self._cover.pointer
        return abi.Contract(size=c.sizeof(abi.Contract), latency_frames=self._room.latency_frames + late_frames)

    def run(self, values: Mapping[str, float]) -> None:
        """Give the child to the engine, from the next block on; `values`: parameters as they will be. [control, worker]"""
        assert self._cover
        self._minder.call(self.lane.run(self._cover, values))

    def save_state(self) -> bytes | None:
        """Return the state, None: there is none. Raises ConfigError. [control]"""
        saved = self._minder.call(self.lane.save())
        return saved[1] if saved else None

    def settle(self) -> "Future[None]":
        """Let the results come that are still on their way; the engine gives it no more. [main]"""
        return self._minder.submit(self.lane.settle())

    def _deliver(self, message: Message) -> None:
        """Post what the child has posted. [minder]"""
        for factor, frame, values in message["records"]:
            numbers = (c.c_double * len(values))(*values)
            self._post(self._cookie, factor, frame, numbers, len(values))

    def destroy(self) -> None:
        """End the child: the engine has left the lane for good. [control]"""
        self._minder.call(self.lane.end())
