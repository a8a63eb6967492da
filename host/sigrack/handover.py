"""What passes from an instance to its successor, and when each of the two may do what."""

import asyncio
import time
from collections.abc import Sequence

from sigrack.errors import ConfigError
from sigrack.plans import Plan
from sigrack.reaper import Thing
from sigrack.slot import Slot

__all__ = ["cut_off", "hand_over", "pause", "start", "take_place"]

BUSY_S = 1.0
"""How long a swap waits for coroutine hooks of the old instance."""


async def pause(thing: Thing) -> None:
    """Wait for the coroutine hook that runs, and let no other begin. Raises ConfigError if it does not end."""
    if thing.hooked is None:
        return
    thing.hooked.pause()
    stop = time.monotonic() + BUSY_S
    while thing.hooked.busy:
        if time.monotonic() > stop:
            raise ConfigError(f"{thing.name}: a coroutine hook did not end within {BUSY_S:g} s")
        await asyncio.sleep(0.001)


def start(things: Sequence[Thing]) -> None:
    """Start what is new; what it asks for waits until it is in the rack. Raises RackError."""
    for thing in things:
        if isinstance(thing, Slot):
            if thing.context:
                thing.context.hold()
            thing.start()


def hand_over(plan: Plan) -> None:
    """Hand the states over, start threads: the last that may be refused. Raises RackError; then the old ones go on."""
    for thing in plan.fresh:
        if isinstance(thing, Slot) and isinstance(old := plan.heirs.get(thing), Slot):
            thing.inherit(old)
        thing.begin()


def take_place(new: Thing, old: Thing, *, drain: bool) -> None:
    """Let an instance follow an old one. `drain`: what the old one has not delivered comes first, its blocks to the new one."""
    if isinstance(new, Slot) and isinstance(old, Slot):
        new.replace(old, drain=drain)
    if drain and new.source and old.source:
        new.source.after = old.source
    if drain and new.hook_tap and new.hooked and isinstance(new, Slot) and isinstance(old, Slot) and new.follows(old):
        new.hook_tap.after = way = old.hook_tap
        while way:  # it may still wait for what it has itself replaced
            way.hooked, way = new.hooked, way.after


def cut_off(thing: Thing) -> None:
    """Let nothing more come of a thing: what waits is stale."""
    if thing.source:
        thing.source.ring.shut()
        thing.source.ring.discard()
        thing.source.gone = True
    if thing.hook_tap:
        thing.hook_tap.gone = True
    if thing.hooked:
        thing.hooked.drop_waiting()
