"""A short list in a JSON file of the user's, which several processes read and change at once.

A database would do it, too; but these lists have few rows, are read at each load of a plugin, and can be mended in an editor.
"""

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from sigrack.errors import EngineError

__all__ = ["RowFile"]

log = logging.getLogger("sigrack")

VERSION = 1

Row = TypeVar("Row", bound=msgspec.Struct)
Seen = tuple[int, int, int]


class _Rows(msgspec.Struct, Generic[Row]):
    version: int
    rows: list[Row]


class RowFile(Generic[Row]):
    """Rows of one kind in a file that is replaced whole. A file that cannot be understood is kept aside, and said so."""

    def __init__(self, path: Path, kind: type[Row]) -> None:
        """Open nothing yet. [any]"""
        self.path = path
        self._decoder = msgspec.json.Decoder(_Rows[kind])  # type: ignore[valid-type]
        self._seen: Seen | None = None
        self._rows: tuple[Row, ...] = ()

    def rows(self) -> tuple[Row, ...]:
        """Return the rows as they are now; of a file that has not changed, without reading it. Raises EngineError. [worker]"""
        with self._told():
            if self._look() != self._seen:
                try:
                    self._read()
                except ValueError:
                    with self._locked():
                        self._read_or_keep_aside()
            return self._rows

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[Row]]:
        """Give the rows to be changed in place while nobody else can; what was changed is on the disk after. [worker]

        Raises EngineError.
        """
        with self._told(), self._locked():
            self._read_or_keep_aside()
            rows = [*self._rows]
            yield rows
            if tuple(rows) != self._rows:
                self._write(rows)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            text = f"{self.path}: {error.strerror} ({error.filename or self.path}): it must be readable and writable"
            raise EngineError(text) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep all others out; the kernel lets them in when this process dies."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _look(self) -> Seen | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ino

    def _read(self) -> None:
        """Take the file's rows. Raises ValueError if it holds something else."""
        seen = self._look()
        self._rows, self._seen = (), None
        if seen:
            with contextlib.suppress(FileNotFoundError):
                self._rows = self._decode(self.path.read_bytes())
                self._seen = seen

    def _decode(self, content: bytes) -> tuple[Row, ...]:
        found = self._decoder.decode(content)
        if found.version != VERSION:
            raise ValueError(f"it has version {found.version}, this sigrack knows {VERSION}")
        return tuple(found.rows)

    def _read_or_keep_aside(self) -> None:
        """Begin anew if the file cannot be understood. [with the lock]"""
        try:
            self._read()
        except ValueError as error:
            aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            self.path.rename(aside)
            log.warning("%s cannot be understood (%s): it is kept as %s, and a new one begins empty", self.path, error, aside)

    def _write(self, rows: list[Row]) -> None:
        """Replace the file; whoever reads meanwhile has the old one. [with the lock]"""
        part = self.path.with_name(f"{self.path.name}.part")
        with part.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(_Rows(VERSION, rows)), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
