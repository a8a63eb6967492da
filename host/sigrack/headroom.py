"""How loud a rack can become: the gains of its groups and slots, and the attenuation that makes up for them."""

import asyncio
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING

from sigrack.groups import Group, GroupPlan
from sigrack.slot import Slot
from sigrack.stages import Paths, Stage, diagonal, level, paths_of
from sigrack.tables import HEADROOM
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["Headroom", "measured"]

MOST_DB = 119.0
"""What the plugin `gain` can attenuate by without muting."""
RAMP = 0.25
"""Length of a change, in fades. While a filter that is r times louder fades in, a ramp of 1/r of that keeps the level: 12 dB."""
LOOK_S = 0.02
"""How long after a fade it is looked whether all is over that needed more attenuation."""


def measured(rack: "Rack") -> list[Stage]:
    """Measure a rack as it is. [main]"""
    return _stages(rack, {group: paths_of(group.linear) for group in rack.groups}, own=True)


def _stages(rack: "Rack", paths: Mapping[Group, Paths], *, own: bool) -> list[Stage]:
    """Return what is known: all of groups, of native plugins what their parameters say. `own`: with the rack's own slots."""
    owned = {table.name for table in rack.document.config.own_slots}
    found = [stage for slot in rack.slots if slot.name not in owned and (stage := _stage(slot, paths))]
    if any(gains_db := rack.channels.gains_db.values()):
        found.append(Stage("channels", rack.out_setup, diagonal(gains_db)))
    return [*found, *(stage for slot in rack.slots if own and slot.name in owned and (stage := _stage(slot, paths)))]


def _stage(slot: Slot, paths: Mapping[Group, Paths]) -> Stage | None:
    """Return what a slot, or the group that begins with it, does; None: nothing that is known."""
    if slot.group and slot is slot.group.members[0]:
        group = slot.group
        alone = len(group.members) == 1 and slot.bypass
        return _unchanged(group.name, group.setup) if alone else Stage(group.name, group.setup, paths[group])
    known = "gain_db" in slot.values or "ceiling_db" in slot.values or slot.setup.inputs != slot.setup.outputs
    if slot.controls is None or slot.bypass or not known:
        return None
    gain_db, ceiling_db = slot.values.get("gain_db", 0.0), slot.values.get("ceiling_db", inf)
    return Stage(slot.name, slot.setup, diagonal([gain_db] * slot.setup.channels), ceiling_db)


def _unchanged(name: str, setup: Setup) -> Stage:
    """Return what a bypass does: the channels that would be written stay what they were."""
    kept = Setup(setup.rate_hz, setup.out_channels, setup.outputs, setup.outputs)
    return Stage(name, kept, diagonal([0.0] * setup.out_channels))


class Headroom:
    """Keeps the rack's own slot `headroom` at what the others need.

    More attenuation comes at once, and so fast that it stays ahead of a fade to what needs it; less comes when what needed more
    has faded out.
    """

    def __init__(self, rack: "Rack") -> None:
        self._rack = rack
        table = rack.document.config.rack
        self._mode = table.headroom if isinstance(table.headroom, str) else None
        self._fade_ms = table.fade_ms
        self._paths: Mapping[Group, Paths] = {}
        self._serial = 0
        self._given_db: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait on `loop`. [main]"""
        self._loop = loop

    def measure(self, plan: GroupPlan) -> dict[Group, Paths]:
        """Measure the groups of a plan, as far as they are not known. [main, worker]"""
        if self._mode is None:
            return {}
        new = {morph.group: morph.variant.linear for morph in plan.morphs} | {group: group.linear for group in plan.fresh}
        known = {group: self._paths[group] for group in plan.groups if group not in new}
        return known | {group: paths_of(linear) for group, linear in new.items()}

    def publish(self, paths: Mapping[Group, Paths], serial: int) -> None:
        """Follow the rack, whose groups these are from run list `serial` on. [main]"""
        self._paths, self._serial = paths, serial
        self.follow()

    def follow(self) -> None:
        """Follow the rack's groups, parameters and bypasses. [main]"""
        if self._mode is None or (slot := self._slot) is None:
            return
        wanted_db = self._wanted_db()
        if self._given_db is None:
            self._begin(slot, wanted_db)
        elif wanted_db > self._given_db:
            self._give(slot, wanted_db)
        elif wanted_db < self._given_db and self._rack.live:
            self._later()
        elif wanted_db < self._given_db:  # a render must not depend on how fast it runs: a filter that comes has caught up
            faded = self._rack.engine.frame + self._rack.block_frames + self._rack.fade_at(self._rack.setup.rate_hz)
            self._give(slot, wanted_db, faded * self._rack.engine.ratio)

    @property
    def _slot(self) -> Slot | None:
        return next((slot for slot in self._rack.slots if slot.name == HEADROOM), None)

    def _wanted_db(self) -> float:
        gains = level(_stages(self._rack, self._paths, own=False), self._rack.bus)
        return min(max(gains.tone_db if self._mode == "auto" else gains.worst_db, 0.0), MOST_DB)

    def _begin(self, slot: Slot, db: float) -> None:
        """Let the first frame have it."""
        self._given_db = db
        for name, value in (("smooth_ms", 0.0), ("gain_db", -db), ("smooth_ms", RAMP * self._fade_ms)):
            slot.set_param(name, value)

    def _give(self, slot: Slot, db: float, frame: int = 0) -> None:
        before, self._given_db = self._given_db, db
        try:
            slot.set_param("gain_db", -db, frame)
        except ValueError:  # too many changes wait
            self._given_db = before
            self._later()

    def _later(self) -> None:
        if self._loop and not self._waiting:
            self._waiting = True
            self._loop.call_later(self._fade_ms * 1e-3 + LOOK_S, self._look)

    def _look(self) -> None:
        """Give what is wanted now, if the engine has left what needed more."""
        self._waiting = False
        rack = self._rack
        if rack.stopped:
            return
        if rack.engine.stats.running < self._serial or any(group.convolver.changing for group in rack.groups):
            self._later()
        elif (db := self._wanted_db()) != self._given_db and (slot := self._slot):
            self._give(slot, db)
