"""How things are said in more than one place."""

from collections.abc import Sequence

__all__ = ["bus", "printable", "rates"]


def rates(in_hz: int, out_hz: int) -> str:
    """Return the rate that comes in and, if that is another, the one that goes out. [any]"""
    return f"{in_hz} Hz" if in_hz == out_hz else f"{in_hz} -> {out_hz} Hz"


def printable(text: str) -> str:
    """Return a text of somebody else's without what would move a terminal's cursor or cannot be encoded. [any]"""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def bus(channels: Sequence[str], out: Sequence[str]) -> str:
    """Return how many channels a bus has, and which go out if not all do in their order. [any]"""
    counted = f"{len(channels)} channel{'s' if len(channels) > 1 else ''}"
    return counted if list(channels) == list(out) else f"{counted} (out: {', '.join(out)})"
