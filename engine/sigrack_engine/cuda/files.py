"""Sound files through one filter on a GPU: as many at once as a bank has streams, and where one ends the next begins."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sigrack_engine.cuda.bank import DEPTH, StreamBank
from sigrack_engine.cuda.device import Device
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.session import Samples, Taps, filter_of
from sigrack_engine.files import SoundFileError, SoundReader, SoundWriter

__all__ = ["FileBatch", "Job", "Listener", "Through"]

STREAMS = 16
"""Files at once: files are read and written on as many cores, and the device has long enough work."""
CHUNK_FRAMES = 1 << 20
"""Of output, that a block of all streams together has at most."""
LEAST_FRAMES = 1024
"""Of input, that a stream's block has at least, however many phases there are, unless all files are shorter."""


@dataclass(frozen=True, slots=True)
class Job:
    """One file."""

    source: Path
    target: Path
    """Is made; its extension tells the format."""
    frames: int
    """Length of the source, about."""


@dataclass(frozen=True, slots=True)
class Through:
    """What all files go through, and what becomes of them."""

    taps: Taps
    """(outputs, inputs, taps), at the output's rate."""
    phases: int
    latency_frames: int
    """Of output, that are left out at its beginning."""
    rate_hz: int
    """Of all sources."""
    samples: str | None
    """As SoundWriter has them."""
    overwrite: bool


@dataclass(frozen=True, slots=True)
class Listener:
    """Is told how far files are, by their number. All on the thread of `run`."""

    done: Callable[[int, int, int], object]
    """(number, frames of input, samples that were clipped): it is whole."""
    failed: Callable[[int, SoundFileError, bool], object]
    """(number, why, whether it could be begun): it is not, and will not be."""
    progress: Callable[[int], object]
    """(frames of input, of all files, since the last call)"""


class _File:
    """A file on its way: `fill` and `drain` may run at the same time."""

    def __init__(self, number: int, job: Job, through: Through, block: int) -> None:
        """Open source and target. Raises SoundFileError."""
        self.number = number
        outputs, inputs, _ = through.taps.shape
        self._reader = SoundReader(job.source)
        try:
            if (self._reader.rate_hz, self._reader.channels) != (through.rate_hz, inputs):
                raise SoundFileError(f"{job.source}: has become another file meanwhile; render it again")
            self.frames = self._reader.frames
            self._writer = SoundWriter(
                job.target,
                rate_hz=through.rate_hz * through.phases,
                channels=outputs,
                samples=through.samples,
                overwrite=through.overwrite,
                expected_frames=self.frames * through.phases,
            )
        except BaseException:
            self._reader.close()
            raise
        self._skip, self._owed = through.latency_frames, self.frames * through.phases
        self.blocks = -(-(self._owed + self._skip) // (block * through.phases))
        """That it still needs."""
        self.error: SoundFileError | None = None

    def fill(self, into: Samples) -> None:
        """Read the next block: silence behind the end."""
        try:
            samples = self._reader.read(into.shape[1])
        except SoundFileError as error:
            self.error = self.error or error
            samples = np.empty((0, len(into)), np.float32)
        into[:, : len(samples)] = samples.T
        into[:, len(samples) :] = 0.0

    def drain(self, out: Samples) -> int:
        """Write what came of the next block; return the frames that were written. Raises CudaError for what is no sound."""
        skipped = min(self._skip, out.shape[1])
        self._skip -= skipped
        part = out[:, skipped : skipped + self._owed].T
        if self.error or not len(part):
            return 0
        if not np.isfinite(part).all():
            raise CudaError("what it gave was no sound")
        try:
            self._writer.write(np.ascontiguousarray(part))
        except SoundFileError as error:
            self.error = error
            return 0
        self._owed -= len(part)
        return len(part)

    @property
    def over(self) -> bool:
        """Whether nothing more is to be written."""
        return self.error is not None or not self._owed

    def close(self) -> int:
        """Complete the target; return how many samples were clipped; again and again."""
        self._reader.close()
        self._writer.close()
        return self._writer.clipped


@dataclass(slots=True)
class _Stream:
    file: _File | None = None
    pause: int = 0
    """Blocks of silence until the next one may begin."""


Seats = list[_File | None]
"""Whose block each stream has."""


class FileBatch:
    """Sends files through a StreamBank: a stream's next file begins with the block in which nothing of the last is left.

    So each file is what it would be alone, to the bit. Reading, the device and writing run side by side.
    """

    def __init__(
        self,
        through: Through,
        jobs: Sequence[Job],
        listener: Listener,
        device: Device | None = None,
        *,
        streams: int = STREAMS,
        chunk: int = CHUNK_FRAMES,
    ) -> None:
        """Take all memory that is needed, the same for any length and number of files.

        `streams`: files at once, at most; `chunk`: frames of output of a block of all of them. Raises CudaError.
        """
        self._through, self._listener = through, listener
        self._jobs = deque(sorted(enumerate(jobs), key=lambda each: -each[1].frames))  # long ones last longest: they begin
        outputs, inputs, count = through.taps.shape
        self._streams = [_Stream() for _ in range(min(streams, len(jobs)))]
        self._owed = 0
        """Frames of output that were written and not told."""
        self.bank = StreamBank(
            len(self._streams),
            taps=count,
            block=_block(through, chunk // len(self._streams), self._jobs[0][1].frames),
            inputs=inputs,
            outputs=outputs,
            phases=through.phases,
            paths=filter_of(through.taps),
            spare=0,
            device=device,
            offline=True,
        )
        memory_frames = -(-count // through.phases) + 2 * self.bank.plan.stages[-1].bins
        self._pause = -(-memory_frames // self.bank.block)
        try:
            for stream in range(len(self._streams)):
                self.bank.load(stream, through.taps)
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        """Do it all. Raises CudaError; what is done then is done, and the other targets are halves."""
        on_way: deque[Seats] = deque()
        open_files: set[_File] = set()
        with ThreadPoolExecutor(min(2 * len(self._streams), len(os.sched_getaffinity(0)))) as pool:
            try:
                coming = self._seats(open_files)
                self._work(pool, [*self._filling(coming)])
                while coming or on_way:
                    if coming:
                        self.bank.submit()
                        on_way.append(coming)
                    out, going = (self.bank.collect(), on_way.popleft()) if len(on_way) == DEPTH or not coming else (None, [])
                    coming = self._seats(open_files) if coming else []
                    self._work(pool, [*self._filling(coming), *self._draining(going, out)])
                    self._settle(open_files)
            finally:
                for file in open_files:
                    file.close()

    def _seats(self, open_files: set[_File]) -> Seats:
        """Return who has the next block; nobody, and no stream: all is over."""
        seats = [self._seat(stream, open_files) for stream in self._streams]
        return seats if any(seats) or self._jobs else []

    def _seat(self, stream: _Stream, open_files: set[_File]) -> _File | None:
        if stream.file and (stream.file.error or not stream.file.blocks):
            stream.file, stream.pause = None, self._pause
        if not stream.file and stream.pause:
            stream.pause -= 1
            return None
        while not stream.file and self._jobs:
            number, job = self._jobs.popleft()
            try:
                stream.file = _File(number, job, self._through, self.bank.block)
                open_files.add(stream.file)
            except SoundFileError as error:
                self._listener.failed(number, error, False)
        if stream.file:
            stream.file.blocks -= 1
        return stream.file

    def _filling(self, seats: Seats) -> list[Callable[[], int]]:
        into = self.bank.into if seats else None
        work: list[Callable[[], int]] = []
        for number, file in enumerate(seats):
            assert into is not None
            work.append(partial(_fill, file, into[number]))
        return work

    def _draining(self, seats: Seats, out: Samples | None) -> list[Callable[[], int]]:
        return [partial(file.drain, out[number]) for number, file in enumerate(seats) if file and out is not None]

    def _work(self, pool: ThreadPoolExecutor, work: Sequence[Callable[[], int]]) -> None:
        """Do what can be done at the same time; tell how many frames of input that were."""
        self._owed += sum(pool.map(lambda each: each(), work))
        frames, self._owed = divmod(self._owed, self._through.phases)
        if frames:
            self._listener.progress(frames)

    def _settle(self, open_files: set[_File]) -> None:
        """Close what is over, and tell of it."""
        for file in [file for file in open_files if file.over]:
            open_files.remove(file)
            clipped = file.close()
            if file.error:
                self._listener.failed(file.number, file.error, True)
            else:
                self._listener.done(file.number, file.frames, clipped)

    def close(self) -> None:
        """Give everything back."""
        self.bank.close()


def _fill(file: _File | None, into: Samples) -> int:
    if file:
        file.fill(into)
    else:
        into[:] = 0.0
    return 0


def _block(through: Through, chunk: int, longest: int) -> int:
    """Return the frames of a stream's block: as many as pays, no more than the longest file needs."""
    most = max(LEAST_FRAMES, chunk // through.phases)
    needed = longest + through.latency_frames // through.phases + 1
    return min(1 << (most.bit_length() - 1), 1 << (needed - 1).bit_length())
