"""Bypass switches of slots in groups: the group is compiled anew, ahead of time where memory allows."""

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sigrack.errors import RackError
from sigrack.groups import Group, Parts, Variant, variant_of
from sigrack_engine.errors import CoreError

if TYPE_CHECKING:
    from sigrack.changes import Changes
    from sigrack.rack import Rack

__all__ = ["Switches"]

log = logging.getLogger("sigrack")


class Switches:
    """Lets groups follow their members' switches. What is turned while a group is compiled is done with the next."""

    def __init__(self, rack: "Rack", changes: "Changes") -> None:
        self._rack, self._changes = rack, changes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turning: asyncio.Task[None] | None = None
        self._ahead: asyncio.Task[None] | None = None
        self.waiting = False
        """A switch was turned that no change has taken up yet. [main]"""

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Work on `loop`. [main]"""
        self._loop = loop
        self.look_ahead()

    def end(self) -> None:
        """Follow no more. [main]"""
        self._loop = None
        if self._ahead:
            self._ahead.cancel()

    def turned(self) -> None:
        """Compile the groups anew, one of whose members was switched. [main]"""
        if self._loop is not None and not self.waiting:
            self.waiting = True
            self._turning = self._loop.create_task(self._follow())

    async def _follow(self) -> None:
        def begin() -> None:
            self.waiting = False

        try:
            await self._changes.renew(begin)
        except RackError as error:
            log.warning("a bypass is not heard: %s", error)
        finally:
            self.waiting = False

    def look_ahead(self) -> None:
        """Compile what groups will need when one of their members is switched, beside all else. [main]"""
        if self._loop is not None and self._rack.live and (self._ahead is None or self._ahead.done()):
            self._ahead = self._loop.create_task(self._compile_ahead())

    async def _compile_ahead(self) -> None:
        budget = self._rack.document.config.rack.ahead_mb << 20
        while (wanted := next(self._missing(), None)) is not None:
            group, parts = wanted
            held = sum(variant.filter.bytes for other in self._rack.groups for variant in list(other.ahead.values()))
            if held + group.memory_bytes > budget:
                return
            what = f"{group.name}, with a switch turned"
            try:
                variant: Variant = await self._changes.beside.build(what, variant_of, self._rack, parts)
            except (RackError, CoreError) as error:
                log.warning("not compiled ahead: %s", error)
                return
            if group in self._rack.groups and parts in group.switches:
                group.ahead[parts] = variant
            else:
                variant.free()

    def _missing(self) -> "Iterator[tuple[Group, Parts]]":
        return ((g, parts) for g in self._rack.groups for parts in g.switches if parts not in g.ahead)
