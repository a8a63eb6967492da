"""A small value in a file that survives whatever its writer dies of."""

import contextlib
import logging
import os
from pathlib import Path
from typing import TypeVar

import msgspec

__all__ = ["load", "peek", "save"]

log = logging.getLogger("sigrack")

T = TypeVar("T")


def load(path: Path, kind: type[T]) -> T:
    """Return what `save` has written; where that is nothing, a new one. A file that cannot be read is kept aside. [any]"""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return kind()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        aside = path.with_name(f"{path.name}.bad")
        with contextlib.suppress(OSError):
            path.replace(aside)
        log.warning("%s cannot be read (%s); begun anew, the old one is kept as %s", path, error, aside.name)
        return kind()


def peek(path: Path, kind: type[T]) -> T:
    """Return what `save` has written, without a word where that is nothing: for who is not its owner. [any]"""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return kind()


def save(path: Path, value: object) -> None:
    """Write it whole or not at all: a reader, and who comes after a kill, finds the old value or the new one. [any]"""
    new = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(value))
        new.replace(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror)
