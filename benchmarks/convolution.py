"""Convolution: the core's convolver and upsampler beside others that are installed, on one CPU.

python benchmarks/convolution.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import operator
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import convolution_plans
from convolution_cases import CASES, Case, Task, error_db, gain_of, task_of
from convolution_peers import FINDERS, SCALING, Maker, NotInstalledError, NotPossibleError
from convolution_streams import Convolver, Ours
from harness import Report, finish, interleave, machine, options, paired, pinned

__all__ = ["main"]

WANTED_DB = -120.0
VALID_DB = -80.0
"""A peer whose error is larger does something else: its time says nothing."""
BANDWIDTH_CASE = "640k_b4096_p2"
BANDWIDTH_BYTES = 256 << 20


class Measurement:
    """All cases, one after the other."""

    def __init__(self, report: Report, folder: Path, *, quick: bool) -> None:
        self._report, self._quick = report, quick
        self._rounds, self._seconds = (2, 0.02) if quick else (7, 0.25)
        self._makers: dict[str, Maker] = {}
        self._results: list[dict[str, Any]] = []
        self._missing: dict[str, str] = {}
        report.details |= {"cases": self._results, "peers": {}, "peers_missing": self._missing}
        for name, find in FINDERS.items():
            try:
                report.details["peers"][name], self._makers[name] = find(folder, quick)
            except NotInstalledError as how:
                self._missing[name] = str(how)

    def case(self, case: Case) -> None:
        """Measure ours and the peers in turn, then other stages than the chosen ones."""
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        task = task_of(case)
        ours = Ours(task)
        result: dict[str, Any] = {"case": case.name, "error_db": error_db(ours.convolve(task.samples), task.wanted)}
        result |= {"peer_error_db": {}, "no_peer": {}}
        self._results.append(result)
        everyone: dict[str, Convolver] = {"ours": ours, **dict(self._peers(task, result))}
        for convolver in everyone.values():
            convolver.last_for(self._seconds)
        turns = {name: convolver.ns_per_frame for name, convolver in everyone.items()}
        result["samples"] = interleave(turns, self._rounds, warm_up=False)
        result["worst_block_us"] = ours.worst_block_us(3 if self._quick else 9)
        result |= {"stages": _stages(ours), "bytes": ours.fir.bytes}
        self._judge(case, result, ours.model_ns_per_frame)
        for convolver in everyone.values():
            convolver.close()
        self._judge_plan(task, result)

    def _peers(self, task: Task, result: dict[str, Any]) -> Iterator[tuple[str, Convolver]]:
        """Yield the peers whose output is right; note the errors of all, and why others do not take part."""
        for name in task.case.peers:
            try:
                if name in self._makers:
                    yield name, _checked(name, self._makers[name](task), task, result["peer_error_db"])
            except NotPossibleError as why:
                result["no_peer"][name] = str(why)

    def _judge(self, case: Case, result: dict[str, Any], model_ns: float) -> None:
        report, name = self._report, case.name
        peers = dict(result["samples"])
        ours = peers.pop("ours")
        ns = median(ours)
        result |= {"ours_ns_per_frame": ns, "ours_rtf": case.real_time_factor(ns), "period_us": case.period_us, "peers": {}}
        result["model_ratio"] = model_ns / ns
        report.add(f"error_{name}", result["error_db"], "dB", "error over peak, against float64", goal=WANTED_DB)
        self._add_floor(f"rtf_{name}", result["ours_rtf"], f"real-time factor; {ns:.4g} ns per frame", case.rtf_floor)
        for peer, taken in peers.items():
            ratios = paired(operator.truediv, taken, ours)
            result["peers"][peer] = median(ratios)
            self._add_floor(f"{peer}_{name}", median(ratios), f"CPU time of {peer} / ours", case.floors.get(peer), ratios)

    def _add_floor(self, key: str, value: float, about: str, floor: float | None, samples: list[float] | None = None) -> None:
        self._report.add(key, value, "", about, goal=floor, at_least=floor is not None, samples=samples or ())

    def _judge_plan(self, task: Task, result: dict[str, Any]) -> None:
        most = 3 if self._quick else None
        loss, plans = convolution_plans.compare(task, rounds=self._rounds, seconds=self._seconds / 8, most=most)
        result |= {"plan_loss": loss, "plans": plans}
        about = f"time of the chosen stages over the best of {len(plans)} lists, minus 1"
        self._report.add(f"plan_loss_{task.case.name}", loss, "", about, goal=0.1)

    def bandwidth(self) -> None:
        """Set what one case reads of spectra beside what this CPU reads at most."""
        result = next((result for result in self._results if result["case"] == BANDWIDTH_CASE), None)
        if result is None:
            return
        streamed = _streamed_bytes(result["stages"])
        most = _read_gb_per_s(9)
        self._report.add("read_gb_per_s", median(most), "GB/s", f"reading {BANDWIDTH_BYTES >> 20} MB in order", samples=most)
        self._report.add("streamed_bytes", streamed, "B", f"spectra that {BANDWIDTH_CASE} reads per frame")
        about = "the same over its time"
        self._report.add("streamed_gb_per_s", streamed / result["ours_ns_per_frame"], "GB/s", about)

    def tabulate(self) -> None:
        """Add the lines below the table."""
        notes = self._report.notes
        notes.append(f"{'case':<17}{'ns/frame':>9}{'RTF':>7}{'worst / period us':>20}{'model / ns':>12}  stages")
        notes += [_line(result) for result in self._results]
        notes += [f"{result['case']}: {peer}: {why}" for result in self._results for peer, why in result["no_peer"].items()]
        notes += [f"{peer} is not there: {how}" for peer, how in self._missing.items()]


def _checked(name: str, peer: Convolver, task: Task, errors: dict[str, float]) -> Convolver:
    """Return the peer if its output is right, and note its error."""
    found = peer.convolve(task.without_phases().samples)
    errors[name] = error_db(found, task.wanted, gain_of(found, task.wanted) if name in SCALING else 1.0)
    if errors[name] > VALID_DB:
        peer.close()
        raise NotPossibleError(f"not valid, its error is {errors[name]:.0f} dB")
    return peer


def _stages(ours: Ours) -> list[dict[str, int]]:
    return [{"partition": s.partition, "partitions": s.partitions, "steps": s.steps} for s in ours.fir.stages]


def _streamed_bytes(stages: list[dict[str, int]]) -> int:
    """Return the bytes of spectra per frame: of two inputs and two filters, 8 bytes per bin, as many bins as frames.

    Stages of three partitions or more read them with every second segment, the first one with each, and sums with the others.
    """
    counts = [stage["partitions"] for stage in stages]
    return sum(16 * (count + 1) + 8 if count > 2 else 32 * count for count in counts)


def _line(result: dict[str, Any]) -> str:
    stages = " ".join(f"{stage['partition']}x{stage['partitions']}" for stage in result["stages"])
    worst = f"{result['worst_block_us']:.0f} / {result['period_us']:.0f}"
    head = f"{result['case']:<17}{result['ours_ns_per_frame']:>9.1f}{result['ours_rtf']:>7.1f}{worst:>20}"
    return f"{head}{result['model_ratio']:>12.2f}  {stages}"


def _read_gb_per_s(rounds: int) -> list[float]:
    values = np.ones(BANDWIDTH_BYTES // 4, np.float32)
    found = []
    for _ in range(rounds):
        begun = time.process_time_ns()
        values.max()
        found.append(BANDWIDTH_BYTES / (time.process_time_ns() - begun))
    return found


def main() -> int:
    """Measure everything, print it, return the exit code."""
    chosen = options("Measure the convolver and the upsampler beside others.")
    report, place = Report(), machine()
    with tempfile.TemporaryDirectory() as folder, pinned():
        measurement = Measurement(report, Path(folder), quick=chosen.quick)
        for case in CASES:
            if case.quick or not chosen.quick:
                measurement.case(case)
        measurement.bandwidth()
        measurement.tabulate()
    return finish(report, place, chosen)


if __name__ == "__main__":
    sys.exit(main())
