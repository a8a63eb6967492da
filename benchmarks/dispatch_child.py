"""The child process of the dispatch benchmark: one job in, as JSON in the first argument; one outcome out, as JSON."""

import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from dispatch_jobs import Arrivals, Job, Outcome, Plan, Way, quantiles_us, spin
from dispatch_naive import DequeWay, JanusWay
from dispatch_rack import RackWay

__all__ = ["main"]

POLL_S = 0.005
GRACE = 1.5
"""An engine that its callbacks hold back gives up after so many times the length of the run."""
DRAIN_S = 20.0
"""How long what was posted may take to arrive: it is an error if a rack takes longer, and an end for the naive ways."""
STALL_AFTER_S = 0.5


class Run:
    """One job, while it runs."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._job = job
        self._call_ns = np.full(job.records, -1, np.int64)
        self._plan = Plan.of(job, self._call_ns)
        self._arrivals = Arrivals(job.records)
        if job.way == "rack":
            self._way: Way = RackWay(job, self._plan, self._arrivals, folder)
        else:
            self._way = {"janus": JanusWay, "deque": DequeWay}[job.way](job, self._plan, self._arrivals)
        self._cpu_ns = self._wakeups_per_s = self._memory_mb = 0.0

    def outcome(self) -> Outcome:
        """Run the job. Raises RuntimeError if factors were lost and not counted. [main]"""
        self._way.run(self._scenario)
        self._way.check(self._arrivals.count)
        sent, delivered, dropped = self._plan.sent, self._arrivals.count, self._way.dropped
        return Outcome(
            sent=sent,
            delivered=delivered,
            dropped=dropped,
            posting_s=self._plan.elapsed_ns / 1e9,
            call_us=quantiles_us(self._call_ns[:sent]),
            latency_us=self._arrivals.latency_us(),
            cpu_ns=self._cpu_ns,
            wakeups_per_s=self._wakeups_per_s,
            recovery_ms=self._arrivals.recovery_ms() if self._job.stall_s else 0.0,
            memory_mb=self._memory_mb,
        )

    async def _scenario(self) -> None:
        aside = [_busy()] if self._job.load == "busy" else []
        aside += [self._stall()] if self._job.stall_s else []
        tasks = [asyncio.create_task(work) for work in aside]
        began = _Usage.now()
        await _wait(self._job.idle_s, lambda: False)
        posting = _Usage.now()
        memory = _forget_memory_peak()
        await self._post()
        self._memory_mb = (_memory_bytes("VmHWM") - memory) / 1e6
        self._note_usage(posting - began, _Usage.now() - posting)
        for task in tasks:
            task.cancel()

    def _note_usage(self, idle: "_Usage", posting: "_Usage") -> None:
        share = posting.seconds / idle.seconds
        self._cpu_ns = posting.cpu_ns - share * idle.cpu_ns
        self._wakeups_per_s = (posting.wakeups - share * idle.wakeups) / posting.seconds

    async def _post(self) -> None:
        """Let the engine post, and take what it has posted."""
        self._plan.wanted += 1
        await _wait(GRACE * self._job.seconds, self._posted)
        self._plan.give_up = 1
        await _wait(DRAIN_S, lambda: self._posted() and self._arrived())

    def _posted(self) -> bool:
        return bool(self._plan.done == self._plan.wanted)

    def _arrived(self) -> bool:
        return bool(self._arrivals.count + self._way.dropped == self._plan.sent)

    async def _stall(self) -> None:
        await asyncio.sleep(self._job.idle_s + STALL_AFTER_S)
        self._arrivals.stall_s = self._job.stall_s


@dataclass(frozen=True, slots=True)
class _Usage:
    """What the main thread has used."""

    seconds: float
    cpu_ns: float
    wakeups: float

    @classmethod
    def now(cls) -> "_Usage":
        """Return the counts so far: each voluntary context switch is followed by a wake-up."""
        return cls(time.monotonic(), time.thread_time_ns(), resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw)

    def __sub__(self, since: "_Usage") -> "_Usage":
        return _Usage(self.seconds - since.seconds, self.cpu_ns - since.cpu_ns, self.wakeups - since.wakeups)


async def _wait(limit_s: float, done: Callable[[], bool]) -> None:
    """Wait until `done` or for as long as the limit, in steps of the same length in every phase."""
    until = time.monotonic() + limit_s
    while not done() and time.monotonic() < until:
        await asyncio.sleep(POLL_S)


async def _busy() -> None:
    """Work in stretches, with a millisecond between them."""
    while True:
        spin(0.005)
        await asyncio.sleep(0.001)


def _forget_memory_peak() -> int:
    """Let the peak of resident memory be what it is now; return it in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory_bytes("VmRSS")


def _memory_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")


def main() -> None:
    """Run the job."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    with tempfile.TemporaryDirectory() as folder:
        outcome = Run(job, Path(folder)).outcome()
    print(msgspec.json.encode(outcome).decode())


if __name__ == "__main__":
    main()
