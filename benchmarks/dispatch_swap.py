"""How long the main loop is kept when a plugin is swapped while factors come."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dispatch_jobs import Job, Plan
from dispatch_rack import open_session, run_session, signal_table, slot_table

__all__ = ["swap_samples"]

RATE_PER_S = 10_000
SECONDS = 600.0
"""Longer than any number of swaps takes."""
REFERENCE = 400
"""Turns of a loop: about 20 us when all is warm."""
PAUSE_S = 0.015
"""Between swaps, so that each meets a rack at rest: a block of the engine's, after which the old instance can go."""


def swap_samples(library: str, swaps: int) -> list[tuple[float, float]]:
    """Swap a listening plugin so many times, in a process of its own; return the main loop's part of each in microseconds.

    With each goes what the same thread took for the reference, some plain Python, under the same conditions.
    """
    command = [sys.executable, __file__, library, str(swaps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=SECONDS)
    samples: list[tuple[float, float]] = json.loads(done.stdout)
    return samples


def _reference_us() -> float:
    begun = time.perf_counter_ns()
    sum(number * number for number in range(REFERENCE))
    return (time.perf_counter_ns() - begun) / 1000


def _measure(library: str, swaps: int, folder: Path) -> list[tuple[float, float]]:
    job = Job(library=library, way="rack", rate_per_s=RATE_PER_S, seconds=SECONDS)
    plan = Plan.of(job)
    session = open_session(folder, slot_table("swapped") + signal_table(job, plan))
    found = []

    async def scenario() -> None:
        plan.wanted += 1
        for _ in range(swaps):
            await session.rack.changes.swap("swapped")
            held_us = session.rack.changes.held_ns[-1] / 1000
            await asyncio.sleep(PAUSE_S)
            found.append((held_us, _reference_us()))
            await asyncio.sleep(PAUSE_S)

    run_session(session, scenario)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(_measure(sys.argv[1], int(sys.argv[2]), Path(name))))
