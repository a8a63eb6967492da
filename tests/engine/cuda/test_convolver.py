"""One stream on a GPU, against the definition in float64: what the core's convolver promises (tests/engine/test_fir.py)."""

import mmap
import time

import numpy as np
import pytest

from engine.cuda.emulated import Emulated
from engine.cuda.signals import LIMIT_DB, change_error_db, convolved, decaying, faded, noise, streamed
from oracles.chain import error_db, interpolated
from sigrack_engine.cuda.convolver import CudaConvolver
from sigrack_engine.cuda.device import Device
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.session import Pinned, Ring

CHANGE_DB = -110.0


def check(device: Device, seed: int, most_taps: int, least_block: int, most_block: int) -> float:
    """Return the error of a random convolver at random frames, in dB."""
    generator = np.random.default_rng(seed)
    inputs, outputs = generator.integers(1, 4, 2).tolist()
    phases = int(generator.choice([1, 1, 2, 3, 4, 16]))
    taps = decaying(generator, outputs, inputs, int(np.exp(generator.uniform(0.0, np.log(most_taps)))))
    taps[generator.random((outputs, inputs)) < 0.2] = 0.0
    block = int(np.exp(generator.uniform(np.log(least_block), np.log(most_block))))
    blocks = (1000 + 2 * taps.shape[2] // phases) // block + 1
    samples = noise(generator, inputs, blocks * block)
    with CudaConvolver(taps, phases=phases, block=block, device=device) as convolver:
        found = streamed(convolver, samples)
    frames = generator.integers(0, found.shape[1], 150)
    wanted = interpolated(samples.T.astype(np.float64), taps, phases, frames)
    if not wanted.any():
        assert not found.any()
        return -np.inf
    return error_db(found[:, frames].T, wanted)


@pytest.mark.parametrize("seed", range(12))
def test_any_filter_in_blocks_of_any_size_is_the_convolution(device: Device, seed: int) -> None:
    """Up to 6,000 taps, 1 to 3 channels, ratios 1 to 16."""
    assert check(device, seed, 6000, 30, 500) < LIMIT_DB


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 130))
def test_long_filters_and_short_blocks_are_the_convolution(gpu: Device, seed: int) -> None:
    """Up to 200,000 taps and blocks of 8,000 frames, or of one."""
    assert check(gpu, seed, 200_000 if seed % 5 else 2000, 1000 if seed % 5 else 1, 8000 if seed % 5 else 20) < LIMIT_DB


@pytest.mark.slow
@pytest.mark.parametrize(
    ("taps", "phases", "block"),
    [(640_000, 1, 4096), (2_097_152, 1, 4096), (65_536, 1, 64), (640_000, 16, 1408), (640_000, 16, 25_536)],
)
def test_the_longest_filters_are_the_convolution(gpu: Device, taps: int, phases: int, block: int) -> None:
    """Those that the benchmark measures."""
    generator = np.random.default_rng(taps)
    filters = decaying(generator, 2, 2, taps)
    samples = noise(generator, 2, -(-(taps // phases + 50_000) // block) * block)
    with CudaConvolver(filters, phases=phases, block=block, device=gpu) as convolver:
        found = streamed(convolver, samples)
    frames = np.concatenate([generator.integers(0, found.shape[1], 100), np.arange(found.shape[1] - 50, found.shape[1])])

    assert error_db(found[:, frames].T, interpolated(samples.T.astype(np.float64), filters, phases, frames)) < LIMIT_DB


@pytest.mark.parametrize("growths", [(1,), (1, 2), (1, 4), (1, 2, 8), (1, 2, 4, 8)])
def test_stages_do_not_change_the_result(device: Device, growths: tuple[int, ...]) -> None:
    """The same filter, cut in other ways."""
    generator = np.random.default_rng(4)
    taps, samples = decaying(generator, 2, 2, 4000), noise(generator, 2, 64 * 130)
    with CudaConvolver(taps, block=64, growths=growths, device=device) as convolver:
        found = streamed(convolver, samples)
        stages = [(stage.growth, stage.from_tap) for stage in convolver.stages]
    frames = np.arange(0, found.shape[1], 41)

    assert stages == [(growth, 2 * 64 * growth if growth > 1 else 0) for growth in growths]
    assert error_db(found[:, frames].T, interpolated(samples.T.astype(np.float64), taps, 1, frames)) < LIMIT_DB


@pytest.mark.parametrize("phases", [1, 2])
def test_a_long_block_has_several_segments(device: Device, phases: int) -> None:
    """16,384 frames at once: four, summed together."""
    generator = np.random.default_rng(5)
    taps, samples = decaying(generator, 2, 1, 9000 * phases), noise(generator, 1, 3 * 16_384)
    with CudaConvolver(taps, phases=phases, block=16_384, device=device) as convolver:
        found = streamed(convolver, samples)
        segments = convolver.plan.segments
    frames = generator.integers(0, found.shape[1], 200)

    assert segments == 4
    assert error_db(found[:, frames].T, interpolated(samples.T.astype(np.float64), taps, phases, frames)) < LIMIT_DB


def test_negative_control_a_wrong_tap_is_found(device: Device) -> None:
    """One tap of 4,000 that is off by a hundredth of the largest."""
    generator = np.random.default_rng(6)
    taps, samples = decaying(generator, 1, 1, 4000), noise(generator, 1, 64 * 120)
    wrong = taps.copy()
    wrong[0, 0, 3000] += 0.01
    with CudaConvolver(wrong, block=64, device=device) as convolver:
        found = streamed(convolver, samples)
    frames = np.arange(0, found.shape[1], 31)

    assert error_db(found[:, frames].T, interpolated(samples.T.astype(np.float64), taps, 1, frames)) > LIMIT_DB + 30.0


def test_a_path_of_zeros_and_equal_paths_share_memory(emulated: Emulated) -> None:
    """One filter on both channels, nothing across: a quarter of four filters' spectra."""
    generator = np.random.default_rng(7)
    four = decaying(generator, 2, 2, 4000)
    one = np.zeros_like(four)
    one[0, 0] = one[1, 1] = four[0, 0]
    sizes = []
    for taps in (four, one):
        with CudaConvolver(taps, block=64, device=emulated) as convolver:
            sizes.append(sum(size for name, size in convolver.plan.bytes_of().items() if name.startswith("filters")))

    assert sizes[0] == 4 * sizes[1]


# ---- changes


def changed(device: Device, phases: int = 1, growths: tuple[int, ...] | None = (1, 4)) -> tuple[list[float], float]:
    """Change a filter while it runs; return the errors for each possible start of the fade, and that of another fade length."""
    generator = np.random.default_rng(8)
    block, count, length = 64, 100, 300
    taps = [decaying(generator, 2, 2, 3000) for _ in range(2)]
    samples = noise(generator, 2, block * count)
    out = []
    with CudaConvolver(taps[0], phases=phases, block=block, fade_frames=length, growths=growths, device=device) as convolver:
        for number in range(count):
            if number == 50:
                convolver.change(taps[1])
                while not convolver.session.ready:
                    time.sleep(0.001)
            out.append(convolver.process(samples[:, number * block : (number + 1) * block]))
        assert not convolver.changing
    found = np.concatenate(out, axis=1)
    stuffed = np.zeros((2, samples.shape[1] * phases), np.float32)
    stuffed[:, ::phases] = samples
    old, new = (convolved(stuffed, each) for each in taps)
    starts = [number * block * phases for number in range(45, 75)]
    errors = [change_error_db(found, faded(old, new, start, length)) for start in starts]
    return errors, change_error_db(found, faded(old, new, starts[int(np.argmin(errors))], length + 8))


@pytest.mark.parametrize(("phases", "growths"), [(1, (1,)), (1, (1, 4)), (1, (1, 2, 8)), (4, (1,)), (2, (1, 4))])
def test_a_change_is_the_cross_fade_of_two_whole_outputs(device: Device, phases: int, growths: tuple[int, ...]) -> None:
    """Both with all their history, from the start of some block on; a fade of another length is told apart."""
    errors, other = changed(device, phases, growths)

    assert min(errors) < CHANGE_DB
    assert sorted(errors)[1] > CHANGE_DB + 40.0
    assert other > CHANGE_DB + 30.0


def test_of_changes_that_come_faster_the_newest_counts(device: Device) -> None:
    """Ten filters at once: the first is faded in, then the last."""
    generator = np.random.default_rng(9)
    taps = [decaying(generator, 1, 1, 500) for _ in range(11)]
    samples = noise(generator, 1, 64 * 80)
    with CudaConvolver(taps[0], block=64, fade_frames=100, device=device) as convolver:
        streamed(convolver, samples[:, : 64 * 10])
        for each in taps[1:]:
            convolver.change(each)
        found = streamed(convolver, samples[:, 64 * 10 :])
    wanted = convolved(samples, taps[-1])

    assert change_error_db(found[:, -64 * 40 :], wanted[:, -64 * 40 :]) < LIMIT_DB


def test_a_filter_that_does_not_fit_is_refused_by_name_and_nothing_changes(device: Device) -> None:
    """Too long; a path that was zeros; two that were equal; another shape."""
    generator = np.random.default_rng(10)
    taps = np.zeros((2, 2, 500), np.float32)
    taps[0, 0] = taps[1, 1] = decaying(generator, 1, 1, 500)[0, 0]
    across, unequal = taps.copy(), taps.copy()
    across[0, 1, 3] = 1.0
    unequal[1, 1, 3] = 1.0
    samples = noise(generator, 2, 64 * 20)
    with CudaConvolver(taps, block=64, device=device) as convolver:
        for why, bad in {
            "501 taps": np.ones((2, 2, 501), np.float32),
            "input 1 to output 0 is not zeros": across,
            "input 1 to output 1 is not equal to another": unequal,
            "outputs": taps[:1],
        }.items():
            with pytest.raises(CudaError, match=why):
                convolver.change(bad)
        assert not convolver.changing
        found = streamed(convolver, samples)

    assert change_error_db(found, convolved(samples, taps)) < LIMIT_DB


def test_a_shorter_filter_takes_the_place_of_a_longer_one(device: Device) -> None:
    """And one that has all paths, where that was asked for."""
    generator = np.random.default_rng(11)
    long, short = np.zeros((2, 2, 3000), np.float32), decaying(generator, 2, 2, 70)
    long[0, 0] = long[1, 1] = decaying(generator, 1, 1, 3000)[0, 0]
    samples = noise(generator, 2, 64 * 60)
    with CudaConvolver(long, block=64, fade_frames=1, all_paths=True, device=device) as convolver:
        streamed(convolver, samples[:, : 64 * 20])
        convolver.change(short)
        found = streamed(convolver, samples[:, 64 * 20 :])
    wanted = convolved(samples, short)

    assert change_error_db(found[:, -64 * 10 :], wanted[:, -64 * 10 :]) < LIMIT_DB


# ---- a session


def test_reset_forgets_all_input(device: Device) -> None:
    """The second time gives the same samples, bit for bit."""
    generator = np.random.default_rng(12)
    taps, samples = decaying(generator, 2, 2, 3000), noise(generator, 2, 64 * 60)
    with CudaConvolver(taps, block=64, growths=(1, 4), device=device) as convolver:
        once = streamed(convolver, samples)
        convolver.reset()
        again = streamed(convolver, samples)

    assert np.array_equal(once, again)


def test_blocks_lie_in_rings_of_the_caller(device: Device) -> None:
    """Shared memory that is pinned in place, and let go before it is unmapped; four blocks around."""
    generator = np.random.default_rng(13)
    block, depth = 64, 4
    taps, samples = decaying(generator, 2, 2, 1000), noise(generator, 2, block * 30)
    size = 2 * 2 * block * depth * 4
    with mmap.mmap(-1, max(size, mmap.PAGESIZE)) as shared:
        rings = np.frombuffer(shared, np.float32, size // 4).reshape(2, 2, depth, block)
        address = rings.ctypes.data
        source, sink = (Ring(address + k * size // 2, 0, block * depth, block, depth) for k in (0, 1))
        found, pinned = [], [Pinned(address, len(shared))]
        with CudaConvolver(taps, block=block, device=device, source=source, sink=sink, pinned=pinned) as convolver:
            for number in range(30):
                rings[0, :, number % depth] = samples[:, number * block : (number + 1) * block]
                convolver.submit()
                convolver.wait()
                found.append(rings[1, :, number % depth].copy())
        del rings

    assert change_error_db(np.concatenate(found, axis=1), convolved(samples, taps)) < LIMIT_DB


def test_nothing_is_allocated_after_activation(emulated: Emulated) -> None:
    """Not by blocks, changes, resets."""
    generator = np.random.default_rng(14)
    taps, samples = decaying(generator, 2, 2, 500), noise(generator, 2, 64 * 10)
    with CudaConvolver(taps, block=64, device=emulated) as convolver:
        held = set(emulated.held)
        for _ in range(5):
            convolver.change(taps)
            streamed(convolver, samples)
            convolver.reset()

        assert set(emulated.held) == held


def test_whatever_call_fails_is_told_and_nothing_is_left(emulated: Emulated) -> None:
    """The first, the second, ... call of an activation, three blocks and a change; the fixture looks for what is left."""
    taps, samples = np.ones((1, 1, 500), np.float32), np.ones((1, 64), np.float32)

    def life() -> None:
        emulated.calls = 0
        with CudaConvolver(taps, block=64, device=emulated) as convolver:
            convolver.process(samples)
            convolver.change(taps)
            for _ in range(2):
                convolver.process(samples)

    life()
    calls = emulated.calls
    for call in range(calls):
        emulated.fails_at = call
        with pytest.raises(CudaError, match="told to fail"):
            life()
        assert (emulated.held, emulated.pinned) == ({}, set()), f"call {call} of {calls}"
    assert calls > 50
    emulated.fails_at = -1


def test_a_block_without_output_is_an_error(emulated: Emulated) -> None:
    """A device that has nothing to do and has told nothing."""
    with CudaConvolver(np.ones((1, 1, 10), np.float32), block=64, device=emulated) as convolver:
        convolver.session.blocks += 1
        with pytest.raises(CudaError, match="block 1 is over without output"):
            convolver.wait()


@pytest.mark.slow
def test_a_thousand_activations_leave_no_memory_behind(gpu: Device) -> None:
    """With blocks and changes in between; free memory is as before."""
    generator = np.random.default_rng(15)
    taps, samples = decaying(generator, 2, 2, 20_000), noise(generator, 2, 256 * 4)

    def life() -> None:
        with CudaConvolver(taps, block=256, device=gpu) as convolver:
            streamed(convolver, samples)
            convolver.change(taps)
            streamed(convolver, samples)

    for _ in range(10):
        life()
    before, _ = gpu.memory()
    for _ in range(1000):
        life()

    assert gpu.memory()[0] == before


def test_numbers_out_of_range_are_refused_by_name(emulated: Emulated) -> None:
    """Phases, channels, a block that cannot be cut, stages that do not fit."""
    one = np.ones((1, 1, 10), np.float32)
    with pytest.raises(CudaError, match="phases: 33 is not between 1 and 32"):
        CudaConvolver(one, phases=33, block=64, device=emulated)
    with pytest.raises(CudaError, match="inputs: 9"):
        CudaConvolver(np.ones((1, 9, 10), np.float32), block=64, device=emulated)
    with pytest.raises(CudaError, match="block: 8209 frames cannot be cut"):
        CudaConvolver(one, block=8209, device=emulated)
    with pytest.raises(CudaError, match=r"growths: \(1, 3\)"):
        CudaConvolver(one, block=64, growths=(1, 3), device=emulated)
