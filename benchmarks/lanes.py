"""Processors in processes of their own: what the way there costs, and how long a slot is without its processor after a death.

python benchmarks/lanes.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import asyncio
import operator
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from harness import Report, finish, interleave, machine, options, paired
from sigrack.config import parse
from sigrack.lanes import LanePlugin, Minder
from sigrack.lanes.lane import Orders
from sigrack.lanes.plugin import Home, Room
from sigrack.lanes.plugin_lane import MemberOrders, PluginLane
from sigrack.session import Session
from sigrack.soak import faulty
from sigrack_engine.exchange import Shape
from sigrack_engine.results import POST_ADDRESS
from sigrack_plugins import native
from trips import trips_us

__all__ = ["main"]

CHANNELS, RATE_HZ = 2, 48_000
PLUGINS = {"native": native(faulty.__file__, "faulty_native"), "python": Path(faulty.__file__)}
DEATHS = ("null write", "exit", "loop", "NaN flood")
GOOD_LIFE_S = 1.05
"""A life that is followed by the next one at once."""
STOP_S = 20.0


def _round_trips_us(language: str, frames: int, blocks: int) -> list[float]:
    """Send blocks through a child, one after the other; return how long each took from the host and back."""
    shape = Shape(CHANNELS, CHANNELS, 1, frames, 64)
    target = str(PLUGINS[language])
    names = ("1", "2")
    minder = Minder()
    home = Home(minder, Orders("trip", shape, RATE_HZ, 0, 0, 69, True, 1000), Room(frames, frames, 960))
    instance = LanePlugin(home, MemberOrders("trip", target, True, "bench.toml", names, names)).create({}, 0, POST_ADDRESS)
    instance.activate(rate_hz=RATE_HZ, max_frames=frames, channels=CHANNELS, values=[-0.75, 0.0])
    instance.run({"gain": -0.75, "strike": 0.0})
    life = instance.lane._life
    assert life
    took = trips_us(instance.process_address, instance.pointer, life.exchange, frames, blocks)
    instance.destroy()
    minder.close()
    return [away for away, _ in took]


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def _measure_trips(report: Report, *, quick: bool) -> None:
    for frames in (64, 256):
        for language in PLUGINS:
            took = _round_trips_us(language, frames, 500 if quick else 5000)
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                about = f"{frames} frames to a sleeping child and back, {language}"
                report.add(f"roundtrip_us_{name}_{language}_{frames}", _quantile(took, share), "us", about, samples=took[:500])


def _slots(lane: str, count: int, plugin: Path, rest: str = "") -> str:
    slot = '[[slot]]\nname = "s{0}"\nplugin = "{1}"\nlane = "{2}"\nparams = {{ gain = 0.9 }}\n{3}\n'
    return "".join(slot.format(number, plugin, lane, rest) for number in range(count))


def _play(tables: str, work: Callable[[Session], Coroutine[Any, Any, None]]) -> None:
    """Play silence by the clock through a rack as long as `work` lasts."""
    head = f'[rack]\nblock_frames = 256\n[source]\ndriver = "none"\nrate_hz = {RATE_HZ}\n[control]\nenabled = false\n'
    with tempfile.TemporaryDirectory() as folder:
        session = Session(parse(Path(folder) / "bench.toml", head + tables))
        if session.run(lambda: work(session)) or session.interrupted:
            raise RuntimeError("the rack failed, or was stopped")


async def _until(condition: Callable[[], object], what: str) -> None:
    stop = time.monotonic() + STOP_S
    while not condition():
        if time.monotonic() > stop:
            raise RuntimeError(f"waited in vain for {what}")
        await asyncio.sleep(0.001)


def _cpu_s(session: Session) -> float:
    """Return the processor time of the host and all children so far."""
    pids = {slot.lane.pid for slot in session.rack.slots if slot.lane}
    ticks = 0
    for pid in [os.getpid(), *filter(None, pids)]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _load(lane: str, count: int, seconds: float) -> float:
    """Return the share of a processor that slots of a gain take, host and children together."""
    found = []

    async def work(session: Session) -> None:
        await asyncio.sleep(0.3)
        begun, cpu_s = time.monotonic(), _cpu_s(session)
        await asyncio.sleep(seconds)
        found.append((_cpu_s(session) - cpu_s) / (time.monotonic() - begun))

    _play(_slots(lane, count, PLUGINS["native"]), work)
    return found[0]


def _measure_load(report: Report, *, quick: bool) -> None:
    rounds, seconds = (1, 1.0) if quick else (5, 4.0)
    for count in (1, 8, 64):
        lanes = {
            lane: partial(_load, lane, count, seconds) for lane in ("inline", "process", *(["process:one"] if count == 8 else []))
        }
        found = interleave(lanes, rounds, warm_up=False)
        if shared := found.get("process:one"):
            ratios = paired(operator.truediv, shared, found["process"])
            about = f"{count} slots of 256 frames: processor time of host and children, one shared lane / a lane each"
            report.add(f"load_ratio_shared_{count}", median(ratios), "", about, samples=ratios)
        ratios = paired(operator.truediv, found["process"], [max(load, 0.01) for load in found["inline"]])
        about = f"{count} slots of 256 frames: processor time of host and children, process / inline"
        report.add(f"load_ratio_{count}", median(ratios), "", about, samples=ratios)
        extra = [100 * ms / count for ms in paired(operator.sub, found["process"], found["inline"])]
        report.add(f"load_percent_{count}", median(extra), "%", "of a processor, more for each slot", samples=extra)


async def _deaths(session: Session, report: Report, language: str, count: int) -> None:
    slot = session.rack.slot("s0")
    lane = slot.lane
    assert lane
    for kind in DEATHS:
        dry_ms = []
        for turn in range(1, count + 1):
            await _sound(lane)
            before = lane.facts
            slot.set_param("strike", faulty.number_of(kind, turn + 100 * DEATHS.index(kind)))
            await _until(partial(_lives, lane, before["lives"] + 1), f"the life after {kind}")
            await _sound(lane)
            dry_ms.append(lane.facts["dry_ms"] - before["dry_ms"])
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            key = f"dry_ms_{name}_{language}_{kind.replace(' ', '_').lower()}"
            goal = 100 if name == "p50" and kind in ("null write", "exit") else None
            report.add(key, _quantile(dry_ms, share), "ms", f"the input was played after: {kind}", goal=goal, samples=dry_ms)
    restarts_ms = []
    for _ in range(count):
        await _sound(lane)
        lives, begun = lane.facts["lives"], time.perf_counter()
        os.kill(lane.pid or 0, signal.SIGKILL)
        await _until(partial(_lives, lane, lives + 1), "the life after SIGKILL")
        restarts_ms.append(1000 * (time.perf_counter() - begun))
    report.add(
        f"restart_ms_{language}", median(restarts_ms), "ms", "from SIGKILL to the next life's first block", samples=restarts_ms
    )


def _lives(lane: PluginLane, lives: int) -> bool:
    return bool(lane.facts["lives"] >= lives)


async def _sound(lane: PluginLane) -> None:
    """Wait until the child is heard, and its life is a good one."""
    assert lane._cover
    cover = lane._cover
    await _until(lambda: cover.stats.is_wet and lane.state == "running", "the child to be heard")
    await asyncio.sleep(GOOD_LIFE_S)


def _measure_deaths(report: Report, *, quick: bool) -> None:
    for language, plugin in PLUGINS.items():

        async def work(session: Session, language: str = language) -> None:
            lane = session.rack.slot("s0").lane
            assert lane
            await _until(lambda: lane.pid, "the child")
            report.add(f"pss_mb_{language}", _pss_mb(lane.pid or 0), "MB", "memory of a child, its share of what is shared")
            await _deaths(session, report, language, 2 if quick else 20)

        _play(_slots("process", 1, plugin, "crash_budget = 0"), work)


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("the kernel does not tell the memory of a process")


def main() -> int:
    """Measure and print; return the exit code."""
    import logging

    logging.getLogger("sigrack").setLevel(logging.CRITICAL)
    chosen = options(__doc__ or "")
    place, report = machine(), Report()
    _measure_trips(report, quick=chosen.quick)
    _measure_load(report, quick=chosen.quick)
    _measure_deaths(report, quick=chosen.quick)
    return finish(report, place, chosen)


if __name__ == "__main__":
    sys.exit(main())
