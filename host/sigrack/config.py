"""The rack's TOML file: strict, every error with its line."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import msgspec

from sigrack.checks import check
from sigrack.errors import ConfigError
from sigrack.explaining import explain
from sigrack.locate import Path as KeyPath
from sigrack.locate import line_of
from sigrack.tables import Config, SignalTable, SlotTable

__all__ = ["Document", "as_json", "load", "parse", "resolved", "signal_table", "slot_table"]

Table = TypeVar("Table", bound=msgspec.Struct)


class Document:
    """A configuration together with the text it was read from, so that later errors can name the line."""

    def __init__(self, path: Path, text: str, config: Config, given: tuple[str, ...] = ()) -> None:
        """`given`: tables that were not read from the text but given by the caller."""
        self.path, self.text, self.config, self.given = path, text, config, given
        self.play: Path | None = None
        """The file that is played instead of the source's own."""
        self.channels: Mapping[str, Mapping[str, Any]] = {}
        """What control has set of channels that go out."""

    @property
    def name(self) -> str:
        """The rack's name."""
        return self.config.rack.name or self.path.stem

    def resolve(self, path: str) -> Path:
        """Return `path` relative to the file that names it. Raises ConfigError for what can be none. [any]"""
        return resolved(self.path, path)

    def fail(self, key: KeyPath, message: str) -> NoReturn:
        """Raise ConfigError for the value at `key`. [any]"""
        error = ConfigError(f"{self.place(key)}{message}")
        error.at = key
        raise error

    def place(self, key: KeyPath) -> str:
        """Return "FILE:LINE: " of the value at `key`, to begin a message with; empty for what is not from the file. [any]"""
        return "" if key[0] in self.given else f"{self.path}:{line_of(self.text, key)}: "


def parse(path: Path, text: str) -> Document:
    """Check a configuration. Raises ConfigError with file, line, key and the nearest valid one. [any]"""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        line = place[1] if place else len(text.splitlines())
        raise ConfigError(f"{path}:{line}: not valid TOML: {re.sub(r' [(]at .*[)]$', '', str(error))}") from None
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        key, message = explain(error)
        raise ConfigError(f"{path}:{line_of(text, key)}: {message}") from None
    document = Document(path, text, config)
    check(document)
    document.config = msgspec.structs.replace(config, slot=[*config.slot, *config.own_slots])
    return document


def load(path: Path, play: Path | None = None) -> Document:
    """Read and check a configuration file; `play` takes the place of the source's path. Raises ConfigError. [any]"""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    document = parse(path, text)
    if play is None:
        return document
    if document.config.source.driver not in ("file", "clock"):
        document.fail(("source", "driver"), 'a file can be played only with driver = "file" or "clock"')
    source = msgspec.structs.replace(document.config.source, path=str(play.absolute()))
    document = Document(path, text, msgspec.structs.replace(document.config, source=source), given=("source",))
    document.play = play
    return document


def resolved(base: Path, path: str) -> Path:
    """Return `path` relative to the file `base` that names it. Raises ConfigError for what can be none. [any]"""
    try:
        return (base.parent / Path(path).expanduser()).resolve()
    except (ValueError, RuntimeError) as error:  # a NUL, an unknown ~user, links in a circle
        raise ConfigError(f"{base}: {path[:200]!a} is no path: {error}") from None


def slot_table(values: dict[str, Any]) -> SlotTable:
    """Check the table of one slot that no file describes. Raises ConfigError. [any]"""
    return _given_table(values, SlotTable)


def signal_table(values: dict[str, Any]) -> SignalTable:
    """Check the table of one signal engine that no file describes, but for what a rack must have. Raises ConfigError. [any]"""
    return _given_table(values, SignalTable)


def _given_table(values: dict[str, Any], kind: type[Table]) -> Table:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(explain(error)[1]) from None


def as_json(config: Mapping[str, Any], separators: tuple[str, str] | None = None) -> bytes:
    """Return a table `config` for native code, dates as text. Raises ConfigError with the key of nan or inf. [any]"""

    def encoded(value: object) -> bytes:
        return json.dumps(value, allow_nan=False, separators=separators, default=str).encode()

    for name, value in config.items():
        try:
            encoded(value)
        except ValueError:
            raise ConfigError(f"config.{name}: nan and inf cannot be handed over; give a number", ("config", name)) from None
    return encoded(config)
