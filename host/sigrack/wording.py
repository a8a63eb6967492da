"""How things are said in more than one place."""

__all__ = ["rates"]


def rates(in_hz: int, out_hz: int) -> str:
    """Return the rate that comes in and, if that is another, the one that goes out. [any]"""
    return f"{in_hz} Hz" if in_hz == out_hz else f"{in_hz} -> {out_hz} Hz"
