"""A slot is fitted out: instance, processor or filter, taps, rings, for its place in the rack."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigrack.context import PluginContext
from sigrack.dispatch import HookTap, Source
from sigrack.errors import ConfigError, nearest
from sigrack.forms import ask_forms, counts
from sigrack.hooks import Hooked
from sigrack.lanes import LaneInstance, LanePlugin
from sigrack.lanes.shared import Place
from sigrack.loading import NativePlugin, PythonPlugin
from sigrack.slot import Carried, Slot
from sigrack.state import StateRefusedError
from sigrack.tables import SlotTable
from sigrack.watch import HookTimeout
from sigrack_engine.pool import BlockPool
from sigrack_engine.results import POST_ADDRESS, ResultRing
from sigrack_engine.slot import Processor, SlotCore
from sigrack_engine.tap import TapRing, WorkerTap
from sigrack_plugins import Plugin, Setup
from sigrack_plugins.abi import MAX_CHANNELS, UNIFORM, Contract

if TYPE_CHECKING:
    from sigrack.loading.native import NativeInstance
    from sigrack.rack import Rack

__all__ = ["build_slot"]

MOST_LATENCY_S = 10
METER_RECORDS = 1024
"""Records of a native plugin's that may wait, at least."""
HOOK_TAP_S = 4.0
"""How far hooks may fall behind before frames are lost, in seconds of audio."""


def build_slot(
    rack: "Rack",
    table: SlotTable,
    plugin: NativePlugin | PythonPlugin | LanePlugin,
    resolve: Callable[[str], Path],
    setup: Setup,
    carried: Carried | None = None,
) -> Slot:
    """Make a slot that is ready to run. Raises ConfigError (without file and line), EngineError. [main, worker]

    `setup`: what comes in at its place.
    """
    slot = Slot(table, plugin, setup, bypass=carried.bypass if carried else table.bypass, carried=carried)
    slot.on_level = rack.headroom.follow
    try:
        if isinstance(plugin, PythonPlugin):
            _build_python(rack, slot, plugin, resolve)
            loan = None if carried or not slot.stateful else rack.states.lend(slot.name, plugin.id, plugin.version, setup)
            slot.kept = (rack.states, loan) if loan else None
        else:
            _build_native(rack, slot, plugin, carried)
        if slot.bypass and (why := slot.unbypassable):
            raise ConfigError(why, ("bypass",))
    except BaseException:
        if slot.source:
            slot.source.ring.close()
        rack.destroy(f"{slot.name}: destroy", slot.destroy)
        slot.free()
        raise
    return slot


def _make_core(rack: "Rack", slot: Slot, processor: Processor) -> None:
    slot.core = SlotCore(
        processor,
        channels=slot.setup.channels,
        max_frames=rack.block_at(slot.setup.rate_hz),
        fade_frames=rack.fade_at(slot.setup.rate_hz),
        active=not slot.bypass,
        place=rack.bus.place(slot.setup),
    )


def _initial_values(plugin: NativePlugin | LanePlugin, params: Mapping[str, Any], name: str) -> dict[str, float]:
    values = {info.id: info.initial for info in plugin.params}
    for key, value in params.items():
        for info in plugin.params:
            if info.id == key:
                try:
                    values[key] = info.check(value)
                except ValueError as error:
                    raise ConfigError(f"{name}: {error}", ("params", key)) from None
                break
        else:
            raise ConfigError(f'{plugin.id} has no parameter "{key}"{nearest(key, list(values))}', ("params", key))
    return values


def _kept_values(plugin: NativePlugin | LanePlugin, carried: Carried) -> dict[str, float]:
    """Return the carried values that the plugin still takes."""
    ranges = {info.id: (info.minimum, info.maximum) for info in plugin.params}
    return {
        name: value for name, value in carried.values.items() if name in ranges and ranges[name][0] <= value <= ranges[name][1]
    }


def _meter_records(factors: int, block_frames: int, rate_hz: int) -> int:
    """Return how many records a ring needs for two blocks in which each factor is posted every millisecond.

    Freewheel drains between blocks, and goes on as long as half of the ring is free.
    """
    posts = block_frames // max(rate_hz // 1000, 1) + 1
    return max(METER_RECORDS, 2 * factors * posts)


def _build_native(rack: "Rack", slot: Slot, plugin: NativePlugin | LanePlugin, carried: Carried | None) -> None:
    if slot.setup.out_channels != slot.setup.channels:
        raise ConfigError(f"{plugin.id}: gives as many channels as it takes, but {counts(slot.setup)}", ("out",))
    slot.values = _initial_values(plugin, slot.table.params, slot.name)
    if carried:
        slot.values |= _kept_values(plugin, carried)
    state = carried.state if carried and carried.state and carried.state.plugin == plugin.id else None
    if plugin.factors:
        records = _meter_records(len(plugin.factors), rack.block_frames, rack.setup.rate_hz)
        ring = ResultRing(rack.bell, list(plugin.factors), rack.engine.frame_address, records, MAX_CHANNELS)
        slot.source = Source(slot.name, ring, slot.setup.rate_hz)
    cookie = slot.source.ring.cookie if slot.source else 0
    config = slot.table.config
    loan = None if carried or not plugin.stateful else rack.states.lend(slot.name, plugin.id, plugin.version, slot.setup)
    state = loan.state if loan else state

    def make() -> "tuple[NativeInstance | LaneInstance, Contract]":
        instance = plugin.create(config, cookie, POST_ADDRESS)
        try:
            if state and plugin.stateful:
                instance.load_state(state.version, state.data)
            contract = instance.activate(
                rate_hz=slot.setup.rate_hz,
                max_frames=rack.block_at(slot.setup.rate_hz),
                channels=slot.setup.channels,
                values=[slot.values[info.id] for info in plugin.params],
            )
        except BaseException as error:
            instance.destroy()
            if loan and isinstance(error, ConfigError):
                raise StateRefusedError(str(error), loan) from None
            raise
        if loan:
            rack.states.accept(loan)
        return instance, contract

    slot._instance, contract = rack.control.call(f"{slot.name}: create", make)
    if contract.latency_frames > MOST_LATENCY_S * slot.setup.rate_hz:
        raise ConfigError(f"{plugin.id}: states a latency of {contract.latency_frames} frames; {MOST_LATENCY_S} s is the most")
    slot.processor = Processor(
        slot._instance.process_address,
        slot._instance.reset_address,
        slot._instance.pointer,
        latency_frames=contract.latency_frames,
    )
    slot.uniform = bool(contract.flags & UNIFORM) and not contract.latency_frames and slot.source is None
    if isinstance(slot._instance, LaneInstance):
        _put_into_lane(rack, slot, slot._instance, slot.processor)
    else:
        _make_core(rack, slot, slot.processor)


def _put_into_lane(rack: "Rack", slot: Slot, instance: LaneInstance, processor: Processor) -> None:
    slot.lane = instance.lane
    if instance.home.owner:
        slot.place = Place(instance.home.owner)
        return
    instance.lane.tell = rack.tell
    instance.member.on_life = partial(rack.soon, slot.set_again)
    _make_core(rack, slot, processor)
    instance.run(slot.values)


def _build_python(rack: "Rack", slot: Slot, plugin: PythonPlugin, resolve: Callable[[str], Path]) -> None:
    if slot.table.params:
        raise ConfigError(f'"{slot.name}" ({plugin.id}) has no parameters; its options go into [slot.config]', ("params",))
    birth = Hooked(slot.name, Plugin(), frozenset(), rack.watch, lossless=True)
    try:
        instance = rack.on_main(birth.attempt, "__init__", plugin.create, slot.table.config, resolve)
    except HookTimeout as error:
        raise ConfigError(f"{slot.name}: __init__ did not return: {error}") from None
    slot.hooked = Hooked(slot.name, instance, plugin.methods, rack.watch, lossless=not rack.live)
    slot.context = PluginContext(rack, slot.hooked, slot.setup, slot.table.config, plugin.factors)
    instance.ctx = slot.context
    if plugin.methods & {"fir", "recursive"}:
        slot.linear, slot.recursion = ask_forms(plugin, instance, slot.setup)
        slot.refresh = rack.changes.switches.turned
        slot.hooked.on_rest = partial(slot.set_bypass, True) if slot.ratio == 1 else slot.hooked.on_rest
    elif slot.setup.outputs != slot.setup.inputs:
        raise ConfigError(f'"{slot.name}" ({plugin.id}) only listens: it writes no channels; leave out away', ("out",))
    if slot.ratio > 1 and not rack.bus.whole(slot.setup):
        raise ConfigError(
            f"{plugin.id}: changes the rate, so it must hear and write all channels: leave in and out away", ("in",)
        )
    channels, rate_hz, heard = slot.setup.channels, slot.out_rate_hz, rack.bus.heard(slot.setup.inputs)
    if "on_block" in plugin.methods:
        frames = max(round(HOOK_TAP_S * rate_hz), 4 * (rack.hook_frames + rack.block_at(rate_hz)))
        tap = TapRing(channels, frames, rack.hook_frames, rack.bell, heard)
        slot.hook_tap = HookTap(slot.hooked, tap, BlockPool(channels, rack.hook_frames), rate_hz)
    if "work" in plugin.methods:
        slot.worker_tap = WorkerTap(channels, rate_hz, plugin.tap_seconds, rack.block_at(rate_hz), heard)
