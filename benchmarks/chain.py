"""The chain: what the engine costs beside its processors, how late it gets, how fast it starts.

python benchmarks/chain.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import sys

import lateness
import native
import overhead
import startup
from harness import Report, finish, machine, options

__all__ = ["main"]


def main() -> int:
    """Measure everything, print it, return the exit code."""
    chosen = options("Measure the engine, its clock and the start of the host.")
    report, place = Report(), machine()
    bench = native.load()
    overhead.measure(bench, report, quick=chosen.quick)
    lateness.measure(bench, report, quick=chosen.quick, fifo=place["fifo"])
    startup.measure(report, quick=chosen.quick)
    return finish(report, place, chosen)


if __name__ == "__main__":
    sys.exit(main())
