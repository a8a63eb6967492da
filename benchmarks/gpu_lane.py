"""A rack on a GPU: misses in real time, how long the CPU plays when its process is killed, and that a render is the CPU's.

python benchmarks/gpu_lane.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from harness import Report, finish, machine, options
from sigrack import render
from sigrack.control.client import Client
from sigrack.errors import EngineError
from sigrack.places import default_endpoint

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


def main() -> int:
    """Measure, print, return the exit code."""
    chosen = options(__doc__ or "")
    taps, ratio, seconds = (2_000, 1, 3.0) if chosen.quick else (640_000, 16, 20.0)
    place, report = machine(), Report(details={"taps": taps, "ratio": ratio, "block": BLOCK})
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
