"""`sigrack up` as a child process: supervisord, a host, a watch."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from sigrack.control.client import Client
from sigrack.errors import EngineError
from waiting import wait_until

__all__ = ["CLOCK", "CONF", "Up", "alive"]

CONF = Path(__file__).parents[1] / "supervisord.conf"
CLOCK = """
[rack]
name = "up"
priority = 0
[source]
driver = "clock"
path = "in.wav"
loop = true
[[slot]]
name = "level"
plugin = "level"
[[slot]]
name = "recorder"
plugin = "recorder"
config = { path = "take.flac" }
"""


class Up:
    """`sigrack up` in a folder of its own."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.folder = folder
        self.runtime = folder / "rt"
        self.runtime.mkdir(mode=0o700, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("SIGRACK_INPUT", "SUPERVISOR_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sigrack", "up", "rack.toml", *options],
            cwd=folder,
            env=environment | {"SIGRACK_RUNTIME": str(self.runtime)} | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def ask(self, cmd: str) -> dict[str, Any] | None:
        """The host's answer, None if there is none."""
        with Client(f"ipc://{self.runtime}/up.sock", 0.5) as client, suppress(EngineError):
            data: dict[str, Any] = client.request(cmd)["data"]
            return data
        return None

    def frame(self) -> int:
        """How far the host is."""
        stats = self.ask("STATS")
        return int(stats["frame"]) if stats else 0

    def host(self, other_than: int = 0) -> int:
        """Wait until a host has processed some blocks; return its pid."""

        def look() -> int:
            status, stats = self.ask("GET_STATUS"), self.ask("STATS")
            return status["pid"] if status and stats and status["pid"] != other_than and stats["blocks"] > 50 else 0

        return wait_until(look, 60, "a host that runs")

    @property
    def supervisor(self) -> int:
        """Process id of supervisord."""
        return int((self.folder / "run/supervisord.pid").read_text())

    def end(self, number: int = 0, limit_s: float = 60) -> tuple[int, str, str]:
        """Send a signal to the whole process group; return exit code, output and error output."""
        if number:
            os.killpg(self.process.pid, number)
        out, err = self.process.communicate(timeout=limit_s)
        return self.process.returncode, out, err

    def left(self) -> list[str]:
        """What should not be there afterwards."""
        kept = (".log", ".json")
        return [path.name for path in (*self.runtime.iterdir(), *(self.folder / "run").iterdir()) if path.suffix not in kept]


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
