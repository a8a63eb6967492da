"""Life after life of what runs in a child, whatever that is."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic

from sigrack.errors import ConfigError, EngineError, RackError
from sigrack.lanes.minder import EndedError, Life, Memory, Minder, RefusedError
from sigrack.lanes.policy import WINDOW_S, Policy
from sigrack_engine.keeping import Death

__all__ = ["LOAD_S", "ChangedError", "Lives"]

log = logging.getLogger("sigrack")

LOAD_S, END_S = 8.0, 2.0
"""What a child may take; both below the control thread's limit."""
RETRY_S = 1.0
"""How long after the system had no child to give it is asked again."""


class ChangedError(ConfigError):
    """The plugin's file holds another one now."""


class Lives(ABC, Generic[Memory]):
    """Starts them by the policy, tells how they ended, and gives up. All on the minder's loop but what says otherwise."""

    table: str
    """`slot`, `lane`, `group` or `signal`: of what, for events."""
    meanwhile: str
    """What is while there is no child, for the log."""
    given_up = ""
    """What is when it has been given up, for the log."""
    more = "; `sigrack quarantine` tells more"

    def __init__(self, minder: Minder, name: str, target: str, policy: Policy) -> None:
        """`target`: what a child loads."""
        self._minder, self._name, self._target = minder, name, target
        self._policy = policy
        self._life: Life[Memory] | None = None
        """The last that has begun."""
        self._task: asyncio.Task[None] | None = None
        self.state = "loading"
        """loading, running, restarting, changed, quarantined, ended."""
        self.deaths: dict[str, int] = {}
        """How many lives ended of what."""
        self.last_death: dict[str, Any] | None = None
        self.tell: Callable[..., object] = lambda kind, **data: None
        """Publishes an event. [minder]"""

    @abstractmethod
    async def _again(self) -> Life[Memory]:
        """Begin one more life. Raises ConfigError if the child dies or refuses, EngineError if there can be none."""

    @abstractmethod
    async def _live(self, life: Life[Memory]) -> Death:
        """Use a life until it ends."""

    def _quarantine(self, why: str) -> None:
        """Keep what has died so often out of every rack: what has a budget. Raises ConfigError, EngineError."""

    @property
    def _load_s(self) -> float:
        """What a child may take for what it must begin with; below the control thread's limit, where that waits for it."""
        return LOAD_S

    async def _ask(self, life: Life[Memory], what: str, **arguments: object) -> Any:
        """Let a child do what it must begin with. Raises ConfigError; then it is gone."""
        try:
            return await life.ask(what, self._load_s, **arguments)
        except EndedError as error:
            self._discard(life)
            raise ConfigError(f"{self._target}: its child died in {what}: {life.detail or error}") from error
        except RefusedError as error:
            await self._drop(life)
            raise ConfigError(str(error), error.key) from None

    async def _drop(self, life: Life[Memory]) -> None:
        """End a life that was never used."""
        life.kill("not wanted")
        await life.ended
        self._discard(life)

    def _discard(self, life: Life[Memory]) -> None:
        """Let go of a life that was never used."""
        life.close()
        life.exchange.free()

    def _look_after(self, life: Life[Memory]) -> None:
        """Use a life and those that follow."""
        self._task = asyncio.create_task(self._keep(life))
        self._task.add_done_callback(self._kept)

    def _kept(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("%s: nobody looks after its lane any more: swap or reload it", self._name, exc_info=error)

    async def _keep(self, life: Life[Memory]) -> None:
        coming: Life[Memory] | None = life
        while coming:
            self._life = life = coming
            death = await self._live(life)
            life.close()
            self._note(death.text, life.detail if death.why else "", life.stack, pid=life.pid, core=death.core)
            coming = await self._next(asyncio.get_running_loop().time() - life.begun_s)

    async def _next(self, lived_s: float) -> Life[Memory] | None:
        """Begin another life as soon as it may begin; None: there is to be none."""
        now = asyncio.get_running_loop().time
        while (delay_s := self._policy.died(now(), lived_s)) is not None:
            life = None
            while not life:
                await asyncio.sleep(delay_s)
                try:
                    life = await self._again()
                except EngineError as error:  # not the plugin's fault
                    log.warning("%s: %s", self._name, error)
                    delay_s = RETRY_S
                except ChangedError as error:  # whatever it is, it has done no harm
                    log.error("%s: %s", self._name, error)
                    self.state = "changed"
                    self._tell(state="changed", cause=str(error))
                    return None
                except ConfigError as error:
                    ended = error.__cause__
                    self._note(str(ended) if isinstance(ended, EndedError) else "did not begin", str(error))
                    lived_s = 0.0
                    break
            else:
                log.info("%s: a new child runs, process %d", self._name, life.pid)
                self._tell(state="running", pid=life.pid)
                return life
        self._give_up()
        return None

    def _note(self, cause: str, detail: str = "", stack: Sequence[str] = (), *, pid: int = 0, core: bool = False) -> None:
        """Count a death and tell of it."""
        self.state = "restarting"
        self.deaths[cause] = self.deaths.get(cause, 0) + 1
        death = {"cause": cause, "detail": detail, "time": time.time(), "pid": pid, "stack": list(stack), "core_dumped": core}
        self.last_death = death
        log.warning("%s: its child died: %s; %s", self._name, f"{cause}: {detail}" if detail else cause, self.meanwhile)
        for line in stack:
            log.warning("%s: | %s", self._name, line)
        self._tell(state="died", **death)

    def _give_up(self) -> None:
        assert self.last_death
        self.state = "quarantined"
        why = f"{self._policy.recent} deaths in {WINDOW_S:g} s, the last: {self.last_death['cause']}"
        log.error("%s: %s: %s%s", self._name, why, self.given_up, self.more)
        try:
            self._quarantine(why)
        except RackError as error:
            log.warning("%s: it cannot be put into quarantine: %s", self._name, error)
        self._tell(state=self.state, cause=why)

    def _tell(self, **data: object) -> None:
        self.tell("lane", **{self.table: self._name}, **data)

    @property
    def pid(self) -> int | None:
        """Of the child that lives. [any]"""
        life = self._life
        return life.pid if life and self.state == "running" else None

    @property
    def history(self) -> dict[str, Any]:
        """What STATS tells of it, whatever runs in it. [main]"""
        return {"state": self.state, "pid": self.pid, "deaths": dict(self.deaths), "last_death": self.last_death}

    def _let_end(self, life: Life[Memory]) -> None:
        """Let a child that lives come to where it hears that it is to end."""

    async def _end(self) -> None:
        """End the child in order, whatever it does just now. What hangs is killed and told."""
        self.state = "ended"
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        life = self._life
        if life is None:
            return
        if not life.ended.done():
            self._let_end(life)
            try:
                await life.ask("end", END_S)
                await asyncio.wait_for(asyncio.shield(life.ended), END_S)
            except (EndedError, RefusedError) as error:
                log.warning("%s: at its end: %s", self._name, life.detail or error)
            except TimeoutError:
                life.kill("no end")
                log.warning("%s: its child did not end within %g s", self._name, END_S)
            await life.ended
        await life.heard()
        life.close()
