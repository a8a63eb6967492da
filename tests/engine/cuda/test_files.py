"""Files through one filter, as many at once as there are streams."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.cuda.emulated import Emulated
from engine.cuda.signals import LIMIT_DB, decaying, noise
from oracles.chain import interpolated
from sigrack_engine.cuda.device import Device
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.files import FileBatch, Job, Listener, Through

RATE_HZ = 48_000
LENGTHS = (5000, 3000, 1, 7777, 1024, 40, 2600)


def jobs_in(folder: Path, lengths: tuple[int, ...] = LENGTHS) -> list[Job]:
    """Write files of noise, each of them 20 dB quieter than the one before."""
    jobs = []
    for number, frames in enumerate(lengths):
        sound = noise(np.random.default_rng(number), frames, 2) * np.float32(10.0**-number)
        soundfile.write(folder / f"{number}.wav", sound, RATE_HZ, subtype="FLOAT")
        jobs.append(Job(folder / f"{number}.wav", folder / f"{number}-out.wav", frames))
    return jobs


def filtering(taps: int, phases: int, latency_frames: int) -> Through:
    return Through(decaying(np.random.default_rng(40), 2, 2, taps), phases, latency_frames, RATE_HZ, None, overwrite=True)


class Told:
    """Keeps what a batch tells."""

    def __init__(self) -> None:
        self.whole: dict[int, int] = {}
        self.bad: dict[int, str] = {}
        self.frames = 0
        self.listener = Listener(
            done=lambda number, frames, clipped: self.whole.update({number: frames}),
            failed=lambda number, why, begun: self.bad.update({number: str(why)}),
            progress=self._count,
        )

    def _count(self, frames: int) -> None:
        self.frames += frames


def batched(device: Device, through: Through, jobs: list[Job], told: Told, streams: int) -> None:
    batch = FileBatch(through, jobs, told.listener, device, streams=streams, chunk=1024)
    try:
        batch.run()
    finally:
        batch.close()


@pytest.mark.parametrize(("taps", "phases", "latency_frames"), [(3000, 1, 0), (3000, 1, 1500), (2000, 4, 999), (1, 1, 0)])
@pytest.mark.parametrize("streams", [1, 3, 16])
def test_each_file_is_its_convolution(
    device: Device, tmp_path: Path, taps: int, phases: int, latency_frames: int, streams: int
) -> None:
    """The head is cut by the latency and the tail is whole; louder ones before it in its stream leave nothing of theirs."""
    through, jobs = filtering(taps, phases, latency_frames), jobs_in(tmp_path)
    told = Told()
    batched(device, through, jobs, told, streams)

    assert dict(enumerate(LENGTHS)) == told.whole
    assert ({}, sum(LENGTHS)) == (told.bad, told.frames)
    for job in jobs:
        found, rate_hz = soundfile.read(job.target, dtype="float32")
        assert (RATE_HZ * phases, job.frames * phases) == (rate_hz, len(found))
        sound = np.zeros((job.frames + latency_frames, 2))
        sound[: job.frames] = soundfile.read(job.source)[0]
        looked = np.unique(np.linspace(0, len(found) - 1, 200).astype(int))
        wanted = interpolated(
            sound, through.taps, phases, np.concatenate([looked + latency_frames, np.arange(latency_frames + 1)])
        )
        worst = np.abs(found[looked] - wanted[: len(looked)]).max() / np.abs(wanted).max()  # the head is cut, but it was computed
        assert worst < 10.0 ** (LIMIT_DB / 20.0), job


def test_a_file_is_to_the_bit_what_it_is_alone(device: Device, tmp_path: Path) -> None:
    """Wherever in a batch it runs, behind which other one: the same bits at equal blocks."""
    through, jobs = filtering(3000, 1, 100), jobs_in(tmp_path)
    batched(device, through, jobs, Told(), 2)
    together = [soundfile.read(job.target)[0] for job in jobs]
    for job, wanted in zip(jobs, together, strict=True):
        batched(device, through, [job, Job(jobs[3].source, tmp_path / "other.wav", jobs[3].frames)], Told(), 2)
        assert np.array_equal(wanted, soundfile.read(job.target)[0]), job


def test_bad_files_leave_their_streams_to_the_next(emulated: Emulated, tmp_path: Path) -> None:
    """Those that cannot be opened, have other channels, end early, or cannot be written."""
    through, jobs = filtering(500, 1, 0), jobs_in(tmp_path)
    soundfile.write(tmp_path / "mono.wav", np.zeros(100), RATE_HZ)
    broken = np.zeros((6000, 2))
    broken[3000] = np.nan
    soundfile.write(tmp_path / "broken.wav", broken, RATE_HZ, subtype="FLOAT")
    sources = [tmp_path / "missing.wav", tmp_path / "mono.wav", tmp_path / "broken.wav"]
    bad = [Job(source, tmp_path / f"bad-{source.name}", 5000) for source in sources]
    nowhere = Job(jobs[0].source, tmp_path / "no folder" / "out.wav", 5000)
    told = Told()
    batched(emulated, through, [*bad, nowhere, *jobs], told, 2)

    assert {4 + number: frames for number, frames in enumerate(LENGTHS)} == told.whole
    words = ("No such file", "has become another file", "nan at frame 3000", "No such file or directory")
    assert [True] * 4 == [word in told.bad[number] for number, word in enumerate(words)]


def test_whatever_call_fails_nothing_is_left(emulated: Emulated, tmp_path: Path) -> None:
    """The first, the second, ... call; what is told to be whole is whole, and no file stays open."""
    through, jobs = filtering(50, 1, 0), jobs_in(tmp_path, (3000, 2000, 10))
    batched(emulated, through, jobs, Told(), 2)
    wanted = [soundfile.read(job.target)[0] for job in jobs]
    for call in range(emulated.calls):
        emulated.calls, emulated.fails_at = 0, call
        for job in jobs:
            job.target.unlink(missing_ok=True)
        told = Told()
        with pytest.raises(CudaError, match="told to fail"):
            batched(emulated, through, jobs, told, 2)
        assert emulated.held == {}, f"call {call}"
        assert all(np.array_equal(soundfile.read(jobs[number].target)[0], wanted[number]) for number in told.whole)
    emulated.fails_at = -1
