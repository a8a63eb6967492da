"""faulty_native.c in Python: multiplies by `gain`, and does something bad in the block in which `strike` changes."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from sigrack_plugins import AudioBlock, Param, Plugin

__all__ = ["HARMS", "KINDS", "LEAKED", "Faulty", "number_of"]

KINDS = (
    *("nothing", "mark", "null write", "heap smash", "stack overflow", "abort", "exit", "quit", "loop", "sleep", "NaN flood"),
    *("infinite flood", "denormal flood", "loud flood", "leak", "division", "past output", "before output", "input write"),
    *("closed files", "rounding", "refusal", "refusal flood", "fork", "threads", "deadlock", "ignored signals"),
)
"""What a strike may be; its number modulo 100 is the place here."""
FLOODS = {"NaN flood": np.nan, "infinite flood": -np.inf, "loud flood": 1e34, "denormal flood": 1e-40}
DENORMALS = 100
LEAKED = 8 << 20

_libc = ctypes.CDLL(None)


def number_of(kind: str, turn: int = 0) -> float:
    """Return the parameter that strikes; another one each `turn`."""
    return 100.0 * turn + KINDS.index(kind)


def _smash_heap() -> None:
    _libc.malloc.restype = ctypes.c_void_p
    chunks = [_libc.malloc(40) for _ in range(64)]
    for chunk in chunks:
        ctypes.memset(chunk - 16, 0x41, 72)
    for chunk in chunks:
        _libc.free(ctypes.c_void_p(chunk))
    os.abort()


def _overflow_stack() -> None:
    def again() -> None:
        native()

    sys.setrecursionlimit(1 << 30)
    native = ctypes.CFUNCTYPE(None)(again)
    native()


def _rest() -> None:
    while True:
        time.sleep(1000)


def _spin() -> None:
    while True:
        pass


def _fork() -> None:
    if not os.fork():
        _rest()


def _start_threads() -> None:
    threading.stack_size(1 << 16)  # two hundred of them are no matter of memory
    for _ in range(4):
        threading.Thread(target=_rest, daemon=True).start()


def _ignore_signals() -> None:
    ctypes.CDLL(None).signal(int(signal.SIGABRT), ctypes.c_void_p(1))
    _rest()


def _refuse() -> None:
    raise ValueError("it was struck")


HARMS: dict[str, Callable[[], object]] = {
    "null write": lambda: ctypes.memset(0, 1, 4),
    "heap smash": _smash_heap,
    "stack overflow": _overflow_stack,
    "abort": os.abort,
    "exit": lambda: os._exit(7),
    "quit": lambda: sys.exit(5),
    "loop": _spin,
    "sleep": _rest,
    "division": lambda: signal.raise_signal(signal.SIGFPE),
    "closed files": lambda: os.closerange(0, 4096),
    "rounding": lambda: ctypes.CDLL("libm.so.6").fesetround(0x400),
    "refusal": _refuse,
    "fork": _fork,
    "threads": _start_threads,
    "ignored signals": _ignore_signals,
}
"""What can be done without a block."""


class Faulty(Plugin):
    """Multiplies, until it is struck."""

    version = "1"
    params = (Param("gain", -2.0, 2.0, -0.75), Param("strike", 0.0, 1e9, 0.0))
    factors = {"quanta": ""}  # noqa: RUF012 - as plugins are written

    def __init__(self) -> None:
        self.quanta = self.marks = self.left = 0
        self.struck: float | None = None
        self.flood, self.kept = "", list[bytes]()
        self.deadlock = False

    def process(self, block: AudioBlock) -> None:
        gain, struck = block.values["gain"], block.values["strike"]
        np.multiply(block.input, np.float32(gain), out=block.output)
        before, self.struck = self.struck, struck
        if before is not None and before != struck:
            self._strike(KINDS[int(struck) % 100], block)
        self.quanta += 1
        self.ctx.post("quanta", [self.quanta, self.marks])
        self._flood(block)

    def _strike(self, kind: str, block: AudioBlock) -> None:
        size = block.input.itemsize * len(block.input)
        first, given = block.output.ctypes.data, block.input.ctypes.data
        last = block.output[:, -1:].ctypes.data + size
        bad: dict[str, Callable[[], object]] = HARMS | {
            "past output": lambda: ctypes.memset(last, 0xFF, 1 << 40),
            "before output": lambda: [ctypes.memset(at, 0xFF, 4096) for at in range((first & ~4095) - 4096, 0, -4096)],
            "input write": lambda: ctypes.memset(given, 0, 4),
        }
        if kind == "mark":
            self.marks += 1
        elif kind == "deadlock":
            self.deadlock = True
        elif kind in bad:
            bad[kind]()
        else:
            self.flood, self.left = kind, DENORMALS

    def _flood(self, block: AudioBlock) -> None:
        if self.flood == "refusal flood":
            raise ValueError("it refuses")
        if self.flood == "leak":
            self.kept.append(b"x" * LEAKED)
        elif self.flood == "denormal flood" and self.left:
            self.left -= 1
            block.output[:] = FLOODS[self.flood]
        elif self.flood in FLOODS and self.flood != "denormal flood":
            block.output[:] = FLOODS[self.flood]

    def on_state_save(self) -> int:
        while self.deadlock:
            time.sleep(1)
        return self.marks

    def on_state_restore(self, state: int, version: str) -> None:
        self.marks = state
