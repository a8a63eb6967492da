"""A matrix FIR, run by the core."""

import ctypes as c
from collections.abc import Sequence

import numpy as np

from sigrack_engine.core import FIR_STAGES, FirSpec, FirStage, checked, lib
from sigrack_engine.filter import Filter, Samples

__all__ = ["Fir"]


class Fir(Filter):
    """Convolves each input into each output with a filter of its own.

    With `phases` above 1 it interpolates: each input frame gives so many output frames.
    """

    def __init__(self, taps: Samples, *, phases: int = 1, block: int = 0, partitions: Sequence[int] = ()) -> None:
        """Copy `taps`, float32 of shape (outputs, inputs, taps), at the output's rate. [control]

        `block`: input frames that usually come at once, 0 if that is not known. `partitions`: of the stages; chosen if not given.
        Raises CoreError when memory runs out or a number is out of range.
        """
        taps = np.ascontiguousarray(taps, np.float32)
        outputs, inputs, count = taps.shape
        sizes = (c.c_uint32 * FIR_STAGES)(*partitions)
        spec = FirSpec(inputs, outputs, phases, count, taps.ctypes.data, block, sizes)
        pointer = checked(lib.core_fir_new(spec), f"a filter of shape {taps.shape} with {phases} phases")
        super().__init__(pointer, inputs, outputs, phases)

    @property
    def stages(self) -> list[FirStage]:
        """What it is made of. [any]"""
        stages = (FirStage * FIR_STAGES)()
        return list(stages[: lib.core_fir_stages(self.pointer, stages)])
