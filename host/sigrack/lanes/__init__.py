"""Plugins in processes of their own: whatever one does, the rack plays on."""

from sigrack.lanes.engine import EngineLane, EngineOrders, LaneEngine
from sigrack.lanes.minder import Minder
from sigrack.lanes.plugin import LaneInstance, LanePlugin

__all__ = ["EngineLane", "EngineOrders", "LaneEngine", "LaneInstance", "LanePlugin", "Minder"]
