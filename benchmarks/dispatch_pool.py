"""The block pool: how often a real rack finds an array in it, and what lending one costs."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import soundfile

from dispatch_rack import RATE_HZ, plugin_of, slot_table
from harness import Report, interleave, pinned
from sigrack.config import parse
from sigrack.session import Session
from sigrack_engine.pool import BlockPool

__all__ = ["measure"]

CHANNELS, FRAMES = 2, 1024
LOANS = 2000


def measure(report: Report, *, quick: bool) -> None:
    """Send audio through a rack with a hook that keeps nothing; lend arrays on one CPU."""
    about = "blocks of a rack's on_block that came from the pool; no plugin keeps any"
    report.add("pool_hit_rate", _hit_rate(5 if quick else 60), "", about, goal=1, at_least=True)
    pool = BlockPool(CHANNELS, FRAMES)
    with pinned():
        samples = interleave({"pool_ns": lambda: _lend_ns(pool), "fresh_array_ns": lambda: _loop_ns(_fresh)}, 15 if quick else 61)
    if pool.fallbacks:
        raise RuntimeError("the pool ran dry under measurement: the figure is void")
    about = f"lending a block of {FRAMES} frames, stereo, and taking it back"
    report.add("pool_ns", median(samples["pool_ns"]), "ns", about, samples=samples["pool_ns"])
    about = "a fresh array of that size instead, by numpy.empty, not written to"
    report.add("fresh_array_ns", median(samples["fresh_array_ns"]), "ns", about, samples=samples["fresh_array_ns"])


def _hit_rate(seconds: int) -> float:
    """Run silence through a rack in freewheel, with short blocks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "silence.wav", np.zeros((seconds * RATE_HZ, CHANNELS), np.float32), RATE_HZ)
        rack = '[rack]\nblock_frames = 64\nhook_frames = 64\n[source]\ndriver = "file"\npath = "silence.wav"\n'
        session = Session(parse(folder / "bench.toml", f"{rack}[control]\nenabled = false\n{slot_table('blocks')}"))
        plugin, tap = plugin_of(session, "blocks"), session.rack.slot("blocks").hook_tap
        assert tap is not None
        session.run()
    return 1 - tap.pool.fallbacks / float(plugin.count)


def _lend_ns(pool: BlockPool) -> float:
    return _loop_ns(lambda: pool.done(pool.get()))


def _fresh() -> object:
    return np.empty((CHANNELS, FRAMES), np.float32)


def _loop_ns(call: Callable[[], object]) -> float:
    begun = time.thread_time_ns()
    for _ in range(LOANS):
        call()
    return (time.thread_time_ns() - begun) / LOANS
