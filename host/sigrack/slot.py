"""One slot at run time: its plugin, its processor, its taps, its parameters."""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigrack.config import SlotTable
from sigrack.context import PluginContext
from sigrack.dispatch import HookTap, Source
from sigrack.errors import ConfigError, nearest, said
from sigrack.hooks import Hooked, nothing
from sigrack.lifecycle import start_thread
from sigrack.loading import NativePlugin, ParamInfo, PythonPlugin
from sigrack.state import PluginState, restore, save
from sigrack_engine.fir import Fir
from sigrack_engine.pool import BlockPool
from sigrack_engine.results import POST_ADDRESS, ResultRing
from sigrack_engine.slot import Processor, SlotCore
from sigrack_engine.tap import TapRing, WorkerTap
from sigrack_plugins import Plugin
from sigrack_plugins.abi import MAX_CHANNELS, Contract

if TYPE_CHECKING:
    from sigrack.loading.native import NativeInstance
    from sigrack.rack import Rack

__all__ = ["Carried", "Slot", "build_slot"]

log = logging.getLogger("sigrack")

MOST_LATENCY_S = 10
MOST_FIR_CHANNELS = 8
"""Limit of the core's convolver, in and out."""
METER_RECORDS = 1024
"""Records of a native plugin's that may wait, at least."""
HOOK_TAP_S = 4.0
"""How far hooks may fall behind before frames are lost, in seconds of audio."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What a slot takes over from the one whose place it takes."""

    values: Mapping[str, float]
    """Parameters as they are now, of those that its table does not change."""
    bypass: bool
    state: PluginState | None
    """Of a native plugin; a Python plugin's is handed over when its successor takes its place."""


@dataclass(eq=False, slots=True)
class Slot:
    """What the rack holds for one `[[slot]]`. Closed once, when the engine has left it."""

    table: SlotTable
    plugin: NativePlugin | PythonPlugin
    values: dict[str, float] = field(default_factory=dict)
    """Wanted parameter values."""
    bypass: bool = False
    core: SlotCore | None = None
    processor: Processor | None = None
    source: Source | None = None
    hooked: Hooked | None = None
    context: PluginContext | None = None
    hook_tap: HookTap | None = None
    worker_tap: WorkerTap | None = None
    carried: Carried | None = None
    """What it was built with of its predecessor's."""
    lost_call: Future[Any] | None = None
    """A call into the native instance that was abandoned."""
    _instance: "NativeInstance | None" = None
    _fir: Fir | None = None
    _worker: threading.Thread | None = None
    _started: bool = False

    @property
    def name(self) -> str:
        """The slot's name."""
        return self.table.name

    @property
    def taps(self) -> list[TapRing]:
        """The taps at this slot's place."""
        taps = [self.hook_tap.tap] if self.hook_tap else []
        return [*taps, self.worker_tap.ring] if self.worker_tap else taps

    @property
    def steps(self) -> list[SlotCore | TapRing]:
        """The slot's part of the run list."""
        return [self.core, *self.taps] if self.core else [*self.taps]

    @property
    def latency_frames(self) -> int:
        """By how much its output is behind its input."""
        return self.processor.latency_frames if self.processor else 0

    @property
    def memory_bytes(self) -> int:
        """Memory that the engine's convolver holds for this slot."""
        return self._fir.bytes if self._fir else 0

    def param(self, name: str) -> ParamInfo:
        """Return a parameter's description. Raises KeyError with the nearest. [any]"""
        for info in self.plugin.params:
            if info.id == name:
                return info
        raise KeyError(f'"{self.name}" ({self.plugin.id}) has no parameter "{name}"{nearest(name, list(self.values))}')

    def set_param(self, name: str, value: object) -> float:
        """Set a parameter from the next block on. Raises KeyError, ValueError. [main]"""
        info = self.param(name)
        number = info.check(value)
        assert self.core is not None
        if not self.core.set(self.plugin.params.index(info), number):
            raise ValueError(f'too many changes of "{self.name}" wait: the engine is not running or they come too fast')
        self.values[name] = number
        return number

    def set_bypass(self, bypass: bool) -> None:
        """Cross-fade to the input or back. Raises ValueError for a slot that only listens. [main]"""
        if self.core is None:
            raise ValueError(f'"{self.name}" only listens: there is nothing to bypass')
        self.bypass = bypass
        self.core.activate(not bypass)

    @property
    def occupied(self) -> bool:
        """Whether a thread that was left behind is still inside the native instance."""
        return self.lost_call is not None and not self.lost_call.done()

    @property
    def stateful(self) -> bool:
        """Whether a Python plugin has a state to hand over."""
        return self.hooked is not None and "on_state_save" in self.hooked.methods

    def native_state(self) -> PluginState | None:
        """Ask a native plugin for its state, while it runs. Raises ConfigError. [control]"""
        if self._instance is None or (data := self._instance.save_state()) is None:
            return None
        return PluginState(self.plugin.id, self.plugin.version, data)

    def start(self) -> None:
        """Call `on_start`. Raises ConfigError with what the plugin says. [main]"""
        if self.hooked is None:
            return
        if "on_start" in self.hooked.methods:
            try:
                self.hooked.attempt("on_start", self.hooked.plugin.on_start)  # type: ignore[attr-defined]
            except BaseException as error:
                self.close_hooks()
                raise ConfigError(f"{self.name}: on_start: {said(error)}") from error
        self.hooked.closed = False
        self._started = True

    def inherit(self, old: "Slot") -> None:
        """Take over the state of `old`, if the plugin is the same. Raises ConfigError. [main]"""
        if self.hooked and old.hooked and self.stateful and old.stateful and self.plugin.id == old.plugin.id:
            restore(self.hooked, self.plugin.id, save(old.hooked, old.plugin.id, old.plugin.version))

    def replace(self, old: "Slot", *, drain: bool) -> None:
        """Take the place of `old`: nothing can fail any more. `drain`: with the calls that wait for it. [main]"""
        if old.context:
            old.context.cancel_timers()
        if old.hooked and drain:
            if self.hooked:
                self.hooked.inherit(old.hooked)
            old.hooked.resume()  # for what the new one has no hook for
        if self.carried and self.core:
            self._catch_up(self.carried, old)

    def _catch_up(self, carried: Carried, old: "Slot") -> None:
        """Bring over what control has set while this one was being built."""
        for name, value in old.values.items():
            if name in carried.values and value != carried.values[name]:
                with contextlib.suppress(KeyError, ValueError):  # not this plugin's any more
                    self.set_param(name, value)
        if old.bypass != carried.bypass:
            self.set_bypass(old.bypass)

    def begin(self) -> None:
        """Start the worker. Raises EngineError. [main]"""
        if self.hooked is not None and self.worker_tap is not None:
            self._worker = start_thread(self.name, self._work, self.worker_tap)

    def _work(self, tap: WorkerTap) -> None:
        assert self.hooked is not None
        try:
            self.hooked.plugin.work(tap)  # type: ignore[attr-defined]
        except BaseException as error:
            log.warning("%s: its worker ended: %s: %s", self.name, type(error).__name__, error)
        for _ in tap:  # nobody listens any more, but the engine must not wait for it in freewheel
            pass

    def end_streams(self) -> None:
        """Say that no more audio will come. [main, when the engine has left the taps]"""
        if self.hook_tap:
            self.hook_tap.tap.finish()
        if self.worker_tap:
            self.worker_tap.finish()

    def hurry(self) -> None:
        """Nothing: what a worker does with what it has is its own. [main]"""

    def join(self, limit_s: float) -> bool:
        """Wait for the worker to finish what it has; False: it did not in time and is left behind. [main]"""
        if self._worker is None:
            return True
        self._worker.join(limit_s)
        return not self._worker.is_alive()

    def close_hooks(self) -> None:
        """Let no hook begin; coroutine hooks that wait still have their turn. [main]"""
        if self.hooked:
            self.hooked.closed = self.hooked.ending = True
        if self.context:
            self.context.cancel_timers()

    def stop(self) -> None:
        """Call `on_stop`, once, if the slot was started. [main]"""
        if self.hooked is None or self.hooked.gone:
            return
        self.close_hooks()
        if self._started and "on_stop" in self.hooked.methods:
            self.hooked.call("on_stop", self.hooked.plugin.on_stop)  # type: ignore[attr-defined]
        self.hooked.gone = True

    def destroy(self) -> None:
        """Destroy the native instance: the engine has left it for good. [control]"""
        if self._instance:
            self._instance.destroy()
            self._instance = None
        if isinstance(self.plugin, NativePlugin):
            self.plugin.close()

    def free(self) -> None:
        """Free what the engine used: it has left, and so have the worker and the hooks. [main, worker]

        No cycle holds the plugin afterwards, so that it ends here and not on whatever thread collects garbage.
        """
        if self.context:
            self.context.detach()
        if self.hooked:
            self.hooked.on_rest = nothing
        if self.core:
            self.core.close()
        if self._fir:
            self._fir.close()
        if self.hook_tap:
            self.hook_tap.tap.close()
        if self.worker_tap:
            self.worker_tap.close()


def build_slot(
    rack: "Rack",
    table: SlotTable,
    plugin: NativePlugin | PythonPlugin,
    resolve: Callable[[str], Path],
    carried: Carried | None = None,
) -> Slot:
    """Make a slot that is ready to run. Raises ConfigError (without file and line), EngineError. [main, worker]"""
    slot = Slot(table, plugin, bypass=carried.bypass if carried else table.bypass, carried=carried)
    try:
        if isinstance(plugin, NativePlugin):
            _build_native(rack, slot, plugin, carried)
        else:
            _build_python(rack, slot, plugin, resolve)
        if slot.bypass and slot.core is None:
            raise ConfigError(f'"{slot.name}" only listens: there is nothing to bypass', ("bypass",))
    except BaseException:
        if slot.source:
            slot.source.ring.close()
        rack.destroy(f"{slot.name}: destroy", slot.destroy)
        slot.free()
        raise
    return slot


def _make_core(rack: "Rack", slot: Slot, processor: Processor) -> None:
    slot.processor = processor
    slot.core = SlotCore(
        processor,
        channels=rack.setup.channels,
        max_frames=rack.block_frames,
        fade_frames=rack.fade_frames,
        active=not slot.bypass,
    )


def _initial_values(plugin: NativePlugin, params: Mapping[str, Any], name: str) -> dict[str, float]:
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


def _kept_values(plugin: NativePlugin, carried: Carried) -> dict[str, float]:
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


def _build_native(rack: "Rack", slot: Slot, plugin: NativePlugin, carried: Carried | None) -> None:
    slot.values = _initial_values(plugin, slot.table.params, slot.name)
    if carried:
        slot.values |= _kept_values(plugin, carried)
    state = carried.state if carried and carried.state and carried.state.plugin == plugin.id else None
    if plugin.factors:
        records = _meter_records(len(plugin.factors), rack.block_frames, rack.setup.rate_hz)
        ring = ResultRing(rack.bell, list(plugin.factors), rack.engine.frame_address, records, MAX_CHANNELS)
        slot.source = Source(slot.name, ring, rack.setup.rate_hz)
    cookie = slot.source.ring.cookie if slot.source else 0
    config = slot.table.config

    def make() -> "tuple[NativeInstance, Contract]":
        instance = plugin.create(config, cookie, POST_ADDRESS)
        try:
            if state and plugin.stateful:
                instance.load_state(state.version, state.data)
            contract = instance.activate(
                rate_hz=rack.setup.rate_hz,
                max_frames=rack.block_frames,
                channels=rack.setup.channels,
                values=[slot.values[info.id] for info in plugin.params],
            )
        except ConfigError:
            instance.destroy()
            raise
        return instance, contract

    slot._instance, contract = rack.control.call(f"{slot.name}: create", make)
    if contract.latency_frames > MOST_LATENCY_S * rack.setup.rate_hz:
        raise ConfigError(f"{plugin.id}: states a latency of {contract.latency_frames} frames; {MOST_LATENCY_S} s is the most")
    processor = Processor(
        slot._instance.process_address,
        slot._instance.reset_address,
        slot._instance.pointer,
        latency_frames=contract.latency_frames,
    )
    _make_core(rack, slot, processor)


def _build_python(rack: "Rack", slot: Slot, plugin: PythonPlugin, resolve: Callable[[str], Path]) -> None:
    if slot.table.params:
        raise ConfigError(f'"{slot.name}" ({plugin.id}) has no parameters; its options go into [slot.config]', ("params",))
    birth = Hooked(slot.name, Plugin(), frozenset(), rack.watch, lossless=True)
    instance = rack.on_main(birth.attempt, "__init__", plugin.create, slot.table.config, resolve)
    slot.hooked = Hooked(slot.name, instance, plugin.methods, rack.watch, lossless=not rack.live)
    slot.context = PluginContext(rack, slot.hooked, slot.table.config, plugin.factors)
    instance.ctx = slot.context
    channels, rate_hz = rack.setup.channels, rack.setup.rate_hz
    if "fir" in plugin.methods:
        slot._fir = _make_fir(rack, plugin, instance)
        processor = Processor(Fir.process_address, Fir.reset_address, slot._fir.pointer)
        _make_core(rack, slot, processor)
        assert slot.core is not None
        slot.hooked.on_rest = partial(slot.core.activate, False)
    if "on_block" in plugin.methods:
        frames = max(round(HOOK_TAP_S * rate_hz), 4 * (rack.hook_frames + rack.block_frames))
        tap = TapRing(channels, frames, rack.hook_frames, rack.bell)
        slot.hook_tap = HookTap(slot.hooked, tap, BlockPool(channels, rack.hook_frames))
    if "work" in plugin.methods:
        slot.worker_tap = WorkerTap(channels, rate_hz, plugin.tap_seconds, rack.block_frames)


def _make_fir(rack: "Rack", plugin: PythonPlugin, instance: Plugin) -> Fir:
    import numpy as np

    try:
        taps = np.asarray(instance.fir(rack.setup), np.float32)  # type: ignore[attr-defined]
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{plugin.id}: {said(error)}") from error
    channels = rack.setup.channels
    if channels > MOST_FIR_CHANNELS:
        raise ConfigError(f"{plugin.id}: a filter takes up to {MOST_FIR_CHANNELS} channels, the bus has {channels}")
    if taps.ndim != 3 or taps.shape[:2] != (channels, channels) or not taps.shape[2]:
        raise ConfigError(f"{plugin.id}: fir gave taps of shape {taps.shape}, not ({channels}, {channels}, taps)")
    if not np.isfinite(taps).all():
        raise ConfigError(f"{plugin.id}: fir gave taps that are not finite")
    return Fir(taps, block=rack.block_frames)
