"""From a specification to taps that meet it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sigrack_engine.design.errors import DesignError
from sigrack_engine.design.homomorphic import magnitude, minimum_phase
from sigrack_engine.design.kaiser import lowpass
from sigrack_engine.design.measure import Measured, measure, misses
from sigrack_engine.design.specification import Specification

__all__ = ["Filter", "Progress", "design"]

Progress = Callable[[str], None]
"""Is told what begins now."""


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """Taps at the output rate, float32 and read-only, with what they must do and what they do."""

    specification: Specification
    taps: npt.NDArray[np.float32]
    measured: Measured

    def __post_init__(self) -> None:
        self.taps.flags.writeable = False


def design(spec: Specification, progress: Progress = lambda step: None) -> Filter:
    """Design and measure a filter. Raises DesignError if the rounded taps do not do what is asked. [worker]"""
    progress("window")
    response = _response(spec, progress)
    taps = (response * (spec.dc_gain / response.sum())).astype(np.float32)
    progress("measuring")
    measured = measure(taps, spec)
    if missed := misses(measured, spec):
        raise DesignError(f"float32 taps do not reach that: {missed[0]}; ask for less")
    return Filter(spec, taps, measured)


def _response(spec: Specification, progress: Progress) -> npt.NDArray[np.float64]:
    """Return the impulse response, of any gain, and as long as is asked."""
    missing = spec.taps - spec.taps_used
    if spec.passes_all:
        window = np.ones(1)
    else:
        cutoff = (spec.pass_edge_hz + spec.stop_edge_hz) / 2.0 / spec.output_rate_hz
        window = lowpass(spec.taps_used, cutoff, spec.design_db)
    if spec.phase == "linear":
        return np.pad(window, missing // 2)
    if not spec.passes_all:
        progress("minimum phase")
        floor = 10.0 ** (-spec.design_db / 20.0)
        window = minimum_phase(np.hypot(magnitude(window), floor))[: len(window)]
    return np.pad(window, (0, missing))
