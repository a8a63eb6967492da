"""Dispatch: how factors get from an engine's own thread to hooks on the main loop, beside two naive ways.

python benchmarks/dispatch.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

import dispatch_pool
from dispatch_jobs import Job, Outcome
from dispatch_swap import swap_samples
from harness import Report, finish, interleave, machine, options, paired
from native import compiled

__all__ = ["main"]

RATE_PER_S = 100_000
"""What the figures are about."""
SLOW_PER_S = 10_000
"""What the naive ways can carry."""
WAYS = ("rack", "janus", "deque")
ABOUT = {"janus": "ctypes callback -> janus per item", "deque": "ctypes callback -> deque"}
BATCHED_PER_S = (250_000, 500_000, 750_000, 1_000_000, 1_250_000, 1_500_000, 2_000_000, 2_500_000)
PER_ITEM_PER_S = (50_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 600_000, 800_000)
ATTEMPTS = 2
"""At each rate of the search: a neighbour's burst must not end it."""
SEARCH_QUEUE = 65_536
"""Records that the ring holds in the search: 131 ms at the goal."""
HELD_BACK = 1.05
"""An engine that took so many times as long as it should was not carried."""


def _run(job: Job) -> Outcome:
    """Run a job in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("dispatch_child.py")), msgspec.json.encode(job).decode()]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=120)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Outcome)


class Measurement:
    """All figures, of one compiled engine."""

    def __init__(self, library: str, report: Report, *, quick: bool) -> None:
        self._library, self._report, self._quick = library, report, quick
        self._rounds = 1 if quick else 3

    def _job(self, way: str = "rack", **settings: object) -> Job:
        return msgspec.convert({"library": self._library, "way": way, "rate_per_s": RATE_PER_S, **settings}, Job)

    def _all_ways(self, **settings: object) -> dict[str, list[Outcome]]:
        """Run the same with every way, in turn."""
        return self._in_turn({way: self._job(way, **settings) for way in WAYS})

    def _in_turn(self, jobs: dict[str, Job]) -> dict[str, list[Outcome]]:
        return interleave({name: partial(_run, job) for name, job in jobs.items()}, self._rounds, warm_up=False)

    def calls(self) -> None:
        """Measure how long the callback keeps the engine's thread while the main loop is busy."""
        seconds = 0.4 if self._quick else 1.0
        found = self._all_ways(seconds=seconds, load="busy")
        slow = self._all_ways(seconds=2 * seconds, rate_per_s=SLOW_PER_S, load="busy")
        head = "callback p99.9, main loop busy"
        self._add_ratio("engine_call_p999_ratio", found, "janus", f"{head}: {ABOUT['janus']} / ours", goal=300)
        self._add_ratio("engine_call_p999_ratio_deque", found, "deque", f"{head}: {ABOUT['deque']} / ours")
        self._add_ratio("engine_call_p999_ratio_10k", slow, "janus", f"the first at {SLOW_PER_S} factors/s offered")
        for way in WAYS:
            for key, name in (("p50", "p50"), ("p99.9", "p999")):
                self._add_call(way, key, f"engine_call_{name}_us", found[way])
        self._tabulate("callback, us, busy main loop", "call_us", {f"{RATE_PER_S}/s": found, f"{SLOW_PER_S}/s": slow})

    def _add_ratio(self, key: str, found: dict[str, list[Outcome]], way: str, about: str, goal: float | None = None) -> None:
        naive, ours = (_quantiles(found[name], "call_us", "p99.9") for name in (way, "rack"))
        ratios = paired(lambda a, b: a / b, naive, ours)
        self._report.add(key, median(ratios), "", about, goal=goal, at_least=goal is not None, samples=ratios)

    def _add_call(self, way: str, quantile: str, key: str, outcomes: list[Outcome]) -> None:
        values = _quantiles(outcomes, "call_us", quantile)
        ours = way == "rack"
        about = f"{quantile} of that time, {'ours' if ours else ABOUT[way]}"
        self._report.add(key if ours else f"{key}_{way}", median(values), "us", about, samples=values)

    def latency(self) -> None:
        """Measure the way from the post to the hook beside a hook that works on audio."""
        found = self._all_ways(seconds=0.5 if self._quick else 3.0, load="blocks")
        for quantile, goal in (("p50", 150), ("p99", None)):
            values = _quantiles(found["rack"], "latency_us", quantile)
            about = f"{quantile} from post to on_factors, {RATE_PER_S}/s, 100 on_block/s of 1 ms"
            self._report.add(f"latency_{quantile}_us", median(values), "us", about, goal=goal, samples=values)
        for way in ("janus", "deque"):
            values = _quantiles(found[way], "latency_us", "p50")
            self._report.add(
                f"latency_p50_us_{way}", median(values), "us", f"p50 by {ABOUT[way]}, of what it carries", samples=values
            )
            carried = [outcome.delivered / outcome.posting_s for outcome in found[way]]
            about = f"what it carries of these {RATE_PER_S}/s: its callback holds the engine back"
            self._report.add(f"carried_per_s_{way}", median(carried), "/s", about, samples=carried)
        self._tabulate("latency, us", "latency_us", {f"{RATE_PER_S}/s": found})

    def _tabulate(self, title: str, field: str, found: dict[str, dict[str, list[Outcome]]]) -> None:
        """Note medians over the rounds, below the table and in the JSON."""
        details: dict[str, dict[str, float]] = {}
        for rate, ways in found.items():
            for way, outcomes in ways.items():
                names = getattr(outcomes[0], field)
                details[f"{way} {rate}"] = {name: round(median(_quantiles(outcomes, field, name)), 3) for name in names}
        self._report.details[field] = details
        self._report.notes += _quantile_table(title, details)

    def sustained(self) -> None:
        """Search for the highest rate that is carried without loss."""
        self._search("sustained_per_s", "on_factors", BATCHED_PER_S, 500_000)
        self._search("sustained_per_item_per_s", "on_factor", PER_ITEM_PER_S, 100_000)

    def _search(self, key: str, hook: str, rates: Sequence[int], goal: float) -> None:
        seconds = 0.3 if self._quick else 2.0
        carried: list[float] = []
        for rate in rates[1:4:2] if self._quick else rates:
            if not self._carries(self._job(hook=hook, rate_per_s=rate, seconds=seconds, queue=SEARCH_QUEUE)):
                break
            carried.append(rate)
        about = f"highest rate of the search that {hook} carries without loss"
        self._report.add(key, max(carried, default=0), "/s", about, goal=goal, at_least=True, samples=carried)

    def _carries(self, job: Job) -> bool:
        outcomes = (_run(job) for _ in range(ATTEMPTS))
        return any(o.delivered == job.records and o.posting_s < HELD_BACK * job.seconds for o in outcomes)

    def stall(self) -> None:
        """Stall the main loop for a second at full rate."""
        outcomes = [_run(self._job(seconds=2.5, stall_s=1.0)) for _ in range(self._rounds)]
        recovery = [outcome.recovery_ms for outcome in outcomes]
        about = f"after a stall of 1 s at {RATE_PER_S}/s: until the usual latency is back (steps of 5 ms)"
        self._report.add("stall_recovery_ms", median(recovery), "ms", about, goal=100, samples=recovery)
        memory = [outcome.memory_mb for outcome in outcomes]
        self._report.add(
            "stall_memory_mb", median(memory), "MB", "growth of resident memory by posting and stall", goal=8, samples=memory
        )
        lost = [outcome.dropped / outcome.sent for outcome in outcomes]
        self._report.add(
            "stall_lost_ratio", median(lost), "", "lost meanwhile, all of it counted; the ring holds 16384", samples=lost
        )

    def costs(self) -> None:
        """Measure what the main thread spends on dispatch, and how often it is woken."""
        seconds = 0.5 if self._quick else 1.0
        found = self._in_turn(
            {
                "batched": self._job(seconds=seconds, idle_s=seconds),
                "per item": self._job(seconds=seconds, idle_s=seconds, hook="on_factor"),
                "slow": self._job(seconds=seconds, idle_s=seconds, rate_per_s=SLOW_PER_S),
            }
        )
        for name, key in (("batched", "dispatch_ns_per_record"), ("per item", "dispatch_ns_per_item")):
            values = [outcome.cpu_ns / outcome.delivered for outcome in found[name]]
            about = f"CPU time of the main thread per factor, {name}, {RATE_PER_S}/s in bursts of 1 ms"
            self._report.add(key, median(values), "ns", about, samples=values)
        wakeups = [outcome.wakeups_per_s for outcome in found["slow"]]
        about = f"wake-ups of the main thread by {SLOW_PER_S}/s in bursts of 1 ms"
        self._report.add("wakeups_per_s", median(wakeups), "/s", about, samples=wakeups)

    def swaps(self) -> None:
        """Measure how long a swap keeps the main loop, and plain Python beside it: what the machine adds, it adds to both."""
        samples = swap_samples(self._library, 100 if self._quick else 1000)
        commits, reference = ([float(value) for value in column] for column in zip(*samples, strict=True))
        about = f"p99 of the main loop's part of a swap, {SLOW_PER_S} factors/s, {len(samples)} swaps"
        self._report.add("swap_p99_us", float(np.quantile(commits, 0.99)), "us", about, goal=50, samples=commits)
        self._report.add("swap_p50_us", median(commits), "us", "p50 of the same")
        about = "p99 of a loop of plain Python in its place, 20 us when nothing disturbs: what the machine does to it"
        self._report.add("swap_reference_p99_us", float(np.quantile(reference, 0.99)), "us", about, samples=reference)
        self._report.add("swap_reference_p50_us", median(reference), "us", "p50 of the same")


def _quantiles(outcomes: Iterable[Outcome], field: str, name: str) -> list[float]:
    return [getattr(outcome, field)[name] for outcome in outcomes]


def _quantile_table(title: str, rows: dict[str, dict[str, float]]) -> list[str]:
    lines = [f"{title:<32}" + "".join(f"{name:>11}" for name in next(iter(rows.values())))]
    return [*lines, *(f"{row:<32}" + "".join(f"{us:>11.5g}" for us in values.values()) for row, values in rows.items())]


def main() -> int:
    """Measure everything, print it, return the exit code."""
    chosen = options("Measure the ways of factors and blocks into the main loop.")
    report, place = Report(), machine()
    with tempfile.TemporaryDirectory() as folder:
        library = str(compiled("dispatch_engine.c", Path(folder), "-lpthread"))
        measurement = Measurement(library, report, quick=chosen.quick)
        parts: list[Callable[[], None]] = [
            measurement.calls,
            measurement.latency,
            measurement.sustained,
            measurement.stall,
            measurement.costs,
            measurement.swaps,
        ]
        for part in parts:
            part()
    dispatch_pool.measure(report, quick=chosen.quick)
    return finish(report, place, chosen)


if __name__ == "__main__":
    sys.exit(main())
