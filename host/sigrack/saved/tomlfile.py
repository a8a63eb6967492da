"""The overlay written into the rack's file, whose comments and layout stay."""

import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path as FilePath
from typing import Any

from sigrack.config import Document, parse
from sigrack.errors import ConfigError
from sigrack.saved.overlay import Overlay, Path, difference, in_words
from sigrack.saved.settings import Settings
from sigrack.tables import HEADROOM, LIMITER

__all__ = ["replace_file", "written"]

LAYOUT: tuple[Path, ...] = (("slot", LIMITER, "params", "ceiling_db"), ("slot", HEADROOM, "params", "gain_db"))
"""Parameters of the rack's own slots that `[rack]` has keys for."""


def written(base: Document, overlay: Overlay, wanted: Settings) -> tuple[Document, list[Path]]:
    """Return the file with an overlay in it, and what the file has no place for. Raises ConfigError. [any]

    `wanted`: what both are together.
    """
    import tomlkit

    file = tomlkit.parse(base.text)
    own = {table.name for table in base.config.own_slots}
    mine = {path: entry for path, entry in overlay.items() if not entry.aside}
    left = [path for path in mine if path[0] != "compare" and not _has_place(path, own, base)]
    for kind in ("slot", "signal"):
        _write_tables(file, kind, {path: e for path, e in mine.items() if path[0] == kind and path[1] not in own})
    for path in LAYOUT:
        if path in mine and path not in left:
            value = mine[path].value
            file["rack"][path[3] if path[1] == LIMITER else HEADROOM] = value if path[1] == LIMITER else -value
    if any(path[0] == "channel" and path[2] == "mute" for path in mine):
        file.setdefault("bus", tomlkit.table())["mute"] = [n for n, state in wanted.channels.items() if state.get("mute")]
    try:
        made = parse(base.path, tomlkit.dumps(file))
        wrong = [path for path in difference(Settings.of(made), wanted) if path not in left]
    except ConfigError:
        wrong = list(mine)
    if wrong:
        raise ConfigError(f"{base.path}: {in_words(wrong[0])} cannot be written into this file: put it there by hand")
    made.play = base.play
    return made, left


def _has_place(path: Path, own: set[str], base: Document) -> bool:
    if path[0] == "channel":
        return path[2] == "mute"
    if path[1] not in own:
        return True
    return path in LAYOUT and (path[1] == LIMITER or isinstance(base.config.rack.headroom, float))


def _write_tables(file: Any, kind: str, overlay: Overlay) -> None:
    """Write what comes, goes and changes of slots or signal engines."""
    import tomlkit

    tables = file.get(kind)
    moving = {path[1]: entry.value for path, entry in overlay.items() if len(path) == 2}
    for place in reversed(range(len(tables or ()))):
        if tables[place]["name"] in moving:
            del tables[place]
    for value in moving.values():
        if value is None:
            continue
        if tables is None:
            file.append(kind, tomlkit.aot())
            tables = file[kind]
        names = [table["name"] for table in tables]
        place = next((names.index(other) for other in value["before"] if other in names), len(names))
        made = tomlkit.inline_table() if isinstance(tables, tomlkit.items.Array) else tomlkit.table()
        made.update({key: item for key, item in value["table"].items() if item not in (None, False, {})})
        tables.insert(place, made)
    if kind in file and not len(file[kind]):
        del file[kind]
    for (_, name, *keys), entry in overlay.items():
        if keys:
            _put(next(table for table in tables if table["name"] == name), keys, entry.value)


def _put(table: MutableMapping[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        if key not in table:
            table[key] = {}
        table = table[key]
    if value is not None:
        table[keys[-1]] = value
    elif keys[-1] in table:
        del table[keys[-1]]


def replace_file(document: Document, old: Document) -> None:
    """Put a document's text into the place of its file, all or nothing. Raises ConfigError. [worker]

    `old`: what is in the file, else somebody has changed it.
    """
    path = FilePath(os.path.realpath(document.path))
    try:
        before = path.read_bytes()
        if before.decode("utf-8-sig").replace("\r\n", "\n") != old.text:
            raise ConfigError(f"{document.path}: has changed since it was read: RELOAD first")
        text = document.text.replace("\n", "\r\n") if b"\r\n" in before else document.text
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, path.stat().st_mode & 0o7777)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{document.path}: cannot be written: {why}") from None
