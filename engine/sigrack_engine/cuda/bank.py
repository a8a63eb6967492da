"""Many streams on one GPU, each through a filter of its own, all in one batch: copies both ways run beside the work."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np

from sigrack_engine.cuda.device import Device, opened
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.plan import FLOAT, Shape, plan_for
from sigrack_engine.cuda.session import EVER, Ring, Samples, Session, Taps, host_floats

__all__ = ["StreamBank"]

DEPTH = 2
"""Blocks on their way at once: while one is worked on, the next comes and the last goes."""


class StreamBank:
    """`streams` independent convolvers of one shape: true stereo unless said otherwise. [one thread]

    for each block: bank.into[:] = samples; bank.submit(); ...; out = bank.collect()
    """

    def __init__(
        self,
        streams: int,
        *,
        taps: int,
        block: int,
        inputs: int = 2,
        outputs: int = 2,
        phases: int = 1,
        paths: tuple[tuple[int, ...], ...] | None = None,
        spare: int = 64,
        fade_frames: int = 1,
        device: Device | None = None,
        growths: tuple[int, ...] | None = None,
        limit: int = EVER,
        offline: bool = False,
    ) -> None:
        """Take all memory that is needed. `taps`: of a path, at most; all filters are silent until `load`.

        `paths`: as `Shape.filter_of`, if some are always equal or zeros. `spare`: streams that can change at once.
        `fade_frames`: of output, of a change. `limit`: input frames that there will be. `offline`: latency does not count.
        Raises CudaError when the device fails, is full, or a number is out of range.
        """
        self.device = device or opened()
        paths = paths or tuple(tuple(range(o * inputs, (o + 1) * inputs)) for o in range(outputs))
        shape = Shape(paths, taps, block, phases, streams, spare)
        self.plan = plan_for(shape, self.device.limits, growths, offline=offline)
        self.streams, self.block = streams, block
        self.submitted = self.collected = 0
        """Blocks."""
        self._wanted: dict[int, Taps] = {}
        sizes = (streams * shape.inputs * block, streams * shape.outputs * block * phases)
        with ExitStack() as self._owned:
            self._build(sizes, fade_frames, limit)
            self._owned = self._owned.pop_all()

    def _build(self, sizes: tuple[int, int], fade_frames: int, limit: int) -> None:
        device, shape = self.device, self.plan.shape
        self._sizes = tuple(size * FLOAT for size in sizes)
        self._host = [self._take(device.allocate_host, device.free_host, DEPTH * size) for size in self._sizes]
        self._staged = [self._take(device.allocate, device.free, DEPTH * size) for size in self._sizes]
        frames = self.block * shape.phases
        source = Ring(self._staged[0], shape.inputs * self.block, self.block, sizes[0], DEPTH)
        sink = Ring(self._staged[1], shape.outputs * frames, frames, sizes[1], DEPTH)
        self._inputs = host_floats(self._host[0], DEPTH, self.streams, shape.inputs, self.block)
        self._outputs = host_floats(self._host[1], DEPTH, self.streams, shape.outputs, frames)
        self.session = Session(device, self.plan, source, sink, fade_frames=fade_frames, limit=limit)
        self._owned.callback(self.session.close)
        self._coming, self._going = device.stream(), device.stream()
        for queue in (self._coming, self._going):
            self._owned.callback(device.synchronize, queue)
        self._came, self._worked, self._gone = ([device.event() for _ in range(DEPTH)] for _ in range(3))

    def _take(self, allocate: Callable[[int], int], free: Callable[[int], None], size: int) -> int:
        address = allocate(size)
        self._owned.callback(free, address)
        return address

    @property
    def bytes(self) -> int:
        """Memory held on the device. [any]"""
        return self.session.device_bytes + DEPTH * sum(self._sizes)

    def load(self, stream: int, taps: Taps) -> None:
        """Give a stream its filter, (outputs, inputs, taps).

        At once if nothing has run yet, else it fades over when the filter has caught up. Of changes of one stream that come
        faster the newest counts. Raises CudaError when the bank cannot hold it.
        """
        if not 0 <= stream < self.streams:
            raise CudaError(f"stream {stream}: this bank has 0 to {self.streams - 1}")
        taps = np.ascontiguousarray(taps, np.float32)
        if not self.submitted:
            self.session.load(stream, taps)
            return
        self.session.check(taps)
        self._wanted[stream] = taps
        self._tend()

    def _tend(self) -> None:
        """Begin changes that had to wait."""
        for stream in [stream for stream, taps in self._wanted.items() if self.session.change(stream, taps)]:
            del self._wanted[stream]

    @property
    def changing(self) -> bool:
        """Whether a filter is on its way or being faded in."""
        return bool(self._wanted) or self.session.changing

    @property
    def into(self) -> Samples:
        """Where the next block's input goes: (streams, inputs, block). Wait for `collect` when two blocks are on their way."""
        if self.submitted - self.collected >= DEPTH:
            raise CudaError(f"{DEPTH} blocks are on their way: collect one first")
        into: Samples = self._inputs[self.submitted % DEPTH]
        return into

    def submit(self) -> None:
        """Let the block in `into` go its way; returns at once."""
        self.into  # noqa: B018 - raises when it is too early
        device, session, at = self.device, self.session, self.submitted % DEPTH
        if self._wanted:
            self._tend()
        device.copy(self._staged[0] + at * self._sizes[0], self._host[0] + at * self._sizes[0], self._sizes[0], self._coming)
        device.record(self._came[at], self._coming)
        device.await_event(self._came[at], session.queue)
        session.submit()
        device.record(self._worked[at], session.queue)
        device.await_event(self._worked[at], self._going)
        device.copy(self._host[1] + at * self._sizes[1], self._staged[1] + at * self._sizes[1], self._sizes[1], self._going)
        device.record(self._gone[at], self._going)
        self.submitted += 1

    def collect(self) -> Samples:
        """Wait for the oldest block on its way; return its output, valid until two more are submitted.

        Of shape (streams, outputs, block * phases).
        """
        if self.collected == self.submitted:
            raise CudaError("no block is on its way")
        at = self.collected % DEPTH
        self.device.synchronize(self._gone[at])
        self.collected += 1
        out: Samples = self._outputs[at]
        return out

    def run(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Yield the output of each block, (streams, outputs, frames), valid until the next is asked for.

        Two are on their way at once.
        """
        for samples in blocks:
            self.into[:] = samples
            self.submit()
            if self.submitted - self.collected == DEPTH:
                yield self.collect()
        while self.collected < self.submitted:
            yield self.collect()

    def reset(self) -> None:
        """Forget all input, and what has not been collected."""
        while self.collected < self.submitted:
            self.collect()
        self.session.reset()
        self.submitted = self.collected = 0

    def close(self) -> None:
        """Wait until nothing runs, and give everything back."""
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
