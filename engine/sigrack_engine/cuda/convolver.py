"""One live stream through a matrix FIR on a GPU."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np

from sigrack_engine.cuda.device import Device, opened
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.plan import FLOAT, Shape, Stage, plan_for
from sigrack_engine.cuda.session import Pinned, Ring, Samples, Session, Taps, filter_of, host_floats

__all__ = ["CudaConvolver"]

LOOKS = 1000
"""How often a waiting host looks for the output before it asks the device whether all is well."""
PATIENCE_S = 1.0


class CudaConvolver:
    """Convolves each input into each output with a filter of its own: no latency beyond the block.

    With `phases` above 1 it interpolates. Input and output lie in host memory that the device reaches in place: no copy is made.
    """

    def __init__(
        self,
        taps: Taps,
        *,
        phases: int = 1,
        block: int,
        device: Device | None = None,
        source: Ring | None = None,
        sink: Ring | None = None,
        pinned: Sequence[Pinned] = (),
        most_taps: int = 0,
        all_paths: bool = False,
        fade_frames: int = 1,
        growths: tuple[int, ...] | None = None,
    ) -> None:
        """Copy `taps`, float32 of shape (outputs, inputs, taps), at the output's rate. [control]

        `block`: input frames of every block. `source`, `sink`: where blocks lie, in the memory `pinned`; if not given, memory of
        its own. `most_taps`, `all_paths`: what filters of later changes need, beyond `taps`. `fade_frames`: of output, of a
        change. `growths`: of the stages; chosen if not given.
        Raises CudaError when the device fails, is full, or a number is out of range.
        """
        taps = np.ascontiguousarray(taps, np.float32)
        outputs, inputs, count = taps.shape
        paths = filter_of(taps) if not all_paths else tuple(tuple(range(o * inputs, (o + 1) * inputs)) for o in range(outputs))
        self.device = device or opened()
        shape = Shape(paths, max(count, most_taps), block, phases)
        self.plan = plan_for(shape, self.device.limits, growths, live=True)
        self.inputs, self.outputs, self.phases, self.block = inputs, outputs, phases, block
        self.patience_s = PATIENCE_S
        """How long `wait` waits before it takes the device for stalled."""
        self._views: list[Samples] = []
        self._wanted: Taps | None = None
        with ExitStack() as owned:
            source = source or self._ring(owned, inputs, block)
            sink = sink or self._ring(owned, outputs, block * phases)
            self.session = Session(self.device, self.plan, source, sink, pinned=pinned, fade_frames=fade_frames, tells=True)
            owned.callback(self.session.close)
            self.session.load(0, taps)
            self._owned = owned.pop_all()

    def _ring(self, owned: ExitStack, channels: int, frames: int) -> Ring:
        address = self.device.allocate_host(channels * frames * FLOAT)
        owned.callback(self.device.free_host, address)
        self._views.append(host_floats(address, channels, frames))
        return Ring(address, 0, frames, 0, 1)

    def process(self, samples: Samples) -> Samples:
        """Filter a block, float32 of shape (inputs, block); return (outputs, block * phases). [lane, in memory of its own]"""
        into, out = self._views
        into[:] = samples
        self.tend()
        self.submit()
        self.wait()
        return out.copy()

    def submit(self) -> None:
        """Queue the next block, which is in the source ring. [lane]"""
        self.session.submit()

    def wait(self) -> None:
        """Wait until the output of all submitted blocks is in the sink ring. [lane]

        Raises CudaError when the device fails or stalls.
        """
        session, wanted = self.session, self.session.blocks
        stop = 0.0
        while session.told < wanted:
            for _ in range(LOOKS):
                if session.told >= wanted:
                    return
            if not self.device.busy(session.queue) and session.told < wanted:
                raise CudaError(f"{self.device.name}: block {wanted} is over without output")
            stop = stop or time.monotonic() + self.patience_s
            if time.monotonic() > stop:
                raise CudaError(f"{self.device.name}: no output of block {wanted} after {self.patience_s} s")

    def change(self, taps: Taps) -> None:
        """Fade over to other taps, as soon as they have caught up; of changes that come faster the newest counts. [control]

        Raises CudaError when there are more of them than `most_taps`, or a path that this convolver has not (`all_paths`).
        """
        taps = np.ascontiguousarray(taps, np.float32)
        self.session.check(taps)
        self._wanted = taps
        self.tend()

    def tend(self) -> None:
        """Let a change begin that could not before: to be called now and then while `changing`. [control]"""
        if self._wanted is not None and self.session.change(0, self._wanted):
            self._wanted = None

    @property
    def changing(self) -> bool:
        """Whether a filter is on its way or being faded in. [any]"""
        return self._wanted is not None or self.session.changing

    def reset(self) -> None:
        """Forget all input. [lane]"""
        self.session.reset()

    @property
    def bytes(self) -> int:
        """Memory held on the device. [any]"""
        return self.session.device_bytes

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What it is made of. [any]"""
        return self.plan.stages

    def close(self) -> None:
        """Give everything back. [control]"""
        self._views = []
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
