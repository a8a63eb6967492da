"""Arrays for blocks, lent to hooks and taken back when nobody holds them any more."""

import sys
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["BlockPool", "Lease"]

Samples = npt.NDArray[np.float32]


@dataclass(eq=False, slots=True)
class Lease:
    """One pooled array: `owner` (channels, frames) holds the memory, `view` (frames, channels) is what hooks get."""

    owner: Samples
    view: Samples
    address: int
    pooled: bool


def _counts(lease: Lease) -> tuple[int, int]:
    return sys.getrefcount(lease.owner), sys.getrefcount(lease.view)


def _lease(channels: int, frames: int, *, pooled: bool) -> Lease:
    owner = np.zeros((channels, frames), np.float32)
    view = owner.T
    view.flags.writeable = False
    return Lease(owner, view, owner.ctypes.data, pooled)


@dataclass(slots=True)
class BlockPool:
    """A fixed number of arrays. A block has one owner: the reference count of its array.

    NumPy lets every slice refer to the array that owns the memory, so a kept slice shows in the owner's count, a kept block in
    the view's. What a lone lease counts is measured, not written down: Python versions differ.
    `free + leased == capacity` always; an array that was kept returns when it is let go.
    """

    channels: int
    frames: int
    capacity: int = 16
    fallbacks: int = 0
    """Arrays made because the pool was empty."""
    escapes: int = 0
    """Dispatches after which somebody held the array."""
    _free: list[Lease] = field(default_factory=list)
    _kept: list[Lease] = field(default_factory=list)
    _alone: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for _ in range(self.capacity):
            self._free.append(_lease(self.channels, self.frames, pooled=True))
        probe = self.get()
        self._alone = _counts(probe)
        self._free.append(probe)

    @property
    def free(self) -> int:
        """Arrays ready to be lent."""
        return len(self._free)

    @property
    def leased(self) -> int:
        """Arrays out there, in a dispatch or kept by a plugin."""
        return self.capacity - len(self._free)

    def get(self) -> Lease:
        """Lend an array. [main]"""
        if not self._free:
            self._sweep()
        if self._free:
            return self._free.pop()
        self.fallbacks += 1
        return _lease(self.channels, self.frames, pooled=False)

    def done(self, lease: Lease) -> None:
        """The dispatch is over: take the array back, or watch it if somebody kept it. [main]"""
        alone = _counts(lease) == self._alone
        self.escapes += not alone
        if lease.pooled:
            (self._free if alone else self._kept).append(lease)

    def _sweep(self) -> None:
        """Take back what was kept and has been let go."""
        kept, self._kept = self._kept, []
        while kept:
            lease = kept.pop()
            (self._free if _counts(lease) == self._alone else self._kept).append(lease)
