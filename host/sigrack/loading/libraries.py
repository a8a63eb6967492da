"""Shared libraries: one mapping per content, none ever unmapped."""

import ctypes as c
import hashlib
import os
import threading
from pathlib import Path

from sigrack.errors import ConfigError
from sigrack_plugins import bundled

__all__ = ["kept", "open_library"]

_lock = threading.Lock()
_open: dict[str, c.CDLL] = {}
_copies: list[int] = []


def _private_copy(path: Path, content: bytes) -> str:
    """Put `content` where nobody can change it under the running code. The descriptor stays open: its name must stay unique."""
    descriptor = os.memfd_create(path.name, os.MFD_CLOEXEC)
    _copies.append(descriptor)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return f"/proc/self/fd/{descriptor}"


def open_library(path: Path) -> c.CDLL:
    """Load a library, or return it if the same content is loaded. Raises ConfigError. [control]"""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    key = hashlib.sha256(content).hexdigest()
    with _lock:
        if key not in _open:
            ours = path in bundled().values()
            name = str(path) if ours else _private_copy(path, content)
            try:
                _open[key] = c.CDLL(name, mode=os.RTLD_NOW | os.RTLD_LOCAL)
            except OSError as error:
                if not ours:
                    os.close(_copies.pop())
                reason = str(error).removeprefix(f"{name}: ")
                raise ConfigError(f"{path}: not a library that can be loaded: {reason}") from None
        return _open[key]


def kept() -> int:
    """Return how many libraries are mapped. [any]"""
    return len(_open)
