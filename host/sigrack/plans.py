"""What a change means: what the rack is to hold, what may stay, what must not change, and how to say it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from sigrack.config import Document
from sigrack.errors import ConfigError
from sigrack.groups import Group
from sigrack.lanes.shared import SharedLane
from sigrack.reaper import Thing
from sigrack.signals import SignalEngine
from sigrack.slot import Slot
from sigrack.tables import Config, SlotTable
from sigrack_plugins import Setup

__all__ = ["Plan", "adjust", "can_stay", "check_fixed", "check_kept", "check_latency", "in_words"]


LANE_KEYS = ("lane", "lane_blocks", "memory_mb", "crash_budget")


@dataclass(slots=True)
class Plan:
    """What the rack is to hold, once all of it is built."""

    slots: list[Slot] = field(default_factory=list)
    signals: list[SignalEngine] = field(default_factory=list)
    fresh: list[Thing] = field(default_factory=list)
    """What was built for it."""
    heirs: dict[Thing, Thing] = field(default_factory=dict)
    """New ones, and whose place they take."""
    along: list[Slot] = field(default_factory=list)
    """New ones in whose place nothing changes: they are built for a lane that others have changed."""
    drain: bool = True
    committed: bool = False

    @property
    def things(self) -> list[Thing]:
        """All that the rack is to hold."""
        return [*self.slots, *self.signals]


def can_stay(slot: Slot, table: SlotTable) -> bool:
    """Whether a running slot can go on under a new table: same plugin, same fixed options. [main]"""
    if slot.held:
        return table == slot.table
    own = slot.table
    if any(getattr(table, key) != getattr(own, key) for key in ("plugin", "config", *LANE_KEYS)):
        return False
    return not set(table.params) - set(slot.values)


def check_kept(document: Document, index: int, slot: Slot) -> None:
    """Raise ConfigError if a running slot cannot take its new parameters. [main]"""
    if slot.held:
        return
    table = document.config.slot[index]
    if table.bypass and (why := slot.unbypassable):
        document.fail(("slot", index, "bypass"), why)
    for name, value in table.params.items():
        try:
            slot.param(name).check(value)
        except ValueError as error:
            document.fail(("slot", index, "params", name), f"{slot.name}: {error}")


def check_fixed(old: Config, document: Document) -> None:
    """Raise ConfigError if a part is different that cannot change while the rack runs. [main]"""
    for name in Config.__struct_fields__:
        if name in ("slot", "signal"):
            continue
        if (before := getattr(old, name)) != (after := getattr(document.config, name)):
            several = isinstance(before, list)
            shown, key = (f"[[{name}]]", (name, 0) if after else (name,)) if several else (f"[{name}]", (name,))
            document.fail(key, f"{shown} cannot change while the rack runs; restart it")


def check_rates(document: Document, setup: Setup, slots: Sequence[Slot]) -> None:
    """Raise ConfigError if a slot would get another rate than it was made for: with a source of `setup`. [main]"""
    rate_hz = setup.rate_hz
    for slot in slots:
        if slot.setup.rate_hz != rate_hz:
            raise ConfigError(
                f"{document.path}: {slot.name} runs at {slot.setup.rate_hz} Hz and would get {rate_hz} Hz: what changes the rate "
                "can come and go only by the rack's file, at a start"
            )
        rate_hz = slot.out_rate_hz


class Late(Protocol):
    """What holds slots, and the groups that run them."""

    @property
    def slots(self) -> Sequence[Slot]:
        """In their order."""

    @property
    def groups(self) -> Sequence[Group]:
        """In their order."""

    @property
    def lanes(self) -> Sequence[SharedLane]:
        """That slots share."""


def check_latency(document: Document, before: Late, after: Late) -> None:
    """Raise ConfigError if the latency changes where the head of the output was trimmed by it: with a file source. [main]"""
    if document.config.source.driver != "file" or _latency(before) == _latency(after):
        return
    why = "start again"
    if len(before.groups) != len(after.groups) and any(group.lane for group in (*before.groups, *after.groups)):
        why = "there would be other groups with a GPU's latency each"
    elif sum(slot.lane is not None for slot in before.slots) != sum(slot.lane is not None for slot in after.slots):
        why = 'a process of its own takes a block of it, lane = "inline" does not'
    raise ConfigError(f"{document.path}: the latency cannot change while a file source runs: {why}")


def _latency(rack: Late) -> Fraction:
    """Return the latency of all in seconds."""
    late = [Fraction(slot.latency_frames, slot.out_rate_hz) for slot in rack.slots]
    late += [Fraction(group.convolver.late_frames, group.out_rate_hz) for group in rack.groups]
    return sum([*late, *(Fraction(lane.latency_frames, lane.rate_hz) for lane in rack.lanes)], Fraction())


def in_words(before: Sequence[Thing], plan: Plan) -> list[str]:
    """Return what a plan changes, in words. [main]"""
    after = plan.things
    swapped = list(plan.heirs)
    replaced = list(plan.heirs.values())
    words = [f"removed {thing.name}" for thing in before if thing not in after and thing not in replaced]
    words += [f"added {thing.name}" for thing in plan.fresh if thing not in swapped]
    words += [f"changed {thing.name}" for thing in swapped]
    if not words and list(before) != after:
        words.append("changed the order")
    return words


def adjust(config: Config, slots: list[Slot]) -> list[str]:
    """Bring to kept slots what the file says now and did not say before; what was set by control stays otherwise."""
    changed = []
    tables = {table.name: table for table in config.slot}
    for slot in slots:
        table = tables[slot.name]
        initial = {info.id: info.initial for info in slot.plugin.params}
        before = initial | slot.table.params
        for name, value in (initial | table.params).items():
            if value != before[name]:
                changed.append(_set(slot, name, value))
        if table.bypass != slot.table.bypass:
            slot.set_bypass(table.bypass)
            changed.append(f"{slot.name} {'bypassed' if table.bypass else 'active'}")
        slot.table = table
    return changed


def _set(slot: Slot, name: str, value: float) -> str:
    try:
        return f"{slot.name}.{name} = {slot.set_param(name, value):g}"
    except ValueError as error:  # what else changes is in force already
        return f"not {slot.name}.{name}: {error}"
