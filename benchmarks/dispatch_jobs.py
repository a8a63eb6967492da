"""What the dispatch benchmark asks of a child process, what it gets back, and what all ways into the main loop share there."""

import ctypes as c
import time
from collections.abc import Callable, Coroutine
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_S", "SYMBOLS", "WORK_S", "Arrivals", "Job", "Outcome", "Plan", "Scenario", "Way", "quantiles_us", "spin"]

SYMBOLS = tuple(f"S{number}" for number in range(8))
BURST_NS = 1_000_000
BLOCK_S, WORK_S = 0.01, 0.001
"""Length of an audio block, and how much of it the main loop works in pure Python."""
WINDOW_NS = 5_000_000
"""Recovery is looked for in steps of this length."""

Times = npt.NDArray[np.int64]
Scenario = Callable[[], Coroutine[None, None, None]]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the engine in a process of its own."""

    library: str
    """`dispatch_engine.c`, compiled."""
    way: Literal["rack", "janus", "deque"]
    hook: Literal["on_factors", "on_factor"] = "on_factors"
    """The naive ways know on_factor alone."""
    rate_per_s: int
    """Factors offered, in bursts each millisecond."""
    seconds: float
    load: Literal["none", "busy", "blocks"] = "none"
    """Beside the factors: `busy`: stretches of 5 ms of pure Python; `blocks`: 1 ms of it for each audio block of 10 ms."""
    stall_s: float = 0.0
    """How long a hook keeps the main loop, half a second after the first factor."""
    idle_s: float = 0.1
    """How long the main loop runs before the first factor."""
    queue: int = 16_384
    """Records that the rack's ring holds."""

    @property
    def burst(self) -> int:
        """Records in a burst."""
        return self.rate_per_s * BURST_NS // 1_000_000_000

    @property
    def bursts(self) -> int:
        """How many bursts are offered."""
        return round(self.seconds * 1e9) // BURST_NS

    @property
    def records(self) -> int:
        """How many records are offered."""
        return self.burst * self.bursts


class Outcome(msgspec.Struct, kw_only=True):
    """What a run gave. Quantiles are in microseconds: p50, p99, p99.9, max."""

    sent: int
    delivered: int
    dropped: int
    """Lost and counted: sent == delivered + dropped."""
    posting_s: float
    """From the first post to the end of the last."""
    call_us: dict[str, float]
    """How long the callback kept the engine's thread."""
    latency_us: dict[str, float]
    """From the post to the hook; empty if the hook only counts."""
    cpu_ns: float
    """CPU time of the main thread while factors came, beyond what it needs when none come; 0 beside a load."""
    wakeups_per_s: float
    """How often the main thread was woken, beyond the same."""
    recovery_ms: float
    memory_mb: float
    """What resident memory had grown by at its peak, since before the first post."""


class Plan(c.Structure):
    """`struct bench_plan`."""

    _fields_ = [
        ("period_ns", c.c_int64),
        ("burst", c.c_uint32),
        ("bursts", c.c_uint32),
        ("call_ns", c.c_void_p),
        ("elapsed_ns", c.c_int64),
        ("sent", c.c_uint64),
        ("wanted", c.c_uint32),
        ("done", c.c_uint32),
        ("give_up", c.c_uint32),
    ]

    @classmethod
    def of(cls, job: Job, call_ns: Times | None = None) -> "Plan":
        """Return the plan of a job; `call_ns` takes the durations of the calls, and must live as long."""
        return cls(BURST_NS, job.burst, job.bursts, None if call_ns is None else call_ns.ctypes.data)

    @property
    def config(self) -> dict[str, int]:
        """The engine's configuration."""
        return {"plan": c.addressof(self)}


class Arrivals:
    """When factors were posted and how much later they came. Its memory is touched at once: it does not grow later."""

    def __init__(self, most: int) -> None:
        self.posted_ns: Times = np.full(most, -1, np.int64)
        self.delay_ns: Times = np.full(most, -1, np.int64)
        self.count = 0
        self.stall_s = 0.0
        """Set: the next batch keeps the main loop so long."""
        self.stalled_ns = (0, 0)
        """Beginning and end of the stall."""

    def one(self, posted_ns: int) -> None:
        """Note one factor. [main]"""
        self.posted_ns[self.count] = posted_ns
        self.delay_ns[self.count] = time.monotonic_ns() - posted_ns
        self.count += 1

    def many(self, posted_ns: Times) -> None:
        """Note a batch; stall if asked to. [main]"""
        now, begin = time.monotonic_ns(), self.count
        self.count += len(posted_ns)
        self.posted_ns[begin : self.count] = posted_ns
        self.delay_ns[begin : self.count] = now - posted_ns
        if self.stall_s:
            time.sleep(self.stall_s)
            self.stall_s, self.stalled_ns = 0.0, (now, time.monotonic_ns())

    def latency_us(self) -> dict[str, float]:
        """Return quantiles; nothing if factors were only counted."""
        known = self.delay_ns[: self.count]
        return quantiles_us(known) if len(known) and known[0] >= 0 else {}

    def recovery_ms(self) -> float:
        """Return how long it took after the stall until half of what came within 5 ms was at most twice as late as usual.

        If that never happened: for how long there was something to see.
        """
        begin, end = self.stalled_ns
        delay = self.delay_ns[: self.count]
        came = self.posted_ns[: self.count] + delay
        usual = np.median(delay[came < begin])
        for start in range(end, int(came[-1]), WINDOW_NS):
            inside = delay[(came >= start) & (came < start + WINDOW_NS)]
            if len(inside) and np.median(inside) <= 2 * usual:
                return (start + WINDOW_NS - end) / 1e6
        return (int(came[-1]) - end) / 1e6


class Way(Protocol):
    """A host for the engine: one way for its factors into the main loop."""

    def run(self, scenario: Scenario) -> None:
        """Run `scenario` on a main loop beside the engine, then end everything. [main]"""

    @property
    def dropped(self) -> int:
        """Factors lost and counted so far. [main]"""

    def check(self, arrived: int) -> None:
        """Raise RuntimeError unless what was sent, what has arrived and what was counted agree. [main, at rest]"""


def quantiles_us(nanoseconds: Times) -> dict[str, float]:
    """Return p50, p99, p99.9 and max in microseconds."""
    p50, p99, p999, most = (float(ns) / 1000 for ns in np.quantile(nanoseconds, [0.5, 0.99, 0.999, 1.0]))
    return {"p50": p50, "p99": p99, "p99.9": p999, "max": most}


def spin(seconds: float) -> None:
    """Work in pure Python."""
    until = time.perf_counter_ns() + round(seconds * 1e9)
    while time.perf_counter_ns() < until:
        pass
