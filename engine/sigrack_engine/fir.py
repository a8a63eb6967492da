"""A matrix FIR, run by the core."""

import ctypes as c
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sigrack_engine.core import FIR_STAGES, FirSpec, FirStage, address, checked, lib
from sigrack_plugins.abi import Block

__all__ = ["Fir"]

Samples = npt.NDArray[np.float32]


class Fir:
    """Convolves `inputs` channels into `outputs` with one filter per path; no latency, exact at any block size.

    With `phases` above 1 it interpolates: each input frame gives so many output frames.
    """

    process_address = address("core_fir_process")
    reset_address = address("core_fir_reset")

    def __init__(self, taps: Samples, *, phases: int = 1, block: int = 0, partitions: Sequence[int] = ()) -> None:
        """Copy `taps`, float32 of shape (outputs, inputs, taps), at the output's rate. [control]

        `block`: input frames that usually come at once, 0 if that is not known. `partitions`: of the stages; chosen if not given.
        Raises CoreError when memory runs out or a number is out of range.
        """
        taps = np.ascontiguousarray(taps, np.float32)
        self.outputs, self.inputs, count = taps.shape
        self.phases = phases
        sizes = (c.c_uint32 * FIR_STAGES)(*partitions)
        spec = FirSpec(self.inputs, self.outputs, phases, count, taps.ctypes.data, block, sizes)
        self.pointer = checked(lib.core_fir_new(spec), f"a filter of shape {taps.shape} with {phases} phases")

    def process(self, samples: Samples) -> Samples:
        """Convolve a block, float32 of shape (inputs, frames); return (outputs, frames * phases). [control, not in a run list]"""
        samples = np.ascontiguousarray(samples, np.float32)
        frames = samples.shape[1]
        out = np.empty((self.outputs, frames * self.phases), np.float32)
        inputs, outputs = _planes(samples), _planes(out)
        block = Block(
            size=c.sizeof(Block),
            frames=frames,
            in_=c.cast(inputs, c.c_void_p),
            out=c.cast(outputs, c.c_void_p),
            channels=max(self.inputs, self.outputs),
        )
        lib.core_fir_process(self.pointer, c.byref(block))
        return out

    def prime(self, samples: Samples) -> None:
        """Take input, float32 of shape (inputs, frames), without making output. [control, not in a run list]"""
        samples = np.ascontiguousarray(samples, np.float32)
        lib.core_fir_prime(self.pointer, _planes(samples), samples.shape[1])

    def catch_up(self) -> None:
        """Make ready for `process` after `prime`. [control, not in a run list]"""
        lib.core_fir_catch_up(self.pointer)

    def reset(self) -> None:
        """Forget all input. [control, not in a run list]"""
        lib.core_fir_reset(self.pointer)

    @property
    def stages(self) -> list[FirStage]:
        """What it is made of. [any]"""
        stages = (FirStage * FIR_STAGES)()
        return list(stages[: lib.core_fir_stages(self.pointer, stages)])

    @property
    def bytes(self) -> int:
        """Memory held. [any]"""
        return int(lib.core_fir_bytes(self.pointer))

    def close(self) -> None:
        """Free it: no slot runs it any more. [control]"""
        lib.core_fir_free(self.pointer)


def _planes(samples: Samples) -> "c.Array[c.c_void_p]":
    """Return the address of each channel; as long as that array lives, `samples` must."""
    step = samples.strides[0]
    return (c.c_void_p * len(samples))(*(samples.ctypes.data + step * channel for channel in range(len(samples))))
