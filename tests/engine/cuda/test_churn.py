"""Convolvers that come, change and go at random instants leave nothing behind: no memory, nothing pinned."""

import mmap
from typing import Any

import numpy as np
import pytest

from engine.cuda.emulated import Emulated
from engine.cuda.signals import LIMIT_DB, change_error_db, convolved, decaying, noise
from sigrack_engine.cuda.convolver import CudaConvolver
from sigrack_engine.cuda.device import Cuda, Device
from sigrack_engine.cuda.session import Pinned, Ring, Samples

BLOCK, TAPS, FADE = 64, 500, 100
DEPTH = 8
SETTLED = -(-TAPS // BLOCK) + 1
"""Blocks after a change of which nothing of the old filter is heard."""


class Counted:
    """A device that keeps account of what it has given."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.held: set[tuple[str, int]] = set()
        self.given = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)

    def _take(self, kind: str, address: int) -> int:
        self.held.add((kind, address))
        self.given += 1
        return address

    def allocate(self, size: int) -> int:
        return self._take("device", self._device.allocate(size))

    def free(self, address: int) -> None:
        self.held.remove(("device", address))
        self._device.free(address)

    def allocate_host(self, size: int) -> int:
        return self._take("host", self._device.allocate_host(size))

    def free_host(self, address: int) -> None:
        self.held.remove(("host", address))
        self._device.free_host(address)

    def register(self, address: int, size: int) -> None:
        self._device.register(address, size)
        self._take("pinned", address)

    def unregister(self, address: int) -> None:
        self.held.remove(("pinned", address))
        self._device.unregister(address)


def pools(device: Device) -> tuple[int, ...]:
    """Return what CuPy's pools hold, of a real GPU."""
    if not isinstance(device, Cuda):
        return ()
    memory, pinned = device._cupy.get_default_memory_pool(), device._cupy.get_default_pinned_memory_pool()
    return memory.total_bytes(), memory.n_free_blocks(), pinned.n_free_blocks()


def life(device: Device, rings: list[Samples], random: np.random.Generator, most: int) -> tuple[int, float]:
    """Run some blocks in rings that are pinned for as long; return how many, and the error of the last in dB if settled."""
    taps, given, changed = decaying(random, 2, 2, TAPS), [], -SETTLED
    source, sink = (Ring(ring.ctypes.data, 0, DEPTH * BLOCK, BLOCK, DEPTH) for ring in rings)
    pinned = [Pinned(ring.ctypes.data, -(-ring.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE) for ring in rings]
    blocks = int(random.integers(0, most))
    with CudaConvolver(
        taps,
        block=BLOCK,
        device=device,
        source=source,
        sink=sink,
        pinned=pinned,
        all_paths=True,
        fade_frames=FADE,
        growths=(1, 2),
    ) as convolver:
        convolver.patience_s = 60.0
        for number in range(blocks):
            if random.random() < 0.05:
                taps = decaying(random, 2, 2, int(random.integers(1, TAPS + 1)))
                convolver.change(taps)
            changed = number if convolver.changing else changed
            at = number % DEPTH * BLOCK
            given.append(noise(random, 2, BLOCK))
            rings[0][:, at : at + BLOCK] = given[-1]
            convolver.tend()
            convolver.submit()
            convolver.wait()
        if blocks - changed < SETTLED or blocks < SETTLED:
            return blocks, -np.inf
        found = rings[1][:, at : at + BLOCK].copy()
    wanted = convolved(np.concatenate(given[-SETTLED:], axis=1), taps)[:, -BLOCK:]
    return blocks, change_error_db(found, wanted)


def churn(device: Device, wanted: int, most: int) -> None:
    """Let lives follow each other for so many blocks."""
    random, counted = np.random.default_rng(50), Counted(device)
    pages = [mmap.mmap(-1, 2 * DEPTH * BLOCK * 4) for _ in range(2)]
    rings = [np.frombuffer(page, np.float32).reshape(2, DEPTH * BLOCK) for page in pages]
    for _ in range(5):  # what a context takes once for all, also for kernels that only changes run
        life(counted, rings, random, most)
    free, pooled, done, errors, lives = device.memory()[0], pools(device), 0, [], 0
    while done < wanted:
        blocks, error = life(counted, rings, random, most)
        done, lives = done + blocks, lives + 1
        errors.append(error)
        assert counted.held == set(), f"life {lives}"
        assert (free, pooled) == (device.memory()[0], pools(device)), f"life {lives}"

    assert counted.given >= 5 * lives
    assert sum(np.isfinite(errors)) > 2, "lives that are settled at their end"
    assert max(errors) < LIMIT_DB
    for ring in rings:  # a driver pins no memory twice
        counted.register(ring.ctypes.data, ring.nbytes)
        counted.unregister(ring.ctypes.data)


def test_random_lives_leave_nothing(emulated: Emulated) -> None:
    """500 blocks on this CPU."""
    churn(emulated, 500, 60)


@pytest.mark.slow
def test_random_lives_leave_nothing_on_a_gpu(gpu: Device) -> None:
    """10,000 blocks: all memory of the device is free again after each life, CuPy's pools are as they were."""
    churn(gpu, 10_000, 200)
