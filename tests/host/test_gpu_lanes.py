"""Groups on a GPU: what is heard is the CPU's, also when the device fails at any call; and it goes on there when it can.

The device is emulated: it runs the real kernels, slowly, in the real child.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from command import refused, sigrack
from fades import Signal, beginning, changed, faded, slot
from filters import FILTER, filtered, taps_of
from oracles.chain import error_db
from racks import noise, write
from sigrack import render
from sigrack.config import load
from sigrack.drivers import built
from sigrack.errors import EngineError
from sigrack.groups import variant_of
from sigrack.lanes.gpu import GpuGroup
from sigrack.quarantine import Quarantine
from sigrack.rack import Rack
from sigrack.session import Session
from sigrack.status import stats, status
from sigrack_engine.compiler import Linear
from sigrack_engine.engine import FreewheelBuffers
from sigrack_plugins import Setup

TESTS = Path(__file__).parents[1]
LIMIT_DB = -120.0
BLOCK = 64
FADE = 48
"""Frames, of `fade_ms = 1`."""
LONG_S, PAUSE_S = 60.0, 0.0005
"""A new process may take long; steps need not be as fast as they can meanwhile."""

METER = slot("listener", "level")
"""Makes a rack more than one filter, so that its engine runs in a render as well."""

Samples = npt.NDArray[np.float32]
OPEN: "list[Stepped]" = []
"""Racks that are not closed."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Holds the plugins of these tests, and what the device is told and tells."""
    if not shutil.which("g++"):
        pytest.skip("no g++: the kernels cannot be compiled for this CPU")
    (tmp_path / "filter.py").write_text(FILTER)
    monkeypatch.setenv("SIGRACK_CUDA_DEVICE", "gpu_device:opened")
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("GPU_FOLDER", str(tmp_path))
    yield tmp_path
    while OPEN:  # what a test that has failed has left
        OPEN.pop().rack.close()


def rack_file(
    folder: Path, tables: str, sound: Samples, *, rack: str = "", driver: str = "file", block: int = BLOCK, rate_hz: int = 48_000
) -> Path:
    head = f"[rack]\nblock_frames = {block}\nfade_ms = 1.0\npriority = 0\n{rack}\n"
    return write(
        folder, f'{head}[source]\ndriver = "{driver}"\npath = "in.wav"\n[control]\nenabled = false\n{tables}', sound, rate_hz
    )


def rendered(path: Path, backend: str) -> Signal:
    render(path, path.parent / "in.wav", path.parent / "out.wav", overwrite=True, backend=backend)
    heard: Signal = soundfile.read(path.parent / "out.wav")[0]
    return heard


def fail_in(folder: Path, calls: int) -> None:
    """Let the device fail after so many more calls."""
    (folder / "order").write_text(str(calls))
    (folder / "order").rename(folder / "fails_in")  # it may look at any time


def pinned(folder: Path) -> list[int]:
    """Return how many pieces of memory each device has left pinned."""
    return [int(path.read_text()) for path in folder.glob("*.pinned")]


# Renders


@pytest.mark.parametrize(
    ("tables", "block"),
    [
        (filtered("a", taps=500), 64),
        (filtered("a", taps=500), 100),
        (filtered("a", taps=500, late=37) + filtered("b", taps=90, apart=True), 64),
        (filtered("a", taps=700, ratio=4), 64),
        (filtered("a", taps=100) + filtered("up", taps=700, ratio=4, late=20), 256),
    ],
)
def test_a_render_on_the_gpu_is_the_cpus(folder: Path, tables: str, block: int) -> None:
    """Sample for sample, whatever the lane's latency, and nothing is left pinned."""
    path = rack_file(folder, tables + METER, noise(3001), block=block)
    wanted, heard = (rendered(path, backend) for backend in ("cpu", "cuda"))

    assert error_db(heard, wanted) < LIMIT_DB
    assert [0] == pinned(folder)


def test_a_render_on_a_real_gpu_is_the_cpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one."""
    monkeypatch.delenv("SIGRACK_CUDA_DEVICE")
    with built(load(rack_file(folder, filtered("a"), noise(10), rack='backend = "cuda"'))) as rack:
        if not rack.groups[0].lane:
            pytest.skip("there is no GPU")
    tables = filtered("a", taps=5000) + filtered("up", taps=20_000, ratio=4, late=20) + METER
    path = rack_file(folder, tables, noise(48_000), block=256)
    wanted, heard = (rendered(path, backend) for backend in ("cpu", "cuda"))

    assert error_db(heard, wanted) < LIMIT_DB


def test_a_render_ends_when_its_gpu_fails(folder: Path) -> None:
    """In one line that tells why, and how to go without; there is no target."""
    path = rack_file(folder, filtered("a", taps=500) + METER, noise(20_000), rack='backend = "cuda"')
    (folder / "fails_at").write_text(str(calls_to_load(path) + 20))

    why = "a block: cudaErrorDevicesUnavailable: device lost"
    with pytest.raises(EngineError) as raised:
        rendered(path, "cuda")
    assert f'a: the GPU failed: {why}; backend = "cpu" in [rack], or --backend cpu, does without it' == str(raised.value)
    assert not (folder / "out.wav").exists()
    assert {0} == set(pinned(folder))


def calls_to_load(path: Path) -> int:
    """Return how many calls of the device a lane needs to begin."""
    with built(load(path)):
        return int((path.parent / "calls").read_text())


def test_a_filter_changes_in_a_render(folder: Path) -> None:
    """The new one fades in as the ideal formula says, when it has caught up with all that was heard."""
    sound = noise(24_000)
    old, new = (rendered(rack_file(folder, filtered("a", taps=500, seed=seed), sound), "cpu") for seed in (1, 2))
    steps = {6400: lambda ctx: ctx.swap("a", config={"taps": 500, "seed": 2})}
    _, heard = changed(folder, filtered("a", taps=500), sound, steps, rack='backend = "cuda"')
    start = beginning(heard, old) // BLOCK * BLOCK

    assert 6400 <= start < 6400 + 4096
    assert faded(heard, old, new, start + 1) < -110.0  # its ramp begins with nothing
    assert {0} == set(pinned(folder))


def test_a_change_that_would_part_a_group_is_refused_in_a_render(folder: Path) -> None:
    """A lane more is a latency more, and the head of the output was trimmed by what it was."""
    refused: list[BaseException | None] = []

    def part(ctx: Any) -> None:
        ctx.load("meter", "level", before="b").add_done_callback(lambda done: refused.append(done.exception()))

    changed(folder, filtered("a", taps=50) + filtered("b", taps=50), noise(9600), {3200: part}, rack='backend = "cuda"')

    assert ["the latency cannot change while a file source runs: there would be other groups with a GPU's latency each"] == [
        str(error).partition(": ")[2] for error in refused
    ]
    assert 3 <= len(pinned(folder))  # two lanes were begun for nothing
    assert {0} == set(pinned(folder))


# Racks in real time, whose engine is run by hand


class Stepped:
    """A live rack; its lane has made each block before the next begins, as long as its child lives."""

    def __init__(self, path: Path) -> None:
        document = load(path)
        self.rack = Rack(document, Setup(48_000, 2), live=True)
        self.events: list[dict[str, Any]] = []
        self.rack.tell = lambda kind, **data: self.events.append({"kind": kind} | data)  # type: ignore[method-assign]
        for group in self.rack.groups:
            if group.lane:
                group.lane.tell = self.rack.tell
        OPEN.append(self)
        self._buffers = FreewheelBuffers(self.rack.engine, BLOCK)
        self._random = np.random.default_rng(3)
        self.given: list[Samples] = []
        self.heard: list[Samples] = []
        self.dry: list[int] = []
        """Frames of each block that were not the GPU's."""

    def step(self, samples: Samples | None = None) -> None:
        if samples is None:
            samples = self._random.uniform(-0.5, 0.5, (2, BLOCK)).astype(np.float32)
        self._buffers.input[:] = samples
        before = self.dry_frames
        self._buffers.run(0, BLOCK)
        self.given.append(samples)
        self.heard.append(self._buffers.output.copy())
        self.dry.append(self.dry_frames - before)
        if isinstance(group := self.rack.groups[0].convolver, GpuGroup):
            self.rack.minder.call(_settled(group))

    @property
    def gpu(self) -> GpuGroup:
        group = self.rack.groups[0].convolver
        assert isinstance(group, GpuGroup)
        return group

    @property
    def dry_frames(self) -> int:
        group = self.rack.groups[0].convolver
        return int(group.cover.stats.dry) if isinstance(group, GpuGroup) else 0

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def until(self, condition: Callable[[], bool]) -> None:
        stop = time.monotonic() + LONG_S
        while not condition():
            assert time.monotonic() < stop, "it did not come"
            self.step()
            time.sleep(PAUSE_S)

    def end(self) -> None:
        OPEN.remove(self)
        self.rack.close()

    def close(self) -> Signal:
        """End the rack; return what was heard."""
        self.end()
        return np.concatenate(self.heard, axis=1).T.astype(np.float64)


async def _settled(group: GpuGroup) -> None:
    lane, quantum = group.lane, group.lane._orders.shape.quantum
    while (life := lane._life) and lane.state == "running" and not life.ended.done():
        progress = life.exchange.progress
        if progress.done + quantum > progress.written:
            return
        await asyncio.sleep(0)


def cpus(folder: Path, tables: str, given: list[Samples], changes: dict[int, Callable[[Rack], None]] | None = None) -> Signal:
    """Return what the CPU makes of blocks, in a live rack as well."""
    stepped = Stepped(rack_file(folder, tables, noise(1), driver="clock"))
    for samples in given:
        stepped.step(samples)
    return stepped.close()


def live(folder: Path, tables: str, more: str = "") -> Stepped:
    return Stepped(rack_file(folder, tables, noise(1), rack=f'backend = "cuda"\n{more}', driver="clock"))


def compared(folder: Path, tables: str, stepped: Stepped, ratio: int = 1) -> tuple[float, bool]:
    """End a rack; return its largest difference from the CPU's, and whether what covered for the GPU was the CPU's to the bit."""
    late, given, dry = BLOCK * ratio, stepped.given, np.array(stepped.dry)
    heard, wanted = stepped.close(), cpus(folder, tables, given)
    begun = 2 * FADE * ratio  # the rack fades in
    error = error_db(heard[late + begun :], wanted[begun : len(wanted) - late])
    full = BLOCK * ratio
    covered = [number for number in range(2, len(dry)) if (dry[number - 2 : number + 1] == full).all()]
    same = [
        np.array_equal(heard[number * full : (number + 1) * full], wanted[(number - 1) * full : number * full])
        for number in covered
    ]
    return error, bool(same) and all(same)


@pytest.mark.parametrize(("ratio", "blocks"), [(1, 0), (1, 1), (1, 37), (4, 10)])
def test_the_cpu_covers_from_the_block_of_the_failure_on(folder: Path, ratio: int, blocks: int) -> None:
    """No block is missing or different; the next life takes over when it has heard as much as its filter is long."""
    tables = filtered("a", taps=500, ratio=ratio)
    stepped = live(folder, tables)
    fail_in(folder, blocks)
    stepped.until(lambda: stepped.dry_frames > 0)
    facts = stepped.gpu.lane.facts
    assert 1 == facts["misses"]
    stepped.until(lambda: stepped.gpu.cover.stats.lives == 2)
    begun = len(stepped.given)
    stepped.until(lambda: bool(stepped.gpu.cover.stats.is_wet))
    assert len(stepped.given) - begun >= 500 / ratio / BLOCK
    stepped.steps(20)
    facts = stepped.gpu.lane.facts

    assert ("running", {"device lost": 1}, 2, 1) == (facts["state"], facts["deaths"], facts["lives"], facts["misses"])
    assert "device lost" == facts["last_death"]["cause"]
    assert ["died", "running"] == [event["state"] for event in stepped.events if event["kind"] == "lane"]
    assert {"a"} == {event["group"] for event in stepped.events if event["kind"] == "lane"}
    pid = stepped.gpu.lane.pid
    error, same = compared(folder, tables, stepped, ratio)
    assert error < LIMIT_DB
    assert same
    assert [0, 0] == pinned(folder)
    assert pid
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("calls", [0, 1, 7, 40, -1])
def test_a_life_that_fails_while_it_loads_is_counted_and_followed(folder: Path, calls: int) -> None:
    """The second device fails at its first call, amid memory, kernels, the recording, or in its first block; the third works."""
    tables = filtered("a", taps=500)
    calls = calls if calls >= 0 else calls_to_load(rack_file(folder, tables, noise(1), rack='backend = "cuda"'))
    (folder / "fails_at").write_text(f"-1 {calls} -1")
    stepped = live(folder, tables)
    stepped.steps(5)
    fail_in(folder, 1)
    stepped.until(lambda: stepped.dry_frames > 0)
    stepped.until(lambda: stepped.gpu.lane.state == "running" and stepped.gpu.lane.deaths == {"device lost": 2})
    stepped.until(lambda: bool(stepped.gpu.cover.stats.is_wet))

    error, same = compared(folder, tables, stepped)
    assert error < LIMIT_DB
    assert same
    assert {0} == set(pinned(folder))


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 5, 8, 12])
def test_a_device_that_fails_in_a_change_is_covered_for(folder: Path, calls: int) -> None:
    """Whatever of the change was done: the CPU has made it, and the next life begins with the new filter."""
    tables = filtered("a", taps=500)
    stepped = live(folder, tables)
    stepped.steps(20)
    fail_in(folder, calls)
    change(stepped, 2)
    stepped.until(lambda: stepped.gpu.cover.stats.lives == 2)
    stepped.until(lambda: bool(stepped.gpu.cover.stats.is_wet) and not stepped.gpu.changing)
    begun = len(stepped.given)
    stepped.steps(20)

    assert stepped.gpu.lane.deaths in ({"device lost": 1}, {"hang": 1})  # a busy machine runs these kernels too slowly
    given = stepped.given
    heard, wanted = stepped.close(), cpus(folder, filtered("a", taps=500, seed=2), given)
    assert error_db(heard[begun * BLOCK :], wanted[(begun - 1) * BLOCK : -BLOCK]) < LIMIT_DB


def change(stepped: Stepped, seed: int) -> None:
    """Give group a another filter, as a swap would."""
    (group,) = stepped.rack.groups
    slot = group.members[0]
    slot.linear = Linear(taps_of(seed, 500), 1, 0)
    group.change(group.parts, variant_of(stepped.rack, group.parts))


def test_a_change_reaches_gpu_and_cpu(folder: Path) -> None:
    """Once both have it, either is heard, and a life that follows has it as well."""
    stepped = live(folder, filtered("a", taps=500))
    stepped.steps(20)
    for seed in (2, 3, 4):
        change(stepped, seed)
    stepped.until(lambda: not stepped.gpu.changing)
    begun = len(stepped.given)
    stepped.steps(20)
    assert 0 == stepped.dry_frames
    fail_in(folder, 0)
    stepped.until(lambda: stepped.gpu.cover.stats.lives == 2 and bool(stepped.gpu.cover.stats.is_wet))
    stepped.steps(20)
    given = stepped.given

    heard, wanted = stepped.close(), cpus(folder, filtered("a", taps=500, seed=4), given)
    assert error_db(heard[begun * BLOCK :], wanted[(begun - 1) * BLOCK : -BLOCK]) < LIMIT_DB


def test_nothing_stays_pinned_whenever_a_rack_ends(folder: Path) -> None:
    """Racks begin, change and end at random instants, also amid changes, for 400 blocks: no process is left."""
    random = np.random.default_rng(9)
    blocks, pids = 0, []
    while blocks < 400:
        stepped = live(folder, filtered("a", taps=500))
        for _ in range(int(random.integers(1, 80))):
            if random.random() < 0.1:
                change(stepped, int(random.integers(1, 100)))
            stepped.step()
            blocks += 1
        assert set(stepped.gpu.lane.deaths) <= {"hang"}  # a busy machine runs these kernels too slowly
        pids += [stepped.gpu.lane.pid] if stepped.gpu.lane.pid else []
        stepped.end()

    assert len(pids) > 2
    assert ["0"] * len(pids) == [(folder / f"{pid}.pinned").read_text() for pid in pids]
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_killed_child_is_covered_for(folder: Path) -> None:
    """As it is when the device fails."""
    tables = filtered("a", taps=500)
    stepped = live(folder, tables)
    stepped.steps(10)
    os.kill(stepped.gpu.lane.pid or 0, signal.SIGKILL)
    stepped.until(lambda: stepped.gpu.cover.stats.lives == 2 and bool(stepped.gpu.cover.stats.is_wet))

    assert {"SIGKILL": 1} == stepped.gpu.lane.deaths
    error, same = compared(folder, tables, stepped)
    assert error < LIMIT_DB
    assert same


def test_a_gpu_that_fails_again_and_again_comes_back_when_it_is_healthy(folder: Path) -> None:
    """The CPU plays meanwhile, with the lane's latency; nothing is given up or put into quarantine."""
    tables, failures = filtered("a", taps=500), 6
    (folder / "fails_at").write_text(f"-1 {' '.join('0' for _ in range(failures))}")
    stepped = live(folder, tables)
    fail_in(folder, 3)
    stepped.until(lambda: sum(stepped.gpu.lane.deaths.values()) > failures)
    stepped.until(lambda: bool(stepped.gpu.cover.stats.is_wet))
    stepped.steps(20)

    assert {"device lost": failures + 1} == stepped.gpu.lane.deaths
    assert "running" == stepped.gpu.lane.state
    assert not Quarantine.open().entries()
    assert BLOCK == stepped.rack.latency_frames
    error, same = compared(folder, tables, stepped)
    assert error < LIMIT_DB
    assert same


@pytest.mark.parametrize("ratio", [1, 4])
def test_without_a_fallback_a_failure_is_a_fade_to_silence(folder: Path, ratio: int) -> None:
    """Not to the input, which may be far louder than what the filter makes of it; and the next life fades in at once."""
    tables = filtered("a", taps=500, ratio=ratio)
    stepped = live(folder, tables, "fallback = false")
    stepped.steps(20)
    fail_in(folder, 0)
    stepped.until(lambda: stepped.dry_frames > 0)
    failed = len(stepped.given) - 1
    stepped.until(lambda: stepped.gpu.cover.stats.lives == 2)
    returns = len(stepped.given) - 1
    stepped.until(lambda: bool(stepped.gpu.cover.stats.is_wet))
    stepped.steps(20 + 500 // BLOCK)
    given, block = stepped.given, BLOCK * ratio
    heard, wanted = stepped.close(), cpus(folder, tables, given)

    assert error_db(heard[2 * block : failed * block], wanted[block : (failed - 1) * block]) < LIMIT_DB
    assert not heard[(failed + 2) * block : returns * block].any()
    assert error_db(heard[-10 * block :], wanted[-11 * block : -block]) < LIMIT_DB


# What is told


def test_without_a_gpu_the_cpu_runs_and_one_line_tells_why(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For all groups together; there is no latency then."""
    (folder / "none").write_text("no CuPy (No module named 'cupy'); pip install 'sigrack[gpu]'")
    tables = filtered("a", taps=50) + slot("meter", "level") + filtered("b", taps=50)
    path = rack_file(folder, tables, noise(3000), rack='backend = "cuda"')
    wanted, heard = (rendered(path, backend) for backend in ("cpu", "cuda"))

    assert np.array_equal(wanted, heard)
    assert ["there is no GPU to run on: no CuPy (No module named 'cupy'); pip install 'sigrack[gpu]'; the CPU runs"] == [
        record.message for record in caplog.records if record.levelname == "WARNING"
    ]
    stepped = live(folder, tables)
    assert 0 == stepped.rack.latency_frames
    stepped.end()


@pytest.mark.parametrize(("worth", "backend"), [(1e-9, "cuda"), (1.0, "cpu")])
def test_auto_measures_and_tells(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, worth: float, backend: str
) -> None:
    """A GPU is taken for what takes more than a share of a core on this machine."""
    monkeypatch.setattr("sigrack.backends.WORTH", worth)
    caplog.set_level("INFO", "sigrack")
    with built(load(rack_file(folder, filtered("a", taps=500), noise(10), rack='backend = "auto"'))) as rack:
        assert [backend] == [group.backend for group in rack.groups]
    told = [record.message for record in caplog.records]

    assert re.fullmatch(r"a: it takes about [0-9.e-]+ % of a core, and a GPU is worth it from .* % on: it .*", told[0])
    assert (backend == "cuda") == (told[1:] == ["a: runs on emulated"])


def test_a_fallback_needs_a_gpu(folder: Path) -> None:
    """Without one it would mean nothing."""
    path = rack_file(folder, filtered("a"), noise(10), rack="fallback = false")

    assert 'rack.toml:5: fallback needs backend = "cuda" or "auto"' in refused(101, "check", path)


def test_recursions_stay_on_the_cpu(folder: Path) -> None:
    """A GPU runs taps."""
    equalizer = slot("eq", "equalizer", 'text = "Filter 1: ON PK Fc 30 Hz Gain 6 dB Q 8"')
    with built(load(rack_file(folder, equalizer, noise(10), rack='backend = "cuda"'))) as rack:
        assert ["cpu"] == [group.backend for group in rack.groups]


def test_the_lanes_latency_is_in_every_sum(folder: Path) -> None:
    """A block at the group's input rate, at the rate that goes out; other channels of the bus are as late."""
    tables = filtered("a", taps=50) + slot("meter", "level") + filtered("up", taps=90, ratio=4, late=20)
    path = rack_file(folder, tables, noise(1000), rack='backend = "cuda"')
    session = Session(load(path))
    told, counted = status(session), stats(session)
    session.rack.close()
    session.driver.close()
    shown = sigrack("info", path, "--json")

    assert 8 * BLOCK + 20 == told["latency_frames"]
    assert [("a", "cuda", BLOCK), ("up", "cuda", 4 * BLOCK + 20)] == [
        (group["name"], group["backend"], group["latency_frames"]) for group in told["groups"]
    ]
    assert [("emulated", "running"), None, ("emulated", "running")] == [
        (each["lane"]["device"], each["lane"]["state"]) if each["lane"] else None for each in counted["slots"]
    ]
    info = json.loads(shown.stdout)
    assert 8 * BLOCK + 20 == info["latency_frames"]
    assert [("cuda", "emulated", BLOCK), ("cuda", "emulated", 4 * BLOCK + 20)] == [
        (group["backend"], group["device"], group["latency_frames"]) for group in info["groups"]
    ]


def test_channels_beside_a_group_are_as_late(folder: Path) -> None:
    """What one channel goes through on a GPU and another passes by comes out together."""
    tables = slot("a", "./thrice.py", rest='in = ["left"]')
    (folder / "thrice.py").write_text(THRICE)
    bus = '[bus]\nchannels = ["left", "right"]\n'
    sound = noise(2000)
    heard = rendered(rack_file(folder, bus + tables, sound), "cuda")

    assert error_db(heard, sound.astype(np.float64) * [3.0, 1.0]) < LIMIT_DB


THRICE = """
from sigrack_plugins import Plugin
class Thrice(Plugin):
    def fir(self, setup):
        return [[[3.0]]]
"""


@pytest.mark.parametrize(
    ("rack", "taps", "warning"),
    [
        ('backend = "cuda"', 500, ""),
        ('backend = "cuda"\nfallback = false', 500, "silence is heard when the GPU fails: set fallback = true in [rack]"),
        ('backend = "cuda"', 64_000, "the CPU cannot cover for the GPU: that would take"),
        ('backend = "auto"\nfallback = false', 500, ""),
    ],
)
def test_check_warns_of_what_the_cpu_cannot_cover(folder: Path, rack: str, taps: int, warning: str) -> None:
    """In a live rack, and whether there is a GPU here or not."""
    (folder / "none").write_text("no GPU")
    tables = "".join(filtered(f"a{number}", taps=taps) + slot(f"border{number}", "level") for number in range(10))
    path = rack_file(folder, tables, noise(10), rack=f"{rack}\nlimiter = true", driver="clock", block=16, rate_hz=768_000)
    told = sigrack("check", path)

    assert 0 == told.returncode
    assert warning in told.stderr
    assert bool(warning) == ("sigrack: warning" in told.stderr)
