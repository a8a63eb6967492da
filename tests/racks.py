"""Racks for tests: written to a folder, run in this process or in a child."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from sigrack.config import load
from sigrack.control.client import Client
from sigrack.errors import EngineError
from sigrack.places import default_endpoint
from sigrack.session import Session

__all__ = ["COLLECTOR", "Host", "answers", "freewheel", "noise", "request", "write"]

COLLECTOR = '''
import threading
from sigrack_plugins import Plugin

class Collector(Plugin):
    """Keeps all it is given."""

    def on_start(self):
        self.blocks, self.batches, self.threads, self.calls = [], [], set(), ["on_start"]

    def on_block(self, block):
        self.blocks.append(block)
        self.threads.add(threading.get_ident())
        self.calls.append(("block", block.frame, block.frames))

    def on_factors(self, batch):
        self.batches.append(batch)
        self.threads.add(threading.get_ident())
        self.calls.append(("factors", batch.source, int(batch.frame[-1])))

    def on_stop(self):
        self.calls.append("on_stop")
'''


def noise(frames: int, channels: int = 2, seed: int = 1) -> npt.NDArray[np.float32]:
    """Return white noise of shape (frames, channels), peaks below 0.5."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)


def write(folder: Path, toml: str, sound: npt.NDArray[np.float32] | None = None, rate_hz: int = 48_000) -> Path:
    """Write a rack and the files that racks of tests name; return the rack's path."""
    (folder / "collector.py").write_text(COLLECTOR)
    if sound is not None:
        soundfile.write(folder / "in.wav", sound, rate_hz, subtype="FLOAT")
    path = folder / "rack.toml"
    path.write_text(toml)
    return path


def freewheel(folder: Path, slots: str, sound: npt.NDArray[np.float32], *, rack: str = "", rate_hz: int = 48_000) -> Session:
    """Return a session, not yet run, that sends `sound` through `slots` as fast as it can."""
    head = f'[rack]\n{rack}\n[source]\ndriver = "file"\npath = "in.wav"\n[control]\nenabled = false\n'
    return Session(load(write(folder, head + slots, sound, rate_hz)))


class Host:
    """`sigrack run` as a child process; its log goes to a file."""

    def __init__(self, rack: Path, *options: str, **environment: str) -> None:
        self.log_path = rack.with_suffix(".log")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sigrack", "run", str(rack), *options],
                stdout=log,
                stderr=log,
                env=os.environ | environment,
            )

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text()

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def request(cmd: str, **params: Any) -> Any:
    """Ask the live host whose rack is called "rack"; it must answer within three seconds."""
    with Client(default_endpoint("rack")) as client:
        return client.request(cmd, **params)


def answers() -> bool:
    """Whether it answers."""
    try:
        return bool(request("PING"))
    except EngineError:
        return False
