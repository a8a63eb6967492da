"""A linear filter, run by the core: what convolvers and recursions have in common."""

import ctypes as c

import numpy as np
import numpy.typing as npt

from sigrack_engine.core import address, lib
from sigrack_plugins.abi import Block

__all__ = ["Filter", "Samples"]

Samples = npt.NDArray[np.float32]


class Filter:
    """Turns `inputs` channels into `outputs`, `phases` frames out for each in; no latency, exact at any block size."""

    process_address = address("core_filter_process")
    reset_address = address("core_filter_reset")

    def __init__(self, pointer: int, inputs: int, outputs: int, phases: int = 1) -> None:
        """Take over what the core has made. [control]"""
        self.pointer = pointer
        self.inputs, self.outputs, self.phases = inputs, outputs, phases

    def process(self, samples: Samples) -> Samples:
        """Filter a block, float32 of shape (inputs, frames); return (outputs, frames * phases). [control, not in a run list]"""
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
        lib.core_filter_process(self.pointer, c.byref(block))
        return out

    def prime(self, samples: Samples) -> None:
        """Take input, float32 of shape (inputs, frames), without making output. [control, not in a run list]"""
        samples = np.ascontiguousarray(samples, np.float32)
        lib.core_filter_prime(self.pointer, _planes(samples), samples.shape[1])

    def catch_up(self) -> None:
        """Make ready for `process` after `prime`. [control, not in a run list]"""
        lib.core_filter_catch_up(self.pointer)

    def reset(self) -> None:
        """Forget all input. [control, not in a run list]"""
        lib.core_filter_reset(self.pointer)

    @property
    def bytes(self) -> int:
        """Memory held. [any]"""
        return int(lib.core_filter_bytes(self.pointer))

    def close(self) -> None:
        """Free it: no slot runs it any more. [control]"""
        lib.core_filter_free(self.pointer)


def _planes(samples: Samples) -> "c.Array[c.c_void_p]":
    """Return the address of each channel; as long as that array lives, `samples` must."""
    step = samples.strides[0]
    return (c.c_void_p * len(samples))(*(samples.ctypes.data + step * channel for channel in range(len(samples))))
