"""Waiting for what another thread or process does: never longer than needed, never for ever."""

import time
from collections.abc import Callable

__all__ = ["wait_until"]


def wait_until(predicate: Callable[[], object], limit_s: float = 10.0) -> None:
    """Return when `predicate` holds. Raises AssertionError when it does not within `limit_s`."""
    stop = time.monotonic() + limit_s
    while not predicate():
        if time.monotonic() > stop:
            raise AssertionError(f"not so within {limit_s:g} s: {predicate}")
        time.sleep(0.005)
