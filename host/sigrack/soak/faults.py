"""Processors do everything that is bad while music plays and control changes their rack: nothing is missing, nothing is left."""

import asyncio
import contextlib
import logging
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sigrack.config import parse
from sigrack.errors import ConfigError
from sigrack.lanes.plugin_lane import PluginLane
from sigrack.session import Session
from sigrack.slot import Slot
from sigrack.soak import faulty
from sigrack.soak.report import Chart, Curve
from sigrack_plugins import native

__all__ = ["CAUSES", "Verdict", "incident", "soak"]

log = logging.getLogger("sigrack")

RATE_HZ = 48_000
LEVEL = 0.5
"""Of what plays."""
GAINS = (0.85, 1.15)
"""Between which the slots' gains move."""
SLOTS = ("native", "python", "native", "python")
START_S, REST_S = 0.5, 0.3
"""Before the first fault, and after the last."""
DIP_FRAMES = RATE_HZ // 5
DEATH_S = 30.0
"""How long a death may take to be counted, and a life to begin; a loaded machine is slow."""
CRASH_S = 60 / 18
"""The incident: a crash as often as that."""
GIVEN_UP_S = 20.0
MARK = "SIGRACK_SOAK"

_KINDS_OF_CAUSES = (
    (("null write", "stack overflow", "past output", "input write"), {"SIGSEGV"}),
    (("heap smash",), {"SIGABRT", "SIGSEGV"}),
    (("before output",), {"SIGSEGV", "false counters"}),
    (("abort",), {"SIGABRT"}),
    (("exit",), {"exit code 7"}),
    (("quit",), {"exit code 5"}),
    (("division",), {"SIGFPE"}),
    (("closed files",), {"exit code 71", "exit code 70"}),
    (("leak",), {"memory limit of 256 MiB"}),
    (("loop", "sleep", "ignored signals"), {"hang", "no answer"}),
    (("NaN flood", "infinite flood", "loud flood"), {"bad samples"}),
    (("refusal flood",), {"refused"}),
    (("rounding", "refusal", "fork", "threads"), set[str]()),
)
CAUSES = {kind: causes for kinds, causes in _KINDS_OF_CAUSES for kind in kinds}
"""What a death by each kind may be counted as; none: nobody dies. Whoever is late for long dies of that first."""

HEAD = """\
[rack]
block_frames = 256
hook_frames = 256
[source]
driver = "clock"
path = "in.wav"
loop = true
[control]
enabled = false
"""
LISTENER = '''
"""Looks at every frame that goes out."""
import numpy as np
from sigrack_plugins import Plugin

class Listener(Plugin):
    def on_start(self):
        self.next, self.missing, self.levels, self.silent, self.loud, self.counts = None, 0, [], [], 0, False

    def on_block(self, block):
        self.missing += 0 if self.next is None else abs(block.frame - self.next)
        self.next = block.frame + block.frames
        if self.counts:
            level = np.abs(block.samples)
            self.levels.append((block.frame, float(level.min())))
            if level.min() < QUIETEST:
                self.silent.append(block.frame)
            self.loud += bool(level.max() > LOUDEST)
'''


@dataclass(slots=True)
class Verdict:
    """What came of it."""

    struck: int = 0
    """Faults that were asked for."""
    deaths: dict[str, int] = field(default_factory=dict)
    """By cause, as the lanes have counted them."""
    changes: int = 0
    swaps: int = 0
    seconds: float = 0.0
    blocks: int = 0
    """That were looked at."""
    silent_blocks: int = 0
    """With a frame below what the quietest gains give."""
    loud_blocks: int = 0
    """With a frame above what the loudest gains give."""
    missing_frames: int = 0
    """That the engine has not played, or not in order."""
    unheard_frames: int = 0
    """That the engine has played, but this program was too late to look at."""
    dry_ms: float = 0.0
    """In which the input was played instead, all slots together."""
    processes_left: int = 0
    descriptors_left: int = 0
    maps_left: int = 0
    given_up_s: float | None = None
    """The incident: when the slot was given up."""
    faults: list[str] = field(default_factory=list)
    """What is wrong."""
    levels: list[tuple[float, float]] = field(default_factory=list)
    """The output's lowest level, over time."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """The host's, in MB."""

    def judge(self) -> "Verdict":
        """Say in words what the counts say."""
        checks = {
            f"{self.silent_blocks} blocks were silent, or quieter than they can be": self.silent_blocks,
            f"{self.loud_blocks} blocks were louder than they can be": self.loud_blocks,
            f"{self.missing_frames} frames are missing": self.missing_frames,
            f"{self.processes_left} processes are left": self.processes_left,
            f"{self.descriptors_left} descriptors are left open": self.descriptors_left,
            f"{self.maps_left} mappings of lanes are left": self.maps_left,
            "nothing was heard": not self.blocks,
        }
        self.faults += [text for text, wrong in checks.items() if wrong]
        return self

    @property
    def charts(self) -> list[Chart]:
        """For the report."""
        return [Curve("Lowest level of the output", "", self.levels), Curve("Memory of the host", "MB", self.memory)]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: value for name, value in asdict(self).items() if name not in ("levels", "memory")}


@contextlib.contextmanager
def _place() -> Iterator[Path]:
    """Give a folder with something to play; states and quarantines of this run go there, and all its processes bear its mark."""
    folder = Path(tempfile.mkdtemp(prefix="sigrack-faults-"))
    before = {name: os.environ.get(name) for name in (MARK, "SIGRACK_STATE")}
    os.environ |= {MARK: str(folder), "SIGRACK_STATE": str(folder / "state")}
    sound = np.full((RATE_HZ, 2), LEVEL, np.float32)
    soundfile.write(folder / "in.wav", sound, RATE_HZ, subtype="FLOAT")
    low, high = LEVEL * GAINS[0] ** len(SLOTS), LEVEL * GAINS[1] ** len(SLOTS)
    text = LISTENER.replace("QUIETEST", f"{0.98 * low}").replace("LOUDEST", f"{1.02 * high}")
    (folder / "listener.py").write_text(text)
    try:
        yield folder
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def _left(folder: Path) -> int:
    """Return how many other processes of this run there are."""
    mark, count = f"{MARK}={folder}".encode(), 0
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            count += path.parent.name != str(os.getpid()) and mark in path.read_bytes()
    return count


def _open_lanes() -> int:
    """Return how many of this process's descriptors are a lane's."""
    links = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(path))
    return sum("memfd:sigrack" in link or "socket:" in link or "eventfd" in link for link in links)


def _maps() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:sigrack")


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class _Run:
    """One session whose output is looked at, and what came of it."""

    def __init__(self, folder: Path, verdict: Verdict, slots: str) -> None:
        self.verdict = verdict
        ears = '[[slot]]\nname = "ears"\nplugin = "./listener.py"\n'
        self._folder = folder
        self._open = _open_lanes()
        self.session = Session(parse(folder / "rack.toml", HEAD + slots + ears))
        self.rack = self.session.rack
        hooked = self.rack.slot("ears").hooked
        assert hooked
        self.ears: Any = hooked.plugin
        self._hooked = hooked
        self.lanes: list[PluginLane] = []
        self.dips: list[tuple[int, int]] = []
        """Frames between which a swap may be heard: it fades out and in again."""

    def play(self, work: Callable[[], AsyncIterator[None]]) -> None:
        """Run it as long as `work` lasts. [main]"""
        self._begun = time.monotonic()

        async def beside() -> None:
            await asyncio.sleep(START_S)
            self.ears.counts = True
            async for _ in work():
                self._sample()
            await asyncio.sleep(REST_S)
            self.ears.counts = False
            self._note()

        if code := self.session.run(beside):
            self.verdict.faults.append(f"the host ended with {code}")
        self.verdict.seconds += round(time.monotonic() - self._begun, 1)
        self._look_for_rests()

    def _sample(self) -> None:
        self.verdict.memory.append((time.monotonic() - self._begun, _rss_mb()))

    def lane(self, name: str) -> PluginLane:
        """Return a slot's lane, and remember it."""
        lane = self.rack.slot(name).lane
        assert lane
        if lane not in self.lanes:
            self.lanes.append(lane)
        return lane

    def _note(self) -> None:
        verdict, ears = self.verdict, self.ears
        tap = self.rack.slot("ears").hook_tap
        assert tap
        if errors := self._hooked.errors:
            verdict.faults.append(f"the listener failed {errors} times")
        verdict.blocks += len(ears.levels)
        verdict.levels += [(verdict.seconds + frame / RATE_HZ, low) for frame, low in ears.levels[::50]]
        verdict.silent_blocks += sum(not any(since <= frame < to for since, to in self.dips) for frame in ears.silent)
        verdict.loud_blocks += ears.loud
        verdict.unheard_frames += tap.tap.lost
        verdict.missing_frames += abs(ears.missing - tap.tap.lost)
        verdict.dry_ms += round(sum(lane.facts["dry_ms"] for lane in self.lanes), 1)
        verdict.deaths = dict(sum((Counter(lane.deaths) for lane in self.lanes), Counter(verdict.deaths)))

    def _look_for_rests(self) -> None:
        stop = time.monotonic() + DEATH_S
        while (left := _left(self._folder)) and time.monotonic() < stop:
            time.sleep(0.05)
        self.verdict.processes_left += left
        self.verdict.descriptors_left += max(_open_lanes() - self._open, 0)
        self.verdict.maps_left += _maps()


async def _until(condition: Callable[[], object]) -> bool:
    stop = time.monotonic() + DEATH_S
    while not condition():
        if time.monotonic() > stop:
            return False
        await asyncio.sleep(0.01)
    return True


class _Soak:
    """Random faults in random slots."""

    def __init__(self, run: _Run, seed: int, faults: int | None, seconds: float | None, progress: Callable[[int], None]) -> None:
        self._run, self._verdict, self._progress = run, run.verdict, progress
        self._random = random.Random(seed)
        self._most = faults
        self._seconds = seconds
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self) -> AsyncIterator[None]:
        """Strike, change and swap until it is enough; yields now and then."""
        stop = time.monotonic() + self._seconds if self._seconds else None
        while (self._most is None or self._verdict.struck < self._most) and (stop is None or time.monotonic() < stop):
            free = [name for name in self._names if name not in self._busy]
            if free:
                task = asyncio.create_task(self._do(self._random.choice(free)))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(self._random.uniform(0.02, 0.3))
            yield
        await asyncio.gather(*self._tasks)
        yield

    @property
    def _names(self) -> list[str]:
        return [f"s{number}" for number in range(len(SLOTS))]

    async def _do(self, name: str) -> None:
        self._busy.add(name)
        try:
            dice = self._random.random()
            if dice < 0.5:
                await self._strike(name)
            elif dice < 0.9:
                self._run.rack.slot(name).set_param("gain", self._random.uniform(*GAINS))
                self._verdict.changes += 1
            else:
                self._run.lane(name)
                await self._run.rack.changes.swap(name)
                frame = self._run.rack.engine.frame
                self._run.dips.append((frame - DIP_FRAMES, frame + DIP_FRAMES))
                self._run.lane(name)
                self._verdict.swaps += 1
        except Exception as error:
            self._verdict.faults.append(f"{name}: {type(error).__name__}: {error}")
        finally:
            self._busy.discard(name)

    async def _strike(self, name: str) -> None:
        kind = self._random.choice(list(CAUSES))
        self._verdict.struck += 1
        self._progress(1)
        await strike(self._run, self._run.rack.slot(name), self._run.lane(name), kind, self._verdict.struck)


async def strike(run: _Run, slot: Slot, lane: PluginLane, kind: str, turn: int) -> None:
    """Let a fault happen in a slot, and wait until it is counted and the next child lives."""
    before, lives, allowed = Counter(lane.deaths), lane.facts["lives"], CAUSES[kind]
    slot.set_param("strike", faulty.number_of(kind, turn))
    if not allowed:
        return
    if not await _until(lambda: sum(lane.deaths.values()) > before.total()):
        run.verdict.faults.append(f"{slot.name}: {kind} was never counted")
        return
    if strange := set(Counter(lane.deaths) - before) - allowed - {"late"}:
        run.verdict.faults.append(f"{slot.name}: {kind} was counted as {', '.join(strange)}")
    if not await _until(lambda: lane.state == "quarantined" or (lane.state == "running" and lane.facts["lives"] > lives)):
        run.verdict.faults.append(f"{slot.name}: no next life after {kind}")


def _table(name: str, language: str, budget: str) -> str:
    plugin = native(faulty.__file__, "faulty_native") if language == "native" else Path(faulty.__file__)
    limits = f'lane = "process"\nmemory_mb = 256\n{budget}\n'
    return f'[[slot]]\nname = "{name}"\nplugin = "{plugin}"\n{limits}params = {{ gain = 1.0 }}\n'


def soak(
    faults: int | None, seed: int, seconds: float | None = None, progress: Callable[[int], None] = lambda _: None
) -> Verdict:
    """Let `faults` faults happen, drawn from `seed`, or as many as come in `seconds`. Raises EngineError. [main]"""
    if (faults is None) == (seconds is None):
        raise ConfigError("either so many faults, or for so many seconds")
    verdict = Verdict()
    with _place() as folder:
        tables = "".join(_table(f"s{number}", language, "crash_budget = 0") for number, language in enumerate(SLOTS))
        run = _Run(folder, verdict, tables)
        run.play(_Soak(run, seed, faults, seconds, progress).work)
    return verdict.judge()


def incident(crashes: int, progress: Callable[[int], None] = lambda _: None) -> Verdict:
    """Let one slot crash 18 times a minute: with the default budget, until it is given up; then `crashes` times without one.

    Raises EngineError. [main]
    """
    verdict = Verdict()

    def crash(run: _Run, most: int) -> Callable[[], AsyncIterator[None]]:
        async def work() -> AsyncIterator[None]:
            slot, lane, begun = run.rack.slot("s0"), run.lane("s0"), time.monotonic()
            for turn in range(1, most + 1):
                await strike(run, slot, lane, "null write", turn)
                verdict.struck += 1
                progress(1)
                if lane.state == "quarantined":
                    verdict.given_up_s = round(time.monotonic() - begun, 2)
                    return
                yield
                await asyncio.sleep(max(begun + turn * CRASH_S - time.monotonic(), 0))

        return work

    with _place() as folder:
        run = _Run(folder, verdict, _table("s0", "native", ""))
        run.play(crash(run, 18))
    if verdict.given_up_s is None or verdict.given_up_s > GIVEN_UP_S:
        verdict.faults.append(f"the slot was not given up within {GIVEN_UP_S:g} s")
    given_up_s, died = verdict.given_up_s, sum(verdict.deaths.values())
    with _place() as folder:
        run = _Run(folder, verdict, _table("s0", "native", "crash_budget = 0"))
        run.play(crash(run, crashes))
    verdict.given_up_s = given_up_s
    if sum(verdict.deaths.values()) - died < crashes:
        verdict.faults.append(f"only {sum(verdict.deaths.values()) - died} of {crashes} deaths without a budget were counted")
    return verdict.judge()
