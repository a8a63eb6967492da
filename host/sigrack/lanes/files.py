"""Files through a filter on a GPU, in a child: what the device or its driver does to that process, the render goes on without."""

import asyncio
from collections.abc import Callable
from queue import SimpleQueue

from sigrack.errors import EngineError
from sigrack.lanes.gpu import BUILD_S, NoGpuError
from sigrack.lanes.messages import Message
from sigrack.lanes.minder import EndedError, Life, Minder, RefusedError

__all__ = ["GpuFiles"]

CHILD = "sigrack.lanes.files_child:main"
STALL_S = 60.0
"""How long a child may make no progress: what a block takes, disks that sleep included; at its beginning also `BUILD_S`."""
END_S = 5.0
"""How long one that is done may take to end."""


class _Nothing:
    """Memory that host and child share: none. Audio crosses no process."""

    descriptors: tuple[int, ...] = ()

    def lose(self) -> None:
        pass

    def free(self) -> None:
        pass


class GpuFiles:
    """One batch of files."""

    def __init__(self) -> None:
        """Begin nothing. [main]"""
        self._minder = Minder()
        self._life: Life[_Nothing] | None = None
        self._heard_s = 0.0
        """When the child has last said something, by the minder's loop."""
        self.stopped = False
        """Somebody has asked for the end."""

    def render(self, order: Message, hear: Callable[[Message], object]) -> None:
        """Let a child carry out `order`; `hear` is told what it says, here. Returns when all is done or has failed. [main]

        Raises NoGpuError; EngineError if the device or the child fails: files of which nothing was said are not done.
        """
        notes: SimpleQueue[Message | None] = SimpleQueue()
        work = self._minder.submit(self._run(order, notes.put))
        work.add_done_callback(lambda _: notes.put(None))
        try:
            while (note := notes.get()) is not None:
                hear(note)
        except BaseException:
            self.stop()
            work.exception()
            raise
        work.result()

    def stop(self) -> None:
        """Let `render` end now: the child is killed. [any]"""
        self.stopped = True
        self._minder.post(self._kill())

    async def _kill(self) -> None:
        if self._life:
            self._life.kill("stopped")

    async def _run(self, order: Message, hear: Callable[[Message], object]) -> None:
        now = asyncio.get_running_loop().time

        def heard(message: Message) -> None:
            self._heard_s = now()
            hear(message)

        life = self._life = await self._minder.start(CHILD, _Nothing, 0, {})
        life.on_note = heard
        try:
            if self.stopped:
                raise EngineError("stopped")
            try:
                device = await life.ask("open", BUILD_S)
            except RefusedError as error:
                raise NoGpuError(str(error)) from None
            heard({"note": "device", "name": device})
            await self._rendered(life, order)
        except (EndedError, RefusedError) as error:
            raise EngineError(life.detail or str(error)) from None
        finally:
            await self._ended(life)

    async def _rendered(self, life: Life[_Nothing], order: Message) -> None:
        """Wait for the end, or for too long."""
        now = asyncio.get_running_loop().time
        self._heard_s = now() + BUILD_S
        task = asyncio.create_task(life.ask("render", float("inf"), **order))
        while not task.done():
            if now() - self._heard_s > STALL_S and not life.ended.done():
                life.kill("hang", f"no block was made in {STALL_S:g} s")
            await asyncio.wait((task,), timeout=1.0)
        task.result()

    async def _ended(self, life: Life[_Nothing]) -> None:
        """End the child in order, or kill it: the device is free for the next."""
        try:
            await life.ask("end", END_S)
            await asyncio.wait_for(asyncio.shield(life.ended), END_S)
        except (EndedError, RefusedError, TimeoutError):
            life.kill("no end")
        await life.ended
        await life.heard()
        life.close()

    def close(self) -> None:
        """End what has not ended. [main]"""
        self._minder.close()
