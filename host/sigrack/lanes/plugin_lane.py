"""A lane whose children run plugins: one, or several that stand side by side."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sigrack.errors import ConfigError
from sigrack.lanes.lane import Lane, Orders
from sigrack.lanes.lives import LOAD_S, ChangedError
from sigrack.lanes.messages import Message
from sigrack.lanes.minder import EndedError, Life, Minder, RefusedError
from sigrack.quarantine import Quarantine
from sigrack_engine.cover import Cover
from sigrack_engine.exchange import PROCESSING, Exchange
from sigrack_engine.keeping import Death

__all__ = ["Member", "MemberOrders", "PluginLane"]

log = logging.getLogger("sigrack")

CHILD = "sigrack.lanes.child:main"
SAVE_S = 2.0
"""What a child may take; below the control thread's limit."""


@dataclass(frozen=True, slots=True)
class MemberOrders:
    """Which plugin, and for which slot."""

    name: str
    """The slot's."""
    target: str
    """The plugin's file or module."""
    is_file: bool
    file: str
    """The rack's, where relative paths of the configuration begin."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(eq=False, slots=True)
class Member:
    """One plugin of a lane, and what it begins each life with."""

    number: int
    orders: MemberOrders
    description: Message = field(default_factory=dict)
    sha256: str = ""
    """Of the content that the last life has loaded."""
    begin: Message = field(default_factory=dict)
    contract: Message = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    """Parameters as they are, once the lane runs."""
    is_active: Callable[[], bool] = lambda: True
    """Whether the child is to let it be heard; only asked for in a shared lane."""
    snapshot: tuple[str, bytes] | None = None
    """Version and state that the next life gets."""
    given: tuple[list[float], bool] = ([], True)
    """Parameters, and whether it is heard, as the last life has them from its beginning."""
    on_results: Callable[[Message], object] = lambda message: None
    """Is given records that it has posted. [minder]"""
    on_life: Callable[[list[float], bool], object] = lambda values, active: None
    """Called when the engine has another life, with what that was given. [minder]"""


class PluginLane(Lane):
    """Loads the members into each life, one after the other. All on the minder's loop but what says otherwise."""

    table = "slot"
    meanwhile = "its input is played meanwhile"
    given_up = "it stays bypassed"

    def __init__(self, minder: Minder, orders: Orders, *, shared: bool, fade_frames: int) -> None:
        """`shared`: members are switched in the child, in `fade_frames`; else there is one, which the engine switches. [any]"""
        super().__init__(minder, orders, orders.name)
        self._shared, self._fade_frames = shared, fade_frames
        if shared:
            self.table = "lane"
        self._members: list[Member] = []
        self._line: Sequence[Member] = ()
        """In the order in which they play, once they do."""
        self._blamed: Member | None = None
        """At which the last life has ended."""
        self._numbers = 0
        self.lost_records = 0
        """Results that found no room in the child."""

    # What members do

    async def load(self, orders: MemberOrders) -> Member:
        """Let the first life load one more plugin. Raises ConfigError, EngineError."""
        life = await self._first_life()
        member = Member(self._numbers, orders)
        self._numbers += 1
        member.description = await self._loaded(life, member)
        self._members.append(member)
        return member

    async def begin(
        self, member: Member, config: Mapping[str, Any], state: tuple[str, bytes] | None, values: Mapping[str, float]
    ) -> Message:
        """Let a processor begin in the first life; return its contract. Raises ConfigError, EngineError."""
        orders = member.orders
        begin = {
            "config": dict(config),
            "file": orders.file,
            "rate_hz": self._orders.rate_hz,
            "inputs": orders.inputs,
            "outputs": orders.outputs,
        }
        life = await self._first_life()
        numbers = list(values.values())
        contract: Message = await self._let(life, member, "begin", **begin, state=state, values=numbers)
        member.begin, member.snapshot, member.values, member.contract = begin, state, dict(values), contract
        member.given = numbers, True
        return contract

    async def leave(self, member: Member) -> None:
        """Forget a member: no further life is to load it."""
        self._members = [other for other in self._members if other is not member]

    async def start(self, line: Sequence[Member], cover: Cover) -> None:
        """Let `line` play in this order, and give the first life to `cover`. Raises ConfigError, EngineError."""
        self._line, self._cover = tuple(line), cover
        await self._play(await self._first_life())
        await self.run(cover)

    async def save(self, member: Member) -> tuple[str, bytes] | None:
        """Return version and state as they are now, or as they were kept. Raises ConfigError if it is refused."""
        if self._life and self.state == "running":
            with suppress(EndedError):
                try:
                    await self._snap(self._life, member, LOAD_S if self._orders.patient else SAVE_S)
                except RefusedError as error:
                    raise ConfigError(str(error)) from None
        return member.snapshot

    async def _snap(self, life: Life[Exchange], member: Member, limit_s: float) -> None:
        member.snapshot = await life.ask("save", limit_s, member=member.number) or member.snapshot

    # Lives

    async def _first_life(self) -> Life[Exchange]:
        """Return the life in which all that has come so far has begun: it may have died of the last that came."""
        if self._life and not self._life.ended.done():
            return self._life
        if self._life:
            self._discard(self._life)
        return await self._filled()

    async def _again(self) -> Life[Exchange]:
        life = await self._filled()
        await self._play(life)
        return life

    async def _filled(self) -> Life[Exchange]:
        """Begin a life with all members. Raises ConfigError, EngineError."""
        orders = self._orders
        argument = {"name": orders.name, "priority": orders.priority, "shape": orders.shape}
        life = await self._minder.start(CHILD, partial(Exchange, orders.shape), orders.memory_mb, argument)
        life.on_note = self._hear
        self._life = life
        try:
            for member in self._members:
                await self._fill(life, member)
        except ConfigError:
            if not life.ended.done():
                await self._drop(life)
            raise
        return life

    async def _fill(self, life: Life[Exchange], member: Member) -> None:
        """Let a member begin as it did before, with its parameters as they are. Raises ConfigError."""
        self._blamed = member
        target = member.orders.target
        if await self._loaded(life, member) != member.description:
            raise ChangedError(f"{target} has changed: swap or reload {member.orders.name}")
        if not member.begin:
            return
        values = [member.values[info["id"]] for info in member.description["params"]]
        try:
            contract = await self._let(life, member, "begin", **member.begin, state=member.snapshot, values=values)
        except ConfigError:
            member.snapshot = None  # it may be what they die of
            raise
        if contract != member.contract:
            raise ChangedError(f"{target} has changed: swap or reload {member.orders.name}")
        member.given = values, True

    async def _play(self, life: Life[Exchange]) -> None:
        """Let the members play, in their order. Raises ConfigError."""
        for member in self._line if self._shared else ():
            member.given = member.given[0], member.is_active()
        chain = {"active": [member.given[1] for member in self._line], "fade_frames": self._fade_frames} if self._shared else None
        await self._ask(life, "play", members=[member.number for member in self._line], chain=chain)

    def _taken_up(self) -> None:
        for member in self._line:
            member.on_life(*member.given)

    async def _loaded(self, life: Life[Exchange], member: Member) -> Message:
        """Let a life load a plugin; return what it is. Raises ConfigError."""
        orders = member.orders
        description: Message = await self._let(
            life, member, "load", name=orders.name, plugin=orders.target, is_file=orders.is_file
        )
        member.sha256 = description.pop("sha256")
        return description

    async def _let(self, life: Life[Exchange], member: Member, what: str, **arguments: object) -> Any:
        """Let a member do what it must begin with. Raises ConfigError; the child lives on unless it died of it."""
        try:
            return await life.ask(what, self._load_s, member=member.number, **arguments)
        except EndedError as error:
            self._discard(life)
            raise ConfigError(f"{member.orders.target}: its child died in {what}: {life.detail or error}") from error
        except RefusedError as error:
            raise ConfigError(str(error), error.key) from None

    async def _live(self, life: Life[Exchange]) -> Death:
        death = await super()._live(life)
        progress = life.exchange.progress
        alone = self._line[0] if len(self._line) == 1 else None
        at_work = progress.phase == PROCESSING and progress.member < len(self._line)
        by_itself = death.why in ("", "hang") and death.signal != signal.SIGKILL  # else it was not what was at work just then
        self._blamed = self._line[progress.member] if at_work and by_itself else alone
        self.more = type(self).more if self._blamed else ""
        return death

    def _note(self, cause: str, detail: str = "", stack: Sequence[str] = (), *, pid: int = 0, core: bool = False) -> None:
        if self._shared:
            where = f"in {self._blamed.orders.name}" if self._blamed else "in which slot is not known"
            detail = f"{where}: {detail}" if detail else where
        super()._note(cause, detail, stack, pid=pid, core=core)

    def _quarantine(self, why: str) -> None:
        if self._blamed is None:
            log.warning("%s: which plugin it is cannot be told: a lane for each would tell", self._name)
        elif self._blamed.sha256:
            plugin = self._blamed.description
            Quarantine.open().add(Path(plugin["file"]), plugin["id"], why, self._blamed.sha256)

    async def _save(self, life: Life[Exchange]) -> None:
        for member in self._members:
            try:
                await self._snap(life, member, SAVE_S * self._orders.patience)
            except RefusedError as error:
                log.warning("%s: its state cannot be had: %s", member.orders.name, error)
            except EndedError:
                return

    def _hear(self, message: Message) -> None:
        member = next((member for member in self._members if member.number == message.get("member")), None)
        if member is None:  # it has left
            return
        match message["note"]:
            case "results":
                self.lost_records += int(message["lost"])
                member.on_results(message)
            case "raised":
                self.said = str(message.get("text", ""))[:1000]
                log.warning(
                    "%s: process raised: %s; its input is played for that quantum; more are counted",
                    member.orders.name,
                    self.said,
                )
            case "bad":
                log.warning("%s: %s", member.orders.name, str(message.get("text", ""))[:1000])
            case "log":
                log.info("%s: %s", member.orders.name, str(message.get("text", ""))[:1000])

    @property
    def facts(self) -> dict[str, Any]:
        """What STATS tells of it; frames are those of its place. [main]"""
        own = {"raised": self.said, "lost_records": self.lost_records}
        if self._shared:
            own |= {"name": self._name, "slots": [member.orders.name for member in self._line]}
        return super().facts | own
