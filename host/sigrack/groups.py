"""Groups: adjacent linear slots, compiled into one convolver, or one that runs as biquads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np

from sigrack.forms import alone
from sigrack.lanes.gpu import GpuGroup, GpuLane
from sigrack.parting import pieces, runs
from sigrack.runner import Runner
from sigrack_engine.biquads import Biquads
from sigrack_engine.compiler import Linear, compiled
from sigrack_engine.filter import Filter
from sigrack_engine.fir import Fir
from sigrack_engine.group import GroupCore
from sigrack_engine.recursion import Recursion
from sigrack_engine.slot import Processor, SlotCore
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Rack
    from sigrack.slot import Slot

__all__ = ["Group", "GroupPlan", "Morph", "Parts", "Variant", "plan_groups", "variant_of"]

Parts = tuple[tuple["Slot", bool], ...]
"""Members, each with whether it is left out."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Group(Runner):
    """What the rack holds for some adjacent linear slots."""

    members: "tuple[Slot, ...]"
    setup: Setup
    """What comes in."""
    linear: Linear | Recursion
    """What it does now: the product of the members that are not bypassed, or the biquads of its only one."""
    core: SlotCore
    convolver: GroupCore | GpuGroup
    parts: "Parts" = ()
    """The members, and whether each was bypassed, of which it was compiled."""
    ahead: "dict[Parts, Variant]" = field(default_factory=dict, init=False)
    """Filters that are ready for when a member is switched."""

    @property
    def name(self) -> str:
        """The names of its members."""
        return " + ".join(member.name for member in self.members)

    @property
    def steps(self) -> list[SlotCore]:
        """Its part of the run list."""
        return [self.core]

    @property
    def memory_bytes(self) -> int:
        """Memory that its filter holds."""
        return self.convolver.filter.bytes

    def end_streams(self) -> None:
        """Let a change that is on its way end. [main, when the engine has left it]"""
        self.convolver.end()

    def join(self, limit_s: float) -> bool:
        """Wait for a change that is on its way; False: it has not ended in time. [main]"""
        return self.convolver.join(limit_s)

    @property
    def lane(self) -> GpuLane | None:
        """Of one that runs on a GPU. [any]"""
        return self.convolver.lane if isinstance(self.convolver, GpuGroup) else None

    @property
    def out_rate_hz(self) -> int:
        """The rate that it puts out."""
        return self.setup.rate_hz * self.linear.ratio

    @property
    def backend(self) -> str:
        """Where it runs: `cpu` or `cuda`."""
        return "cuda" if self.lane else "cpu"

    @property
    def latency_frames(self) -> int:
        """By how much its output is behind its input, in frames of its output. [any]"""
        return self.linear.latency_frames + self.convolver.late_frames

    def change(self, parts: "Parts", variant: "Variant") -> None:
        """Fade over to another filter, as soon as that has caught up. [main]"""
        self.parts, self.linear = parts, variant.linear
        if isinstance(self.convolver, GpuGroup):
            assert isinstance(variant.linear, Linear)
            self.convolver.change(variant.filter, variant.linear.taps)
        else:
            self.convolver.change(variant.filter)

    def takes(self, linear: Linear | Recursion) -> bool:
        """Whether it has enough history, and its lane room, for another filter. [any]"""
        if isinstance(self.convolver, GpuGroup) and not (isinstance(linear, Linear) and self.convolver.takes(linear.taps)):
            return False
        return linear.memory_frames <= self.convolver.history_frames

    def destroy(self) -> None:
        """End its lane, if it has one. [control]"""
        self.convolver.destroy()

    def free(self) -> None:
        """Free what the engine used, and what was made for later. [main, worker]"""
        self.core.close()
        self.convolver.close()
        self.forget_variants()
        self.members = self.parts = ()

    @property
    def switches(self) -> "list[Parts]":
        """What it would be made of with one of its members switched. [main]"""
        if len(self.parts) < 2:
            return []
        flipped = [index for index, (slot, _) in enumerate(self.parts) if not slot.unbypassable]
        return [tuple((slot, out != (index == at)) for index, (slot, out) in enumerate(self.parts)) for at in flipped]

    def forget_variants(self, *, but: "Sequence[Parts]" = ()) -> None:
        """Free what was made for later, all `but` these. [main]"""
        for parts in [parts for parts in list(self.ahead) if parts not in but]:
            self.ahead.pop(parts).free()


@dataclass(frozen=True, slots=True)
class Variant:
    """A filter that a group may fade over to."""

    linear: Linear | Recursion
    filter: Filter

    def free(self) -> None:
        """It is not wanted. [any]"""
        self.filter.close()


@dataclass(frozen=True, slots=True)
class Morph:
    """Another filter for a group that stays."""

    group: Group
    parts: "Parts"
    variant: Variant


@dataclass(slots=True)
class GroupPlan:
    """The groups that a rack is to have, and what was made for them."""

    runs: "list[tuple[tuple[Slot, ...], Group]]" = field(default_factory=list)
    """Which slots become, or stay, which group."""
    fresh: list[Group] = field(default_factory=list)
    morphs: list[Morph] = field(default_factory=list)

    @property
    def groups(self) -> tuple[Group, ...]:
        """All of them, in their order."""
        return tuple(group for _, group in self.runs)

    def free(self) -> None:
        """It is not to be. [main, worker]"""
        for group in self.fresh:
            group.destroy()
            group.free()
        for morph in self.morphs:
            morph.variant.free()


def plan_groups(
    rack: "Rack", slots: "Sequence[Slot]", groups: Sequence[Group], heirs: "Mapping[Slot, Slot] | None" = None
) -> GroupPlan:
    """Plan the groups of `slots`: of `groups`, which are there now, those go on that can. Raises ConfigError. [main, worker]

    `heirs`: new slots, and whose place they take.
    """
    plan, heirs = GroupPlan(), heirs or {}
    found = [piece for run in runs(slots) for piece in pieces(rack, run, groups, heirs)]
    try:
        for piece, old in zip(found, _predecessors(found, groups, heirs), strict=True):
            _add(rack, plan, piece, old)
    except BaseException:
        plan.free()
        raise
    return plan


def _predecessors(
    found: "Sequence[tuple[Slot, ...]]", groups: Sequence[Group], heirs: "Mapping[Slot, Slot]"
) -> list[Group | None]:
    """Return for each piece the group that it continues: the only one whose members it has, when no other piece has any of them.

    Groups that are parted or joined begin anew, in the dip: what one of them does would be heard twice, or not at all, until the
    other had faded to its new filter.
    """
    home = {member: group for group in groups for member in group.members}
    ancestors = [{home[old] for slot in piece if (old := heirs.get(slot, slot)) in home} for piece in found]
    heard = Counter(group for olds in ancestors for group in olds)
    return [next(iter(olds)) if len(olds) == 1 and heard[next(iter(olds))] == 1 else None for olds in ancestors]


def _add(rack: "Rack", plan: GroupPlan, run: "tuple[Slot, ...]", old: Group | None) -> None:
    """Add the group of one run to the plan: an old one as it is, an old one with another filter, or a new one."""
    parts = _parts(run)
    if old and old.parts == parts:
        plan.runs.append((run, old))
        return
    variant = (old.ahead.pop(parts, None) if old else None) or variant_of(rack, parts)
    if old and _fits(old, run[0].setup, variant.linear) and _bypassed_whole(old.members) == _bypassed_whole(run):
        plan.runs.append((run, old))
        plan.morphs.append(Morph(old, parts, variant))
        return
    group = _build(rack, run, parts, variant)
    plan.runs.append((run, group))
    plan.fresh.append(group)


def variant_of(rack: "Rack", parts: "Parts") -> Variant:
    """Compile the filter of some members, those left out that are said to be. [main, worker]"""
    linear = alone(parts[0][0], rack) if len(parts) == 1 else _compiled(parts)
    if isinstance(linear, Recursion):
        return Variant(linear, Biquads(linear.stages))
    taps = linear.taps.astype(np.float32, copy=False)
    return Variant(linear, Fir(taps, phases=linear.ratio, block=rack.block_at(parts[0][0].setup.rate_hz)))


def _parts(run: "Sequence[Slot]") -> "Parts":
    """Return the slots of a run, and which of them a product leaves out. A single one has the bypass of its core instead."""
    return tuple((slot, slot.bypass and len(run) > 1) for slot in run)


def _compiled(parts: "Parts") -> Linear:
    return compiled([_nothing(slot) if bypassed else slot.linear for slot, bypassed in parts if slot.linear])


def _nothing(slot: "Slot") -> Linear:
    """Return what a bypassed slot does: it only delays, as it does when it is heard."""
    taps = np.zeros((slot.setup.channels, slot.setup.channels, slot.latency_frames + 1), np.float32)
    taps[range(slot.setup.channels), range(slot.setup.channels), -1] = 1.0
    return Linear(taps, 1, slot.latency_frames)


def _bypassed_whole(members: "Sequence[Slot]") -> bool:
    """Whether the bypass is the core's and not the product's: both cannot change hands at once without being heard."""
    return len(members) == 1 and members[0].bypass


def _fits(group: Group, setup: Setup, linear: Linear | Recursion) -> bool:
    """Whether a group can fade over to another filter: same rates, channels, latency, and room for it."""
    same = (setup, linear.ratio, linear.latency_frames) == (group.setup, group.linear.ratio, group.linear.latency_frames)
    return same and group.takes(linear)


def _build(rack: "Rack", run: "tuple[Slot, ...]", parts: "Parts", variant: Variant) -> Group:
    setup, linear = run[0].setup, variant.linear
    convolver = rack.backends.convolver(run, linear, variant.filter)
    processor = Processor(
        convolver.process_address,
        convolver.reset_address,
        convolver.pointer,
        latency_frames=linear.latency_frames + convolver.late_frames,
        ratio=linear.ratio,
    )
    try:
        core = SlotCore(
            processor,
            channels=setup.channels,
            max_frames=rack.block_at(setup.rate_hz),
            fade_frames=rack.fade_at(setup.rate_hz),
            active=not _bypassed_whole(run),
            place=rack.bus.place(setup),
        )
    except BaseException:
        convolver.destroy()
        convolver.close()
        raise
    group = Group(run, setup, linear, core, convolver, parts)
    convolver.on_change = partial(rack.tell_applied, ref(group))
    return group
