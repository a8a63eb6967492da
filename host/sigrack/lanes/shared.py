"""Lanes that several slots share: one process, one exchange of audio, one latency."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from sigrack.errors import ConfigError
from sigrack.lanes.plugin import Home, own_home
from sigrack.lanes.plugin_lane import Member
from sigrack.runner import Runner
from sigrack.tables import SlotTable
from sigrack_engine.chain import MOST_MEMBERS, change_of, switch_of
from sigrack_engine.cover import Cover
from sigrack_engine.slot import Processor, SlotCore
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Rack
    from sigrack.slot import Slot

__all__ = ["Place", "SharedLane", "SharedLanes", "assembled", "is_whole", "lane_of", "lane_runs", "let_go"]

PREFIX = "process:"
MOST_LATE_FRAMES = 1 << 22  # COVER_LATEST


@dataclass(eq=False, slots=True)
class Place:
    """Of a slot in a shared lane: what it is told goes to the child by the lane's core."""

    lane: "SharedLane"
    number: int = 0
    """Counted from the first that plays."""

    def set(self, param: int, value: float, frame: int = 0) -> bool:
        """Set parameter number `param` from `frame` on (0: now); False if too many changes wait. [main]"""
        core = self.lane.core
        return core is None or core.set(change_of(self.number, param), value, frame)  # None: the child begins so, or has gone

    def activate(self, active: bool) -> bool:
        """Cross-fade to the processor, or to what came in before it; False if too many changes wait. [main]"""
        core = self.lane.core
        return core is None or core.set(switch_of(self.number), float(active))


@dataclass(eq=False, slots=True)
class SharedLane(Runner):
    """What the rack holds for the slots of one lane: it fills while they are built, is assembled, and then never changes."""

    name: str
    home: Home
    table: SlotTable
    """Of the slot that came first: the others must say the same of the lane."""
    setup: Setup
    members: "tuple[Slot, ...]" = ()
    """In the order in which they play; none before it was assembled."""
    core: SlotCore | None = field(default=None, init=False)

    @property
    def steps(self) -> list[SlotCore]:
        """Its part of the run list."""
        return [self.core] if self.core else []

    @property
    def latency_frames(self) -> int:
        """What the exchange of audio takes, beside what the members are late. [any]"""
        return self.home.room.latency_frames

    @property
    def rate_hz(self) -> int:
        """At its place. [any]"""
        return self.setup.rate_hz

    def check(self, table: SlotTable, setup: Setup) -> None:
        """Raise ConfigError if another slot cannot share it. [any]"""
        shares = f'"{self.table.name}", which shares {PREFIX}{self.name}'
        for key in ("lane_blocks", "memory_mb", "crash_budget"):
            if (own := getattr(table, key)) != (other := getattr(self.table, key)):
                raise ConfigError(f"{table.name}: {key} = {own}, but {other} in {shares}: say the same", (key,))
        if setup != self.setup:
            raise ConfigError(f"{table.name}: it hears or writes other channels than {shares}", ("lane",))

    def assemble(self, rack: "Rack", members: "tuple[Slot, ...]") -> None:
        """Let the members play, in this order. Raises ConfigError, EngineError, CoreError. [main, worker]"""
        lane = f'{rack.document.path}: lane "{PREFIX}{self.name}"'
        if len(members) > MOST_MEMBERS:
            raise ConfigError(f"{lane} has {len(members)} slots; {MOST_MEMBERS} are the most")
        late_frames = sum(slot.latency_frames for slot in members)
        if self.latency_frames + late_frames > MOST_LATE_FRAMES:
            raise ConfigError(f"{lane} is {late_frames} frames late by its slots; {MOST_LATE_FRAMES} are the most")
        cover = self.home.cover(late_frames)
        try:
            self.core = self._core(rack, cover, self.latency_frames + late_frames)
        except BaseException:
            cover.close()
            raise
        self.members = members
        self.home.hold()
        self.home.lane.tell = rack.tell
        try:
            self.home.call(self.home.lane.start([_placed(rack, slot, number) for number, slot in enumerate(members)], cover))
        except BaseException:
            self.destroy()
            self.free()
            raise

    def _core(self, rack: "Rack", cover: Cover, latency_frames: int) -> SlotCore:
        processor = Processor(Cover.process_address, Cover.reset_address, cover.pointer, latency_frames=latency_frames)
        return SlotCore(
            processor,
            channels=self.setup.channels,
            max_frames=self.home.room.max_frames,
            fade_frames=self.home.room.fade_frames,
            active=True,
            place=rack.bus.place(self.setup),
        )

    def destroy(self) -> None:
        """Let the lane go: the engine has left it for good. [control]"""
        self.home.release()

    def free(self) -> None:
        """Free what the engine used. [main, worker]"""
        if self.core:
            self.core.close()
            self.core = None
        self.members = ()


def _placed(rack: "Rack", slot: "Slot", number: int) -> Member:
    """Let a slot know its place, and its member of the lane how the slot is."""
    assert slot.place
    slot.place.number = number
    member = slot.member
    member.values = slot.values
    member.is_active = lambda: not slot.bypass
    member.on_life = partial(rack.soon, slot.set_again)
    return member


class SharedLanes:
    """Those that slots are being built for."""

    def __init__(self, rack: "Rack") -> None:
        self._rack = rack
        self._open: dict[str, SharedLane] = {}

    def begin(self) -> None:
        """Another change begins: what an earlier one has left unfinished is nobody's. [main]"""
        self._open.clear()

    def enter(self, table: SlotTable, setup: Setup) -> Home:
        """Return the home of the lane that a slot is to be built for. Raises ConfigError. [main, worker]"""
        name = table.lane_name
        lane = self._open.get(name)
        if lane is None or lane.members or not lane.home.held:
            home = own_home(self._rack, table, setup, name)
            lane = self._open[name] = home.owner = SharedLane(name, home, table, setup)
        lane.check(table, setup)
        return lane.home


def lane_runs(rack: "Rack", slots: "Iterable[Slot]") -> "list[tuple[Slot, ...]]":
    """Return the slots of each shared lane, in their order. Raises ConfigError where others stand between them. [any]"""
    found: dict[str, list[Slot]] = {}
    behind: dict[str, Slot] = {}
    for slot in slots:
        if not (slot.place or slot.steps or slot.is_linear):
            continue
        own = slot.place.lane.name if slot.place else ""
        if own in behind:
            raise ConfigError(
                f'{rack.document.path}: "{found[own][-1].name}" and "{slot.name}" share lane "{PREFIX}{own}" and must stand '
                f'side by side: "{behind[own].name}" stands between them'
            )
        for name in found.keys() - {own}:
            behind.setdefault(name, slot)
        if own:
            found.setdefault(own, []).append(slot)
    return [tuple(run) for run in found.values()]


def assembled(rack: "Rack", slots: "Sequence[Slot]") -> tuple[SharedLane, ...]:
    """Return the shared lanes of these slots, all at work. Raises ConfigError, EngineError, CoreError. [main, worker]"""
    lanes: list[SharedLane] = []
    fresh: list[SharedLane] = []
    try:
        for run in lane_runs(rack, slots):
            lane = lane_of(run[0])
            if not lane.members:
                lane.assemble(rack, run)
                fresh.append(lane)
            lanes.append(lane)
    except BaseException:
        let_go(fresh)
        raise
    return tuple(lanes)


def let_go(lanes: "Iterable[SharedLane]") -> None:
    """End lanes that the engine never had. [main, worker]"""
    for lane in lanes:
        lane.destroy()
        lane.free()


def lane_of(slot: "Slot") -> SharedLane:
    """Return the lane of a slot that has a place in one. [any]"""
    assert slot.place
    return slot.place.lane


def is_whole(run: "Sequence[Slot]") -> bool:
    """Whether slots that are to share a lane do: all in one that is not at work yet, or just the members of one that is. [any]"""
    lanes = {lane_of(slot) for slot in run}
    return len(lanes) == 1 and all(lane.members in ((), tuple(run)) for lane in lanes)
