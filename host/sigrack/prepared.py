"""What a rack needs that is to hold some slots and signal engines, made on a worker before the main loop commits it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sigrack.dispatch import Snapshot
from sigrack.errors import ConfigError, EngineError
from sigrack.groups import Group, GroupPlan, plan_groups
from sigrack.lanes.shared import SharedLane, assembled, let_go
from sigrack.reaper import Thing
from sigrack.signals import SignalEngine
from sigrack.slot import Slot
from sigrack.stages import Paths
from sigrack_engine.crash import step_names
from sigrack_engine.engine import RunList, Step
from sigrack_engine.errors import CoreError

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["Prepared", "Steps", "prepare", "snapshot_of"]

MOST_STEPS = 254
"""In a run list, beside the faders: the engine's progress word has eight bits for them."""

Steps = tuple[Step, ...]


@dataclass(slots=True)
class Prepared:
    """Slots and signal engines, and what the engine and the dispatcher need to run them."""

    slots: tuple[Slot, ...]
    signals: tuple[SignalEngine, ...]
    groups: tuple[Group, ...]
    plan: GroupPlan
    """How they come to be."""
    lanes: tuple[SharedLane, ...]
    fresh_lanes: tuple[SharedLane, ...]
    """Those of them that are new."""
    run_list: RunList | None
    """None: the one that runs."""
    names: tuple[str, ...]
    """Whose each step is."""
    noted: bytes
    """The same for the crash record."""
    snapshot: Snapshot
    gone: tuple[Thing, ...] = ()
    """What is taken out: what it still has is delivered until it is forgotten."""
    deaf: frozenset[Thing] = frozenset()
    """Those of them that no longer get what others post."""
    leaving: Snapshot = field(default_factory=Snapshot)
    """The dispatcher's, of all that is gone."""
    old: tuple[Group | SharedLane, ...] = ()
    """Groups and shared lanes that go."""
    paths: dict[Group, Paths] = field(default_factory=dict)
    """Of the groups, if the rack's headroom follows them."""

    def free(self) -> None:
        """It will not be published. [main, worker]"""
        self.plan.free()
        let_go(self.fresh_lanes)
        if self.run_list:
            self.run_list.free()

    def give_up(self) -> tuple[Group | SharedLane, ...]:
        """Return what must end in its own time, before `free`: a lane's end takes longer than the main loop may wait. [main]"""
        fresh: tuple[Group | SharedLane, ...] = (*self.plan.fresh, *self.fresh_lanes)
        self.plan.fresh, self.fresh_lanes = [], ()
        return fresh


def prepare(rack: "Rack", slots: Sequence[Slot], signals: Sequence[SignalEngine], heirs: Mapping[Thing, Thing]) -> Prepared:
    """Make what a rack of these needs. Raises ConfigError if that is too much for one. [main, worker]

    `heirs`: new ones, and whose place they take: they get from now on what others post.
    """
    try:
        return _prepare(rack, slots, signals, heirs)
    except CoreError as error:
        raise EngineError(str(error)) from None


def _prepare(rack: "Rack", slots: Sequence[Slot], signals: Sequence[SignalEngine], heirs: Mapping[Thing, Thing]) -> Prepared:
    taking = {new: old for new, old in heirs.items() if isinstance(new, Slot) and isinstance(old, Slot)}
    plan = plan_groups(rack, slots, rack.groups, taking)
    fresh_lanes: tuple[SharedLane, ...] = ()
    try:
        lanes = assembled(rack, slots)
        fresh_lanes = tuple(lane for lane in lanes if lane not in rack.lanes)
        paths = rack.headroom.measure(plan)
        named = _steps(rack, slots, plan, lanes, signals)
        run_list = _run_list(rack, tuple(step for step, _ in named))
    except BaseException:
        plan.free()
        let_go(fresh_lanes)
        raise
    things: tuple[Thing, ...] = (*slots, *signals)
    names = tuple(name for _, name in named)
    gone = tuple(thing for thing in rack.things if thing not in things)
    deaf = frozenset(heirs.values())
    return Prepared(
        slots=tuple(slots),
        signals=tuple(signals),
        groups=plan.groups,
        plan=plan,
        lanes=lanes,
        fresh_lanes=fresh_lanes,
        run_list=run_list,
        names=names,
        noted=step_names(names),
        snapshot=snapshot_of(things),
        gone=gone,
        deaf=deaf,
        leaving=snapshot_of(gone, deaf),
        old=(
            *(group for group in rack.groups if group not in plan.groups),
            *(lane for lane in rack.lanes if lane not in lanes),
        ),
        paths=paths,
    )


def snapshot_of(things: Iterable[Thing], deaf: frozenset[Thing] = frozenset()) -> Snapshot:
    """Return what a turn of the dispatcher asks and calls; those in `deaf` are not called with what others post. [any]"""
    things = tuple(things)
    listening = [thing.hooked for thing in things if thing.hooked and thing not in deaf]
    return Snapshot(
        sources=tuple(thing.source for thing in things if thing.source),
        taps=tuple(thing.hook_tap for thing in things if thing.hook_tap),
        factor_hooks=tuple(hooked for hooked in listening if hooked.methods & {"on_factors", "on_factor"}),
        data_hooks=tuple(hooked for hooked in listening if "on_data" in hooked.methods),
    )


def _run_list(rack: "Rack", steps: Steps) -> RunList | None:
    if len(steps) - 1 > MOST_STEPS:
        raise ConfigError(f"{rack.document.path}: the rack has more than {MOST_STEPS} processors and taps")
    if steps == rack.steps:
        return None
    run_list = RunList(steps)
    if run_list.ratio != rack.engine.ratio:
        run_list.free()
        raise ConfigError(f"{rack.document.path}: the rate that goes out cannot change while the rack runs; restart it")
    return run_list


def _steps(
    rack: "Rack", slots: Sequence[Slot], plan: GroupPlan, lanes: Sequence[SharedLane], signals: Sequence[SignalEngine]
) -> list[tuple[Step, str]]:
    """Return the steps of a run list, and whose each is. A group or a shared lane stands where its first member does."""
    assert rack.channels.faders
    first = {run[0]: group.steps for run, group in plan.runs} | {lane.members[0]: lane.steps for lane in lanes}
    own = {table.name for table in rack.document.config.own_slots}
    before: list[tuple[Step, str]] = []
    behind: list[tuple[Step, str]] = []
    for slot in slots:
        before.extend((step, slot.name) for step in first.get(slot, ()))
        (behind if slot.name in own else before).extend((step, slot.name) for step in slot.steps)
    behind += [(tap, signal.name) for signal in signals for tap in signal.taps]
    return [*before, (rack.channels.faders, "the channels' faders"), *behind]
