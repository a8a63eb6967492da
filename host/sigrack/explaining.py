"""Errors of msgspec in the words of a rack's file: which key, what was expected, and the nearest valid one."""

import re
from typing import get_args

import msgspec

from sigrack.errors import nearest
from sigrack.locate import Path as KeyPath
from sigrack.tables import (
    ENDPOINT,
    LANE,
    NAME,
    BusTable,
    Config,
    ControlTable,
    FeedTable,
    PublishTable,
    RackTable,
    SignalTable,
    SinkTable,
    SlotTable,
    SourceTable,
)

__all__ = ["explain"]

_WHERE = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\.(\w[\w-]*)|\[(\d+)\]|\[(\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")
_CHOICE = re.compile(r"Invalid enum value '(.*)'")
_PATTERNS = {
    NAME: "must be letters, digits, dots, underlines and hyphens, with a letter or digit in front",
    LANE: "must be inline, process, or process:NAME to share one",
    ENDPOINT: "must be ipc:///PATH or tcp://HOST:PORT",
}
_NO_ARRAY = "Expected `array`, got `object`"
_MISSING = re.compile(r"Object missing required field `(.*?)`")


def _key_path(where: str) -> KeyPath:
    return tuple(key or int(index) for key, index, _ in _STEP.findall(where) if key or index)


def _table(path: KeyPath) -> type[msgspec.Struct] | None:
    tables: dict[KeyPath, type[msgspec.Struct]] = {
        (): Config,
        ("rack",): RackTable,
        ("bus",): BusTable,
        ("source",): SourceTable,
        ("sink",): SinkTable,
        ("slot",): SlotTable,
        ("signal",): SignalTable,
        ("feed",): FeedTable,
        ("publish",): PublishTable,
        ("control",): ControlTable,
    }
    return tables.get(path[:1])


def _fields(path: KeyPath) -> list[str]:
    """Return the keys that are valid in the table at `path`."""
    table = _table(path)
    return [field.encode_name for field in msgspec.structs.fields(table)] if table else []


def _choices(path: KeyPath) -> list[str]:
    """Return the values that are valid for the key at `path`, if they can be listed."""
    table = _table(path)
    kinds = {field.name: field.type for field in msgspec.structs.fields(table)} if table else {}
    literals = [kind, *get_args(kind)] if (kind := kinds.get(str(path[-1]))) else []
    return [str(choice) for literal in literals for choice in get_args(literal) if isinstance(choice, str)]


def _shown(path: KeyPath) -> str:
    if not path:
        return "the file"
    return f"[[{path[0]}]]" if len(path) > 1 and isinstance(path[1], int) else f"[{path[0]}]"


def explain(error: msgspec.ValidationError) -> tuple[KeyPath, str]:
    """Turn msgspec's message into where and what."""
    text = str(error)
    where = _WHERE.search(text)
    path = _key_path(where[1]) if where else ()
    text = _WHERE.sub("", text)
    if unknown := _UNKNOWN.match(text):
        return (*path, unknown[1]), f'unknown key "{unknown[1]}" in {_shown(path)}{nearest(unknown[1], _fields(path))}'
    if missing := _MISSING.match(text):
        return path, f'{_shown(path)} lacks the key "{missing[1]}"'
    key = ".".join(str(part) for part in path if isinstance(part, str))
    if wrong := _CHOICE.match(text):
        return path, f'{key}: "{wrong[1]}" is not known{nearest(wrong[1], _choices(path))}'
    for pattern, sentence in _PATTERNS.items():
        if repr(pattern) in text:
            return path, f"{key} {sentence}"
    if text == _NO_ARRAY and len(path) == 1:
        text = f"{text}; write [[{key}]]"
    return path, f"{key}: {text[0].lower()}{text[1:]}".replace("`", "")
