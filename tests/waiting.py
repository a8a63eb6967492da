"""Waiting for something to become true, with a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

__all__ = ["wait_until"]


def wait_until(predicate: Callable[[], T], limit_s: float = 10.0, what: str = "it") -> T:
    """Return the first true value of `predicate`; fail when there is none in time."""
    deadline = time.monotonic() + limit_s
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"waited {limit_s} s in vain for {what}"
        time.sleep(0.02)
    return value
