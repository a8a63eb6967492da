"""Python plugins on the main loop: what is called, what it cost, what it raised."""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from sigrack_plugins import Plugin

__all__ = ["Hooked"]

log = logging.getLogger("sigrack")


class Hooked:
    """A Python plugin in the rack. Its hooks run on the main thread only, never nested; what they raise is caught and counted."""

    def __init__(self, name: str, plugin: Plugin, methods: frozenset[str], main: int) -> None:
        """`main` is the identity of the main loop's thread."""
        self.name, self.plugin, self.methods = name, plugin, methods
        self.calls = 0
        self.errors = 0
        self.spent_ns = 0
        self.longest_ns = 0
        self.last_error = ""
        self.closed = False
        self.filters: set[tuple[str | None, str | None]] = set()
        """Subscriptions: (source, symbol), None stands for all; empty means everything."""
        self._main = main
        self.inside = False
        """Whether a hook is running now."""

    def call(self, method: Callable[..., Any], *arguments: Any) -> None:
        """Call a hook or a timer's function inside the fence. [main]"""
        if threading.get_ident() != self._main:
            raise AssertionError(f"a hook of {self.name} was to run on thread {threading.get_ident()}, not on the main loop")
        if self.inside:
            raise AssertionError(f"a hook of {self.name} was to run inside another of its hooks")
        self.inside = True
        begun = time.perf_counter_ns()
        try:
            method(*arguments)
        except BaseException as error:  # also what would end a task of the loop, or the host
            self._failed(error)
        finally:
            spent = time.perf_counter_ns() - begun
            self.calls += 1
            self.spent_ns += spent
            self.longest_ns = max(self.longest_ns, spent)
            self.inside = False

    def hook(self, name: str, *arguments: Any) -> None:
        """Call the hook `name` if the plugin has it. [main]"""
        if name in self.methods and not self.closed:
            self.call(getattr(self.plugin, name), *arguments)

    def _failed(self, error: BaseException) -> None:
        self.errors += 1
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
        text = f"{type(error).__name__}: {error} ({place})"
        self.last_error = text.encode("utf-8", "backslashreplace").decode()  # it goes out as JSON
        if self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: a broken hook must not fill the disk
            log.warning("%s: hook raised %s; %d so far, the audio goes on", self.name, self.last_error, self.errors)
