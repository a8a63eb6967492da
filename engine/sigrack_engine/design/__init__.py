"""Low passes for upsampling: specified, designed, measured, kept."""

from sigrack_engine.design.cache import cached, filter_for
from sigrack_engine.design.designer import Filter, Progress, design
from sigrack_engine.design.errors import DesignError
from sigrack_engine.design.measure import Measured, measure, misses
from sigrack_engine.design.specification import Specification, specify
from sigrack_engine.design.taps_file import load, read, save

__all__ = [
    "DesignError",
    "Filter",
    "Measured",
    "Progress",
    "Specification",
    "cached",
    "design",
    "filter_for",
    "load",
    "measure",
    "misses",
    "read",
    "save",
    "specify",
]
