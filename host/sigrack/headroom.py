"""How loud a rack can become: the gains of its groups and slots, and the attenuation that makes up for them."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sigrack.config import HEADROOM
from sigrack.groups import Group, GroupPlan
from sigrack.slot import Slot
from sigrack_engine.compiler import Linear
from sigrack_plugins._headroom import highest_gain_db

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["Gains", "Headroom", "Stage", "gains_of", "level", "measured"]

MOST_DB = 119.0
"""What the plugin `gain` can attenuate by without muting."""
RAMP = 0.25
"""Length of a change, in fades. While a filter that is r times louder fades in, a ramp of 1/r of that keeps the level: 12 dB."""
LOOK_S = 0.02
"""How long after a fade it is looked whether all is over that needed more attenuation."""


class Gains(NamedTuple):
    """What a filter can add, in dB."""

    tone_db: float
    """To a tone in each input, each of the frequency that is raised most."""
    worst_db: float
    """To any sound: the bound that none exceeds."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one step of the rack does to the level."""

    name: str
    gains: Gains
    ceiling_db: float = inf
    """Nothing that comes out is louder."""


def gains_of(linear: Linear) -> Gains:
    """Measure a filter. Each phase of one that raises the rate is a filter by itself. [any]"""
    outputs, ratio = len(linear.taps), linear.ratio
    filters = [linear.taps[output, :, phase::ratio] for output in range(outputs) for phase in range(ratio)]
    tone = max(sum(10 ** (highest_gain_db(path[None, None]) / 20) for path in paths) for paths in filters)
    worst = max(float(np.abs(paths).sum(dtype=np.float64)) for paths in filters)
    return Gains(_db(tone), _db(worst))


def _db(gain: float) -> float:
    return float(20 * np.log10(max(gain, 1e-30)))


def _stages(slots: Iterable[Slot], gains: Mapping[Group, Gains]) -> list[Stage]:
    """Return what is known of the level along `slots`: all of groups, of native plugins what their parameters say."""
    found: list[Stage] = []
    for slot in slots:
        if (group := slot.group) and slot is group.members[0]:
            alone = len(group.members) == 1 and slot.bypass
            found.append(Stage(group.name, Gains(0.0, 0.0) if alone else gains[group]))
        elif not slot.bypass and ("gain_db" in slot.values or "ceiling_db" in slot.values):
            gain_db = slot.values.get("gain_db", 0.0)
            found.append(Stage(slot.name, Gains(gain_db, gain_db), slot.values.get("ceiling_db", inf)))
    return found


def level(stages: Iterable[Stage]) -> Gains:
    """Return what comes out at most, in dBFS, when full scale comes in. [any]"""
    tone_db = worst_db = 0.0
    for stage in stages:
        tone_db = min(tone_db + stage.gains.tone_db, stage.ceiling_db)
        worst_db = min(worst_db + stage.gains.worst_db, stage.ceiling_db)
    return Gains(tone_db, worst_db)


def measured(rack: "Rack") -> list[Stage]:
    """Measure a rack as it is. [main]"""
    return _stages(rack.slots, {group: gains_of(group.linear) for group in rack.groups})


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
        self._own = {own.name for own in table.own_slots}
        self._gains: Mapping[Group, Gains] = {}
        self._serial = 0
        self._given_db: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait on `loop`. [main]"""
        self._loop = loop

    def measure(self, plan: GroupPlan) -> dict[Group, Gains]:
        """Measure the groups of a plan, as far as they are not known. [main, worker]"""
        if self._mode is None:
            return {}
        new = {morph.group: morph.variant.linear for morph in plan.morphs} | {group: group.linear for group in plan.fresh}
        known = {group: self._gains[group] for group in plan.groups if group not in new}
        return known | {group: gains_of(linear) for group, linear in new.items()}

    def publish(self, gains: Mapping[Group, Gains], serial: int) -> None:
        """Follow the rack, whose groups these are from run list `serial` on. [main]"""
        self._gains, self._serial = gains, serial
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
        gains = level(_stages([slot for slot in self._rack.slots if slot.name not in self._own], self._gains))
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
