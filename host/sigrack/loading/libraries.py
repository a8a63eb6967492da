"""Shared libraries: one mapping per content, made from a private copy, unmapped only when nothing of it can still run.

Linux knows an open library by its path and its inode, whatever the file holds by now: a file that is replaced gives the old
code once more, one that is overwritten changes under the code that runs. So a path is opened once at most, and a copy that
nobody else can reach stands for the file. Unmapping is the exception: only for a library that says it leaves nothing behind,
and only if no thread is there that may be its own.
"""

import contextlib
import ctypes as c
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from sigrack.errors import ConfigError, EngineError
from sigrack.loading import tasks
from sigrack.quarantine import admit
from sigrack_plugins import bundled

__all__ = ["Library", "kept", "listing", "open_library"]

MODE = os.RTLD_NOW | os.RTLD_LOCAL
MAPS = Path("/proc/self/maps")
PATIENCE_S = 0.02
"""How long a close waits for the last threads to end."""

_libc = c.CDLL(None)  # not _ctypes.dlopen: that one keeps the GIL while a library's constructors run
_libc.dlopen.argtypes, _libc.dlopen.restype = [c.c_char_p, c.c_int], c.c_void_p
_libc.dlclose.argtypes = [c.c_void_p]
_libc.dlerror.restype = c.c_char_p

_lock = threading.Lock()
_known: dict[str, "Library"] = {}
_in_place: set[Path] = set()
"""Paths that have been opened themselves, and so never can be again."""


class Library:
    """One content, mapped once for all who have opened it. Made by `open_library`."""

    def __init__(self, path: Path, sha256: str, copy: "_Copy", before: tasks.Tasks) -> None:
        self.path = path
        """Where it was first found."""
        self.sha256 = sha256
        self.users = 0
        self.unloadable = False
        """Whether it has said that it may be unmapped; set by who can ask it."""
        self.handle = copy.handle
        self.cdll = c.CDLL(copy.name, handle=copy.handle)
        """For calls, between `open_library` and `close`."""
        self.stuck = False
        self.why = ""
        """Why it stays mapped without users."""
        self._copy = copy
        self._before = before

    @property
    def state(self) -> str:
        """in use, kept, or stuck: closed, yet still mapped."""
        return "in use" if self.users else "stuck" if self.stuck else "kept"

    def close(self) -> None:
        """Say that one who has opened it is done: no instance is left, no thread is inside. [control]"""
        with _lock:
            assert self.users > 0, f"{self.path}: closed more often than opened"
            self.users -= 1
            _sweep(self)

    def use(self) -> None:
        """Count one more user. [with the lock]"""
        if self.stuck:
            self._reopen()
        self.users += 1
        self.stuck, self.why = False, ""

    def _reopen(self) -> bool:
        """Hold the mapping of a stuck library again; False: there is none any more."""
        return bool(_libc.dlopen(os.fsencode(self._copy.name), MODE | os.RTLD_NOLOAD))

    def may_go(self, patience_s: float) -> bool:
        """Whether nothing of it can still run; else `why` tells. [with the lock]"""
        if self._copy.in_place:
            self.why = "opened in place: bundled with sigrack"
        elif not self.unloadable:
            self.why = "not declared unloadable"
        elif threads := tasks.strangers(self._before, patience_s):
            (task, _), name = next(iter(threads.items()))
            self.why = f'the thread {task} ("{name}") may be its own'
        else:
            return True
        return False

    def unmap(self) -> None:
        """Give the mapping back; a stuck one may go now that its threads have ended. [with the lock]"""
        if not self.stuck or self._reopen():
            _libc.dlclose(self.handle)
        self.stuck = True
        self.why = "still mapped after dlclose: it has unique symbols (-fno-gnu-unique helps) or thread-local destructors"

    def is_mapped(self, maps: bytes) -> bool:
        """Whether the kernel still lists it."""
        return self._copy.mark.encode() in maps

    def forget(self) -> None:
        """Let its name go: nothing is mapped under it any more. [with the lock]"""
        self._copy.discard()
        del _known[self.sha256]


class _Copy:
    """A content under a name of its own, open."""

    def __init__(self, path: Path, content: bytes, sha256: str) -> None:
        """Raises ConfigError, EngineError; then nothing is left behind. [with the lock]"""
        self.mark = f"-{sha256[:16]}"
        """Part of the name, also in /proc/self/maps."""
        self.name = ""
        self.in_place = path in bundled().values() and path not in _in_place
        self._descriptor = -1
        with self._place(path, content):
            self.handle = self._open(path)

    @contextlib.contextmanager
    def _place(self, path: Path, content: bytes) -> Iterator[None]:
        """Put the content where it can be opened."""
        if self.in_place:
            self.name = str(path)
            _in_place.add(path)
            yield
        elif b"$ORIGIN" in content or b"${ORIGIN}" in content:
            with _beside(path, self.mark) as file:  # opened, it needs its name no longer
                _write(path, file, content)
                self.name = file.name
                yield
        else:
            self._descriptor = _memory_file(path, self.mark)
            self.name = f"/proc/self/fd/{self._descriptor}"
            try:
                with open(self._descriptor, "wb", closefd=False) as file:
                    _write(path, file, content)
                yield
            except ConfigError:
                self.discard()
                raise

    def _open(self, path: Path) -> int:
        handle: int | None = _libc.dlopen(os.fsencode(self.name), MODE)
        if handle is None:
            reason = (_libc.dlerror() or b"").decode(errors="replace").removeprefix(f"{self.name}: ")
            raise ConfigError(f"{path}: not a library that can be loaded: {reason}")
        for other in _known.values():
            if other.handle == handle:  # its descriptor stays open: the loader may know the old code by this name now
                _libc.dlclose(handle)
                raise EngineError(f"{path}: the system's loader gave the code of {other.path} instead; start the host anew")
        return handle

    def discard(self) -> None:
        """Let the name go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _memory_file(path: Path, mark: str) -> int:
    try:
        return os.memfd_create(f"{path.stem[:40]}{mark}", os.MFD_CLOEXEC)
    except OSError as error:
        raise EngineError(f"{path}: cannot make a private copy: {error.strerror}") from None


def _beside(path: Path, mark: str) -> Any:
    """Return a file with a unique name in the library's own folder; closing it removes the name."""
    try:
        return NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem[:40]}{mark}-", suffix=".so")
    except OSError as error:
        raise ConfigError(
            f"{path}: it uses $ORIGIN, so its private copy must stand beside it, but {path.parent} cannot be written to "
            f"({error.strerror}): make the folder writable or link without $ORIGIN"
        ) from None


def _write(path: Path, file: Any, content: bytes) -> None:
    try:
        file.write(content)
        file.flush()
    except OSError as error:
        raise ConfigError(f"{path}: cannot write its private copy: {error.strerror}") from None


def _sweep(closed: Library) -> None:
    """Unmap what nobody uses, as far as it may go, and look what has gone. [with the lock]"""
    idle = [library for library in _known.values() if not library.users]
    for library in idle:
        if library.stuck or library.may_go(PATIENCE_S if library is closed else 0.0):
            library.unmap()
    _look(idle)


def _look(libraries: list[Library]) -> None:
    """Forget those that were closed and are mapped no longer. [with the lock]"""
    closed = [library for library in libraries if library.stuck]
    maps = MAPS.read_bytes() if closed else b""
    for library in closed:
        if not library.is_mapped(maps):
            library.forget()


def open_library(path: Path) -> Library:
    """Load a library, or share it if the same content is loaded; `close` it once. Raises ConfigError, EngineError. [control]

    QuarantinedError before any of its code runs.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    sha256 = hashlib.sha256(content).hexdigest()
    admit(path, sha256)
    with _lock:
        _look([*_known.values()])
        if sha256 not in _known:
            before = tasks.running()
            _known[sha256] = Library(path, sha256, _Copy(path, content, sha256), before)
        library = _known[sha256]
        library.use()
        return library


def kept() -> int:
    """Return how many libraries are mapped. [any]"""
    return len(_known)


def listing() -> list[dict[str, Any]]:
    """Return what is mapped: path, sha256 (its beginning), users, state, and why it stays without users. [any]"""
    return [
        {
            "path": str(library.path),
            "sha256": library.sha256[:12],
            "users": library.users,
            "state": library.state,
            "why": library.why,
        }
        for library in [*_known.values()]
    ]
