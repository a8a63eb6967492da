"""Python plugins on the main loop: what is called, what it cost, what it raised, and who still holds on to it."""

import asyncio
import inspect
import logging
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from types import coroutine
from typing import Any

from sigrack.errors import FORCED, words
from sigrack.leftovers import forks
from sigrack.watch import HookTimeout, HookWatch
from sigrack_plugins import Plugin

__all__ = ["Hooked", "is_generator", "nothing"]

log = logging.getLogger("sigrack")

MOST_WAITING = 64
"""Calls of coroutine hooks that may wait for the one that runs."""


def nothing() -> None:
    """Do it."""


def is_generator(call: Callable[..., Any]) -> bool:
    """Whether calling `call` would run none of its body: it has a `yield`. [any]"""
    return inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)


class Hooked:
    """A Python plugin in the rack. Its hooks run on the main thread only, never nested; what they raise is caught and counted.

    A hook that is a coroutine runs as a task, one at a time and in order; while it runs the plugin is pinned.
    """

    def __init__(self, name: str, plugin: Plugin, methods: frozenset[str], watch: HookWatch, *, lossless: bool) -> None:
        """`lossless`: the driver waits for coroutine hooks, so any number of calls may wait."""
        self.name, self.plugin, self.methods = name, plugin, methods
        self._coroutines = frozenset(m for m in methods if inspect.iscoroutinefunction(getattr(plugin, m)))
        self.calls = 0
        self.errors = 0
        self.dropped = 0
        """Calls of coroutine hooks that found too many waiting, or were forgotten."""
        self.late = 0
        """Calls over the time budget."""
        self.spent_ns = 0
        self.longest_ns = 0
        self.last_error = ""
        self.blocked_at = ""
        """Where a hook was when it had kept the main loop for long, last."""
        self.closed = True
        """No hook begins: on_start has not returned yet, or it is going; coroutine hooks that wait still have their turn."""
        self.ending = False
        """It is going: nothing new can be arranged."""
        self.gone = False
        """on_stop has returned."""
        self.resting = ""
        """Why no hook is called but on_stop: one went over the hard limit."""
        self.on_rest: Callable[[], object] = nothing
        """Called when it begins to rest. [main]"""
        self.pins = 0
        """Tasks and threads that still use the plugin; it is not destroyed while there are any."""
        self.inside = False
        """Whether a hook is running now."""
        self.filters: set[tuple[str | None, str | None]] = set()
        """Subscriptions: (source, symbol), None stands for all; empty means everything."""
        self.masks: dict[tuple[str, tuple[str, ...]], Any] = {}
        """The dispatcher's: what the subscriptions mean for a source's symbols."""
        self._watch = watch
        self.number = watch.notes.number(name)
        """What the crash record calls it."""
        self._most_waiting = None if lossless else MOST_WAITING
        self._waiting: deque[tuple[str, Callable[..., Coroutine[Any, Any, Any]], tuple[Any, ...]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._paused = False

    def subscribe(self, source: str | None, symbol: str | None) -> None:
        """Add to what the plugin gets. [main]"""
        self.filters.add((source, symbol))
        self.masks.clear()

    def wanted(self, source: str) -> set[str] | None:
        """Return the symbols of `source` that the plugin has subscribed to; None: all. [main]"""
        if not self.filters or {(None, None), (source, None)} & self.filters:
            return None
        return {symbol for name, symbol in self.filters if name in (None, source) and symbol is not None}

    # Plain hooks

    def hook(self, name: str, *arguments: Any) -> None:
        """Call the hook `name` if the plugin has it; one that is a coroutine gets its turn as a task. [main]"""
        if name not in self.methods or self.closed or self.resting:
            return
        if name in self._coroutines:
            self.enqueue(name, getattr(self.plugin, name), *arguments)
        else:
            self.call(name, getattr(self.plugin, name), *arguments)

    def each(self, name: str, items: Iterable[tuple[Any, ...]]) -> None:
        """Call the hook `name` once for each of `items`; one that raises does not keep the others from their turn. [main]"""
        for arguments in items:
            self.hook(name, *arguments)

    def call(self, name: str, method: Callable[..., Any], *arguments: Any) -> None:
        """Call a hook or a timer's function, and catch what it raises. [main]"""
        self._fenced(name, method, *arguments)
        self.calls += 1

    def attempt(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        """Run `method`, of those that bring a plugin to life, and return what it returns; what it raises passes. [main]"""
        self._check()
        with self._watch.notes.loading(self.name):
            return self._watched(name, method, *arguments)

    def _fenced(self, name: str, method: Callable[..., Any], *arguments: Any) -> bool:
        """Run `method` under the watch; return whether it raised."""
        self._check()
        try:
            self._watched(name, method, *arguments)
        except BaseException as error:  # also what would end a task of the loop, or the host
            self._failed(name, error)
            return True
        return False

    def _check(self) -> None:
        """Raise AssertionError where the host would break its promise to plugins."""
        if threading.get_ident() != self._watch.thread:
            raise AssertionError(f"a hook of {self.name} was to run on thread {threading.get_ident()}, not on the main loop")
        if self.inside:
            raise AssertionError(f"a hook of {self.name} was to run inside another of its hooks")

    def _watched(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        """The last thing before the call and the first after it is the flag that lets the watch interrupt."""
        begun, before = time.perf_counter_ns(), forks()
        self._watch.current = (self, name, begun)
        self._watch.mark[0] = self.number
        try:
            try:
                self.inside = True
                return method(*arguments)
            finally:
                self.inside = False
        finally:
            if forks() != before:
                self._end_fork(name)
            self._watch.mark[0] = 0
            self._watch.current = None
            self._account(time.perf_counter_ns() - begun)

    def _end_fork(self, name: str) -> None:
        """End this process, which is not the host but what a hook has forked: there must not be two hosts."""
        log.error("%s: the process %d that %s has forked came back from it and was ended", self.name, os.getpid(), name)
        os._exit(FORCED)

    def _account(self, spent: int) -> None:
        self.spent_ns += spent
        if spent > self.longest_ns:
            self.longest_ns = spent
        self.late += spent > self._watch.budget_ns

    def _failed(self, name: str, error: BaseException) -> None:
        if self.ending and isinstance(error, asyncio.CancelledError):
            log.warning("%s: %s did not end in time and was cancelled", self.name, name)
            return
        self.errors += 1
        frames = list(traceback.extract_tb(error.__traceback__))
        if isinstance(error, HookTimeout):
            frames = frames[:-1]  # ours, which raised it
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
        text = f"{type(error).__name__}: {words(error)} ({place})"
        self.last_error = text.encode("utf-8", "backslashreplace").decode()  # it goes out as JSON
        if isinstance(error, HookTimeout):
            self._rest(f"{name} did not return within {self._watch.limit_s:g} s ({place})")
        elif self.errors & (self.errors - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: a broken hook must not fill the disk
            log.warning("%s: hook raised %s; %d so far, the audio goes on", self.name, self.last_error, self.errors)

    def _rest(self, why: str) -> None:
        self.resting = why
        self.drop_waiting()
        log.error("%s: %s and was interrupted; the plugin is bypassed until it is reloaded", self.name, why)
        self.on_rest()

    # Coroutine hooks

    def enqueue(self, name: str, method: Callable[..., Any], *arguments: Any) -> None:
        """Give a coroutine hook its turn. [main]"""
        if self.closed or self.resting:
            return
        if self._most_waiting is not None and len(self._waiting) >= self._most_waiting:
            self.dropped += 1
            return
        self._waiting.append((name, method, arguments))
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting and self._task is None and not self._paused:
            self.pins += 1
            self._task = asyncio.get_running_loop().create_task(self._serve())
            self._task.add_done_callback(self._served)

    def pause(self) -> None:
        """Let no coroutine hook begin; it is safe when `busy` has ended. [main]"""
        self._paused = True

    def resume(self) -> None:
        """Go on after a pause. [main]"""
        self._paused = False
        self._go_on()

    def inherit(self, old: "Hooked") -> None:
        """Take over the calls that wait for a paused plugin, as far as this one has the hooks. [main]"""
        if not old._waiting:
            return
        theirs = list(old._waiting)
        old._waiting.clear()
        for name, method, arguments in theirs:
            if name in self.methods:
                self.hook(name, *arguments)
            else:
                old._waiting.append((name, method, arguments))

    def drop_waiting(self) -> None:
        """Forget the calls that wait; they count as dropped. [main]"""
        self.dropped += len(self._waiting)
        self._waiting.clear()

    async def _serve(self) -> None:
        """Run what waits, one after the other."""
        while self._waiting and not self._paused:
            name, method, arguments = self._waiting.popleft()
            await self._stepped(name, method(*arguments))
            self.calls += 1

    def _served(self, _: object) -> None:
        self._task = None
        self.pins -= 1
        self._go_on()

    @coroutine
    def _stepped(self, name: str, hook: Coroutine[Any, Any, Any]) -> Generator[Any, Any, None]:
        """Run a coroutine to its end, each stretch between two awaits inside the fence."""
        step: tuple[Callable[[Any], Any], Any] = (hook.send, None)
        ended = False
        awaited: Any = None

        def advance() -> None:
            nonlocal awaited, ended
            try:
                awaited = step[0](step[1])
            except StopIteration:
                ended = True

        while True:
            if self._fenced(name, advance) or ended:
                return
            try:
                step = (hook.send, (yield awaited))
            except BaseException as error:  # a cancellation is the coroutine's to answer
                step = (hook.throw, error)

    @property
    def busy(self) -> bool:
        """Whether a coroutine hook runs, or will before anything else. [main]"""
        return self._task is not None

    def cancel(self) -> None:
        """End the coroutine hook that runs, and forget those that wait. [main]"""
        self.drop_waiting()
        if self._task:
            self._task.cancel()

    # Holding on

    @contextmanager
    def pinned(self) -> Generator[None, None, None]:
        """Keep the plugin from being destroyed meanwhile. [main]"""
        self.pins += 1
        try:
            yield
        finally:
            self.pins -= 1
