"""The thread that minds the children of lanes, also while the main loop hangs."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Generic, Protocol, TypeVar

from sigrack.errors import EngineError, said
from sigrack.lanes.lastwords import last_words, stack_of, thread_at_work
from sigrack.lanes.messages import Message, receive, send
from sigrack_engine.errors import CoreError
from sigrack_engine.keeping import Death, Keeper, KeeperError

__all__ = ["EndedError", "Life", "Memory", "Minder", "RefusedError", "Shared"]

log = logging.getLogger("sigrack")

Result = TypeVar("Result")

CHILDREN = ["sigrack.lanes.child", "sigrack.lanes.engine_child"]
"""What the keeper imports, for its children."""
ABORT_S = 0.5
"""How long a child that is aborted, so that its stack is known, may take."""
HEAR_S = 1.0
"""How long what a dead child has sent may take: what it has forked may hold the way open."""
TURN_MESSAGES, TURN_S = 64, 0.001
"""After how many messages of one child all others have their turn, and the host's other threads."""
SILENT_S = 1.0
"""How long a child may live that cannot be heard any more."""


class EndedError(Exception):
    """The child has ended."""

    def __init__(self, death: Death) -> None:
        super().__init__(death.text)
        self.death = death


class RefusedError(Exception):
    """The child could not do it, and says why."""

    def __init__(self, text: str, key: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.key = key


class Shared(Protocol):
    """Memory that host and child share during one life."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What the child gets of it."""

    def lose(self) -> None:
        """Let nobody wait for the child: it is gone. [minder]"""

    def free(self) -> None:
        """Let it go; again and again. [any]"""


Memory = TypeVar("Memory", bound=Shared)


class Life(Generic[Memory]):
    """One child, from fork to death. [minder]"""

    def __init__(self, number: int, exchange: Memory, stack: int, kill: Callable[["Life[Any]", str, int, int], None]) -> None:
        self.number, self.exchange = number, exchange
        self.pid = 0
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Death] = loop.create_future()
        self.begun_s = loop.time()
        self.on_note: Callable[[Message], Coroutine[Any, Any, None] | None] = lambda message: None
        """Is told what the child says unasked; nothing more is heard of it until the coroutine that it may return has ended."""
        self.deaf_s = 0.0
        """For how long nothing was heard because of that."""
        self.detail = ""
        """More about why it was killed."""
        self.stack: list[str] = []
        """Python's stack at its death, once it is closed; empty if it died without a word."""
        self._stack = stack
        self._kill = kill
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    async def open(self, end: socket.socket) -> None:
        """Listen to the child at `end`."""
        reader, self._writer = await asyncio.open_connection(sock=end)
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """Hear the child to its end. It may say anything, and as much as it likes."""
        try:
            for count in itertools.count(1):
                if (message := await receive(reader)) is None:
                    break
                if waiting := self._take(message):
                    await waiting
                if count % TURN_MESSAGES == 0:
                    await asyncio.sleep(TURN_S)
        except Exception as error:  # nothing that this side has made
            self.kill("garbage", f"it said what is no message ({said(error)})")
            return
        await asyncio.wait((self.ended,), timeout=SILENT_S)  # a child that dies is silent before its death is heard of
        if not self.ended.done():
            self.kill("garbage", "it has closed its channel")

    def _take(self, message: Message) -> Coroutine[Any, Any, None] | None:
        if "note" in message:
            return self.on_note(message)
        if (future := self._asked.pop(message["id"], None)) and not future.done():
            if "error" in message:
                future.set_exception(RefusedError(str(message["error"]), tuple(map(str, message["key"]))))
            else:
                future.set_result(message["data"])
        return None

    async def ask(self, what: str, limit_s: float, **arguments: object) -> Any:
        """Let the child do something. Raises RefusedError, EndedError; a child that takes longer is killed. [minder]"""
        if self.ended.done():
            raise EndedError(self.ended.result())
        assert self._writer
        number = next(self._numbers)
        future = self._asked[number] = asyncio.get_running_loop().create_future()
        send(self._writer, {"do": what, "id": number} | arguments)
        await self._listened((future, self.ended), limit_s)
        if not future.done() and not self.ended.done():
            self.kill("no answer", f"{what} did not return within {limit_s:g} s")
        if not future.done():
            await self.ended
            await self.heard()
        if not future.done():
            future.cancel()
            raise EndedError(self.ended.result())
        return future.result()

    async def _listened(self, futures: Sequence[asyncio.Future[Any]], limit_s: float) -> None:
        """Wait for one of them; time in which nothing is heard does not count."""
        now = asyncio.get_running_loop().time
        while limit_s > 0 and not any(future.done() for future in futures):
            since_s, deaf_s = now(), self.deaf_s
            await asyncio.wait(futures, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            limit_s -= now() - since_s - (self.deaf_s - deaf_s)

    async def heard(self) -> None:
        """Wait until all that it has said before its end is heard. [minder]"""
        if self._reading:
            await self._listened((self._reading,), HEAR_S)

    def say(self, what: str) -> None:
        """Let the child do something, whenever; it lives. [minder]"""
        assert self._writer
        send(self._writer, {"do": what, "id": next(self._numbers)})

    def kill(self, cause: str, detail: str = "") -> None:
        """Abort it, so that the stack of the thread at work is written; kill it soon if that does not help. [minder]

        `cause` is one of few, for deaths are counted by it; `detail` may be anything.
        """
        self.detail = self.detail or detail
        self._kill(self, cause, signal.SIGABRT, thread_at_work(self._stack) if self._stack >= 0 else 0)
        asyncio.get_running_loop().call_later(ABORT_S, self._kill, self, cause, signal.SIGKILL, 0)

    def died(self, death: Death) -> None:
        """Note its end. [minder]"""
        self.exchange.lose()
        if not self.ended.done():
            self.ended.set_result(death)

    def close(self) -> None:
        """Let go of all but the exchange; it has ended. [minder]"""
        if self._reading:
            self._reading.cancel()
        if self._writer:
            self._writer.close()
        if self._stack >= 0:
            self.stack = stack_of(self._stack)
            os.close(self._stack)
            self._stack = -1


class Minder:
    """Starts lives, hears of their deaths, and runs what looks after them, on a thread of its own."""

    def __init__(self) -> None:
        """Nothing is started before it is needed. [any]"""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._keeper: Keeper | None = None
        self._lives: dict[int, Life[Any]] = {}
        self._numbers = itertools.count(1)

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run `work` on the minder's loop and wait for it; it limits itself. Raises what it raises. [control, worker]"""
        return self.submit(work).result()

    def submit(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Run `work` on the minder's loop. [any]"""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def post(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin `work` on the minder's loop. [any]"""
        asyncio.run_coroutine_threadsafe(work, self._running())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="sigrack-lanes", daemon=True)
                self._thread.start()
            return self._loop

    async def start(self, entry: str, make: Callable[[], Memory], memory_mb: int, argument: Message) -> Life[Memory]:
        """Fork a child that calls `entry` and shares the memory that `make` gives. Raises EngineError. [minder]"""
        exchange = stack = None
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                exchange = make()
                stack = last_words()
                life = Life(next(self._numbers), exchange, stack, self._kill)
                await life.open(ours)
                self._lives[life.number] = life
                descriptors = (theirs.fileno(), *exchange.descriptors, stack)
                self._started().start(life.number, entry, argument, descriptors, memory_mb)
        except (OSError, CoreError, KeeperError) as error:
            ours.close()
            if exchange:
                exchange.free()
            if stack is not None:
                os.close(stack)
            raise EngineError(f"a lane's child cannot be started: {error}") from None
        return life

    def _started(self) -> Keeper:
        if self._keeper is None:
            self._keeper = Keeper(CHILDREN, self._begun, self._ended)
            asyncio.get_running_loop().add_reader(self._keeper.descriptor, self._hear)
        return self._keeper

    def _hear(self) -> None:
        assert self._keeper
        if self._keeper.read():
            return
        log.warning("the keeper of lanes died, and all children with it; it is started anew")
        asyncio.get_running_loop().remove_reader(self._keeper.descriptor)
        self._keeper.close()
        self._keeper = None
        for number in list(self._lives):
            self._ended(number, Death(why="the keeper died"))

    def _begun(self, number: int, pid: int) -> None:
        if life := self._lives.get(number):
            life.pid = pid

    def _ended(self, number: int, death: Death) -> None:
        if life := self._lives.pop(number, None):
            life.died(death)

    def _kill(self, life: Life[Any], why: str, by: int, thread: int) -> None:
        if self._keeper and life.number in self._lives:
            with contextlib.suppress(KeeperError):  # it takes its children along
                self._keeper.kill(life.number, why, by, thread)

    @property
    def keeper_pid(self) -> int | None:
        """The keeper's process, if there is one. [any]"""
        keeper = self._keeper
        return keeper.pid if keeper else None

    def close(self) -> None:
        """End the keeper, whatever children there are, and the thread. [main]"""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        assert self._thread
        self._thread.join()
        loop.close()

    async def _end(self) -> None:
        if self._keeper:
            asyncio.get_running_loop().remove_reader(self._keeper.descriptor)
            await asyncio.to_thread(self._keeper.close)
            self._keeper = None
        for number in list(self._lives):
            self._ended(number, Death(why="the host has ended"))
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()
