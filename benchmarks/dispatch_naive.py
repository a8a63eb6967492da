"""The naive ways: the engine calls a Python function on its own thread, which queues one item per factor for the main loop."""

import asyncio
import ctypes as c
import json
from collections import deque
from collections.abc import Callable
from typing import Any

import janus

from dispatch_jobs import BLOCK_S, WORK_S, Arrivals, Job, Plan, Scenario, spin

__all__ = ["DequeWay", "JanusWay"]

CHUNK = 512
"""Items delivered before the main loop has its turn."""

_Callback = c.CFUNCTYPE(None, c.c_char_p, c.c_longlong, c.POINTER(c.c_double), c.c_int, c.c_void_p)
_P = c.c_void_p
Item = tuple[str, int, list[float]]


class _Engine:
    """The engine behind a callback that is kept for as long."""

    def __init__(self, job: Job, plan: Plan, callback: Callable[..., None]) -> None:
        self._library = c.CDLL(job.library)
        self._library.signal_create.argtypes, self._library.signal_create.restype = [c.c_char_p], _P
        self._library.signal_register_callback.argtypes = [_P, _Callback, _P]
        self._library.signal_destroy.argtypes = [_P]
        self._kept = _Callback(callback)
        self._handle = self._library.signal_create(json.dumps(plan.config).encode())
        self._library.signal_register_callback(self._handle, self._kept, None)

    def destroy(self) -> None:
        """End its thread."""
        self._library.signal_destroy(self._handle)


class _NaiveWay:
    """A main loop, its consumer, and blocks if the job asks for them."""

    def __init__(self, job: Job, plan: Plan, arrivals: Arrivals) -> None:
        self._job, self._plan, self._arrivals = job, plan, arrivals

    def run(self, scenario: Scenario) -> None:
        """Run until the scenario ends. [main]"""
        asyncio.run(self._main(scenario))

    @property
    def dropped(self) -> int:
        """Nothing: the queues have no bound."""
        return 0

    def check(self, arrived: int) -> None:
        """Nothing to check: what has not arrived in time still waits."""

    async def _main(self, scenario: Scenario) -> None:
        tasks = [asyncio.create_task(self._consume())]
        if self._job.load == "blocks":
            tasks.append(asyncio.create_task(_work_on_blocks()))
        await asyncio.sleep(0)
        engine = _Engine(self._job, self._plan, self._called)
        try:
            await scenario()
        finally:
            await asyncio.to_thread(engine.destroy)  # it may be waiting for the interpreter lock
            for task in tasks:
                task.cancel()

    async def _consume(self) -> None:
        """Deliver what comes, for ever. [main]"""

    def _called(self, symbol: bytes, ts_ns: int, values: Any, count: int, user: int | None) -> None:
        """Queue one item. [foreign]"""

    def on_factor(self, symbol: str, ts_ns: int, values: list[float]) -> None:
        """Stand for a plugin's hook. [main]"""
        self._arrivals.one(ts_ns)


class JanusWay(_NaiveWay):
    """One item per factor through a janus queue."""

    async def _consume(self) -> None:
        self._queue: janus.Queue[Item] = janus.Queue()
        items = self._queue.async_q
        while True:
            self.on_factor(*await items.get())
            try:
                for _ in range(CHUNK):
                    self.on_factor(*items.get_nowait())
            except janus.AsyncQueueEmpty:
                continue
            await asyncio.sleep(0)

    def _called(self, symbol: bytes, ts_ns: int, values: Any, count: int, user: int | None) -> None:
        self._queue.sync_q.put_nowait((symbol.decode(), ts_ns, values[:count]))


class DequeWay(_NaiveWay):
    """One item per factor through a deque; the main loop is woken once while it is not empty."""

    async def _consume(self) -> None:
        self._items: deque[Item] = deque()
        self._woken = False
        self._loop = asyncio.get_running_loop()

    def _called(self, symbol: bytes, ts_ns: int, values: Any, count: int, user: int | None) -> None:
        self._items.append((symbol.decode(), ts_ns, values[:count]))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._woken = False
        for _ in range(CHUNK):
            if not self._items:
                return
            self.on_factor(*self._items.popleft())
        self._woken = True
        self._loop.call_soon(self._drain)


async def _work_on_blocks() -> None:
    """Do for each block of audio what the rack's `worker` probe does."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due += BLOCK_S
        await asyncio.sleep(max(0.0, due - loop.time()))
        spin(WORK_S)
