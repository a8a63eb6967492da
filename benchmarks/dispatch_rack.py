"""Our way: a real session with the engine as a `[[signal]]` and a Python plugin that listens."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from dispatch_jobs import BLOCK_S, SYMBOLS, Arrivals, Job, Plan, Scenario
from sigrack.config import parse
from sigrack.errors import CLEAN
from sigrack.session import Session
from sigrack_engine.results import PostCounts

__all__ = ["RATE_HZ", "RackWay", "check_sums", "open_session", "plugin_of", "run_session", "signal_table", "slot_table"]

RATE_HZ = 48_000
BLOCK_FRAMES = round(BLOCK_S * RATE_HZ)
PROBES = Path(__file__).with_name("probes")


def slot_table(name: str, plugin: Path | None = None) -> str:
    """Return the `[[slot]]` of a probe."""
    return f'[[slot]]\nname = "{name}"\nplugin = "{plugin or PROBES / name}.py"\n'


def signal_table(job: Job, plan: Plan) -> str:
    """Return the `[[signal]]` of the engine."""
    symbols = ", ".join(f'"{symbol}"' for symbol in SYMBOLS)
    config = ", ".join(f"{key} = {value}" for key, value in plan.config.items())
    head = f'[[signal]]\nname = "engine"\nlibrary = "{job.library}"\nlane = "inline"\nfeed = "none"\nqueue = {job.queue}\n'
    return f"{head}symbols = [{symbols}]\nconfig = {{ {config} }}\n"


def open_session(folder: Path, tables: str) -> Session:
    """Return a live session that plays silence, in blocks of 10 ms for the engine and for hooks."""
    silence = folder / "silence.wav"
    soundfile.write(silence, np.zeros((RATE_HZ, 2), np.float32), RATE_HZ)
    rack = f'[rack]\nname = "bench"\nblock_frames = {BLOCK_FRAMES}\nhook_frames = {BLOCK_FRAMES}\n'
    source = f'[source]\ndriver = "clock"\npath = "{silence}"\nloop = true\n[control]\nenabled = false\n'
    return Session(parse(folder / "bench.toml", rack + source + slot_table("begin") + tables))


def run_session(session: Session, scenario: Scenario) -> None:
    """Run the session for as long as the scenario takes. Raises what it raises. [main]"""
    tasks: list[asyncio.Task[None]] = []

    async def whole() -> None:
        try:
            await scenario()
        finally:
            session.stop()

    plugin_of(session, "begin").begin = lambda: tasks.append(asyncio.create_task(whole()))
    code = session.run()
    tasks[0].result()
    if code != CLEAN:
        raise RuntimeError(f"the session ended with {code}: {session.rack.left_behind}")


def plugin_of(session: Session, name: str) -> Any:
    """Return the Python plugin of a slot."""
    hooked = session.rack.slot(name).hooked
    assert hooked is not None
    return hooked.plugin


class RackWay:
    """A rack with the engine, a listener, and perhaps a slot that works on audio."""

    def __init__(self, job: Job, plan: Plan, arrivals: Arrivals, folder: Path) -> None:
        self._plan = plan
        probe = {"on_factors": "batch", "on_factor": "item"}[job.hook]
        tables = slot_table(probe) + (slot_table("worker") if job.load == "blocks" else "")
        self._session = open_session(folder, tables + signal_table(job, plan))
        self._ring = self._session.rack.signals[0].ring
        plugin_of(self._session, probe).arrivals = arrivals

    def run(self, scenario: Scenario) -> None:
        """Run the session for as long as the scenario takes. [main]"""

        async def counted() -> None:
            await scenario()
            self._counts = self._ring.counts

        run_session(self._session, counted)

    @property
    def dropped(self) -> int:
        """What found no room in the ring. [main]"""
        return self._ring.counts.dropped

    def check(self, arrived: int) -> None:
        """Account for every record. [main, at rest]"""
        check_sums(self._plan.sent, arrived, self._counts)


def check_sums(sent: int, arrived: int, counts: PostCounts) -> None:
    """Raise RuntimeError unless everything sent was posted, and everything posted has arrived or was dropped."""
    if counts != PostCounts(sent, arrived, sent - arrived, 0, 0, 0):
        raise RuntimeError(f"the sums are not exact: {sent} sent, {arrived} arrived, {counts}")
