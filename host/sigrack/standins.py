"""What stands in the rack for a slot or a signal engine that is held back."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sigrack.dispatch import Source
from sigrack.loading import NoPlugin
from sigrack.signals import SignalEngine
from sigrack.slot import Slot
from sigrack.tables import SignalTable, SlotTable
from sigrack_engine.compiler import Linear
from sigrack_engine.results import ResultRing
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sigrack.rack import Rack
    from sigrack_plugins import DataBatch

__all__ = ["HeldSignal", "held_slot"]

REACH = 16
"""Frames of input on either side that a frame between two of them is made of."""
BETA = 8.0
"""Of the Kaiser window: 80 dB."""
WIDTH = 16
"""Values of a record in a ring that gets none."""


def held_slot(rack: "Rack", table: SlotTable, setup: Setup, why: str, ratio: int) -> Slot:
    """Return a slot that passes what comes in, at once; one that raised the rate by `ratio` still does, so that what stands
    behind it, and who reads the sink, get the rate that they expect. [main]"""
    slot = Slot(table, NoPlugin(table.plugin), setup, bypass=table.bypass, held=why)
    if ratio > 1 and rack.bus.whole(setup):
        slot.linear = _raised(setup.channels, ratio)
    return slot


def _raised(channels: int, ratio: int) -> Linear:
    """A short low pass: frames that came in go out as they are, those between them are interpolated, the top tenth fades."""
    places = np.arange(-REACH * ratio, REACH * ratio + 1)
    low_pass: npt.NDArray[np.float64] = np.sinc(places / ratio) * np.kaiser(len(places), BETA)
    taps = np.zeros((channels, channels, len(places)), np.float32)
    taps[range(channels), range(channels)] = low_pass
    return Linear(taps, ratio, REACH * ratio)


class HeldSignal(SignalEngine):
    """A signal engine that posts nothing and takes whatever it is given."""

    def __init__(self, rack: "Rack", table: SignalTable, why: str) -> None:
        self.table, self.held = table, why
        self.ring = ResultRing(rack.bell, table.symbols, rack.engine.frame_address, table.queue, WIDTH)
        self.source = Source(table.name, self.ring, None)
        self.tap = self.data = None
        self.lane = None
        self.fed = self.unfed = 0
        self._rate_hz = rack.out_setup.rate_hz
        self._warned = True

    def begin(self) -> None:
        """Nothing. [main]"""

    def give(self, batches: "Sequence[DataBatch]") -> bool:
        """Let them go: nobody waits for one that is held back. [any]"""
        return True

    @property
    def room(self) -> int:
        """Records that `give` takes now. [any]"""
        return 1 << 62

    def end_streams(self) -> None:
        """Nothing. [main]"""

    def hurry(self) -> None:
        """Nothing. [main]"""

    def join(self, limit_s: float) -> bool:
        """It has no thread. [main]"""
        return True

    def halt(self) -> None:
        """Close its ring. [control]"""
        self.ring.shut()

    def destroy(self) -> None:
        """Nothing. [control]"""

    def free(self) -> None:
        """Nothing. [main, worker]"""
