"""What every benchmark shares: taking turns, figures with goals, the table, the JSON line."""

import argparse
import contextlib
import json
import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sigrack_engine.core import lib

__all__ = ["FIFO_PRIORITY", "Figure", "Report", "finish", "interleave", "machine", "options", "paired", "pinned"]

T = TypeVar("T")

FIFO_PRIORITY = 70
"""What a rack asks for by default."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    key: str
    value: float
    unit: str
    about: str
    goal: float | None = None
    """The most that it may be, or the least."""
    at_least: bool = False

    @property
    def missed(self) -> bool:
        """Whether there is a goal and the value is on its wrong side."""
        if self.goal is None:
            return False
        return not (self.value >= self.goal if self.at_least else self.value <= self.goal)

    @property
    def wanted(self) -> str:
        """The goal as text, or nothing."""
        return "" if self.goal is None else f"{'>=' if self.at_least else '<='} {_number(self.goal)}"

    @property
    def verdict(self) -> str:
        """`ok`, `MISS`, or nothing without a goal."""
        return "" if self.goal is None else "MISS" if self.missed else "ok"


@dataclass(slots=True)
class Report:
    """What a benchmark found: figures, the samples that they come from, details for the JSON alone."""

    figures: list[Figure] = field(default_factory=list)
    samples: dict[str, Sequence[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Lines below the table."""

    def add(
        self,
        key: str,
        value: float,
        unit: str,
        about: str,
        *,
        goal: float | None = None,
        at_least: bool = False,
        samples: Sequence[float] = (),
    ) -> None:
        """Note a figure and the samples that it is the median (or the sum) of; `at_least` turns the goal round."""
        self.figures.append(Figure(key, value, unit, about, goal, at_least))
        if samples:
            self.samples[key] = samples

    @property
    def missed(self) -> bool:
        """Whether a goal was missed."""
        return any(figure.missed for figure in self.figures)


def interleave(candidates: Mapping[str, Callable[[], T]], rounds: int, *, warm_up: bool = True) -> dict[str, list[T]]:
    """Call all candidates in turn, `rounds` times, every second time backwards, after a round that does not count."""
    names = list(candidates)
    samples: dict[str, list[T]] = {name: [] for name in names}
    for number in range(-1 if warm_up else 0, rounds):
        for name in names if number % 2 else reversed(names):
            sample = candidates[name]()
            if number >= 0:
                samples[name].append(sample)
    return samples


def paired(combine: Callable[[float, float], float], one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Combine the samples that were taken in the same round."""
    return [combine(a, b) for a, b in zip(one, other, strict=True)]


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Keep the calling thread on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _fifo_granted() -> bool:
    """Return whether a thread of this process may have real-time priority."""
    granted = []

    def ask() -> None:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(FIFO_PRIORITY))
            granted.append(True)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return bool(granted)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cpu": _cpu_model(),
        "level": lib.core_level().decode(),
        "cores": len(os.sched_getaffinity(0)),
        "fifo": _fifo_granted(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
    }


def _significant(value: float) -> float:
    return float(f"{value:.5g}")


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _table(report: Report, place: Mapping[str, Any]) -> str:
    yes = "granted" if place["fifo"] else "not granted"
    load = " ".join(map(str, place["load"]))
    lines = [f"{place['cpu']}, {place['level']}, {place['cores']} cores, SCHED_FIFO {yes}, load {load}", ""]
    for figure in report.figures:
        value = f"{_number(figure.value)} {figure.unit}"
        lines.append(f"{figure.key:<26}{value:>12}  {figure.wanted:<11}{figure.verdict:<6}{figure.about}")
    return "\n".join([*lines, "", *report.notes])


def _json(report: Report, place: Mapping[str, Any]) -> str:
    return json.dumps(
        {
            **{figure.key: _significant(figure.value) for figure in report.figures},
            **report.details,
            "goals": {figure.key: figure.goal for figure in report.figures if figure.goal is not None},
            "at_least": [figure.key for figure in report.figures if figure.at_least],
            "missed": [figure.key for figure in report.figures if figure.missed],
            "machine": place,
            "samples": {key: [_significant(value) for value in values] for key, values in report.samples.items()},
        }
    )


def options(description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse what every benchmark takes: `quick`, `json`, `check`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: seconds instead of a minute")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    return parser.parse_args(argv)


def finish(report: Report, place: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Print the table, and the JSON if asked; return the exit code."""
    print(_table(report, place))
    if options.json:
        print(_json(report, place))
    return int(options.check and report.missed)
