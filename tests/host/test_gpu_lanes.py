"""Groups on a GPU: what is heard is the CPU's, also when the device fails at any call; and it goes on there when it can.

The device is emulated: it runs the real kernels, slowly, in the real child.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from fades import Signal, beginning, changed, faded
from filters import FILTER, filtered
from oracles.chain import error_db
from racks import noise, write
from sigrack import render
from sigrack.config import load
from sigrack.drivers import built
from sigrack.errors import EngineError
from sigrack.lanes.gpu import GpuGroup
from sigrack.rack import Rack
from sigrack.status import stats, status
from sigrack_engine.engine import FreewheelBuffers
from sigrack_plugins import Setup


TESTS = Path(__file__).parents[1]
LIMIT_DB = -120.0
BLOCK = 64
FADE = 48
"""Frames, of `fade_ms = 1`."""
STEPS_MOST = 40_000

Samples = npt.NDArray[np.float32]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds the plugins of these tests, and what the device is told and tells."""
    (tmp_path / "filter.py").write_text(FILTER)
    monkeypatch.setenv("SIGRACK_CUDA_DEVICE", "gpu_device:opened")
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("GPU_FOLDER", str(tmp_path))
    return tmp_path


def rack_file(folder: Path, tables: str, sound: Samples, *, rack: str = "", driver: str = "file", block: int = BLOCK) -> Path:
    head = f"[rack]\nblock_frames = {block}\nfade_ms = 1.0\npriority = 0\n{rack}\n"
    return write(folder, f'{head}[source]\ndriver = "{driver}"\npath = "in.wav"\n[control]\nenabled = false\n{tables}', sound)


def rendered(path: Path, backend: str) -> Signal:
    render(path, path.parent / "in.wav", path.parent / "out.wav", overwrite=True, backend=backend)
    heard: Signal = soundfile.read(path.parent / "out.wav")[0]
    return heard


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
    path = rack_file(folder, tables, noise(3001), block=block)
    wanted, heard = (rendered(path, backend) for backend in ("cpu", "cuda"))

    assert error_db(heard, wanted) < LIMIT_DB
    assert [0] == pinned(folder)


def test_a_render_ends_when_its_gpu_fails(folder: Path) -> None:
    """In one line that tells why, and how to go without; there is no target."""
    path = rack_file(folder, filtered("a", taps=500), noise(20_000), rack='backend = "cuda"')
    (folder / "fails_at").write_text(str(calls_to_load(path) + 20))

    with pytest.raises(
        EngineError, match=r'^a: the GPU failed: device lost; backend = "cpu" in \[rack\], or --backend cpu, does'
    ):
        rendered(path, "cuda")
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

    assert ["the latency cannot change while a file source runs, and there would be other groups with a GPU's latency each"] == [
        str(error).partition(": ")[2].removesuffix("; start again") for error in refused
    ]


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
        for _ in range(STEPS_MOST):
            if condition():
                return
            self.step()
        raise AssertionError("it did not come")

    def close(self) -> Signal:
        """End the rack; return what was heard."""
        self.rack.close()
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
    (folder / "fails_in").write_text(str(blocks))
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
    assert pid and not Path(f"/proc/{pid}").exists()
