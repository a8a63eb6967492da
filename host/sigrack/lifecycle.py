"""The control thread: native life-cycle calls, one at a time, each with a time limit."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sigrack.crash import Notes, Unrecorded
from sigrack.errors import EngineError
from sigrack_engine.crash import own_thread

__all__ = ["AbandonedError", "ControlThread", "start_thread"]

Result = TypeVar("Result")


def start_thread(name: str, number: int, work: Callable[..., object], *arguments: Any) -> threading.Thread:
    """Run `work` on a thread of its own, for the plugin that is called `name`. Raises EngineError. [main]

    `number`: what the crash record calls the plugin.
    """

    def run() -> None:
        own_thread(number)
        work(*arguments)

    thread = threading.Thread(target=run, name=f"sigrack-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise EngineError(f"{name}: {error}: the system has no more threads for this user") from None
    return thread


class AbandonedError(EngineError):
    """A call that did not return in time: its thread was left behind."""

    def __init__(self, message: str, call: "Future[Any]") -> None:
        """`call` is done when it has returned after all."""
        super().__init__(message)
        self.call = call


class _Job:
    """One call. `begun` is None while it waits for its turn."""

    def __init__(self, what: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.what = what
        self._work: tuple[Callable[..., Any], tuple[Any, ...]] | None = (call, arguments)
        self.begun: float | None = None
        self.future: Future[Any] = Future()

    def run(self) -> None:
        """Make the call, and let go of all that it was about before anybody hears of its end: plugins end on the main thread."""
        self.begun = time.monotonic()
        assert self._work is not None
        try:
            result = self._work[0](*self._work[1])
        except BaseException as error:
            self._work = None
            self.future.set_exception(error)
        else:
            self._work = None
            self.future.set_result(result)

    def left(self, limit_s: float) -> float:
        """Return how long it may still take."""
        return limit_s if self.begun is None else self.begun + limit_s - time.monotonic()


class ControlThread:
    """Runs calls into native code that may hang. A thread that hangs is abandoned, and with it what it was working on."""

    def __init__(self, limit_s: float = 10.0, notes: Notes | None = None) -> None:
        """`notes`: of the crash record."""
        self.limit_s = limit_s
        self._notes = notes or Unrecorded()
        self.abandoned = 0
        """Calls that did not come back."""
        self.busy_with = ""
        """The call that runs now, or hangs."""
        self._jobs: queue.SimpleQueue[_Job | None] | None = None
        self._lock = threading.Lock()

    def _submit(self, what: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> _Job:
        job = _Job(what, call, arguments)
        with self._lock:
            self._thread().put(job)
        return job

    def _thread(self) -> "queue.SimpleQueue[_Job | None]":
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(self._jobs,), name="sigrack-control", daemon=True).start()
        return self._jobs

    def _serve(self, jobs: "queue.SimpleQueue[_Job | None]") -> None:
        self._notes.control_thread()
        while (job := jobs.get()) is not None:
            self.busy_with = job.what
            self._notes.call(job.what)
            job.run()
            if self._jobs is jobs:  # else it was given up, and another thread has its own
                self.busy_with = ""
                self._notes.call("")

    def _abandon(self, job: _Job) -> AbandonedError:
        """Leave the thread that hangs in `job` behind; a new one takes over what waits."""
        with self._lock:
            self.abandoned += 1
            old, self._jobs = self._jobs, None
            with contextlib.suppress(queue.Empty):
                while old is not None:
                    self._thread().put(old.get_nowait())
            if old is not None:
                old.put(None)  # should it ever come back
        return AbandonedError(f"{job.what} did not return within {self.limit_s:g} s; it was abandoned", job.future)

    def call(self, what: str, call: Callable[..., Result], *arguments: Any) -> Result:
        """Run `call` there and wait. Raises AbandonedError naming `what` when it takes longer than `limit_s`. [main, worker]"""
        job = self._submit(what, call, arguments)
        while (left := job.left(self.limit_s)) > 0:
            try:
                result: Result = job.future.result(left)
            except TimeoutError:
                if job.future.done():
                    raise  # the call's own
            else:
                return result
        raise self._abandon(job)

    async def run(self, what: str, call: Callable[..., Result], *arguments: Any) -> Result:
        """Do the same without keeping the main loop. [main]"""
        job = self._submit(what, call, arguments)
        future = asyncio.wrap_future(job.future)
        while (left := job.left(self.limit_s)) > 0:
            if (await asyncio.wait((future,), timeout=left))[0]:
                result: Result = future.result()
                return result
        raise self._abandon(job)

    def close(self) -> None:
        """End the thread after the last call. [main]"""
        with self._lock:
            if self._jobs is not None:
                self._jobs.put(None)
