"""Whole signals, chunk after chunk."""

import numpy as np
import pytest

from engine.cuda.emulated import Emulated
from engine.cuda.signals import LIMIT_DB, decaying, noise, streamed
from oracles.chain import error_db, interpolated
from sigrack_engine.cuda.convolver import CudaConvolver
from sigrack_engine.cuda.device import Device
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.offline import Offline


@pytest.mark.parametrize(
    ("phases", "taps", "frames", "chunk"),
    [(1, 3000, 5000, 1024), (4, 5000, 3001, 512), (1, 30_000, 70_000, 32_768), (3, 10, 1, 64)],
)
def test_a_signal_in_chunks_is_the_convolution(device: Device, phases: int, taps: int, frames: int, chunk: int) -> None:
    """Also when it does not end with a chunk; twice the same bits."""
    generator = np.random.default_rng(30)
    filters, samples = decaying(generator, 2, 2, taps), noise(generator, 2, frames)
    with Offline(filters, phases=phases, chunk=chunk, device=device) as offline:
        found = offline.convolve(samples)
        again = offline.convolve(samples)
    looked = generator.integers(0, found.shape[1], 200)

    assert found.shape == (2, frames * phases)
    assert np.array_equal(found, again)
    assert error_db(found[:, looked].T, interpolated(samples.T.astype(np.float64), filters, phases, looked)) < LIMIT_DB


def test_long_chunks_of_many_segments(gpu: Device) -> None:
    """As long as they are chosen to be: all samples, not only some."""
    generator = np.random.default_rng(31)
    filters, samples = decaying(generator, 2, 2, 100_000), noise(generator, 2, 2_500_000)
    with Offline(filters, device=gpu) as offline:
        found = offline.convolve(samples)
    looked = np.arange(0, found.shape[1], 4099)

    assert error_db(found[:, looked].T, interpolated(samples.T.astype(np.float64), filters, 1, looked)) < LIMIT_DB


def test_streaming_is_offline(device: Device) -> None:
    """A live convolver in blocks of 64 with stages gives what whole chunks give."""
    generator = np.random.default_rng(32)
    filters, samples = decaying(generator, 2, 2, 3000), noise(generator, 2, 64 * 100)
    with Offline(filters, chunk=2048, device=device) as offline:
        whole = offline.convolve(samples)
    with CudaConvolver(filters, block=64, growths=(1, 4), device=device) as convolver:
        parts = streamed(convolver, samples)

    assert error_db(parts, whole.astype(np.float64)) < LIMIT_DB


def test_in_place_takes_memory_of_the_device_and_writes_no_more_than_the_signal(emulated: Emulated) -> None:
    """The same bits as from the host."""
    generator = np.random.default_rng(33)
    filters, samples = decaying(generator, 2, 2, 3000), noise(generator, 2, 5000)
    found = np.full((2, 5000 + 700), 7.0, np.float32)
    with Offline(filters, chunk=1024, device=emulated) as offline:
        wanted = offline.convolve(samples)
        offline.convolve_in_place(samples.ctypes.data, found.ctypes.data, 5000)

    assert np.array_equal(found.ravel()[:10_000], wanted.ravel())
    assert (found.ravel()[10_000:] == 7.0).all()


def test_blocks_of_the_wrong_length_are_refused(emulated: Emulated) -> None:
    """Longer than a chunk; a short one that is not the last."""
    with Offline(np.ones((1, 1, 10), np.float32), chunk=64, device=emulated) as offline:
        with pytest.raises(CudaError, match="65 frames: each has 64"):
            list(offline.run([np.ones((1, 65), np.float32)]))
        with pytest.raises(CudaError, match="64 frames"):
            list(offline.run([np.ones((1, 10), np.float32), np.ones((1, 64), np.float32)]))
