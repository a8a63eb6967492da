"""Many streams in one batch."""

from collections.abc import Iterator

import numpy as np
import pytest

from engine.cuda.emulated import Emulated
from engine.cuda.signals import LIMIT_DB, change_error_db, convolved, decaying, faded, noise
from sigrack_engine.cuda.bank import StreamBank
from sigrack_engine.cuda.device import Device
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.session import Samples

BLOCK, BLOCKS, TAPS = 64, 70, 2000


def outputs(
    device: Device, streams: int, samples: Samples, changes: dict[int, list[int]], spare: int = 2
) -> tuple[Samples, list[Samples]]:
    """Return (streams, 2, frames) of a bank, and all filters; before the blocks in `changes` those streams get a second one."""
    generator = np.random.default_rng(20)
    filters = [decaying(generator, 2, 2, TAPS) for _ in range(2 * streams)]
    with StreamBank(streams, taps=TAPS, block=BLOCK, spare=spare, fade_frames=200, growths=(1, 2, 8), device=device) as bank:
        for stream in range(streams):
            bank.load(stream, filters[stream])

        def blocks() -> Iterator[Samples]:
            for number in range(BLOCKS):
                for stream in changes.get(number, []):
                    bank.load(stream, filters[streams + stream])
                yield samples[:, :, number * BLOCK : (number + 1) * BLOCK]

        found = np.concatenate([out.copy() for out in bank.run(blocks())], axis=2)
        assert not bank.changing
    return found, filters


def test_each_stream_has_its_own_filter(device: Device) -> None:
    """Nine streams, whose long segments end in different blocks, in three stages."""
    samples = noise(np.random.default_rng(21), 9, 2, BLOCK * BLOCKS)
    found, filters = outputs(device, 9, samples, {})

    for stream in range(9):
        assert change_error_db(found[stream], convolved(samples[stream], filters[stream])) < LIMIT_DB, f"stream {stream}"


def test_some_streams_change_and_the_others_do_not_notice(device: Device) -> None:
    """The changed ones fade from the start of some block on, one later: two filters are spare; the others are the same bits."""
    samples = noise(np.random.default_rng(22), 5, 2, BLOCK * BLOCKS)
    still, _ = outputs(device, 5, samples, {})
    found, filters = outputs(device, 5, samples, {20: [1, 3, 4]})

    for stream in (0, 2):
        assert np.array_equal(found[stream], still[stream])
    for stream in (1, 3, 4):
        old, new = (convolved(samples[stream], filters[number]) for number in (stream, 5 + stream))
        errors = [change_error_db(found[stream], faded(old, new, number * BLOCK, 200)) for number in range(20, BLOCKS)]
        assert min(errors) < -110.0
        assert sorted(errors)[1] > -70.0


def test_blocks_come_out_as_they_went_in_with_two_on_their_way(emulated: Emulated) -> None:
    """A third is refused, and so is collecting what was not submitted."""
    with StreamBank(1, taps=1, block=BLOCK, device=emulated) as bank:
        bank.load(0, np.eye(2, dtype=np.float32)[:, :, None])
        for level in (1.0, 2.0):
            bank.into[:] = level
            bank.submit()
        with pytest.raises(CudaError, match="2 blocks are on their way"):
            bank.submit()

        assert [float(bank.collect().mean()) for _ in range(2)] == pytest.approx([1.0, 2.0], rel=1e-6)
        with pytest.raises(CudaError, match="no block is on its way"):
            bank.collect()


def test_bad_streams_and_filters_are_refused_by_name(emulated: Emulated) -> None:
    """A stream that is not there, too many taps."""
    with StreamBank(3, taps=10, block=BLOCK, device=emulated) as bank:
        with pytest.raises(CudaError, match="stream 3: this bank has 0 to 2"):
            bank.load(3, np.ones((2, 2, 10), np.float32))
        with pytest.raises(CudaError, match="11 taps"):
            bank.load(0, np.ones((2, 2, 11), np.float32))


def test_whatever_call_fails_nothing_is_left(emulated: Emulated) -> None:
    """The first, the second, ... call; the fixture looks for what is left."""

    def life() -> None:
        emulated.calls = 0
        with StreamBank(2, taps=10, block=BLOCK, device=emulated) as bank:
            list(bank.run([np.ones((2, 2, BLOCK), np.float32)] * 3))

    life()
    for call in range(emulated.calls):
        emulated.fails_at = call
        with pytest.raises(CudaError, match="told to fail"):
            life()
        assert emulated.held == {}, f"call {call}"
    emulated.fails_at = -1


@pytest.mark.slow
def test_banks_leave_no_memory_behind(gpu: Device) -> None:
    """100 of them, with changes."""
    samples = noise(np.random.default_rng(23), 5, 2, BLOCK * BLOCKS)
    outputs(gpu, 5, samples, {20: [1, 3, 4]})
    before, _ = gpu.memory()
    for _ in range(100):
        outputs(gpu, 5, samples, {20: [1, 3, 4]})

    assert gpu.memory()[0] == before
