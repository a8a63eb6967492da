"""One slot at run time: its plugin, its processor, its taps, its parameters."""

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from sigrack.context import PluginContext
from sigrack.dispatch import HookTap, Source
from sigrack.errors import ConfigError, nearest, said
from sigrack.hooks import Hooked, nothing
from sigrack.lanes import LaneInstance, LanePlugin
from sigrack.lanes.plugin_lane import Member, PluginLane
from sigrack.lanes.shared import Place
from sigrack.lifecycle import start_thread
from sigrack.loading import NativePlugin, NoPlugin, ParamInfo, PythonPlugin
from sigrack.state import Lender, Loan, PluginState, restore, save
from sigrack.tables import SlotTable
from sigrack_engine.compiler import Linear
from sigrack_engine.costs import Forms
from sigrack_engine.recursion import Recursion
from sigrack_engine.slot import Processor, SlotCore
from sigrack_engine.tap import TapRing, WorkerTap
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.groups import Group
    from sigrack.loading.native import NativeInstance

__all__ = ["Carried", "Slot", "held_back"]

log = logging.getLogger("sigrack")


def held_back(name: str) -> str:
    """Say that a plugin was not loaded, and what loads it. [any]"""
    return f'"{name}" is held back, as GET_STATUS tells: `sigrack ctl RELEASE name={name}` loads it'


@dataclass(frozen=True, slots=True)
class Carried:
    """What a slot takes over from the one whose place it takes."""

    values: Mapping[str, float]
    """Parameters as they are now, of those that its table does not change."""
    bypass: bool
    was_bypassed: bool
    """Whether the other one was when this was taken."""
    state: PluginState | None
    """Of a native plugin; a Python plugin's is handed over when its successor takes its place."""


@dataclass(eq=False, slots=True)
class Slot:
    """What the rack holds for one `[[slot]]`. Closed once, when the engine has left it."""

    table: SlotTable
    plugin: NativePlugin | PythonPlugin | LanePlugin | NoPlugin
    setup: Setup
    """What comes in at its place."""
    values: dict[str, float] = field(default_factory=dict)
    """Wanted parameter values."""
    bypass: bool = False
    held: str = ""
    """Why its plugin was not loaded, and this is what stands for it; empty: it was."""
    core: SlotCore | None = None
    """Of a processor that has a step of its own."""
    place: Place | None = None
    """Of one that plays in a shared lane."""
    lane: PluginLane | None = None
    """Of one that runs in a process, its own or a shared one."""
    processor: Processor | None = None
    uniform: bool = False
    """Its processor is one gain for all channels: filters may be exchanged with it."""
    linear: Linear | None = None
    """The filter of a linear plugin as taps: they may be compiled into a group; None: too many."""
    recursion: Recursion | None = None
    """The same as biquads, which are a group of their own; None: it has no such form."""
    group: "Group | None" = None
    """Which one, once the slot is in the rack."""
    refresh: Callable[[], object] = nothing
    """Called when the group must be compiled anew. [main]"""
    on_level: Callable[[], object] = nothing
    """Called when a parameter or the bypass was set. [main]"""
    source: Source | None = None
    hooked: Hooked | None = None
    context: PluginContext | None = None
    hook_tap: HookTap | None = None
    worker_tap: WorkerTap | None = None
    carried: Carried | None = None
    """What it was built with of its predecessor's."""
    kept: tuple[Lender, Loan] | None = None
    """The state of a Python plugin from an earlier host, until `start`."""
    lost_call: Future[Any] | None = None
    """A call into the native instance that was abandoned."""
    _instance: "NativeInstance | LaneInstance | None" = None
    _worker: threading.Thread | None = None
    _settled: "Future[None] | None" = None
    """When a child's last results have come."""
    _started: bool = False

    @property
    def name(self) -> str:
        """The slot's name."""
        return self.table.name

    @property
    def written(self) -> tuple[str, ...]:
        """The channels that it writes; none if it only listens."""
        return self.setup.outputs if self.controls or self.is_linear else ()

    @property
    def controls(self) -> SlotCore | Place | None:
        """What takes the parameters and the bypass of a processor to it."""
        return self.core or self.place

    @property
    def member(self) -> Member:
        """What a lane knows of it."""
        assert isinstance(self._instance, LaneInstance)
        return self._instance.member

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
    def is_linear(self) -> bool:
        """Whether it is run by a group."""
        return self.linear is not None or self.recursion is not None

    @property
    def forms(self) -> Forms:
        """Of a linear plugin: as what it may run."""
        return Forms(self.linear, self.recursion)

    @property
    def ratio(self) -> int:
        """Frames that go out for each that comes in."""
        return self.linear.ratio if self.linear else 1

    @property
    def out_rate_hz(self) -> int:
        """The rate that it puts out, and its taps see."""
        return self.setup.rate_hz * self.ratio

    @property
    def latency_frames(self) -> int:
        """By how much its output is behind its input, in frames of its output."""
        if self.linear:
            return self.linear.latency_frames
        return self.processor.latency_frames if self.processor else 0

    @property
    def unbypassable(self) -> str:
        """Why it cannot be bypassed, in words; empty if it can."""
        if self.held:
            return held_back(self.name)
        if self.controls is None and not self.is_linear:
            return f'"{self.name}" only listens: there is nothing to bypass'
        return f'"{self.name}" changes the rate: it cannot be bypassed' if self.ratio > 1 else ""

    def param(self, name: str) -> ParamInfo:
        """Return a parameter's description. Raises KeyError with the nearest. [any]"""
        if self.held:
            raise KeyError(held_back(self.name))
        for info in self.plugin.params:
            if info.id == name:
                return info
        raise KeyError(f'"{self.name}" ({self.plugin.id}) has no parameter "{name}"{nearest(name, list(self.values))}')

    def set_param(self, name: str, value: object, frame: int = 0) -> float:
        """Set a parameter from `frame` on, at the rate of its place (0: the next block). Raises KeyError, ValueError. [main]"""
        info = self.param(name)
        number = info.check(value)
        assert self.controls
        if not self.controls.set(self.plugin.params.index(info), number, frame):
            raise ValueError(f'too many changes of "{self.name}" wait: the engine is not running or they come too fast')
        self.values[name] = number
        self.on_level()
        return number

    def set_again(self, given: list[float], active: bool) -> None:
        """Set what has changed since a child was started with these values, in a shared lane heard or not. [main]"""
        assert self.controls
        for index, (before, value) in enumerate(zip(given, self.values.values(), strict=True)):
            if value != before:
                self.controls.set(index, value)
        if self.place and active == self.bypass:
            self.place.activate(not self.bypass)

    def set_bypass(self, bypass: bool) -> None:
        """Cross-fade to the input or back. Raises ValueError for a slot that cannot be bypassed. [main]"""
        if why := self.unbypassable:
            raise ValueError(why)
        if self.place and not self.place.activate(not bypass):
            raise ValueError(f'too many changes of "{self.name}" wait: the engine is not running or they come too fast')
        self.bypass = bypass
        if self.core:
            self.core.activate(not bypass)
        elif self.group and len(self.group.members) == 1:
            self.group.core.activate(not bypass)
        elif not self.place:
            self.refresh()
        self.on_level()

    def want_param(self, name: str, value: object) -> float:
        """Set a parameter for good: also in its table. Raises KeyError, ValueError. [main]"""
        number = self.set_param(name, value)
        self.table = msgspec.structs.replace(self.table, params={**self.table.params, name: number})
        return number

    def want_bypass(self, bypass: bool) -> None:
        """Bypass it or not for good: also in its table. Raises ValueError. [main]"""
        self.set_bypass(bypass)
        self.table = msgspec.structs.replace(self.table, bypass=bypass)

    def keep_wanted(self, old: "Slot") -> None:
        """Take into the table what the table of `old` says of parameters that are here, too, and were not given. [main]"""
        kept = {name: value for name, value in old.table.params.items() if not old.held and self._takes(name, value)}
        self.table = msgspec.structs.replace(self.table, params=kept | self.table.params, bypass=old.table.bypass)

    def _takes(self, name: str, value: object) -> bool:
        with contextlib.suppress(KeyError, ValueError):
            self.param(name).check(value)
            return True
        return False

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
        self._take_back(self.hooked)

    def _take_back(self, hooked: Hooked) -> None:
        """Give a Python plugin the state of an earlier host; what it refuses does not keep it from starting."""
        if self.kept is None:
            return
        (lender, loan), self.kept = self.kept, None
        try:
            restore(hooked, self.name, loan.state)
        except ConfigError as error:
            lender.refuse(loan, error)
        else:
            lender.accept(loan)

    def follows(self, old: "Slot") -> bool:
        """Whether it hears and writes what `old` does: only then are state, waiting calls and audio for it, too. [any]"""
        return self.setup == old.setup

    def inherit(self, old: "Slot") -> None:
        """Take over the state of `old`, if the plugin is the same and hears the same. Raises ConfigError. [main]"""
        if self.hooked is None or old.hooked is None or not self.follows(old):
            return
        if self.stateful and old.stateful and self.plugin.id == old.plugin.id:
            restore(self.hooked, self.plugin.id, save(old.hooked, old.plugin.id, old.plugin.version))

    def replace(self, old: "Slot", *, drain: bool) -> None:
        """Take the place of `old`: nothing can fail any more. `drain`: with the calls that wait for it. [main]"""
        if old.context:
            old.context.cancel_timers()
        if old.hooked and drain:
            if self.hooked and self.follows(old):
                self.hooked.inherit(old.hooked)
            old.hooked.resume()  # for what the new one has no hook for
        if (
            (carried := self.carried)
            and (old.values != carried.values or old.bypass != carried.was_bypassed)
            and not self.unbypassable
        ):
            self._catch_up(carried, old)

    def _catch_up(self, carried: Carried, old: "Slot") -> None:
        """Bring over what control has set while this one was being built."""
        for name, value in old.values.items():
            if name in carried.values and value != carried.values[name]:
                with contextlib.suppress(KeyError, ValueError):  # not this plugin's any more
                    self.set_param(name, value)
        if old.bypass != carried.was_bypassed:
            self.set_bypass(old.bypass)

    def begin(self) -> None:
        """Start the worker. Raises EngineError. [main]"""
        if self.hooked is not None and self.worker_tap is not None:
            self._worker = start_thread(self.name, self.hooked.number, self._work, self.worker_tap)

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
        if isinstance(self._instance, LaneInstance):
            self._settled = self._instance.settle()

    def hurry(self) -> None:
        """Nothing: what a worker does with what it has is its own. [main]"""

    def join(self, limit_s: float) -> bool:
        """Wait for the worker, or a child, to finish what it has; False: it did not in time and is left behind. [main]"""
        if self._settled:
            return bool(wait((self._settled,), limit_s).done)
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
        if isinstance(self.plugin, NativePlugin | LanePlugin):
            self.plugin.close()

    def free(self) -> None:
        """Free what the engine used: it has left, and so have the worker and the hooks. [main, worker]

        No cycle holds the plugin afterwards, so that it ends here and not on whatever thread collects garbage.
        """
        self.group = None
        if self.context:
            self.context.detach()
        if self.hooked:
            self.hooked.on_rest = nothing
        if self.core:
            self.core.close()
        if self.hook_tap:
            self.hook_tap.tap.close()
        if self.worker_tap:
            self.worker_tap.close()
