"""The control thread: native life-cycle calls, one at a time, each with a time limit."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sigrack.errors import EngineError

__all__ = ["ControlThread"]

Result = TypeVar("Result")
_Job = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


def _serve(jobs: "queue.SimpleQueue[_Job | None]") -> None:
    while (job := jobs.get()) is not None:
        future, call, arguments = job
        try:
            future.set_result(call(*arguments))
        except BaseException as error:
            future.set_exception(error)


class ControlThread:
    """Runs calls into native code that may hang. A thread that hangs is abandoned, and with it what it was working on."""

    def __init__(self, limit_s: float = 10.0) -> None:
        self.limit_s = limit_s
        self.abandoned = 0
        """Calls that did not come back."""
        self._jobs: queue.SimpleQueue[_Job | None] | None = None

    def call(self, what: str, call: Callable[..., Result], *arguments: Any) -> Result:
        """Run `call` there and wait. Raises EngineError naming `what` when it takes longer than `limit_s`. [main, worker]"""
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=_serve, args=(self._jobs,), name="sigrack-control", daemon=True).start()
        future: Future[Result] = Future()
        self._jobs.put((future, call, arguments))
        try:
            return future.result(self.limit_s)
        except TimeoutError:
            if future.done():
                raise  # the call's own
            self.abandoned += 1
            self._jobs = None
            raise EngineError(f"{what} did not return within {self.limit_s:g} s; it was abandoned") from None

    def close(self) -> None:
        """End the thread after the last call. [main]"""
        if self._jobs is not None:
            self._jobs.put(None)
