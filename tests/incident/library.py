"""What the programs of this folder share: the engine, by ctypes."""

import ctypes as c
import json
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["CALLBACK", "Engine"]

CALLBACK = c.CFUNCTYPE(None, c.c_char_p, c.c_longlong, c.POINTER(c.c_double), c.c_int, c.c_void_p)


class Engine:
    """One instance of engine.cpp."""

    def __init__(self, path: str = sys.argv[1], **config: int) -> None:
        library = c.CDLL(path)
        library.signal_create.restype = c.c_void_p
        self._register: Callable[..., Any] = library.signal_register_callback
        self._register.argtypes = [c.c_void_p, c.c_void_p, c.c_void_p]
        self._destroy: Callable[..., Any] = library.signal_destroy
        self._destroy.argtypes = [c.c_void_p]
        self._calls = library.engine_calls
        self._calls.restype = c.c_long
        self._handle = library.signal_create(json.dumps(config).encode())

    @property
    def calls(self) -> int:
        """Calls made by all engines of the process."""
        return int(self._calls())

    def register(self, callback: Any, user: int | None) -> None:
        """Have `callback` called with `user` from now on."""
        self._register(self._handle, c.cast(callback, c.c_void_p), user)

    def wait_for_calls(self, more: int) -> None:
        """Wait until it has made `more` calls."""
        end = self.calls + more
        while self.calls < end:
            time.sleep(0.001)

    def destroy(self) -> None:
        """signal_destroy."""
        self._destroy(self._handle)
