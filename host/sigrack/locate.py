"""Lines of keys in a TOML text, which tomllib does not tell."""

import re

__all__ = ["Path", "line_of"]

Path = tuple[str | int, ...]
"""Where a value stands: ("slot", 1, "params", "gain_db")."""

_NAME = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_QUOTED = re.compile(r'''(?P<lines>"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\')|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|#[^\n]*''', re.DOTALL)
_PART = re.compile(_NAME)


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]


def _table(parts: list[str], counts: dict[tuple[str, ...], int]) -> Path:
    """Write the number of the running element after each array of tables."""
    path: Path = ()
    for end, part in enumerate(parts, 1):
        path += (part,)
        if (count := counts.get(tuple(parts[:end]))) is not None:
            path += (count,)
    return path


def _without_texts(text: str) -> str:
    """Empty the texts of several lines, which may hold what looks like a key; all lines keep their numbers."""
    return _QUOTED.sub(lambda found: "\n" * found[0].count("\n") if found["lines"] else found[0], text)


def line_of(text: str, path: Path) -> int:
    """Return the line (from 1) of the key at `path`, else that of the table nearest to it, else 1. [any]"""
    counts: dict[tuple[str, ...], int] = {}
    best, best_length = 1, 0
    table: Path = ()
    for number, line in enumerate(_without_texts(text).splitlines(), 1):
        if header := _HEADER.match(line):
            parts = _parts(header[2])
            if header[1] == "[[":
                counts[tuple(parts)] = counts.get(tuple(parts), -1) + 1
            found = table = _table(parts, counts)
        elif key := _KEY.match(line):
            found = (*table, *_parts(key[1]))
        else:
            continue
        if path[: len(found)] == found and len(found) > best_length:
            best, best_length = number, len(found)
    return best
