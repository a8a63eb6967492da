"""What a Python plugin may ask of its host (`sigrack_plugins.Context`)."""

import inspect
import logging
import operator
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt

from sigrack.batches import Post
from sigrack.config import signal_table, slot_table
from sigrack.errors import said
from sigrack.hooks import Hooked, is_generator, nothing
from sigrack.timers import TimerEntry
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["PluginContext"]

log = logging.getLogger("sigrack")

MOST_HELD = 1024
"""Posts and other wishes of one on_start that wait for its change to be made."""
MOST_VALUES = 64
"""Values in one record of a Python source."""


def _nanoseconds(value: int) -> int:
    """Return `value` as an integer of 64 bits. Raises TypeError, ValueError."""
    number = operator.index(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} ns does not fit into 64 bits")
    return number


class PluginContext:
    """The face that the rack shows to one plugin."""

    def __init__(self, rack: "Rack", hooked: Hooked, setup: Setup, config: Mapping[str, Any], symbols: Mapping[str, str]) -> None:
        self._rack, self._symbols = rack, symbols
        self._hooked: Hooked | None = hooked
        self.name = hooked.name
        self.setup = setup
        self.config = config
        self._timers: WeakSet[TimerEntry] | None = None
        self._held: list[tuple[Callable[[], object], Callable[[], object]]] | None = None
        """What the plugin has asked for before it was known whether it stays, each with how to refuse it."""

    def hold(self) -> None:
        """Let what the plugin asks for wait: its change may still fail. [main]"""
        self._held = []

    def release(self) -> None:
        """Carry out what has waited: the plugin is in the rack. [main]"""
        held, self._held = self._held or [], None
        for call, _ in held:
            try:
                call()
            except (KeyError, ValueError) as error:
                log.warning("%s: in on_start: %s", self.name, said(error))

    def drop(self) -> None:
        """Forget what has waited: the plugin is not to be. [main]"""
        held, self._held = self._held or [], None
        for _, refuse in held:
            refuse()

    def _holds(self) -> bool:
        return self._held is not None and threading.get_ident() == self._rack.main_thread

    def now(self) -> int:
        """Return the rack time in nanoseconds. [any]"""
        return self._rack.now_ns

    def at(self, time_ns: int, call: Callable[[], None]) -> TimerEntry:
        """Run `call` once at `time_ns`. Raises TypeError. [main]"""
        return self._timer(_nanoseconds(time_ns), 0, call)

    def every(self, period_ns: int, call: Callable[[], None]) -> TimerEntry:
        """Run `call` each `period_ns`. Raises TypeError, and ValueError below a millisecond. [main]"""
        if _nanoseconds(period_ns) < 1_000_000:
            raise ValueError(f"a period of {period_ns} ns is too short: 1,000,000 ns (1 ms) is the least")
        return self._timer(self.now() + period_ns, period_ns, call)

    def _timer(self, time_ns: int, period_ns: int, call: Callable[[], None]) -> TimerEntry:
        if not callable(call):
            raise TypeError(f"a timer needs a function to call, not {call!r}")
        if is_generator(call):
            raise TypeError(f"a timer's function {call!r} is a generator: it has a `yield`, so calling it runs nothing")
        hooked = self._on_main("at and every")
        if hooked.ending:
            raise RuntimeError(f"{self.name} is ending: it can have no more timers")
        fire = hooked.enqueue if inspect.iscoroutinefunction(call) else hooked.call
        timers = self._rack.dispatcher.timers
        entry = TimerEntry(timers, time_ns, period_ns, lambda: hooked.resting or fire("a timer", call))
        if self._held is None:
            timers.add(entry)
        else:
            self._held.append((lambda: timers.add(entry), nothing))
        if self._timers is None:
            self._timers = WeakSet()
        self._timers.add(entry)
        return entry

    def _on_main(self, what: str) -> Hooked:
        """Return the plugin's hooks. Raises RuntimeError on other threads, and after the plugin's end."""
        if threading.get_ident() != self._rack.main_thread:
            name = threading.current_thread().name
            raise RuntimeError(f"ctx.{what} may only be called in hooks, on the main loop; this is the thread {name}")
        if self._hooked is None:
            raise RuntimeError(f"ctx.{what}: {self.name} has ended")
        return self._hooked

    def detach(self) -> None:
        """Let go of the plugin, which has ended: what a thread of its still posts is refused. [main]"""
        self._hooked = None

    def cancel_timers(self) -> None:
        """The plugin goes. [main]"""
        for timer in list(self._timers or ()):
            timer.cancel()

    def log(self, message: str) -> None:
        """Write one line into the host's log. [any]"""
        log.info("%s: %s", self.name, message)

    def post(self, symbol: str, values: npt.ArrayLike, ts_ns: int | None = None) -> bool:
        """Post one record. Raises KeyError for a symbol that the plugin has not declared, ValueError for values. [any]"""
        array = np.array(values, np.float64, ndmin=1)
        if array.ndim != 1:
            raise ValueError(f"a record is one row of values, not of shape {array.shape}")
        at = self.now() if ts_ns is None else _nanoseconds(ts_ns)
        return self._post(symbol, array[None, :], np.array([at], np.int64))

    def post_many(self, symbol: str, values: npt.ArrayLike, ts_ns: npt.ArrayLike) -> bool:
        """Post records of one symbol: `values` (records, values), `ts_ns` (records,). Raises KeyError, ValueError. [any]"""
        array, times = np.array(values, np.float64, ndmin=2), np.array(ts_ns, np.int64, ndmin=1)
        if array.ndim != 2 or times.shape != array.shape[:1]:
            raise ValueError(f"values of shape (records, values) need as many times, not {array.shape} and {times.shape}")
        return not len(times) or self._post(symbol, array, times)

    def _post(self, symbol: str, values: npt.NDArray[np.float64], times: npt.NDArray[np.int64]) -> bool:
        if symbol not in self._symbols:
            raise KeyError(f'{self.name} has not declared the symbol "{symbol}" in `factors`')
        if values.shape[1] > MOST_VALUES:
            raise ValueError(f"a record holds at most {MOST_VALUES} values, not {values.shape[1]}")
        inbox = self._rack.dispatcher.inbox
        if (hooked := self._hooked) is None or hooked.gone:
            inbox.refuse(len(times))
            return False
        post = Post(self.name, symbol, times, self._rack.engine.frame, time.monotonic_ns(), values)
        if self._holds():
            assert self._held is not None
            if len(self._held) >= MOST_HELD:
                inbox.refuse(len(times))
                return False
            self._held.append((lambda: inbox.post(post), lambda: inbox.refuse(len(times))))
            return True
        return inbox.post(post)

    def subscribe(self, source: str | None = None, symbol: str | None = None) -> None:
        """Narrow on_factors / on_factor / on_data. Raises KeyError for what does not exist. [main]"""
        hooked = self._on_main("subscribe")
        for form in self._rack.check_subscription(source, symbol):
            hooked.subscribe(source, form)

    def low_pass(
        self, rate_hz: int, ratio: int, *, phase: str = "minimum", taps: int | None = None, file: Path | None = None
    ) -> "npt.NDArray[np.float32]":
        """Return the taps of a filter for upsampling. Raises ValueError. [worker]"""
        from sigrack_engine.design import DesignError, cached, load, specify

        try:
            if file is None:
                return cached(specify(input_rate_hz=rate_hz, ratio=ratio, phase=phase, taps=taps), self._tell_design).taps
            found = load(file)
        except DesignError as error:
            raise ValueError(str(error)) from None
        spec = found.specification
        if (spec.input_rate_hz, spec.ratio) != (rate_hz, ratio):
            raise ValueError(
                f"{file} is for {spec.input_rate_hz} Hz x{spec.ratio}, not for {rate_hz} Hz x{ratio}: "
                f"sigrack design --rate {rate_hz} --ratio {ratio} makes one"
            )
        return found.taps

    def _tell_design(self, step: str) -> None:
        log.info("%s: designing its filter: %s", self.name, step)

    def pinned(self) -> AbstractContextManager[None]:
        """Keep the plugin from being destroyed while the context lasts. [main]"""
        return self._on_main("pinned").pinned()

    def set_param(self, slot: str, param: str, value: float) -> None:
        """Set a parameter of any slot. Raises KeyError, ValueError. [main]"""
        self._on_main("set_param")
        if self._held is None:
            self._rack.set_param(slot, param, value)
        else:
            self._rack.check_param(slot, param, value)
            self._held.append((lambda: self._rack.set_param(slot, param, value), nothing))

    def _request(self, make: Callable[[], Coroutine[Any, Any, None]]) -> "Future[None]":
        requests = self._rack.changes.requests
        if not self._holds():
            return requests.request(make, self.name)
        assert self._held is not None
        request, begin = requests.ask(make, self.name)
        self._held.append((begin, lambda: requests.refuse(request, f"{self.name}, which has asked for it, was not loaded")))
        return request

    def load(
        self,
        name: str,
        plugin: str,
        config: Mapping[str, Any] | None = None,
        params: Mapping[str, float] | None = None,
        before: str | None = None,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        lane: str | None = None,
    ) -> "Future[None]":
        """Ask for a new slot. Raises ConfigError for a bad table, or when the rack does not run. [any]"""
        channels = {key: list(names) for key, names in (("in", inputs), ("out", outputs)) if names is not None}
        values = {"name": name, "plugin": plugin, "config": dict(config or {}), "params": dict(params or {})}
        table = slot_table(values | channels | {"lane": lane})
        return self._request(lambda: self._rack.changes.load(table, before))

    def load_signal(
        self,
        name: str,
        library: str,
        symbols: Sequence[str],
        config: Mapping[str, Any] | None = None,
        feed: str | Sequence[str] = "audio",
        lane: str = "process",
    ) -> "Future[None]":
        """Ask for a new signal engine. Raises ConfigError for a bad table, or when the rack does not run. [any]"""
        feeds = feed if isinstance(feed, str) else list(feed)
        table = signal_table(
            {
                "name": name,
                "library": library,
                "symbols": list(symbols),
                "config": dict(config or {}),
                "feed": feeds,
                "lane": lane,
            }
        )
        return self._request(lambda: self._rack.changes.load(table))

    def unload(self, name: str) -> "Future[None]":
        """Ask for the end of a slot or a signal engine. [any]"""
        return self._request(lambda: self._rack.changes.unload(name))

    def swap(
        self,
        name: str,
        plugin: str | None = None,
        config: Mapping[str, Any] | None = None,
        params: Mapping[str, float] | None = None,
        lane: str | None = None,
    ) -> "Future[None]":
        """Ask for a new instance in the place of `name`. [any]"""
        given = None if config is None else dict(config), None if params is None else dict(params)
        return self._request(lambda: self._rack.changes.swap(name, plugin, *given, lane=lane))
