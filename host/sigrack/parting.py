"""Which linear slots become one filter: what may be, and what costs least."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from sigrack_engine.compiler import length
from sigrack_engine.costs import MOST_TAPS, parted

if TYPE_CHECKING:
    from sigrack.groups import Group
    from sigrack.rack import Rack
    from sigrack.slot import Slot

__all__ = ["pieces", "runs"]


def runs(slots: "Sequence[Slot]") -> "list[tuple[Slot, ...]]":
    """Return the stretches of linear slots that can be one filter: what sees the signal between two of them is a border. [any]

    A gain that is the same for all channels is none: it comes behind the filter instead, so the rate must not rise after it.
    What hears or writes other channels is one.
    """
    found: list[list[Slot]] = []
    open_run = crossed = False
    for slot in slots:
        if not slot.is_linear:
            open_run = open_run and (_scales(slot, found[-1][0]) or not slot.steps)
            crossed |= slot.uniform
            continue
        if open_run and _beside(found[-1][0], slot) and not (crossed and slot.ratio > 1):
            found[-1].append(slot)
        else:
            found.append([slot])
            crossed = False
        open_run = not slot.taps
    return [tuple(run) for run in found]


def _scales(slot: "Slot", filtered: "Slot") -> bool:
    """Whether a slot is one gain for all channels of a filter: the two can be exchanged."""
    return slot.uniform and slot.setup.inputs == slot.setup.outputs and set(slot.setup.inputs) >= set(filtered.setup.inputs)


def _beside(one: "Slot", other: "Slot") -> bool:
    """Whether two filters hear and write the same channels, in the same order."""
    return one.setup.inputs == one.setup.outputs == other.setup.inputs == other.setup.outputs


def pieces(
    rack: "Rack", run: "tuple[Slot, ...]", groups: "Sequence[Group]", heirs: "Mapping[Slot, Slot]"
) -> "Iterator[tuple[Slot, ...]]":
    """Part a run into what shall be a group each: as it is now, so that a new filter can fade in, else as it costs least."""
    ancestors = tuple(heirs.get(slot, slot) for slot in run)
    counts = _as_now(ancestors, groups)
    ends = list(accumulate(counts, initial=0))
    if not counts or not all(_can_be_one(run[begin:end]) for begin, end in pairwise(ends)):
        ends = list(accumulate(parted([slot.forms for slot in run], rack.block_at(run[0].setup.rate_hz)), initial=0))
    return (run[begin:end] for begin, end in pairwise(ends))


def _can_be_one(piece: "Sequence[Slot]") -> bool:
    linears = [slot.linear for slot in piece if slot.linear]
    return len(piece) == 1 or (len(linears) == len(piece) and length(linears) <= MOST_TAPS)


def _as_now(slots: "Sequence[Slot]", groups: "Sequence[Group]") -> list[int]:
    """Return how many of `slots` each group holds; nothing unless they are just the members of some groups, in their order."""
    members = {group.members[0]: group.members for group in groups}
    counts: list[int] = []
    while (at := sum(counts)) < len(slots):
        found = members.get(slots[at], ())
        if not found or tuple(slots[at : at + len(found)]) != found:
            return []
        counts.append(len(found))
    return counts
