"""The states of plugins: kept every few seconds and at the end, given back at the start."""

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sigrack.errors import ConfigError, EngineError, said
from sigrack.lanes import LanePlugin
from sigrack.loading import NativePlugin
from sigrack.saved.database import Database, Statement
from sigrack.saved.settings import pack
from sigrack.slot import Slot
from sigrack.state import Lender, Loan, PluginState, save
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["States"]

log = logging.getLogger("sigrack")

MOST_TRIES = 2
"""Starts that may end while a plugin takes its state back; then it starts without."""
MOST_STATES = 512
"""States that are kept, of all slots, plugins and versions there have been; the oldest go."""
MOST_BYTES = 64 << 20
"""Of one state."""

Key = tuple[str, str, str, str]
"""Slot, plugin, version, and what it hears and writes. So an update, another plugin or another rate spoils no state."""
_WHERE = "where slot = ? and plugin = ? and version = ? and setup = ? and refused = 0"


@dataclass(slots=True)
class _Kept:
    data: bytes
    saved: float
    tries: int = 0


class States(Lender):
    """The states of one rack's plugins."""

    def __init__(self, database: Database | None = None) -> None:
        """Read what was kept. Raises Unusable, ValueError. [main]"""
        self._database = database
        self._kept: dict[Key, _Kept] = {}
        self._silent: set[tuple[str, int]] = set()
        """Instances that fail to give a state: they are not asked again."""
        sql = "select slot, plugin, version, setup, tries, sum, data, saved from states where refused = 0"
        rows = database.read(sql) if database else []
        for *key, tries, checksum, data, saved in rows:
            if hashlib.sha256(data).digest() != checksum:
                raise ValueError(f"the state of {key[0]} is not what was saved")
            self._kept[key[0], key[1], key[2], key[3]] = _Kept(data, saved, tries)

    # To plugins

    def lend(self, slot: str, plugin: str, version: str, setup: Setup) -> Loan | None:
        """Return the state for an instance, of its version or of the one that was saved last; None: there is none. [main, worker]

        Until `accept` or `refuse` it counts as a try: should the host die meanwhile, it is not tried for ever.
        """
        heard = _heard(setup)
        mine = [key for key in self._kept if (key[0], key[1], key[3]) == (slot, plugin, heard)]
        if not mine:
            return None
        key = max(mine, key=lambda key: (key[2] == version, self._kept[key].saved))
        kept = self._kept[key]
        loan = Loan(slot, heard, PluginState(plugin, key[2], kept.data))
        if kept.tries >= MOST_TRIES:
            self.refuse(loan, "the host has died of it, or has been killed while it was given back")
            return None
        kept.tries += 1
        self._submit([(f"update states set tries = ? {_WHERE}", (kept.tries, *key))], wait=True)
        return loan

    def accept(self, loan: Loan) -> None:
        """The plugin has it. [any]"""
        key = _key(loan)
        if kept := self._kept.get(key):
            kept.tries = 0
            self._submit([(f"update states set tries = 0 {_WHERE}", key)])

    def refuse(self, loan: Loan, why: object) -> None:
        """The plugin cannot take it: it is kept, and not given back again. [any]"""
        log.warning("%s: begins without its saved state, which is kept: %s", loan.slot, why)
        self._kept.pop(_key(loan), None)
        self._submit([(f"update or replace states set refused = 1 {_WHERE}", _key(loan))])

    # From plugins

    async def keep(self, rack: "Rack") -> None:
        """Ask all plugins that have a state for it, and write down what has changed. [main]"""
        if self._database is None:
            return
        for slot in rack.slots:
            if (slot.name, id(slot)) in self._silent:
                continue
            try:
                if (state := await _state_of(rack, slot)) is not None:
                    await self._put(slot, state)
            except (ConfigError, EngineError) as error:
                self._silent.add((slot.name, id(slot)))
                log.warning("%s: its state is not kept until it is loaded again: %s", slot.name, said(error))

    async def _put(self, slot: Slot, state: PluginState) -> None:
        key = (slot.name, state.plugin, state.version, _heard(slot.setup))
        old = self._kept.get(key)
        if old and old.data == state.data:
            return
        if len(state.data) > MOST_BYTES:
            raise ConfigError(f"{slot.name}: its state has {len(state.data)} bytes; {MOST_BYTES >> 20} MiB is the most")
        now = time.time()
        checksum = await asyncio.to_thread(lambda: hashlib.sha256(state.data).digest())
        self._kept[key] = _Kept(state.data, now)
        statements: list[Statement] = [
            ("insert or replace into states values (?, ?, ?, ?, 0, 0, ?, ?, ?)", (*key, checksum, state.data, now)),
            (
                "delete from states where saved < (select saved from states order by saved desc limit 1 offset ?)",
                (MOST_STATES - 1,),
            ),
        ]
        assert self._database is not None
        if await asyncio.wrap_future(self._database.submit(statements)):
            del self._kept[key]  # to be written when there is room again

    def _submit(self, statements: list[Statement], *, wait: bool = False) -> None:
        if self._database is not None:
            done = self._database.submit(statements)
            if wait:
                done.result()


async def _state_of(rack: "Rack", slot: Slot) -> PluginState | None:
    """Return a slot's state as it is now; None: it has none, or none that can be had now. Raises ConfigError, EngineError."""
    if isinstance(slot.plugin, NativePlugin | LanePlugin):
        if not slot.plugin.stateful or slot.occupied:
            return None
        return await rack.changes.native_state(slot)
    hooked = slot.hooked
    if not slot.stateful or hooked is None or hooked.busy or hooked.closed or hooked.resting:
        return None
    return save(hooked, slot.plugin.id, slot.plugin.version)


def _key(loan: Loan) -> Key:
    return loan.slot, loan.state.plugin, loan.state.version, loan.setup


def _heard(setup: Setup) -> str:
    return pack([setup.rate_hz, setup.inputs, setup.outputs])
