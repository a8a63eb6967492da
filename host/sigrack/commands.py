"""What each control command does."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from sigrack import crossfeed
from sigrack.config import signal_table, slot_table
from sigrack.control import schema as s
from sigrack.errors import ConfigError, EngineError
from sigrack.slot import Slot
from sigrack.status import stats, status

if TYPE_CHECKING:
    from sigrack.changes import Changes
    from sigrack.session import Session

__all__ = ["Commands"]

log = logging.getLogger("sigrack")

GONE_S = 2.0
"""How long a reply waits for what has left the rack."""


class Commands:
    """Carries commands out on a session. All run on the main loop."""

    def __init__(self, session: "Session") -> None:
        self._session = session
        self._crossfeed_turn = asyncio.Lock()
        """A change of the crossfeed begins with what the one before has made of it."""

    async def handle(self, command: s.Command) -> s.Reply:
        """Carry one command out; tell all if a change fails. Raises CommandError. [main]"""
        try:
            return await self._answer(command)
        except s.CommandError as failure:
            if isinstance(command, s.Change):
                self._tell(command, failure.message)
            raise

    def _tell(self, command: s.Change, message: str) -> None:
        """Log and publish what has kept a change from being made: who has asked for it may be gone."""
        cmd = next(cmd for cmd, kind in s.COMMANDS.items() if isinstance(command, kind))
        name = getattr(command, "name", None)
        log.warning("%s failed: %s", f"{cmd} {name}" if name else cmd, message)
        self._session.publish("failed", cmd=cmd, name=name, message=message)

    async def _answer(self, command: s.Command) -> s.Reply:
        try:
            match command:
                case s.Ping():
                    return s.Reply("pong")
                case s.GetStatus():
                    return s.Reply(data=status(self._session))
                case s.Stats():
                    return s.Reply(data=stats(self._session))
                case s.List():
                    return s.Reply(data=_plugins())
                case s.ParamGet():
                    return self._param_get(command)
                case s.ParamSet():
                    return self._param_set(command)
                case s.Bypass():
                    return self._bypass(command)
                case s.ChannelSet():
                    return self._channel_set(command)
                case s.CrossfeedEnable():
                    return self._crossfeed_switch(on=True)
                case s.CrossfeedDisable():
                    return self._crossfeed_switch(on=False)
                case s.CrossfeedGetStatus():
                    return self._crossfeed_status()
                case s.CrossfeedSetSize() | s.CrossfeedSetCombined() | s.CrossfeedGenerateWoodworth():
                    async with self._crossfeed_turn:
                        return await self._crossfeed_change(command)
                case s.Load():
                    return await self._change(command.name, "loaded", self._load(command))
                case s.LoadSignal():
                    return await self._change(command.name, "loaded", self._load_signal(command))
                case s.Unload():
                    return await self._change(command.name, "unloaded", self._changes.unload(command.name, drain=command.drain))
                case s.Swap():
                    return await self._change(command.name, "swapped", self._swap(command))
                case s.Reload(name=str(name)):
                    return await self._change(name, "reloaded", self._changes.swap(name))
                case s.Reload():
                    return await self._reload()
                case s.Release():
                    return await self._release(command.name)
                case s.Shutdown():
                    self._session.stop()
                    return s.Reply("stopping")
        except KeyError as error:
            raise s.CommandError("VALIDATION_NOT_FOUND", str(error.args[0])) from None
        except ValueError as error:
            raise s.CommandError("IPC_INVALID_PARAMS", str(error)) from None
        raise AssertionError(f"no way to carry out {command!r}")

    def _param_get(self, command: s.ParamGet) -> s.Reply:
        slot = self._session.rack.slot(command.slot)
        names = [slot.param(command.param).id] if command.param else list(slot.values)
        return s.Reply(data={"slot": slot.name, "params": {name: slot.values[name] for name in names}})

    def _param_set(self, command: s.ParamSet) -> s.Reply:
        value = self._session.rack.set_param(command.slot, command.param, command.value)
        change = {"slot": command.slot, "param": command.param, "value": value}
        self._session.publish("param", **change)
        return s.Reply(f"{command.slot}.{command.param} = {value:g}", change)

    def _switch(self, slot: Slot, *, bypass: bool) -> None:
        slot.set_bypass(bypass)
        self._session.publish("bypass", slot=slot.name, on=bypass)

    def _bypass(self, command: s.Bypass) -> s.Reply:
        self._switch(self._session.rack.slot(command.slot), bypass=command.on)
        return s.Reply(f"{command.slot} {'bypassed' if command.on else 'active'}")

    def _channel_set(self, command: s.ChannelSet) -> s.Reply:
        state = self._session.rack.channels.set(command.name, mute=command.mute, solo=command.solo, gain_db=command.gain_db)
        self._session.publish("channel", **state)
        words = [f"{state['gain_db']:+g} dB", *(word for word in ("mute", "solo") if state[word])]
        return s.Reply(f"{command.name}: {', '.join(words)}", state)

    def _find_crossfeed(self) -> Slot | None:
        return next((slot for slot in self._session.rack.slots if slot.plugin.id == "crossfeed"), None)

    def _crossfeed(self) -> Slot:
        if (slot := self._find_crossfeed()) is None:
            raise s.CommandError("CROSSFEED_NOT_INITIALIZED", "the rack has no slot with the plugin crossfeed")
        return slot

    def _crossfeed_switch(self, *, on: bool) -> s.Reply:
        self._switch(self._crossfeed(), bypass=not on)
        return s.Reply(f"Crossfeed {'enabled' if on else 'disabled'}")

    def _crossfeed_status(self) -> s.Reply:
        if (slot := self._find_crossfeed()) is None:
            return s.Reply(data={"enabled": False, "initialized": False})
        config = slot.table.config
        facts = {"enabled": not slot.bypass, "initialized": True, "slot": slot.name, "source": crossfeed.source(config)}
        return s.Reply(data=facts | ({"head_size": str(config["head_size"]).lower()} if config.get("head_size") else {}))

    async def _crossfeed_change(self, command: crossfeed.Change) -> s.Reply:
        slot = self._crossfeed()
        config, facts = crossfeed.wanted(command, slot.table.config)
        await self._change(slot.name, "changed", self._changes.swap(slot.name, config=config))
        return s.Reply("Crossfeed changed", facts)

    @property
    def _changes(self) -> "Changes":
        return self._session.rack.changes

    async def _load(self, command: s.Load) -> None:
        values = {"name": command.name, "plugin": command.plugin, "params": command.params, "config": command.config}
        await self._changes.load(slot_table(values | {"in": command.inputs, "out": command.outputs}), command.before)

    async def _load_signal(self, command: s.LoadSignal) -> None:
        await self._changes.load(signal_table(msgspec.to_builtins(command)))

    async def _swap(self, command: s.Swap) -> None:
        await self._changes.swap(command.name, command.plugin, command.config, command.params, drain=command.drain)

    async def _release(self, name: str | None) -> s.Reply:
        """Load one after the other: should one end the host, the crash record names it."""
        custody = self._session.rack.custody
        names = custody.find(name)
        released, failed = [], []
        for held in names:
            try:
                await self._change(held, "released", self._changes.swap(held))
                released.append(held)
            except (KeyError, s.CommandError) as error:  # KeyError: somebody has unloaded what stood for it
                failed.append(getattr(error, "message", f'"{held}" is not in the rack'))
        for held in custody.release(names):
            self._session.publish("released", name=held)
        if failed:
            raise s.CommandError("ENGINE_FAILED", f"{'; '.join(failed)}; the next start loads what was not loaded")
        return s.Reply(f"released: {', '.join(released) or 'nobody was held back'}", {"released": released})

    async def _change(self, name: str, done: str, change: Coroutine[Any, Any, None]) -> s.Reply:
        """Carry out a change of one slot, and give what has left the time to end."""
        try:
            await change
        except ConfigError as error:
            raise s.CommandError("VALIDATION_INVALID_PLUGIN", f"{error}; nothing was changed") from None
        except EngineError as error:
            raise s.CommandError("ENGINE_FAILED", f"{error}; nothing was changed") from None
        await self._session.rack.reaper.gone(name, GONE_S)
        return s.Reply(f"{done} {name}", {"name": name})

    async def _reload(self) -> s.Reply:
        try:
            changed = await self._session.reload()
        except ConfigError as error:
            raise s.CommandError("VALIDATION_INVALID_CONFIG", f"{error}; nothing was changed") from None
        except EngineError as error:
            raise s.CommandError("ENGINE_FAILED", f"{error}; nothing was changed") from None
        return s.Reply(f"reloaded: {', '.join(changed) or 'nothing has changed'}", {"changed": changed})


def _plugins() -> dict[str, list[dict[str, Any]]]:
    from sigrack.loading.libraries import listing
    from sigrack_plugins import bundled

    plugins = [{"plugin": name, "path": str(path)} for name, path in bundled().items()]
    return {"plugins": plugins, "libraries": listing()}
