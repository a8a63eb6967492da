"""A processor in Python that native code calls."""

import ctypes as c
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sigrack_plugins.abi import Block

__all__ = ["ProcessCallback"]

Planes = npt.NDArray[np.float32]
Process = Callable[[Planes, Planes, int, Sequence[tuple[int, int, float]]], bool]
_Native = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(Block))


class ProcessCallback:
    """Has the address of a `core_process` that calls Python, as long as it lives."""

    def __init__(self, process: Process) -> None:
        """`process` gets input (read-only) and output of shape (channels, frames), the first frame's number, and events as
        offset, number, value; it returns whether it refuses the block, and raises nothing.
        """
        self._process = process
        self._views: dict[tuple[int, int], tuple[Planes, Planes]] = {}
        """By where the first channels lie: a child sees the same few places again and again."""
        self._native = _Native(self._call)
        self.address = c.cast(self._native, c.c_void_p).value or 0

    def _call(self, _: int | None, pointer: "c._Pointer[Block]") -> int:
        block = pointer.contents
        count = block.channels
        given = (c.c_void_p * count).from_address(block.in_)
        made = (c.c_void_p * count).from_address(block.out)
        key = given[0], made[0]
        if key not in self._views:
            views = _planes(list(given), block.frames), _planes(list(made), block.frames)
            views[0].setflags(write=False)
            self._views[key] = views
        events = [(event.offset, event.param, event.value) for event in block.events[: block.event_count]]
        return int(self._process(*self._views[key], block.frame, events))


def _planes(addresses: Sequence[int], frames: int) -> Planes:
    """Return channels that lie as far from each other as the first two do, as one array."""
    stride = addresses[1] - addresses[0] if len(addresses) > 1 else 4 * frames
    floats = (c.c_float * ((len(addresses) - 1) * stride // 4 + frames)).from_address(addresses[0])
    return np.ndarray((len(addresses), frames), np.float32, floats, strides=(stride, 4))  # type: ignore[arg-type]
