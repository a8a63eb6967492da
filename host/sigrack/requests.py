"""Changes that were asked for: from hooks, threads and commands, each carried out when the loop comes to it."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from sigrack.errors import ConfigError, RackError, said

__all__ = ["Request", "Requests"]

log = logging.getLogger("sigrack")

Make = Callable[[], Coroutine[Any, Any, None]]


class Request(Future[None]):
    """What became of a change that was asked for; done when it is in force, or when nothing was changed."""

    def __init__(self, main_thread: int) -> None:
        super().__init__()
        self._main_thread = main_thread

    def result(self, timeout: float | None = None) -> None:
        """Wait for it. Raises what has kept it from being made; RuntimeError in a hook, which would wait for ever. [any]"""
        self._check()
        super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for it, and return what `result` would raise. [any]"""
        self._check()
        return super().exception(timeout)

    def _check(self) -> None:
        if not self.done() and threading.get_ident() == self._main_thread:
            raise RuntimeError("a change begins when the hook has returned: a hook cannot wait for it; a coroutine can")


class Requests:
    """Who has asked for what. The loop may not run yet; once the rack is ending nobody is heard any more."""

    def __init__(self, main_thread: int) -> None:
        self._main_thread = main_thread
        self._asked: set[Request] = set()
        self._asking = threading.Lock()
        self._early: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

    @property
    def waiting(self) -> bool:
        """Whether a change was asked for that is neither committed nor given up. [main]"""
        return bool(self._asked)

    def check_open(self) -> None:
        """Raise ConfigError when the rack is ending. [any]"""
        if self._ending:
            raise ConfigError("the rack is stopping: nothing can be changed")

    def request(self, make: Make, who: str) -> Request:
        """Ask for a change from anywhere, also from inside a hook; it is carried out when the hook has returned.

        What it raises is in the log, too. Raises ConfigError when the rack is stopping. [any]
        """
        request, begin = self.ask(make, who)
        with self._asking:
            if self._loop is None:
                self._early.append(begin)
            else:
                self._loop.call_soon_threadsafe(begin)
        return request

    def refuse(self, request: Request, why: str) -> None:
        """Let a change that has not begun never begin. [main]"""
        self._asked.discard(request)
        if not request.done():
            request.set_exception(ConfigError(f"{why}: nothing was changed"))

    def ask(self, make: Make, who: str) -> tuple[Request, Callable[[], None]]:
        """Note that a change is asked for; return what becomes of it, and what lets it begin. Raises ConfigError. [any]"""
        request = Request(self._main_thread)

        def begin() -> None:
            if request.done() or not request.set_running_or_notify_cancel():
                self._asked.discard(request)
                return
            task = asyncio.get_running_loop().create_task(self._carry_out(request, make, who))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        with self._asking:
            self.check_open()
            self._asked.add(request)
        return request, begin

    async def _carry_out(self, request: Request, make: Make, who: str) -> None:
        failure: BaseException | None = None
        try:
            await make()
        except BaseException as error:
            failure = error
            if isinstance(error, RackError | KeyError | ValueError):
                log.warning("%s asked for a change: %s; nothing was changed", who, said(error))
            elif not isinstance(error, asyncio.CancelledError):
                log.exception("%s asked for a change, which failed", who)
        self._asked.discard(request)
        if request.done():
            return
        if failure:
            failure.__cause__ = failure.__context__ = None  # their frames would hold instances
            request.set_exception(failure.with_traceback(None))
        else:
            request.set_result(None)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Carry changes out on `loop`, those first that were asked for before it ran. [main]"""
        with self._asking:
            self._loop = loop
            for begin in self._early:
                loop.call_soon(begin)
            self._early.clear()

    def end(self) -> None:
        """Refuse what has not begun, and what comes. [main]"""
        with self._asking:
            self._ending = True
        for request in list(self._asked):
            if not request.running():
                self.refuse(request, "the rack is stopping")

    def give_up(self) -> None:
        """Tell those whose change has not come to its end that it never will. [main]"""
        for request in list(self._asked):
            self.refuse(request, "the rack has stopped")
