"""Signal engines in processes of their own, beside the same engines in the host's process.

python benchmarks/signal_lanes.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import asyncio
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from dispatch_jobs import Arrivals, quantiles_us
from dispatch_rack import open_session, plugin_of, run_session, slot_table
from harness import Report, finish, interleave, machine, options
from native import compiled
from sigrack.config import parse
from sigrack.session import Session

__all__ = ["main"]

LANES = ("inline", "process")
RATES_PER_S = (1_000, 100_000, 200_000, 400_000)
WAIT_MS = 300
DRAIN_S = 10.0


def _signal_table(library: Path, lane: str, feed: str, burst: int, bursts: int) -> str:
    config = f"config = {{ burst = {burst}, bursts = {bursts}, wait_ms = {WAIT_MS} }}"
    return f'[[signal]]\nname = "engine"\nlibrary = "{library}"\nlane = "{lane}"\nfeed = "{feed}"\nsymbols = ["S"]\n{config}\n'


def _posted(library: Path, lane: str, rate_per_s: int, seconds: float) -> dict[str, float]:
    """Let an engine post at a rate; return the quantiles of the time until its hook was called, and what share was dropped."""
    burst, bursts = rate_per_s // 1000, round(1000 * seconds)
    arrivals = Arrivals(burst * bursts)
    with tempfile.TemporaryDirectory() as folder:
        table = _signal_table(library, lane, "none", burst, bursts)
        session = open_session(Path(folder), slot_table("batch") + table)
        plugin_of(session, "batch").arrivals = arrivals
        ring = session.rack.signals[0].ring

        async def whole() -> None:
            stop = time.monotonic() + seconds + DRAIN_S
            while (counts := ring.counts).posted < burst * bursts or counts.queued:
                if time.monotonic() > stop:
                    raise RuntimeError(f"the sums are not exact: {burst * bursts} wanted, {counts}")
                await asyncio.sleep(0.05)

        run_session(session, whole)
    late = arrivals.delay_ns[: arrivals.count]
    return quantiles_us(late) | {"dropped": 1 - arrivals.count / (burst * bursts)}


def _replayed(library: Path, lane: str, trades: Path, records: int) -> float:
    """Replay trades through an engine that answers each; return how many per second went through."""
    with tempfile.TemporaryDirectory() as folder:
        feed = f'[[feed]]\nname = "trades"\ndriver = "npz"\nkind = "trade"\npath = "{trades}"\nspeed = "max"\n'
        head = '[source]\ndriver = "none"\n[control]\nenabled = false\n'
        session = Session(parse(Path(folder) / "bench.toml", head + feed + _signal_table(library, lane, "trades", 0, 0)))
        ring = session.rack.signals[0].ring
        begun = time.perf_counter()
        code = session.run()
        seconds = time.perf_counter() - begun
    if code or ring.counts.delivered != records:
        raise RuntimeError(f"exit code {code}, {ring.counts}")
    return records / seconds


def _write_trades(path: Path, records: int) -> None:
    names = np.full(records, b"S", "S8")
    np.savez(path, ts_ns=np.arange(records) * 1000, symbol=names, price=np.ones(records), quantity=np.ones(records))


def _measure(report: Report, folder: Path, *, quick: bool) -> None:
    library = compiled("signal_lanes.c", folder, "-lpthread")
    rounds, seconds = (1, 1.0) if quick else (3, 3.0)
    for rate_per_s in RATES_PER_S:
        found = interleave({lane: partial(_posted, library, lane, rate_per_s, seconds) for lane in LANES}, rounds, warm_up=False)
        for lane in LANES:
            for name in ("p50", "p99"):
                values = [outcome[name] for outcome in found[lane]]
                goal = 1000 if lane == "process" and rate_per_s == 100_000 and name == "p50" else None
                about = f"{rate_per_s} factors/s: from the post to the hook, {lane}"
                report.add(f"{lane}_{name}_us_{rate_per_s // 1000}k", median(values), "us", about, goal=goal, samples=values)
            lost = [outcome["dropped"] for outcome in found[lane]]
            goal = 0 if rate_per_s == 100_000 else None
            report.add(
                f"{lane}_dropped_{rate_per_s // 1000}k", median(lost), "", "share that was dropped", goal=goal, samples=lost
            )
    records = 100_000 if quick else 1_000_000
    trades = folder / "trades.npz"
    _write_trades(trades, records)
    speeds = interleave({lane: partial(_replayed, library, lane, trades, records) for lane in LANES}, rounds, warm_up=False)
    for lane in LANES:
        goal = 100_000 if lane == "process" else None
        about = f"replay: trades in, factors out, {lane}"
        report.add(f"{lane}_replay_per_s", median(speeds[lane]), "/s", about, goal=goal, at_least=True, samples=speeds[lane])


def main() -> int:
    """Measure and print; return the exit code."""
    chosen = options(__doc__ or "")
    place, report = machine(), Report()
    with tempfile.TemporaryDirectory() as folder:
        _measure(report, Path(folder), quick=chosen.quick)
    return finish(report, place, chosen)


if __name__ == "__main__":
    sys.exit(main())
