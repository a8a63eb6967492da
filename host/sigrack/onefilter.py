"""Racks that are one filter and nothing else: what they do to a file is a convolution, for which no engine must run."""

from typing import TYPE_CHECKING

from sigrack.config import Document
from sigrack.groups import Group
from sigrack_engine.compiler import Linear

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["may_be_one_filter", "only_group"]

FORMS = {"fir", "ratio", "latency_frames", "recursive"}
"""Methods that a rack asks once, when it is built."""


def may_be_one_filter(document: Document) -> bool:
    """Whether it is worth building the rack to ask `only_group`. [any]"""
    config = document.config
    more = config.signal or config.feed or config.own_slots
    return bool(config.slot) and not more and not any(slot.lane not in (None, "inline") for slot in config.slot)


def only_group(rack: "Rack") -> Group | None:
    """Return the group that alone makes what goes out, as taps: nothing else is in the run list, nobody listens. [main]"""
    faders = rack.channels.faders
    if len(rack.groups) != 1 or [step for step in rack.steps or () if step is not faders] != rack.groups[0].steps:
        return None
    (group,), bus = rack.groups, rack.bus
    hooks = any(slot.hooked and slot.hooked.methods - FORMS for slot in rack.slots)
    whole = bus.whole(group.setup) and bus.out == bus.channels and bus.sources == len(bus.channels)
    muted = rack.document.config.bus.mute
    bypassed = len(group.members) == 1 and group.members[0].bypass
    plain = isinstance(group.linear, Linear) and whole and not (hooks or muted or bypassed or rack.signals)
    return group if plain and len(group.members) == len(rack.slots) else None
