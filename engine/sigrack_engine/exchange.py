"""What the host and a child's process share during one life of the child: a ring of frames each way, in sealed memory."""

import ctypes as c
import fcntl
import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sigrack_engine.core import ChildSetup, ExchangeProgress, ExchangeShape, ExchangeStruct, checked, lib
from sigrack_plugins.abi import Event

__all__ = ["LOADING", "PROCESSING", "SEALS", "ChildExchange", "Exchange", "Shape", "memory_file"]

LOADING, PROCESSING = 0, 2  # enum exchange_phase
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE: nobody can map it for writing any more
BLOCK_EVENTS = 64


def memory_file(name: str, size: int) -> int:
    """Return the descriptor of new memory that can be sealed. Raises OSError. [any]"""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class Shape(NamedTuple):
    """What both processes must agree on."""

    channels: int
    """That go in."""
    outputs: int
    """Channels that go out."""
    ratio: int
    """Frames that go out for each that goes in."""
    quantum: int
    """Frames that go in at once."""
    quanta: int
    """That each ring holds."""


class Exchange:
    """The host's side. `descriptors` go to the child, which can read its input but not write it."""

    def __init__(self, shape: Shape, *, trusted: bool = False) -> None:
        """Make the rings. `trusted`: the child may map all of it for writing. Raises OSError, CoreError. [control]"""
        self.shape = ExchangeShape(*shape)
        self._sizes = lib.core_exchange_sizes(self.shape)
        self.struct = ExchangeStruct()
        self._maps: list[tuple[int, int]] = []
        self._open: list[int] = []
        try:
            for name, size in (("sigrack-in", self._sizes.host), ("sigrack-out", self._sizes.child)):
                self._open.append(memory_file(name, size))
                self._maps.append((checked(lib.core_map_guarded(self._open[-1], size, True), "a lane's memory"), size))
            fcntl.fcntl(self._open[0], fcntl.F_ADD_SEALS, SEALS | (0 if trusted else FUTURE_WRITE) | fcntl.F_SEAL_SEAL)
            fcntl.fcntl(self._open[1], fcntl.F_ADD_SEALS, SEALS | fcntl.F_SEAL_SEAL)
            self._open.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
            (host, _), (child, _) = self._maps
            lib.core_exchange_open(self.struct, host, child, self.shape, self._open[2])
        except BaseException:
            self.free()
            raise

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """Of the host's part, the child's part, and what wakes the child."""
        host, child, wake = self._open
        return host, child, wake

    @property
    def progress(self) -> ExchangeProgress:
        """What has been written, and what the child claims. [any]"""
        progress = ExchangeProgress()
        lib.core_exchange_look(self.struct, progress)
        return progress

    def end(self) -> None:
        """Let the child end when it has processed what it can. [any]"""
        lib.core_exchange_close(self.struct)

    def lose(self) -> None:
        """Let nobody wait for the child: it is gone. [any]"""
        lib.core_exchange_lose(self.struct)

    def free(self) -> None:
        """Unmap it: the engine has left it. [any]"""
        for memory, size in self._maps:
            lib.core_unmap_guarded(memory, size)
        for descriptor in self._open:
            os.close(descriptor)
        self._maps, self._open = [], []


class ChildExchange:
    """The child's side."""

    def __init__(self, shape: Shape, descriptors: tuple[int, int, int], *, trusted: bool = False) -> None:
        """Map what the host has made. Raises CoreError. [child]"""
        self.shape = ExchangeShape(*shape)
        sizes = lib.core_exchange_sizes(self.shape)
        host = checked(lib.core_map_guarded(descriptors[0], sizes.host, trusted), "a lane's input")
        child = checked(lib.core_map_guarded(descriptors[1], sizes.child, True), "a lane's output")
        self.struct = ExchangeStruct()
        lib.core_exchange_open(self.struct, host, child, self.shape, descriptors[2])
        self.parts = (host, int(sizes.host)), (child, int(sizes.child))
        """Address and size in bytes of what the host writes, and of what the child does: whole pages."""
        self._events = (Event * BLOCK_EVENTS)()

    def rings(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return input (read-only) and output, of shape (channels, frames of the ring). [child]"""
        struct = self.struct

        def ring(memory: int, channels: int, frames: int) -> npt.NDArray[np.float32]:
            floats = (c.c_float * (channels * frames)).from_address(memory)
            return np.ndarray((channels, frames), np.float32, floats)  # type: ignore[arg-type]

        given = ring(struct.in_, struct.channels, struct.capacity)
        made = ring(struct.out, struct.outputs, struct.capacity * struct.ratio)
        given.setflags(write=False)
        return given, made

    def run(self, process: int, instance: int) -> None:
        """Let native code process until the host closes the exchange. Raises OSError if its files are. [child's audio thread]"""
        if lib.core_child_run(self.struct, ChildSetup(process, instance)):
            raise OSError("the exchange's files were closed")

    def wait(self) -> int:
        """Wait for a quantum; return its place in the rings, below 0 at the end. [the child's audio thread]"""
        return int(lib.core_child_wait(self.struct))

    @property
    def idle(self) -> bool:
        """Whether no whole quantum waits or is being processed. [child]"""
        progress = ExchangeProgress()
        lib.core_exchange_look(self.struct, progress)
        return bool(progress.written < progress.done + self.struct.quantum)

    @property
    def frame(self) -> int:
        """Engine frame of the quantum's first frame. [the child's audio thread]"""
        return int(lib.core_child_frame(self.struct))

    def events(self) -> list[tuple[int, int, float]]:
        """Return the quantum's parameter changes: offset in frames, number, value. [the child's audio thread]"""
        count = lib.core_child_events(self.struct, self._events)
        return [(event.offset, event.param, event.value) for event in self._events[:count]]

    def done(self, *, refused: bool, ticks: int = 0) -> None:
        """Give the quantum to the host. [the child's audio thread]"""
        lib.core_child_done(self.struct, refused, ticks)
