"""What a Python plugin may ask of its host (`sigrack_plugins.Context`)."""

import logging
import operator
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sigrack.hooks import Hooked
from sigrack.timers import TimerEntry
from sigrack_engine.inbox import Post
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["PluginContext"]

log = logging.getLogger("sigrack")

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

    def __init__(self, rack: "Rack", hooked: Hooked, config: Mapping[str, Any], symbols: Mapping[str, str]) -> None:
        self._rack, self._hooked, self._symbols = rack, hooked, symbols
        self.name = hooked.name
        self.setup: Setup = rack.setup
        self.config = config
        self._timers: list[TimerEntry] = []

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
        self._on_main("at and every")
        if not callable(call):
            raise TypeError(f"a timer needs a function to call, not {call!r}")
        entry = self._rack.dispatcher.timers.add(time_ns, lambda: self._hooked.call(call), period_ns)
        self._timers = [timer for timer in self._timers if timer.period_ns or timer.time_ns > self.now()]
        self._timers.append(entry)
        return entry

    def _on_main(self, what: str) -> None:
        if threading.get_ident() != self._rack.main_thread:
            name = threading.current_thread().name
            raise RuntimeError(f"ctx.{what} may only be called in hooks, on the main loop; this is the thread {name}")

    def cancel_timers(self) -> None:
        """The plugin goes. [main]"""
        for timer in self._timers:
            timer.cancel()

    def log(self, message: str) -> None:
        """Write one line into the host's log. [any]"""
        log.info("%s: %s", self.name, message)

    def post(self, symbol: str, values: npt.ArrayLike, ts_ns: int | None = None) -> bool:
        """Post one record. Raises KeyError for a symbol that the plugin has not declared. [any]"""
        if symbol not in self._symbols:
            raise KeyError(f'{self.name} has not declared the symbol "{symbol}" in `factors`')
        array = np.array(values, np.float64, ndmin=1)
        if array.ndim != 1 or len(array) > MOST_VALUES:
            raise ValueError(f"a record holds at most {MOST_VALUES} values in one row, not shape {array.shape}")
        at = self.now() if ts_ns is None else _nanoseconds(ts_ns)
        return self._rack.dispatcher.inbox.post(Post(self.name, symbol, at, self._rack.engine.frame, time.monotonic_ns(), array))

    def subscribe(self, source: str | None = None, symbol: str | None = None) -> None:
        """Narrow on_factors / on_factor. Raises KeyError for what does not exist. [main]"""
        self._on_main("subscribe")
        self._rack.check_subscription(source, symbol)
        self._hooked.filters.add((source, symbol))

    def set_param(self, slot: str, param: str, value: float) -> None:
        """Set a parameter of any slot. Raises KeyError, ValueError. [main]"""
        self._on_main("set_param")
        self._rack.set_param(slot, param, value)
