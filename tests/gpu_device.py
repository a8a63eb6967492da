"""The emulated GPU in the children of lanes: it fails where a test wants it to, and writes down what it has pinned.

The environment variable GPU_FOLDER names a folder. Its file `fails_at` has a number for each device that is opened, one after
the other: which of its calls fails, and all after it; -1: none. One in a file `fails_in` is taken by the device that is open: how
many more calls succeed. A file `none` tells why there is no device.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from engine.cuda.emulated import Emulated
from sigrack_engine.cuda.errors import CudaError

__all__ = ["Noted", "opened"]


class Noted(Emulated):
    """Keeps in the folder's file `PID.pinned` how many pieces of memory are pinned, and in `calls` how often it was called."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._busy = threading.Lock()
        self._notes = folder
        orders = folder / "fails_at"
        if orders.exists() and (numbers := orders.read_text().split()):
            self.fails_at = int(numbers.pop(0))
            orders.write_text(" ".join(numbers))

    def called(self, what: str) -> None:
        """Fail as a GPU does that is lost."""
        with self._busy:
            self._look_for_orders()
        try:
            super().called(what)
        except CudaError:
            raise CudaError(f"{what}: cudaErrorDevicesUnavailable: device lost") from None

    def _do(self, work: Callable[[], object]) -> None:
        """Run one kernel at a time, whichever thread has launched it: they share the emulated memory of a block."""
        super()._do(lambda: self._alone(work))

    def _alone(self, work: Callable[[], object]) -> None:
        with self._busy:
            work()

    def _look_for_orders(self) -> None:
        (self._notes / "calls").write_text(str(self.calls + 1))
        if (order := self._notes / "fails_in").exists():
            self.fails_at = self.calls + int(order.read_text())
            order.unlink()

    def register(self, address: int, size: int) -> None:
        """Note it; drivers pin only what the process may write."""
        if not _may_write(address):
            raise CudaError(f"pinning {size} bytes: cudaErrorInvalidValue: invalid argument")
        super().register(address, size)
        self._note()

    def unregister(self, address: int) -> None:
        """Forget it."""
        super().unregister(address)
        self._note()

    def _note(self) -> None:
        (self._notes / f"{os.getpid()}.pinned").write_text(str(len(self.pinned)))


def _may_write(address: int) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        begin, end = (int(number, 16) for number in span.split("-"))
        if begin <= address < end:
            return "w" in rights
    return False


def opened() -> Noted:
    """Return the device."""
    folder = Path(os.environ["GPU_FOLDER"])
    if (why := folder / "none").exists():
        raise CudaError(why.read_text())
    return Noted(folder)
