"""What instances did and lost, in counts that add up over all instances of a name."""

from dataclasses import dataclass

from sigrack.signals import SignalEngine
from sigrack.slot import Slot

__all__ = ["Tally", "tally"]


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts."""

    lost_frames: int
    """Audio that found no room in its taps, or was discarded before a hook or a signal engine got it."""
    calls: int
    errors: int
    over_budget: int
    dropped: int
    """Calls of coroutine hooks that found too many waiting, or were discarded."""


def tally(thing: Slot | SignalEngine) -> Tally:
    """Return the counts of one instance; its taps must not be freed. [main]"""
    lost = sum(tap.lost for tap in thing.taps)
    if isinstance(thing, SignalEngine):
        lost += thing.unfed
    if thing.hook_tap and thing.hook_tap.gone:
        lost += thing.hook_tap.tap.unread
    if (hooked := thing.hooked) is None:
        return Tally(lost, 0, 0, 0, 0)
    return Tally(lost, hooked.calls, hooked.errors, hooked.late, hooked.dropped)
