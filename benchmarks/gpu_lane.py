"""A rack on a GPU: misses in real time, how long the CPU plays when its process is killed, what the way there takes, a render.

python benchmarks/gpu_lane.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile

from harness import Report, finish, machine, options
from sigrack import render
from sigrack.control.client import Client
from sigrack.errors import EngineError
from sigrack.lanes import Minder
from sigrack.lanes.gpu import GpuLane, NoGpuError, Room
from sigrack.lanes.lane import Orders
from sigrack.places import default_endpoint
from sigrack_engine.cover import Cover
from sigrack_engine.exchange import Shape
from trips import PAUSE_S, trips_us

__all__ = ["main"]

PLUGIN = '''
import numpy as np
from dataclasses import dataclass
from sigrack_plugins import Plugin

@dataclass
class Settings:
    taps: int = 1
    raised: int = 1

class Filter(Plugin):
    """Noise that falls by 60 dB, all four paths."""

    Config = Settings

    def ratio(self, setup):
        return self.config.raised

    def fir(self, setup):
        fall = np.exp(-6.9 * np.arange(self.config.taps) / self.config.taps) * (self.config.raised / self.config.taps) ** 0.5
        return np.random.default_rng(1).uniform(-1, 1, (2, 2, self.config.taps)) * fall
'''
RATE_HZ = 44_100
BLOCK = 512
LOOK_S = 0.02
PATIENCE_S = 120.0
CHANNELS = 2
TRIPS = {"640k_b4096": (640_000, 4096, 705_600), "64k_b64": (65_536, 64, 48_000)}
"""Taps, frames of a block, rate."""


class _Live:
    """`sigrack run` of a rack, asked over its socket."""

    def __init__(self, rack: Path) -> None:
        self._endpoint = default_endpoint(rack.stem)
        self._process = subprocess.Popen([sys.executable, "-m", "sigrack", "run", "--fresh", str(rack)])

    def stats(self) -> dict[str, Any]:
        with Client(self._endpoint) as client:
            answer: dict[str, Any] = client.request("STATS")["data"]
        return answer

    def until(self, what: str, condition: Any) -> float:
        """Ask until `condition` of the lane's facts holds; return how long that took, in seconds."""
        begun = time.monotonic()
        while time.monotonic() < begun + PATIENCE_S:
            try:
                if condition(self.stats()["slots"][0]["lane"]):
                    return time.monotonic() - begun
            except EngineError:  # it does not answer yet
                if self._process.poll() is not None:
                    break
            time.sleep(LOOK_S)
        raise RuntimeError(f"{what} did not come")

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)


def _rack(folder: Path, name: str, driver: str, taps: int, ratio: int) -> Path:
    path = folder / f"{name}.toml"
    loop = "loop = true" if driver == "clock" else ""
    path.write_text(
        f'[rack]\nblock_frames = {BLOCK}\nbackend = "cuda"\n[source]\ndriver = "{driver}"\npath = "in.wav"\n{loop}\n'
        f'[[slot]]\nname = "filter"\nplugin = "./filter.py"\nconfig = {{ taps = {taps}, raised = {ratio} }}\n'
    )
    return path


def _rendered(report: Report, rack: Path) -> None:
    """Compare a render with the CPU's."""
    heard = {}
    for backend in ("cpu", "cuda"):
        target = rack.with_name(f"{backend}.wav")
        result = render(rack, rack.with_name("in.wav"), target, backend=backend)
        heard[backend] = soundfile.read(target, dtype="float32")[0]
        report.add(
            f"render_{backend}_rtf",
            result.real_time_factor,
            "x",
            f"a render on the {backend}; cuda: with the start of its process",
        )
    difference = np.abs(heard["cuda"] - heard["cpu"]).max() / np.abs(heard["cpu"]).max()
    report.add("error_db", float(20 * np.log10(difference + 1e-30)), "dB", "its largest difference from the CPU's", goal=-120.0)


def _played(report: Report, rack: Path, seconds: float) -> None:
    """Play in real time, then kill the child."""
    live = _Live(rack)
    try:
        live.until("a first life", lambda lane: lane["state"] == "running")
        time.sleep(seconds)
        before = live.stats()
        lane = before["slots"][0]["lane"]
        report.add("misses", lane["misses"], "", f"blocks' ends that were not there in time, in {seconds:g} s", goal=0)
        report.add("dry_ms", lane["dry_ms"], "ms", "for which the CPU was heard", goal=0)
        report.add("engine_load", before["load"], "", "of the engine thread, the CPU's filter included")
        os.kill(lane["pid"], signal.SIGKILL)
        again = live.until("a second life", lambda now: now["lives"] == lane["lives"] + 1)
        frames = -1

        def is_heard(now: dict[str, Any]) -> bool:
            nonlocal frames
            before, frames = frames, now["dry_frames"]
            return bool(before == frames)

        heard = again + live.until("its sound", is_heard)
        after = live.stats()["slots"][0]["lane"]
        report.add("again_ms", 1e3 * again, "ms", "from the kill until another process has the filter")
        report.add("heard_ms", 1e3 * heard, "ms", "from the kill until it is heard, all its history included")
        report.details["lane"] = {"device": after["device"], "before": lane, "after": after}
    finally:
        live.end()


def _trips_us(taps: int, frames: int, rate_hz: int, count: int) -> list[tuple[float, float]]:
    """Send blocks through a lane; return for each how long it was away, and of that with the GPU, as its process says."""
    minder, shape = Minder(), Shape(CHANNELS, CHANNELS, 1, frames, 16)
    orders = Orders("trip", shape, rate_hz, 0, 0, 0, patient=True, soundless_blocks=1_000_000)
    noise = np.random.default_rng(1).uniform(-1.0, 1.0, (CHANNELS, CHANNELS, taps)).astype(np.float32) / taps
    lane = GpuLane(minder, orders, noise, Room(taps, True, frames), covered=False)
    try:
        minder.call(lane.open())
        cover = Cover(
            shape, max_frames=frames, latency_frames=frames, late_frames=0, fade_frames=frames, patient=True, silent=True
        )
        minder.call(lane.run(cover))
        life = lane._life
        assert life
        took = trips_us(Cover.process_address, cover.pointer, life.exchange, frames, count)
        minder.call(lane.end())
    finally:
        minder.close()
    return took


def _exchanged(report: Report, *, quick: bool) -> None:
    """Tell what a block takes with the GPU, and the way there and back."""
    for name, (taps, frames, rate_hz) in TRIPS.items():
        took = _trips_us(2_000 if quick else taps, frames, rate_hz, 50 if quick else 3000)
        device = [inside for _, inside in took]
        ways = [away - inside for away, inside in took]
        about = f"{frames} frames with the GPU, as the lane's process sees it, one every {1e3 * PAUSE_S:g} ms"
        report.add(f"{name}_us_p50", median(device), "us", about, samples=device[:500])
        report.add(f"{name}_us_p99", float(np.quantile(device, 0.99)), "us", "... the 99th percentile")
        report.add(f"{name}_exchange_us_p50", median(ways), "us", "... from the host to it and back", samples=ways[:500])
        report.add(f"{name}_exchange_us_p99", float(np.quantile(ways, 0.99)), "us", "... the 99th percentile")


def main() -> int:
    """Measure, print, return the exit code."""
    chosen = options(__doc__ or "")
    taps, ratio, seconds = (2_000, 1, 3.0) if chosen.quick else (640_000, 16, 20.0)
    place, report = machine(), Report(details={"taps": taps, "ratio": ratio, "block": BLOCK})
    try:
        _exchanged(report, quick=chosen.quick)
    except NoGpuError as why:
        print(why, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "filter.py").write_text(PLUGIN)
        sound = np.random.default_rng(2).uniform(-0.1, 0.1, (RATE_HZ * round(seconds), 2)).astype(np.float32)
        soundfile.write(folder / "in.wav", sound, RATE_HZ, subtype="FLOAT")
        _rendered(report, _rack(folder, "gpu-lane-render", "file", taps, ratio))
        _played(report, _rack(folder, "gpu-lane", "clock", taps, ratio), seconds)
    return finish(report, place, chosen)


if __name__ == "__main__":
    sys.exit(main())
