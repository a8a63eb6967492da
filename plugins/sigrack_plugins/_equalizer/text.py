"""From the bytes of a text to numbered lines, and numbers as people write them."""

import codecs
import math
import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["NUMBER", "lines_of", "nearest", "number", "quoted", "read"]

MOST_BYTES = 1_000_000
MOST_SHOWN = 60
"""How many characters of the user's a message repeats."""
NUMBER = r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?"


def read(path: Path) -> str:
    """Read a text in UTF-8, UTF-16 or Windows' Western code page. Raises ValueError in one line. [worker]"""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"file: {path}: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"file: {path} is larger than {MOST_BYTES} bytes: no equaliser text is")
    text = _decode(content)
    if text is None or "\0" in text:
        raise ValueError(f"file: {path} is no text")
    return text


def _decode(content: bytes) -> str | None:
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if content.startswith(mark):
            return _try(content, encoding)
    if 0 in content[:2]:  # an ASCII character in UTF-16 without a mark
        return _try(content, "utf-16-le" if content[0] else "utf-16-be")
    text = _try(content, "utf-8")
    return _try(content, "cp1252") if text is None else text


def _try(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def lines_of(text: str) -> list[tuple[int, str]]:
    """Return the lines with their numbers, from 1, without blank ones, comments and the head that Room EQ Wizard writes. [any]"""
    lines = [(at, re.sub(r"(^|\s)#.*", "", line).strip()) for at, line in enumerate(re.split(r"\r\n|\n|\r", text), 1)]
    lines = [(at, line) for at, line in lines if line]
    if lines and lines[0][1].lower() == "filter settings file":
        first = (at for at, (_, line) in enumerate(lines) if re.match(r"filter\s*\d+\s*:", line, re.IGNORECASE))
        return lines[next(first, len(lines)) :]
    return lines


def number(text: str, what: str) -> float:
    """Return a number with a point or a comma before its decimals. Raises ValueError. [any]"""
    if not re.fullmatch(NUMBER, text):
        raise ValueError(f"{what}: {quoted(text)} is not a number")
    value = float(text.replace(",", "."))
    if not math.isfinite(value):
        raise ValueError(f"{what}: {quoted(text)} is too large")
    return value


def quoted(text: str) -> str:
    """Return a text of the user's as one short line. [any]"""
    shown = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
    return f'"{repr(shown)[1:-1]}"'


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return '; did you mean "X"?', or the valid names if none is near, to end a message with. [any]"""
    import difflib

    by_case = {one.lower(): one for one in valid}
    if match := difflib.get_close_matches(name.lower()[:MOST_SHOWN], by_case, n=1, cutoff=0.5):
        return f'; did you mean "{by_case[match[0]]}"?'
    return f"; valid: {', '.join(by_case.values())}"
