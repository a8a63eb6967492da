"""A recursion of mixes, delays and second-order sections, run by the core in float64."""

import ctypes as c
from collections.abc import Sequence

import numpy as np

from sigrack_engine.core import BiquadsSpec, BiquadsStage, checked, lib
from sigrack_engine.filter import Filter
from sigrack_plugins.api import BiquadStage

__all__ = ["Biquads"]


class Biquads(Filter):
    """Runs stages as they are written: its work does not depend on how long they ring."""

    def __init__(self, stages: Sequence[BiquadStage]) -> None:
        """Copy `stages`, which fit together. Raises CoreError when memory runs out or a number is out of range. [control]"""
        kept = [_arrays(stage) for stage in stages]
        rows = [BiquadsStage(len(mix[0]), len(mix), *(a.ctypes.data for a in (mix, *rest))) for mix, *rest in kept]
        inputs, outputs = rows[0].inputs, rows[-1].outputs
        spec = BiquadsSpec(inputs, outputs, len(rows), c.cast((BiquadsStage * len(rows))(*rows), c.c_void_p))
        pointer = checked(lib.core_biquads_new(spec), f"a recursion of {len(rows)} stages for {inputs} channels")
        super().__init__(pointer, inputs, outputs)


def _arrays(stage: BiquadStage) -> "tuple[np.ndarray, ...]":
    """Return a stage as the core reads it: mix, delays, numbers of sections, coefficients."""
    return (
        np.ascontiguousarray(stage.mix, np.float64),
        np.array(stage.delay_frames, np.uint32),
        np.array([len(sections) for sections in stage.sections], np.uint32),
        np.array([section for sections in stage.sections for section in sections], np.float64).reshape(-1, 5),
    )
