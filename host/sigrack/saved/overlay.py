"""The difference between a rack's file and what control wants: found, and laid over a file that may have changed since."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sigrack.errors import ConfigError
from sigrack.saved.settings import CHANNEL, KINDS, Settings, Table, pack, plain, table_of
from sigrack.tables import SignalTable, SlotTable

__all__ = ["SIDES", "Entry", "Laid", "Overlay", "Path", "difference", "in_words", "lay", "renewed"]

Path = tuple[str, ...]
"""(slot | signal, NAME): it comes, goes or stands elsewhere. (slot, NAME, KEY), (slot, NAME, params, PARAM): one of its values.
(channel, NAME, mute | solo | gain_db). (compare,): the sides A and B."""
SIDES: Path = ("compare",)
"""Its value: `side`, which one is in force, and `other`, the settings of the other one as text."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One override."""

    value: Any
    """What control wants; None: that it be absent. Of a slot: `table` and `before`, the names of all that stand behind it."""
    base: Any = None
    """What the file said when it was set; None: nothing."""
    aside: str = ""
    """Why it is not in force; empty: it is. It waits for a file or a plugin with which it can be."""


Overlay = dict[Path, Entry]


@dataclass(slots=True)
class Laid:
    """What an overlay makes of a file."""

    settings: Settings
    overlay: Overlay = field(default_factory=dict)
    """What is left of it, by what the file says now."""
    dropped: list[Path] = field(default_factory=list)
    """Overrides of what the user has changed in the file since."""


def in_words(path: Path) -> str:
    """Return how messages call the place of an override: volume.gain_db. [any]"""
    kind, *names = path
    return ".".join(name for name in names if name != "params") if names else kind


# From settings to the overlay


def difference(base: Settings, wanted: Settings, only: "Iterable[str] | None" = None) -> Overlay:
    """Return what turns `base` into `wanted`. `only`: the names that are looked at. [any]"""
    names = None if only is None else set(only)
    found: Overlay = {}
    for kind in KINDS:
        _differing_tables(kind, base.tables(kind), wanted.tables(kind), names, found)
    for name in {**base.channels, **wanted.channels}:
        before, after = CHANNEL | base.channels.get(name, {}), CHANNEL | wanted.channels.get(name, {})
        found |= {("channel", name, key): Entry(after[key], before[key]) for key in CHANNEL if before[key] != after[key]}
    return found


def _differing_tables(
    kind: str, base: tuple[Table, ...], wanted: tuple[Table, ...], only: set[str] | None, found: Overlay
) -> None:
    before = {table.name: table for table in base}
    names = [table.name for table in wanted]
    staying = _in_order(list(before), names)
    for table in base:
        if table.name not in names and (only is None or table.name in only):
            found[kind, table.name] = Entry(None, plain(table))
    for place, table in enumerate(wanted):
        if only is not None and table.name not in only:
            continue
        if table.name not in staying:
            old = plain(before[table.name]) if table.name in before else None
            found[kind, table.name] = Entry({"table": plain(table), "before": names[place + 1 :]}, old)
        elif table is not before[table.name]:
            first, second = _values(plain(before[table.name])), _values(plain(table))
            for key in {**first, **second}:
                if not _same(first.get(key), second.get(key)):
                    found[kind, table.name, *key] = Entry(second.get(key), first.get(key))


def _in_order(before: list[str], after: list[str]) -> set[str]:
    """Return the names that stand in the same order in both."""
    both = set(before).intersection(after)
    if [name for name in before if name in both] == [name for name in after if name in both]:
        return both
    from difflib import SequenceMatcher

    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    return {name for block in blocks for name in before[block.a : block.a + block.size]}


def _values(table: dict[str, Any]) -> dict[Path, Any]:
    """Return what can be set on its own: parameters one by one, all else as a whole."""
    whole = {(key,): value for key, value in table.items() if key not in ("name", "params")}
    return whole | {("params", name): value for name, value in table.get("params", {}).items()}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | dict) and isinstance(other, list | dict):
        return bool(one == other) or pack(one) == pack(other)  # there may be a nan inside
    return bool(one == other) or (one != one and other != other)


# From the overlay to settings


def lay(base: Settings, overlay: Overlay, refused: Mapping[Path, str] | None = None) -> Laid:
    """Lay an overlay over what a file says. What the file has changed since wins. [any]

    `refused`: overrides that cannot be in force, and why.
    """
    laid = Laid(base)
    waiting = dict(refused or {})
    channels = {name: dict(values) for name, values in base.channels.items()}
    tables = {kind: _lay_tables(kind, base.tables(kind), overlay, waiting, laid) for kind in KINDS}
    for path, entry in overlay.items():
        if path[0] == "channel":
            said = base.channels.get(path[1], {}).get(path[2], CHANNEL[path[2]])
            if _decide(path, entry, said, waiting.get(path, ""), laid):
                channels.setdefault(path[1], {})[path[2]] = entry.value
        elif path[0] not in KINDS:
            laid.overlay[path] = replace(entry, aside="")
    laid.settings = Settings(tables["slot"], tables["signal"], channels)  # type: ignore[arg-type]
    return laid


def renewed(base: Settings, overlay: Overlay, paths: Iterable[Path]) -> Overlay:
    """Return an overlay in which these overrides are as if set now: over what the file says now. [any]"""
    said: dict[Path, Any] = {path: entry.base for path, entry in difference(base, Settings()).items() if len(path) == 2}
    for kind in KINDS:
        for table in base.tables(kind):
            said |= {(kind, table.name, *key): value for key, value in _values(plain(table)).items()}
    for name, state in base.channels.items():
        said |= {("channel", name, key): value for key, value in state.items()}
    return {
        path: replace(entry, base=said.get(path, CHANNEL[path[2]] if path[0] == "channel" else None)) if path in paths else entry
        for path, entry in overlay.items()
    }


def _decide(path: Path, entry: Entry, said: Any, why_not: str, laid: Laid) -> bool:
    """Say whether an override is in force where the file says `said`, and note what becomes of it."""
    if not _same(said, entry.base):
        if not _same(said, entry.value):
            laid.dropped.append(path)
        return False
    laid.overlay[path] = replace(entry, aside=why_not)
    return not why_not


def _lay_tables(kind: str, base: tuple[Table, ...], overlay: Overlay, waiting: dict[Path, str], laid: Laid) -> tuple[Table, ...]:
    said = {table.name: table for table in base}
    order = list(said)
    mine = {path: entry for path, entry in overlay.items() if path[0] == kind}
    made: dict[str, Table] = {}
    for path, entry in mine.items():
        if len(path) > 2:
            continue
        name, table = path[1], None
        old = plain(said[name]) if name in said else None
        if entry.value is not None:
            if _same(old, entry.value["table"]) and not _same(old, entry.base):
                continue  # it has come into the file
            table = _made(entry.value["table"], kind, [path], waiting)
        if not _decide(path, entry, old, waiting.get(path, ""), laid):
            continue
        if name in order:
            order.remove(name)
        if table is not None:
            made[name] = table
    for name in made:  # in any order: each knows all that stand behind it
        before = mine[kind, name].value["before"]
        order.insert(next((order.index(other) for other in before if other in order), len(order)), name)
    for name in {path[1] for path in mine if len(path) > 2}:
        inside = {path: entry for path, entry in mine.items() if len(path) > 2 and path[1] == name}
        if (whole := laid.overlay.get((kind, name))) and not whole.aside:
            continue  # it has gone, or its table has all of it
        if name in said:
            _lay_values(said[name], inside, kind, waiting, laid, made)
        else:
            laid.overlay |= {path: replace(entry, aside=f'there is no {kind} "{name}"') for path, entry in inside.items()}
    return tuple(made.get(name) or said[name] for name in order)


def _lay_values(table: Table, inside: Overlay, kind: str, waiting: dict[Path, str], laid: Laid, made: dict[str, Table]) -> None:
    """Set values of a table that the file has."""
    said = plain(table)
    values = _values(said)
    wanted = {path: entry for path, entry in inside.items() if path not in waiting and _same(values.get(path[2:]), entry.base)}
    if wanted and (new := _made(_with(said, wanted), kind, list(wanted), waiting)) is not None:
        made[table.name] = new
    for path, entry in inside.items():
        _decide(path, entry, values.get(path[2:]), waiting.get(path, ""), laid)


def _with(table: dict[str, Any], wanted: Overlay) -> dict[str, Any]:
    table = table | ({"params": dict(table["params"])} if "params" in table else {})
    for path, entry in wanted.items():
        place = table["params"] if path[2] == "params" else table
        if entry.value is None and path[2] == "params":
            place.pop(path[3], None)
        else:
            place[path[-1]] = entry.value
    return table


def _made(values: dict[str, Any], kind: str, paths: Sequence[Path], waiting: dict[Path, str]) -> Table | None:
    """Return a table, or note why these overrides cannot make one."""
    if any(path in waiting for path in paths):
        return None
    try:
        return table_of(values, SlotTable) if kind == "slot" else table_of(values, SignalTable)
    except ConfigError as error:
        waiting.update(dict.fromkeys(paths, str(error)))
        return None
