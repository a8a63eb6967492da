"""Long signals through a matrix FIR on a GPU, as fast as it can: chunk after chunk, in bounded memory."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import numpy as np

from sigrack_engine.cuda.bank import StreamBank
from sigrack_engine.cuda.device import Device
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.plan import LONGEST
from sigrack_engine.cuda.session import Ring, Samples, Taps, filter_of

__all__ = ["Offline"]

CHUNK_FRAMES = 1 << 20
"""Of output, in a chunk that was not asked for."""


class Offline:
    """Convolves whole signals, one after the other, with one filter. [one thread]"""

    def __init__(self, taps: Taps, *, phases: int = 1, chunk: int = 0, device: Device | None = None) -> None:
        """Copy `taps`, float32 of shape (outputs, inputs, taps), at the output's rate; `chunk`: input frames; chosen if 0.

        Raises CudaError when the device fails, is full, or a number is out of range.
        """
        taps = np.ascontiguousarray(taps, np.float32)
        self.outputs, self.inputs, count = taps.shape
        self.phases, self.chunk = phases, chunk or max(LONGEST, CHUNK_FRAMES // phases // LONGEST * LONGEST)
        options = {"taps": count, "block": self.chunk, "inputs": self.inputs, "outputs": self.outputs, "phases": phases}
        self.bank = StreamBank(1, **options, paths=filter_of(taps), spare=0, device=device, offline=True)
        try:
            self.bank.load(0, taps)
        except BaseException:
            self.close()
            raise

    def run(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Yield what comes of each block, (outputs, frames * phases), in place: valid until the next is asked for.

        `blocks`: (inputs, chunk), the last one may be shorter. Two are on their way at once.
        """
        self.bank.reset()
        lengths: list[int] = []

        def padded() -> Iterator[Samples]:
            for block in blocks:
                if block.shape[1] > self.chunk or (lengths and lengths[-1] < self.chunk):
                    raise CudaError(f"a block of {block.shape[1]} frames: each has {self.chunk}, the last one at most")
                lengths.append(block.shape[1])
                into = self.bank.into[0]
                into[:, : block.shape[1]] = block
                into[:, block.shape[1] :] = 0.0
                yield self.bank.into

        for number, out in enumerate(self.bank.run(padded())):
            yield out[0, :, : lengths[number] * self.phases]

    def convolve(self, samples: Samples) -> Samples:
        """Return what comes of a signal (inputs, frames): (outputs, frames * phases)."""
        out = np.empty((self.outputs, samples.shape[1] * self.phases), np.float32)
        starts = range(0, samples.shape[1], self.chunk)
        at = 0
        for part in self.run(samples[:, start : start + self.chunk] for start in starts):
            out[:, at : at + part.shape[1]] = part
            at += part.shape[1]
        return out

    def convolve_in_place(self, source: int, sink: int, frames: int) -> None:
        """Convolve (inputs, frames) at the address `source`, which the device reaches, into (outputs, frames * phases) at `sink`.

        Returns when it is queued: `bank.device.synchronize(bank.session.queue)` waits. Both must stay until then.
        """
        session = self.bank.session
        session.reset()
        whole = -(-frames // self.chunk)
        session.bind(
            Ring(source, 0, frames, self.chunk, whole),
            Ring(sink, 0, frames * self.phases, self.chunk * self.phases, whole),
            frames,
        )
        for _ in range(whole):
            session.submit()

    def close(self) -> None:
        """Give everything back."""
        self.bank.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
