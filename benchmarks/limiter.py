"""The true-peak limiter: what a stereo frame costs, beside a copy and, if it is installed, pedalboard's limiter.

python benchmarks/limiter.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import ctypes as c
import importlib
import operator
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import numpy.typing as npt

from harness import Report, finish, interleave, machine, options, paired, pinned
from sigrack.loading import NativePlugin
from sigrack_engine.results import POST_ADDRESS
from sigrack_plugins import abi, bundled

__all__ = ["main"]

Floats = npt.NDArray[np.float32]

CHANNELS, BLOCK = 2, 4096
RATES_HZ = {"48k": 48_000, "705k6": 705_600}
SOUNDS = {"quiet": 0.05, "loud": 1.0}
"""Noise by its RMS: the limiter never acts, or always."""


class _Plugin:
    """A bundled plugin with its parameters as they are, and one block that it processes."""

    def __init__(self, sound: Floats, rate_hz: int) -> None:
        plugin = NativePlugin(bundled()["limiter"])
        self._instance = plugin.create({}, 0, POST_ADDRESS)
        values = [param.initial for param in plugin.params]
        self._instance.activate(rate_hz=rate_hz, max_frames=BLOCK, channels=CHANNELS, values=values)
        self._process = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(abi.Block))(self._instance.process_address)
        self._arrays = sound, np.empty_like(sound)
        self._planes = [(c.c_void_p * CHANNELS)(*(plane.ctypes.data for plane in array)) for array in self._arrays]
        addresses = [c.addressof(planes) for planes in self._planes]
        self._block = abi.Block(c.sizeof(abi.Block), BLOCK, 0, *addresses, CHANNELS, 0, None)

    def __call__(self) -> None:
        self._process(self._instance.pointer, self._block)

    def close(self) -> None:
        self._instance.destroy()


def _timed(work: Callable[[], object], blocks: int) -> Callable[[], float]:
    """Return what measures nanoseconds of CPU time per frame."""

    def measure() -> float:
        begun = time.thread_time_ns()
        for _ in range(blocks):
            work()
        return (time.thread_time_ns() - begun) / (blocks * BLOCK)

    return measure


def _peer(sound: Floats, rate_hz: int) -> Callable[[], object] | None:
    """Return pedalboard's limiter, which looks at samples only and not ahead; None where it is not installed."""
    try:
        pedalboard = importlib.import_module("pedalboard")
    except ImportError:
        return None
    limiter = pedalboard.Limiter(threshold_db=-0.3, release_ms=80.0)
    return lambda: limiter.process(sound, rate_hz, buffer_size=BLOCK, reset=False)


def _measure(report: Report, rate: str, sound: str, *, quick: bool) -> bool:
    """Add the figures of one rate and one sound; return whether there was a peer."""
    rounds, blocks = (7, 20) if quick else (31, 60)
    noise = np.random.default_rng(1).standard_normal((CHANNELS, BLOCK)) * SOUNDS[sound]
    samples, target = noise.astype(np.float32), np.empty((CHANNELS, BLOCK), np.float32)
    plugin, peer = _Plugin(samples, RATES_HZ[rate]), _peer(samples, RATES_HZ[rate])
    ways = {"limiter": _timed(plugin, blocks), "copy": _timed(lambda: np.copyto(target, samples), blocks)}
    if peer:
        ways["pedalboard"] = _timed(peer, blocks)
    found = interleave(ways, rounds)
    plugin.close()
    name = f"{sound}_{rate}"
    ours = found["limiter"]
    shares = [100e-9 * RATES_HZ[rate] * ns for ns in ours]
    report.add(f"ns_{name}", median(ours), "ns", "a stereo frame", samples=ours)
    report.add(f"core_{name}", median(shares), "%", "of one core in real time", goal=5.0, samples=shares)
    for other in [way for way in ways if way != "limiter"]:
        ratios = paired(operator.truediv, ours, found[other])
        report.add(f"{other}_ratio_{name}", median(ratios), "", f"limiter / {other}", samples=ratios)
    return peer is not None


def main() -> int:
    """Measure each rate with each sound, print it, return the exit code."""
    chosen = options("Measure the true-peak limiter.")
    report, place = Report(), machine()
    with pinned():
        peers = [_measure(report, rate, sound, quick=chosen.quick) for rate in RATES_HZ for sound in SOUNDS]
    if not all(peers):
        report.notes.append("pedalboard is not installed, so there is no peer: pip install pedalboard")
    return finish(report, place, chosen)


if __name__ == "__main__":
    sys.exit(main())
