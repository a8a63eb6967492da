"""Replace a result ring SWAPS times while an engine's thread posts with the old and the new cookie: ENGINE SWAPS."""

import json
import sys

from incident.library import Engine
from sigrack_engine.bell import Bell
from sigrack_engine.core import lib
from sigrack_engine.results import CALLBACK_ADDRESS, ResultRing

NAMES = ("posted", "delivered", "dropped", "refused", "stale", "queued")


def main() -> None:
    """Print what became of every call."""
    engine, bell = Engine(previous=1), Bell()
    late = lib.core_handle_late()
    sums = dict.fromkeys(NAMES, 0)
    leaving: list[ResultRing] = []

    def part(ring: ResultRing) -> bool:
        """Free `ring` if it can be freed, and add up its account."""
        if gone := ring.release():
            for name in NAMES:
                sums[name] += getattr(ring.counts, name)
        return gone

    ring = ResultRing(bell, ["FACTOR"], None, capacity=64, max_values=3)
    engine.register(CALLBACK_ADDRESS, ring.cookie)
    for number in range(int(sys.argv[2])):
        old, ring = ring, ResultRing(bell, ["FACTOR"], None, capacity=64, max_values=3)
        engine.register(CALLBACK_ADDRESS, ring.cookie)
        old.shut()
        if number % 2:
            while old.take(64):
                pass
        leaving = [each for each in (*leaving, old) if not part(each)]
    engine.destroy()
    ring.shut()
    left = [each for each in (*leaving, ring) if not part(each)]
    print(json.dumps(sums | {"calls": engine.calls, "late": lib.core_handle_late() - late, "left": len(left)}))


main()
