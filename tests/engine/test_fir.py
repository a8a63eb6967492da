"""The convolver as Python sees it, over random filters, rates and blocks, against the definition in float64."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from oracles.chain import error_db, interpolated
from sigrack_engine.core import CoreError
from sigrack_engine.fir import Fir

LIMIT_DB = -120.0
Samples = npt.NDArray[np.float32]


def noise(generator: np.random.Generator, *shape: int) -> Samples:
    """Return white noise."""
    return generator.uniform(-1.0, 1.0, shape).astype(np.float32)


def decaying(generator: np.random.Generator, outputs: int, inputs: int, taps: int) -> Samples:
    """Return taps that fall by 60 dB, as rooms do."""
    fall: Samples = np.exp(-6.9 * np.arange(taps) / taps).astype(np.float32)
    return noise(generator, outputs, inputs, taps) * fall


def blocks(generator: np.random.Generator, frames: int) -> Iterator[int]:
    """Yield random lengths of blocks, short and long, that sum to `frames`."""
    while frames:
        length = min(int(np.exp(generator.uniform(0.0, np.log(65_536)))), frames)
        yield length
        frames -= length


def streamed(fir: Fir, samples: Samples, lengths: Iterator[int]) -> Samples:
    """Return what comes out, of shape (outputs, frames), when input comes in blocks of these lengths."""
    parts, start = [], 0
    for length in lengths:
        parts.append(fir.process(samples[:, start : start + length]))
        start += length
    return np.concatenate(parts, axis=1)


def check(seed: int, most_taps: int) -> float:
    """Return the error of a random convolver at random frames, in dB."""
    generator = np.random.default_rng(seed)
    inputs, outputs = generator.integers(1, 4, 2).tolist()
    phases = int(generator.choice([1, 1, 2, 4, 8, 16, 32]))
    taps = decaying(generator, outputs, inputs, int(np.exp(generator.uniform(0.0, np.log(most_taps)))))
    taps[generator.random((outputs, inputs)) < 0.2] = 0.0
    samples = noise(generator, inputs, 3000 + 2 * taps.shape[2] // phases)
    fir = Fir(taps, phases=phases, block=int(generator.choice([0, 64, 256, 441, 4096])))
    found = streamed(fir, samples, blocks(generator, samples.shape[1]))
    fir.close()
    frames = generator.integers(0, found.shape[1], 150)
    wanted = interpolated(samples.T.astype(np.float64), taps, phases, frames)
    if not wanted.any():
        assert not found.any()
        return -np.inf
    return error_db(found[:, frames].T, wanted)


@pytest.mark.parametrize("seed", range(24))
def test_any_filter_in_any_blocks_is_the_convolution(seed: int) -> None:
    """Up to 20,000 taps, 1 to 3 channels, ratios 1 to 32, the block size changing at each call."""
    assert check(seed, 20_000) < LIMIT_DB


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_long_filters_are_the_convolution(seed: int) -> None:
    """Up to 200,000 taps."""
    assert check(seed, 200_000) < LIMIT_DB


@pytest.mark.slow
@pytest.mark.parametrize(("taps", "phases", "length"), [(640_000, 16, 256), (2_097_152, 16, 4096), (640_000, 1, 4096)])
def test_the_longest_filters_are_the_convolution(taps: int, phases: int, length: int) -> None:
    """Upsamplers of 640,000 and 2,097,152 taps, and 640,000 taps at one rate."""
    generator = np.random.default_rng(taps)
    filters = np.zeros((2, 2, taps), np.float32)
    filters[0, 0] = filters[1, 1] = decaying(generator, 1, 1, taps)
    samples = noise(generator, 2, taps // phases + 50_000)
    fir = Fir(filters, phases=phases, block=length)
    found = streamed(fir, samples, iter([length] * (samples.shape[1] // length)))
    fir.close()
    frames = np.concatenate([generator.integers(0, found.shape[1], 100), np.arange(found.shape[1] - 50, found.shape[1])])

    assert error_db(found[:, frames].T, interpolated(samples.T.astype(np.float64), filters, phases, frames)) < LIMIT_DB


def test_negative_control_a_wrong_tap_is_found() -> None:
    """One tap of 20,000 that is off by a hundredth of the largest."""
    generator = np.random.default_rng(5)
    taps = decaying(generator, 1, 1, 20_000)
    wrong = taps.copy()
    wrong[0, 0, 15_000] += 0.01
    samples = noise(generator, 1, 60_000)
    fir = Fir(wrong)
    frames = np.arange(20_000, 60_000, 301)
    found = fir.process(samples)[:, frames].T
    fir.close()

    assert error_db(found, interpolated(samples.T.astype(np.float64), taps, 1, frames)) > LIMIT_DB + 30.0


def test_what_is_primed_goes_on_like_what_was_processed() -> None:
    """Input that was taken without output counts as history."""
    generator = np.random.default_rng(6)
    taps, samples = decaying(generator, 2, 2, 30_000), noise(generator, 2, 80_000)
    fir = Fir(taps, block=256)
    fir.prime(samples[:, :50_123])
    fir.catch_up()
    found = streamed(fir, samples[:, 50_123:], blocks(generator, 80_000 - 50_123))
    fir.close()
    frames = np.arange(50_123, 80_000, 211)

    assert error_db(found[:, frames - 50_123].T, interpolated(samples.T.astype(np.float64), taps, 1, frames)) < LIMIT_DB


def test_stages_tell_what_it_is_made_of() -> None:
    """Each begins two of its partitions in; together they hold all taps, and their memory is told."""
    fir = Fir(np.ones((1, 1, 100_000), np.float32), block=256)
    stages, held = fir.stages, fir.bytes
    fir.close()

    assert [0, *(2 * stage.partition for stage in stages[1:])] == [stage.from_tap for stage in stages]
    assert 100_000 <= stages[-1].from_tap + stages[-1].partition * stages[-1].partitions < 100_000 + stages[-1].partition
    assert held > 2 * 4 * 100_000


def test_a_filter_out_of_range_is_refused() -> None:
    """More phases than there are."""
    with pytest.raises(CoreError, match="33 phases"):
        Fir(np.ones((1, 1, 10), np.float32), phases=33)
