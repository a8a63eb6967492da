"""What the engine adds to the processors it runs: guards, timers, the progress word; taps; posted records."""

import ctypes as c
import operator
from statistics import median

from harness import Report, interleave, paired, pinned
from native import CHANNELS, FRAMES, Chain, eight_slots, gains
from sigrack_engine.bell import Bell
from sigrack_engine.core import address
from sigrack_engine.results import CALLBACK_ADDRESS, POST_ADDRESS, ResultRing
from sigrack_engine.tap import TapRing

__all__ = ["measure"]

RING_FRAMES = 65_536
RECORDS = 4096
RINGS = 1000


def measure(bench: c.CDLL, report: Report, *, quick: bool) -> None:
    """Measure on one CPU, in CPU time."""
    rounds = 15 if quick else 61
    with pinned():
        _measure_slots(bench, report, rounds)
        _measure_gains(bench, report, rounds)
        _measure_steps(bench, report, rounds)
        _measure_posts(bench, report, rounds)
        _measure_bell(bench, report, rounds)


def _measure_slots(bench: c.CDLL, report: Report, rounds: int) -> None:
    blocks = 100
    with Chain(bench, eight_slots(bench)) as chain:
        samples = interleave({"engine": lambda: chain.engine_ns(blocks), "bare": lambda: chain.bare_ns(blocks)}, rounds)
        alone = [ns / 1000 for ns in chain.slot_ns(1000)]
    ratios = paired(operator.truediv, samples["engine"], samples["bare"])
    about = f"8 native slots of {min(alone):.1f} to {max(alone):.1f} us: engine / bare loop"
    report.add("overhead_ratio", median(ratios), "", about, goal=1.05, samples=ratios)
    report.details["slot_us"] = [round(us, 2) for us in alone]


def _measure_gains(bench: c.CDLL, report: Report, rounds: int) -> None:
    blocks = 5000
    with gains() as processors, Chain(bench, processors) as chain:
        samples = interleave({"engine": lambda: chain.engine_ns(blocks), "bare": lambda: chain.bare_ns(blocks)}, rounds)
    extra = [ns / len(processors) for ns in paired(operator.sub, samples["engine"], samples["bare"])]
    about = "8 bundled gains, 64 frames, stereo: (engine - bare loop) / 8"
    report.add("overhead_ns_per_slot", median(extra), "ns", about, goal=60, samples=extra)
    bare = [ns / len(processors) for ns in samples["bare"]]
    report.add("gain_ns", median(bare), "ns", "one of these gains, bare, per block", samples=bare)


def _measure_steps(bench: c.CDLL, report: Report, rounds: int) -> None:
    """Compare an empty run list with one that holds a tap; a tap's ring is emptied between the samples, outside the time."""
    blocks = RING_FRAMES // FRAMES
    bell = Bell()
    tap = TapRing(CHANNELS, RING_FRAMES, RING_FRAMES, bell)
    with Chain(bench, []) as empty, Chain(bench, [], [tap]) as tapped:

        def tapped_ns() -> float:
            tap.read(RING_FRAMES)
            return tapped.engine_ns(blocks)

        samples = interleave({"empty": lambda: empty.engine_ns(blocks), "tapped": tapped_ns}, rounds)
        if tap.lost:
            raise RuntimeError("the tap overflowed under measurement: the figure is void")
    tap.close()
    bell.close()
    extra = paired(operator.sub, samples["tapped"], samples["empty"])
    report.add("empty_block_ns", median(samples["empty"]), "ns", "a block through an empty rack", samples=samples["empty"])
    report.add("tap_ns", median(extra), "ns", "one tap, per block", samples=extra)


def _measure_posts(bench: c.CDLL, report: Report, rounds: int) -> None:
    bell = Bell()
    ring = ResultRing(bell, ["peak_db", "level_db"], None, capacity=RECORDS)

    def drained(total_ns: int) -> float:
        taken = ring.take(RECORDS)
        if taken is None or len(taken[0]) != RECORDS:
            raise RuntimeError("posted records were lost under measurement: the figure is void")
        return total_ns / RECORDS

    samples = interleave(
        {
            "post_ns": lambda: drained(bench.bench_post(POST_ADDRESS, ring.cookie, RECORDS)),
            "callback_ns": lambda: drained(bench.bench_callback(CALLBACK_ADDRESS, ring.cookie, RECORDS)),
        },
        rounds,
    )
    report.add("post_ns", median(samples["post_ns"]), "ns", "one record of two values by core_post", samples=samples["post_ns"])
    about = "the same by name, as signal engines post"
    report.add("callback_ns", median(samples["callback_ns"]), "ns", about, samples=samples["callback_ns"])
    ring.shut()
    ring.close()
    bell.close()


def _measure_bell(bench: c.CDLL, report: Report, rounds: int) -> None:
    """Compare arming and ringing with arming alone, which is the listener's part."""
    bell = Bell()
    arm, ring = address("core_bell_arm"), address("core_bell_ring")
    samples = interleave(
        {
            "both": lambda: bench.bench_bell(arm, ring, bell.pointer, RINGS) / RINGS,
            "arm": lambda: bench.bench_bell(arm, None, bell.pointer, RINGS) / RINGS,
        },
        rounds,
    )
    bell.close()
    extra = paired(operator.sub, samples["both"], samples["arm"])
    report.add("wake_ns", median(extra), "ns", "ringing an armed bell: once per wake-up of the main loop", samples=extra)
