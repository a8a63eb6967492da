"""The fused chain: upsampler, equaliser and crossfeed compiled into one convolver, beside the three one after another.

python benchmarks/fused_chain.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import operator
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median

import numpy as np

from fused_chain_convolvers import Chain, Samples, error_db, reference
from fused_chain_rack import CHANNELS, RATE_HZ, alike, filters, run, write_rack, write_sounds
from harness import Report, finish, interleave, machine, options, paired, pinned
from sigrack_engine.compiler import Linear, compiled
from sigrack_engine.costs import Forms, parted

__all__ = ["main"]

BLOCKS = 256, 4096
CYCLE = 16_384
"""A sample is a whole number of these input frames, so that the largest partitions take turns in full."""
NOISE_FRAMES = 4 * CYCLE
"""Longer than the filters: a partition that has had no input costs nothing."""


def _ways(parts: Sequence[Linear], block: int) -> dict[str, Sequence[Linear]]:
    """Return what is compared: what the host makes of the filters, each alone, and the first without the others."""
    ends = list(accumulate(parted([Forms(part) for part in parts], block), initial=0))
    return {"fused": [compiled(parts[a:b]) for a, b in pairwise(ends)], "apart": parts, "upsample": parts[:1]}


@contextmanager
def _chains(ways: Mapping[str, Sequence[Linear]], block: int, noise: Samples) -> Iterator[dict[str, Chain]]:
    """Make the convolvers of each way, full of noise."""
    chains = {way: Chain(parts, CHANNELS, block) for way, parts in ways.items()}
    try:
        for chain in chains.values():
            chain.stream(noise)
        yield chains
    finally:
        for chain in chains.values():
            chain.close()


class Measurement:
    """The figures of one run."""

    def __init__(self, report: Report, rack: Path, *, quick: bool) -> None:
        self._report = report
        self._rounds, self._cycles, self._runs = (5, 1, 2) if quick else (21, 3, 7)
        self._noise = np.random.default_rng(2).uniform(-0.5, 0.5, (CHANNELS, NOISE_FRAMES)).astype(np.float32)
        parts = filters(rack)
        begun = time.process_time()
        compiled(parts)
        report.add("compile_s", time.process_time() - begun, "s", "CPU time: the product of all three filters")
        self._parts = parts
        report.details["taps"] = [part.taps.shape[2] for part in parts]
        report.details["stages"] = {}

    def speed(self) -> None:
        """How much faster what the filters are compiled into is than three convolvers."""
        found = [self._compare(self._parts, block, str(block)) for block in BLOCKS]
        worst = min(found, key=median)
        about = "three convolvers / compiled, four different paths: the smaller of the two"
        self._report.add("fusion_speedup", median(worst), "", about, goal=3, at_least=True, samples=worst)

    def speed_alike(self) -> None:
        """The same where both ears hear alike: of the four paths two and two are equal."""
        for block in BLOCKS:
            self._compare(alike(self._parts), block, f"alike_{block}")

    def _compare(self, parts: Sequence[Linear], block: int, end: str) -> list[float]:
        """Let the ways take turns; return the speedup of each round."""
        report, ways = self._report, _ways(parts, block)
        with _chains(ways, block, self._noise) as chains:
            work = {way: partial(chain.ns_per_frame, self._cycles * CYCLE) for way, chain in chains.items()}
            found = interleave(work, self._rounds)
            stages = {way: chain.stages for way, chain in chains.items()}
            longest = chains["fused"].longest_block_ns(CYCLE, self._rounds) * RATE_HZ / block * 1e-7
            for way, samples in found.items():
                report.add(f"{way}_ns_{end}", median(samples), "ns", "CPU time of an input frame in stereo", samples=samples)
                report.add(f"{way}_mb_{end}", chains[way].megabytes, "MB", "memory")
        speedup = paired(operator.truediv, found["apart"], found["fused"])
        limit = paired(operator.truediv, found["apart"], found["upsample"])
        report.add(f"fusion_speedup_{end}", median(speedup), "", f"apart / fused, blocks of {block}", samples=speedup)
        report.add(f"fusion_limit_{end}", median(limit), "", "apart / upsample: if the others were free", samples=limit)
        report.add(f"worst_block_{end}", longest, "%", "of its period: the longest block's CPU time, fused")
        report.details["stages"][end] = stages
        report.notes += [f"{end} {way}: {' | '.join(stages[way])}" for way in ("fused", "apart")]
        return speedup

    def errors(self) -> None:
        """How far the ways are from what they should give."""
        wanted = reference(self._noise, self._parts)
        for way, key in (("fused", "error_db"), ("apart", "error_apart_db")):
            chains = [Chain(_ways(self._parts, block)[way], CHANNELS, block) for block in BLOCKS]
            worst = max(error_db(chain.stream(self._noise), wanted) for chain in chains)
            self._report.add(key, worst, "dB", "largest difference from float64, peak", goal=-120)
            for chain in chains:
                chain.close()

    def real_time(self, racks: Mapping[int, Path]) -> None:
        """How fast whole racks are, one after the other."""
        runs = {str(block): partial(run, rack) for block, rack in racks.items()}
        found = interleave(runs, self._runs, warm_up=False)
        factors = {block: [factor for factor, _ in values] for block, values in found.items()}
        for block, values in found.items():
            about = f"seconds of audio / CPU seconds, a rack with blocks of {block}"
            self._report.add(f"realtime_factor_{block}", median(factors[block]), "", about, samples=factors[block])
            longest = [100.0 * share for _, share in values]
            about = "of its period: the longest block in real time, in the run that was disturbed least"
            self._report.add(f"worst_block_rack_{block}", min(longest), "%", about, samples=longest)
        worst = min(factors.values(), key=median)
        self._report.add("realtime_factor", median(worst), "", "the smaller of the two", goal=8, at_least=True, samples=worst)


def main() -> int:
    """Measure everything, print it, return the exit code."""
    chosen = options("Measure a fused chain.")
    report, place = Report(), machine()
    with tempfile.TemporaryDirectory() as name, pinned():
        folder = Path(name)
        write_sounds(folder, 5.0 if chosen.quick else 30.0)
        racks = {block: write_rack(folder, block) for block in BLOCKS}
        measurement = Measurement(report, racks[BLOCKS[0]], quick=chosen.quick)
        measurement.speed()
        measurement.speed_alike()
        measurement.errors()
        measurement.real_time(racks)
    return finish(report, place, chosen)


if __name__ == "__main__":
    sys.exit(main())
