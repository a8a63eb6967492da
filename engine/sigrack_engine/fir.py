"""A matrix FIR, run by the core."""

import numpy as np
import numpy.typing as npt

from sigrack_engine.core import address, checked, lib

__all__ = ["Fir"]


class Fir:
    """Convolves `inputs` channels into `outputs` with one filter per path; no latency, exact at any block size."""

    process_address = address("core_fir_process")
    reset_address = address("core_fir_reset")

    def __init__(self, taps: npt.NDArray[np.float32]) -> None:
        """Copy `taps`, float32 of shape (outputs, inputs, taps). [control]"""
        taps = np.ascontiguousarray(taps, np.float32)
        outputs, inputs, count = taps.shape
        self.pointer = checked(lib.core_fir_new(inputs, outputs, count, taps.ctypes.data, 0), f"a filter of shape {taps.shape}")

    @property
    def bytes(self) -> int:
        """Memory held. [any]"""
        return int(lib.core_fir_bytes(self.pointer))

    def close(self) -> None:
        """Free it: no slot runs it any more. [control]"""
        lib.core_fir_free(self.pointer)
