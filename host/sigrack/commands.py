"""What each control command does."""

import asyncio
import logging
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from sigrack import crossfeed
from sigrack.config import signal_table, slot_table
from sigrack.control import schema as s
from sigrack.errors import ConfigError, EngineError
from sigrack.saved.database import Statement
from sigrack.saved.desired import Call, Edit
from sigrack.saved.overlay import SIDES, Entry, Laid, Overlay
from sigrack.saved.presets import FILE, fitted
from sigrack.saved.settings import CHANNEL, Settings, with_bypass, with_param
from sigrack.slot import Slot
from sigrack.status import stats, status
from sigrack.tables import SignalTable, SlotTable

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
        self._desired = session.desired
        self._running: dict[str, tuple[bytes, asyncio.Task[s.Reply]]] = {}
        """Requests with ids that are not answered yet."""

    async def handle(self, command: s.Command, request: s.Request | None = None) -> s.Reply:
        """Carry one command out; tell all if a change fails. Raises CommandError. [main]

        A request with an id is carried out once. Its reply is given when it is in force and written down.
        """
        call = Call(request)
        if request is None or request.id is None or not isinstance(command, s.Write):
            return await self._carry_out(command, call)
        if (running := self._running.get(request.id)) is not None:
            _check_same(call, running[0])
            return await asyncio.shield(running[1])
        if (answered := self._desired.requests.find(request.id)) is not None:
            _check_same(call, answered[0])
            return msgspec.json.decode(answered[1], type=s.Reply)
        task = asyncio.get_running_loop().create_task(self._carry_out(command, call))
        self._running[request.id] = call.digest, task
        task.add_done_callback(partial(self._answered, request.id))
        return await asyncio.shield(task)

    def _answered(self, name: str, task: "asyncio.Task[s.Reply]") -> None:
        del self._running[name]
        if not task.cancelled():
            task.exception()  # who has asked may be gone

    async def _carry_out(self, command: s.Command, call: Call) -> s.Reply:
        try:
            call.reply = await self._answer(command, call)
        except s.CommandError as failure:
            if isinstance(command, s.Change):
                self._tell(command, failure.message)
            raise
        if isinstance(command, s.Write) and call.saved is None:
            self._desired.submit([], call)
        if call.saved is not None and (why := await _result(call.saved)) and self._desired.database:
            call.reply = s.Reply(f"{call.reply.message}; not kept: {why}", call.reply.data)
        if isinstance(command, s.Change) and (name := getattr(command, "name", None)):
            await self._session.rack.reaper.gone(name, GONE_S)
        if isinstance(command, s.Shutdown):
            self._session.stop()
        return call.reply

    def _tell(self, command: s.Change, message: str) -> None:
        """Log and publish what has kept a change from being made: who has asked for it may be gone."""
        cmd = next(cmd for cmd, kind in s.COMMANDS.items() if isinstance(command, kind))
        name = getattr(command, "name", None)
        log.warning("%s failed: %s", f"{cmd} {name}" if name else cmd, message)
        self._session.publish("failed", cmd=cmd, name=name, message=message)

    async def _answer(self, command: s.Command, call: Call) -> s.Reply:
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
                    return self._param_set(command, call)
                case s.Bypass():
                    return self._bypass(command, call)
                case s.ChannelSet():
                    return self._channel_set(command, call)
                case s.CrossfeedEnable() | s.CrossfeedDisable():
                    return self._crossfeed_switch(on=isinstance(command, s.CrossfeedEnable), call=call)
                case s.CrossfeedGetStatus():
                    return self._crossfeed_status()
                case s.PresetList():
                    return s.Reply(data={"presets": self._desired.presets.listing})
                case s.PresetSave():
                    return self._preset_save(command, call)
                case s.PresetDelete():
                    return self._preset_delete(command, call)
                case s.Reload(name=None):
                    return await self._reload(call)
                case s.Shutdown():
                    return s.Reply("stopping")
                case s.Change():
                    async with self._desired.turn:
                        return await self._change(command, call)
        except KeyError as error:
            raise s.CommandError("VALIDATION_NOT_FOUND", str(error.args[0])) from None
        except ValueError as error:
            raise s.CommandError("IPC_INVALID_PARAMS", str(error)) from None
        raise AssertionError(f"no way to carry out {command!r}")

    def _slot(self, name: str) -> Slot:
        return self._session.rack.slot(name)

    def _param_get(self, command: s.ParamGet) -> s.Reply:
        slot = self._slot(command.slot)
        names = [slot.param(command.param).id] if command.param else list(slot.values)
        return s.Reply(data={"slot": slot.name, "params": {name: slot.values[name] for name in names}})

    def _edit(self, call: Call, reply: s.Reply, edit: Edit) -> s.Reply:
        call.reply = reply
        self._desired.edit(edit, call)
        return reply

    def _param_set(self, command: s.ParamSet, call: Call) -> s.Reply:
        slot = self._slot(command.slot)
        value = slot.want_param(command.param, command.value)
        change = {"slot": command.slot, "param": command.param, "value": value}
        self._session.publish("param", **change)
        text = f"{command.slot}.{command.param} = {value:g}"
        on = partial(with_param, slot=slot.name, param=command.param, value=value)
        edit = Edit(
            text,
            on,
            lambda: self._slot(slot.name).want_param(command.param, value),
            slot.name,
            key=f"{slot.name} {command.param}",
        )
        return self._edit(call, s.Reply(text, change), edit)

    def _switch(self, slot: Slot, call: Call, reply: s.Reply, *, bypass: bool) -> s.Reply:
        slot.want_bypass(bypass)
        self._session.publish("bypass", slot=slot.name, on=bypass)
        on = partial(with_bypass, slot=slot.name, bypass=bypass)
        text = f"{slot.name} {'bypassed' if bypass else 'active'}"
        return self._edit(call, reply, Edit(text, on, lambda: self._slot(slot.name).want_bypass(bypass), slot.name))

    def _bypass(self, command: s.Bypass, call: Call) -> s.Reply:
        reply = s.Reply(f"{command.slot} {'bypassed' if command.on else 'active'}")
        return self._switch(self._slot(command.slot), call, reply, bypass=command.on)

    def _channel_set(self, command: s.ChannelSet, call: Call) -> s.Reply:
        given = {key: value for key in CHANNEL if (value := getattr(command, key)) is not None}
        state = self._session.rack.channels.set(command.name, **given)
        self._session.publish("channel", **state)
        words = [f"{state['gain_db']:+g} dB", *(word for word in ("mute", "solo") if state[word])]
        text = f"{command.name}: {', '.join(words)}"
        key = f"channel {command.name}" if given.keys() == {"gain_db"} else ""
        again = partial(self._session.rack.channels.set, command.name, **given)
        edit = Edit(text, lambda settings: settings.with_channel(command.name, given), again, key=key)
        return self._edit(call, s.Reply(text, state), edit)

    def _find_crossfeed(self) -> Slot | None:
        return next((slot for slot in self._session.rack.slots if slot.plugin.id == "crossfeed"), None)

    def _crossfeed(self) -> Slot:
        if (slot := self._find_crossfeed()) is None:
            raise s.CommandError("CROSSFEED_NOT_INITIALIZED", "the rack has no slot with the plugin crossfeed")
        return slot

    def _crossfeed_switch(self, *, on: bool, call: Call) -> s.Reply:
        reply = s.Reply(f"Crossfeed {'enabled' if on else 'disabled'}")
        return self._switch(self._crossfeed(), call, reply, bypass=not on)

    def _crossfeed_status(self) -> s.Reply:
        if (slot := self._find_crossfeed()) is None:
            return s.Reply(data={"enabled": False, "initialized": False})
        config = slot.table.config
        facts = {"enabled": not slot.bypass, "initialized": True, "slot": slot.name, "source": crossfeed.source(config)}
        return s.Reply(data=facts | ({"head_size": str(config["head_size"]).lower()} if config.get("head_size") else {}))

    @property
    def _changes(self) -> "Changes":
        return self._session.rack.changes

    async def _release(self, name: str | None, call: Call) -> None:
        """Load one after the other: should one end the host, the crash record names it."""
        rack = self._session.rack
        names = rack.custody.find(name)
        released, failed = [], []
        for held in names:
            try:
                await self._changes.swap(held)
                released.append(held)
            except KeyError:  # somebody has unloaded what stood for it
                failed.append(f'"{held}" is not in the rack')
            except (ConfigError, EngineError) as error:
                failed.append(f"{error}; nothing was changed")
        for held in rack.custody.release(names):
            self._session.publish("released", name=held)
        if failed:
            raise s.CommandError("ENGINE_FAILED", f"{'; '.join(failed)}; the next start loads what was not loaded")
        call.reply = s.Reply(f"released: {', '.join(released) or 'nobody was held back'}", {"released": released})

    async def _change(self, command: s.Change, call: Call) -> s.Reply:
        """Carry out a change of the rack."""
        try:
            match command:
                case s.Load() | s.LoadSignal():
                    await self._load(command, call)
                case s.Unload():
                    await self._unload(command, call)
                case s.Swap():
                    call.reply = s.Reply(f"swapped {command.name}", {"name": command.name})
                    await self._swap(command, call)
                case s.Reload(name=str(name)):
                    call.reply = s.Reply(f"reloaded {name}", {"name": name})
                    await self._swap(s.Swap(name=name), call)
                case s.CrossfeedSetSize() | s.CrossfeedSetCombined() | s.CrossfeedGenerateWoodworth():
                    slot = self._crossfeed()
                    config, facts = crossfeed.wanted(command, slot.table.config)
                    call.reply = s.Reply("Crossfeed changed", facts)
                    await self._swap(s.Swap(name=slot.name, config=config), call)
                    await self._session.rack.reaper.gone(slot.name, GONE_S)
                case s.Release():
                    await self._release(command.name, call)
                case s.Undo() | s.Redo():
                    await self._turn_back(call, back=isinstance(command, s.Undo))
                case s.PresetRecall():
                    await self._recall(command.name, call)
                case s.Compare():
                    await self._compare(command.side, call)
                case s.Save():
                    await self._session.save(call)
        except ConfigError as error:
            if isinstance(command, s.Save):
                raise s.CommandError("VALIDATION_INVALID_CONFIG", f"{error}; nothing was written") from None
            raise s.CommandError("VALIDATION_INVALID_PLUGIN", f"{error}; nothing was changed") from None
        except EngineError as error:
            raise s.CommandError("ENGINE_FAILED", f"{error}; nothing was changed") from None
        return call.reply

    async def _load(self, command: s.Load | s.LoadSignal, call: Call) -> None:
        name, rack, desired = command.name, self._session.rack, self._desired
        call.reply = s.Reply(f"loaded {name}", {"name": name})

        def note() -> None:
            settings = desired.settings.without(name)
            if isinstance(table, SlotTable):
                names = [slot.name for slot in rack.slots]
                settings = settings.with_slot(table, names[names.index(name) + 1 :])
            else:
                settings = settings.with_signal(table)
            desired.put(settings, f"loaded {name}", call)

        if isinstance(command, s.Load):
            values = msgspec.to_builtins(command)
            before = values.pop("before")
            table: SlotTable | SignalTable = slot_table(values)
            await self._changes.load(table, before, then=note)
        else:
            table = signal_table(msgspec.to_builtins(command))
            await self._changes.load(table, then=note)

    async def _unload(self, command: s.Unload, call: Call) -> None:
        name, desired = command.name, self._desired
        call.reply = s.Reply(f"unloaded {name}", {"name": name})

        def note() -> None:
            desired.put(desired.settings.without(name), f"unloaded {name}", call)

        await self._changes.unload(name, drain=command.drain, then=note)

    async def _swap(self, command: s.Swap, call: Call) -> None:
        name, desired = command.name, self._desired

        def note() -> None:
            table = next(thing.table for thing in self._session.rack.things if thing.name == name)
            desired.put(desired.settings.replaced(table), f"swapped {name}", call, names=(name,))

        given = command.plugin, command.config, command.params
        await self._changes.swap(name, *given, lane=command.lane, drain=command.drain, then=note)

    async def _turn_back(self, call: Call, *, back: bool) -> None:
        """Take a step back, or make it again."""
        desired = self._desired
        if (step := desired.history.undo if back else desired.history.redo) is None:
            what = "nothing to take back" if back else "nothing to make again: nothing was taken back since the last change"
            raise s.CommandError("VALIDATION_NOTHING_TO_DO", what)
        call.reply = s.Reply(f"{'taken back' if back else 'made again'}: {step.what}", {"what": step.what})

        def note(before: Overlay, after: Overlay) -> list[Statement]:
            if desired.overtaken:  # something was set meanwhile: there is no way forward any more
                return desired.history.forget(step)
            return desired.history.turn(step, undone=back)

        await desired.move(self._session.rack, desired.laid(step, back=back), desired.base, call, note)

    async def _go_to(self, laid: Laid, what: str, call: Call) -> None:
        """Go to complete settings, as one step."""
        desired = self._desired

        def note(before: Overlay, after: Overlay) -> list[Statement]:
            return desired.history.add(what, "", before, after)

        await desired.move(self._session.rack, laid, desired.base, call, note)

    async def _recall(self, name: str, call: Call) -> None:
        desired = self._desired
        kept = Settings.of(desired.base) if name == FILE else Settings.read(desired.presets.find(name))
        call.reply = s.Reply(f'recalled "{name}"', {"name": name})
        laid = desired.laid_for(fitted(kept, desired.base, desired.settings))
        await self._go_to(laid, f'recalled "{name}"', call)

    async def _compare(self, wanted: str | None, call: Call) -> None:
        desired = self._desired
        entry = desired.overlay.get(SIDES)
        side = entry.value["side"] if entry else "A"
        wanted = wanted or ("B" if side == "A" else "A")
        call.reply = s.Reply(f"side {wanted}", {"side": wanted})
        if wanted == side:
            return
        kept = Settings.read(entry.value["other"]) if entry else desired.settings
        laid = desired.laid_for(fitted(kept, desired.base, desired.settings))
        laid.overlay[SIDES] = Entry({"side": wanted, "other": desired.settings.text()})
        await self._go_to(laid, f"side {wanted}", call)

    def _preset_save(self, command: s.PresetSave, call: Call) -> s.Reply:
        call.reply = s.Reply(f'saved "{command.name}"', {"name": command.name})
        self._desired.submit(self._desired.presets.save(command.name, self._desired.settings), call)
        return call.reply

    def _preset_delete(self, command: s.PresetDelete, call: Call) -> s.Reply:
        call.reply = s.Reply(f'deleted "{command.name}"', {"name": command.name})
        self._desired.submit(self._desired.presets.delete(command.name), call)
        return call.reply

    async def _reload(self, call: Call) -> s.Reply:
        try:
            await self._session.reload(call)
        except ConfigError as error:
            raise s.CommandError("VALIDATION_INVALID_CONFIG", f"{error}; nothing was changed") from None
        except EngineError as error:
            raise s.CommandError("ENGINE_FAILED", f"{error}; nothing was changed") from None
        return call.reply


async def _result(future: "Future[str]") -> str:
    """Wait for a future, if it is not done."""
    return future.result() if future.done() else await asyncio.wrap_future(future)


def _check_same(call: Call, digest: bytes) -> None:
    """Raise CommandError if a request is not the one that had its id before."""
    assert call.request is not None
    if call.digest != digest:
        raise s.CommandError("IPC_INVALID_PARAMS", f'the id "{call.request.id}" was another request\'s: take a new one for each')


def _plugins() -> dict[str, list[dict[str, Any]]]:
    from sigrack.loading.libraries import listing
    from sigrack_plugins import bundled

    plugins = [{"plugin": name, "path": str(path)} for name, path in bundled().items()]
    return {"plugins": plugins, "libraries": listing()}
