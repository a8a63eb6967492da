"""How late blocks of 64 frames end while Python works in the same process: the native clock, and the same loop in Python."""

import contextlib
import ctypes as c
import os
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field

from harness import FIFO_PRIORITY, Report, interleave
from native import CHANNELS, FRAMES, RATE_HZ, Chain, eight_slots
from sigrack_engine.bell import Bell
from sigrack_engine.clock import Clock
from sigrack_engine.core import LATENESS_BINS, lib
from sigrack_engine.engine import Engine
from sigrack_engine.source import Source

__all__ = ["measure"]

PERIOD_NS = FRAMES * 1_000_000_000 // RATE_HZ
CATCH_UP_PERIODS = 8  # as in engine/core/clock.c
ABOUT = {
    "late_ratio": "native clock, a Python thread spinning: share of late blocks",
    "late_ratio_normal": "the same without real-time priority",
    "late_ratio_idle": "native clock, nothing else: the machine's own share",
    "late_ratio_python": "the clock's loop on a Python thread, another spinning",
}
GOALS = {"late_ratio": 0.001}
QUANTILES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


@dataclass(slots=True)
class NativeRun:
    """What the clock counted, over all rounds."""

    engine: Engine
    priority: int
    blocks: int = 0
    late: int = 0
    latest_ns: int = 0
    bins: list[int] = field(default_factory=lambda: [0] * LATENESS_BINS)

    def run(self, seconds: float) -> float:
        """Run the clock for a while, from an empty source; return the share of late blocks."""
        bell, source = Bell(), Source(CHANNELS, 4 * FRAMES, block_frames=FRAMES)
        clock = Clock(self.engine, source, None, bell, rate_hz=RATE_HZ, frames=FRAMES, priority=self.priority)
        clock.start()
        time.sleep(seconds)
        clock.stop()
        stats = clock.stats
        clock.close()
        source.close()
        bell.close()
        self.blocks += stats.blocks
        self.late += stats.late
        self.latest_ns = max(self.latest_ns, stats.latest_ns)
        self.bins = [a + b for a, b in zip(self.bins, stats.lateness, strict=True)]
        return int(stats.late) / int(stats.blocks)

    def quantiles(self) -> dict[str, float]:
        """Return upper bounds in microseconds: bin b holds what is below 2^b us."""
        bounds = {name: float(2 ** self._bin(share)) for name, share in QUANTILES.items()}
        return {**bounds, "max": self.latest_ns / 1000}

    def _bin(self, share: float) -> int:
        below = 0
        for number, count in enumerate(self.bins):
            below += count
            if below >= share * self.blocks:
                return number
        return LATENESS_BINS


@dataclass(slots=True)
class PythonRun:
    """The loop of engine/core/clock.c on a Python thread of the same priority: absolute deadlines, one call per block."""

    chain: Chain
    priority: int
    lateness_ns: list[int] = field(default_factory=list)

    def run(self, seconds: float) -> float:
        """Run the loop for a while; return the share of late blocks."""
        found: list[int] = []
        thread = threading.Thread(target=self._loop, args=(seconds, found))
        thread.start()
        thread.join()
        self.lateness_ns += found
        return _late(found) / len(found)

    def _loop(self, seconds: float, found: list[int]) -> None:
        if self.priority:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(self.priority))
        block, engine, source, sink = lib.core_engine_block, self.chain.engine.pointer, self.chain.input, self.chain.output
        now = time.monotonic_ns
        deadline = now()
        end = deadline + round(seconds * 1e9)
        while deadline < end:
            if (left := deadline - now()) > 0:
                time.sleep(left * 1e-9)
            block(engine, source, sink, FRAMES)
            lateness = now() - deadline
            found.append(lateness)
            deadline += PERIOD_NS
            if lateness > CATCH_UP_PERIODS * PERIOD_NS:
                deadline += lateness

    def quantiles(self) -> dict[str, float]:
        """Return exact values in microseconds."""
        ordered = sorted(self.lateness_ns)
        exact = {name: ordered[int(share * (len(ordered) - 1))] / 1000 for name, share in QUANTILES.items()}
        return {**exact, "max": ordered[-1] / 1000}


def _late(lateness_ns: Sequence[int]) -> int:
    return sum(lateness > PERIOD_NS for lateness in lateness_ns)


@contextlib.contextmanager
def _spinning() -> Iterator[None]:
    """Keep a Python thread busy."""
    done = threading.Event()

    def spin() -> None:
        number = 1
        while not done.is_set():
            for _ in range(1000):
                number = (number * 31 + 7) & 0xFFFF

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _beside_spinner(run: Callable[[float], float], seconds: float) -> float:
    with _spinning():
        return run(seconds)


def measure(bench: c.CDLL, report: Report, *, quick: bool, fifo: bool) -> None:
    """Run each scenario in turn; nothing is pinned."""
    seconds, rounds = (1.0, 1) if quick else (3.0, 4)
    priority = FIFO_PRIORITY if fifo else 0
    with Chain(bench, eight_slots(bench)) as chain:
        spun, normal = NativeRun(chain.engine, priority), NativeRun(chain.engine, 0)
        idle, python = NativeRun(chain.engine, priority), PythonRun(chain, priority)
        samples = interleave(
            {
                "late_ratio": lambda: _beside_spinner(spun.run, seconds),
                "late_ratio_normal": lambda: _beside_spinner(normal.run, seconds),
                "late_ratio_idle": lambda: idle.run(seconds),
                "late_ratio_python": lambda: _beside_spinner(python.run, seconds),
            },
            rounds,
            warm_up=False,
        )
    _report(report, samples, {"late_ratio": spun, "late_ratio_normal": normal, "late_ratio_idle": idle}, python)


def _report(report: Report, samples: dict[str, list[float]], natives: dict[str, NativeRun], python: PythonRun) -> None:
    for key, run in natives.items():
        report.add(key, run.late / run.blocks, "", ABOUT[key], goal=GOALS.get(key), samples=samples[key])
    key = "late_ratio_python"
    value = _late(python.lateness_ns) / len(python.lateness_ns)
    report.add(key, value, "", ABOUT[key], samples=samples[key])
    quantiles = {name: run.quantiles() for name, run in natives.items()} | {key: python.quantiles()}
    blocks = {name: run.blocks for name, run in natives.items()} | {key: len(python.lateness_ns)}
    report.details |= {"late_us": quantiles, "late_blocks": blocks}
    report.notes += _quantile_table(quantiles, natives, blocks)


def _quantile_table(quantiles: dict[str, dict[str, float]], natives: Container[str], blocks: dict[str, int]) -> list[str]:
    lines = [f"{'end of block - deadline, us':<28}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9}{'blocks':>9}"]
    for key, found in quantiles.items():
        bound = "< " if key in natives else ""  # the clock keeps a histogram of powers of two
        cells = [f"{bound if name != 'max' else ''}{us:.0f}" for name, us in found.items()]
        lines.append(f"{key:<28}" + "".join(f"{cell:>9}" for cell in [*cells, blocks[key]]))
    return lines
