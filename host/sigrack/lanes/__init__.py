"""Processors in processes of their own: whatever one does, the rack plays on."""

from sigrack.lanes.minder import Minder
from sigrack.lanes.plugin import LaneInstance, LanePlugin

__all__ = ["LaneInstance", "LanePlugin", "Minder"]
