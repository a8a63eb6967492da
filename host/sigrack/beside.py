"""Work beside the main loop that may hang: threads that are told of, and given up in the end."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from sigrack.errors import ConfigError, said
from sigrack.lifecycle import start_thread

__all__ = ["Beside"]

log = logging.getLogger("sigrack")

SLOW_S, BUILD_S = 10.0, 300.0
"""How long something may be built until that is told; until it is given up, so that other changes have their turn."""


class Beside:
    """Builds things on threads of their own. They are daemons: what hangs there does not keep the host from ending."""

    def __init__(self, let_go: Callable[[Any], object]) -> None:
        """`let_go` is given what was made after all when nobody waits for it any more. [main]"""
        self._let_go = let_go
        self.abandoned = 0
        """Things that were not built in time."""

    async def build(self, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Run `call` on a thread. Raises what it raises; ConfigError with `what` when it takes longer than BUILD_S. [main]"""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        made: list[Any] = []

        def fail(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)

        def give() -> None:  # the thread holds nothing of it any more: plugins end on the main thread
            if future.done():
                self._let_go(made.pop())
            else:
                future.set_result(made.pop())

        def run() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                try:
                    made.append(call(*arguments))
                except Exception as error:
                    loop.call_soon_threadsafe(fail, error)
                except BaseException as error:  # what ends programs must not end the loop
                    loop.call_soon_threadsafe(fail, ConfigError(f"{what}: what was loaded raised {said(error)}"))
                else:
                    loop.call_soon_threadsafe(give)

        start_thread("build", 0, run)
        try:
            if not (await asyncio.wait((future,), timeout=SLOW_S))[0]:
                log.warning("%s is still being built after %g s", what, SLOW_S)
                await asyncio.wait((future,), timeout=BUILD_S - SLOW_S)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not future.done():
            future.cancel()
            self.abandoned += 1
            raise ConfigError(f"{what} was not built within {BUILD_S:g} s; it was abandoned")
        return future.result()
