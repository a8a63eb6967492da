"""What runs a plugin in a child: native, or in Python."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from sigrack.config import resolved
from sigrack.errors import ConfigError, said
from sigrack.lanes.messages import Channel, Message
from sigrack.loading import NativePlugin, PythonPlugin
from sigrack.loading.native import NativeInstance
from sigrack_engine.bell import Bell
from sigrack_engine.callback import ProcessCallback
from sigrack_engine.core import lib
from sigrack_engine.exchange import ChildExchange
from sigrack_engine.results import POST_ADDRESS, ResultRing
from sigrack_engine.slot import Processor
from sigrack_plugins import AudioBlock, Setup
from sigrack_plugins.abi import MAX_CHANNELS

__all__ = ["MemberChannel", "NativeProcessor", "PluginProcessor", "PythonProcessor"]

RECORDS = 4096
"""Results that may wait for the control thread."""
TURN_RECORDS = 1024
MOST_LATENCY_FRAMES = 1 << 22

Planes = npt.NDArray[np.float32]
"""Of shape (channels, frames)."""


class MemberChannel:
    """What one plugin says to the host unasked."""

    def __init__(self, channel: Channel, member: int) -> None:
        self._channel, self._member = channel, member

    def note(self, kind: str, **data: object) -> None:
        """Send; waits as long as the host does not read. Raises OSError. [child]"""
        self._channel.send({"note": kind, "member": self._member} | data)


class PluginProcessor(Protocol):
    """A plugin in this process."""

    def begin(self, order: Message) -> int:
        """Make the instance; return its latency in frames. Raises ConfigError. [control]"""

    @property
    def processor(self) -> Processor:
        """What runs it as one of several. [control]"""

    def run(self) -> None:
        """Process alone until the host closes the exchange. [audio]"""

    def deliver(self) -> None:
        """Send what it has posted. [control]"""

    def save(self) -> tuple[str, bytes] | None:
        """Return version and state. Raises ConfigError. [control]"""

    def destroy(self) -> None:
        """Free the instance, if there is one: nobody runs it. [control]"""


class NativeProcessor:
    """Runs without Python."""

    def __init__(self, plugin: NativePlugin, exchange: ChildExchange, channel: MemberChannel, bell: Bell) -> None:
        self._plugin, self._exchange, self._channel = plugin, exchange, channel
        factors = list(plugin.factors)
        self._ring = ResultRing(bell, factors, None, RECORDS, MAX_CHANNELS) if factors else None
        self._lost = 0
        self._instance: NativeInstance | None = None

    def begin(self, order: Message) -> int:
        self._instance = self._plugin.create(order["config"], self._ring.cookie if self._ring else 0, POST_ADDRESS)
        if order["state"]:
            self._instance.load_state(*order["state"])
        contract = self._instance.activate(
            rate_hz=order["rate_hz"],
            max_frames=self._exchange.struct.quantum,
            channels=self._exchange.struct.channels,
            values=order["values"],
        )
        self._latency_frames = int(contract.latency_frames)
        return self._latency_frames

    @property
    def processor(self) -> Processor:
        instance = self._instance
        assert instance
        return Processor(instance.process_address, instance.reset_address, instance.pointer, latency_frames=self._latency_frames)

    def run(self) -> None:
        processor = self.processor
        self._exchange.run(processor.process, processor.instance)

    def deliver(self) -> None:
        while self._ring and (taken := self._ring.take(TURN_RECORDS)):
            records, _ = taken
            rows = [
                (int(record["symbol"]), int(record["frame"]), record["values"][: record["count"]].tolist()) for record in records
            ]
            counts = self._ring.counts
            lost, self._lost = counts.dropped + counts.refused - self._lost, counts.dropped + counts.refused
            self._channel.note("results", records=rows, lost=lost)

    def save(self) -> tuple[str, bytes] | None:
        data = self._instance.save_state() if self._instance else None
        return None if data is None else (self._plugin.version, data)

    def destroy(self) -> None:
        if self._instance:
            self._instance.destroy()
            self._instance = None


class _Context:
    """What a processor in Python may ask for."""

    def __init__(self, name: str, setup: Setup, config: Mapping[str, Any], channel: MemberChannel, symbols: list[str]) -> None:
        self.name, self.setup, self.config = name, setup, config
        self._channel, self._symbols = channel, symbols
        self.frame = 0

    def now(self) -> int:
        """Return the rack time of the block, in nanoseconds."""
        return self.frame * 1_000_000_000 // self.setup.rate_hz

    def log(self, message: str) -> None:
        """Write one line into the host's log."""
        self._channel.note("log", text=str(message))

    def post(self, symbol: str, values: Any, ts_ns: int | None = None) -> bool:
        """Post one record of a symbol in `factors`; its time is the block's."""
        if symbol not in self._symbols:
            raise KeyError(f'"{symbol}" is not among the plugin\'s factors: {", ".join(self._symbols) or "it has none"}')
        row = [float(value) for value in (values if hasattr(values, "__len__") else [values])]
        self._channel.note("results", records=[(self._symbols.index(symbol), self.frame, row)], lost=0)
        return True


class PythonProcessor:
    """Calls `process` of an object, one call at a time."""

    def __init__(
        self,
        plugin: PythonPlugin,
        exchange: ChildExchange,
        channel: MemberChannel,
        name: str,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`waiting`: the control thread enters it while it waits for `process`. [control]"""
        self._plugin, self._exchange, self._channel, self._name = plugin, exchange, channel, name
        self._waiting = waiting
        self._lock = threading.Lock()
        """Methods of the plugin run one at a time."""
        self._said = ""
        self._callback = ProcessCallback(self._process)

    def begin(self, order: Message) -> int:
        plugin = self._plugin
        setup = Setup(order["rate_hz"], self._exchange.struct.channels, tuple(order["inputs"]), tuple(order["outputs"]))
        self._ids = [info.id for info in plugin.params]
        self._values = dict(zip(self._ids, order["values"], strict=True))
        instance: Any = plugin.create(order["config"], lambda path: resolved(Path(order["file"]), path))
        self._context = _Context(self._name, setup, order["config"], self._channel, list(plugin.factors))
        instance.ctx = self._context
        self._instance = instance
        self._rate_hz = setup.rate_hz
        if order["state"]:
            version, data = order["state"]
            self._attempt("on_state_restore", msgspec.msgpack.decode(data), version)
        if "activate" in plugin.methods:
            self._attempt("activate", setup)
        frames = self._attempt("latency_frames", setup) if "latency_frames" in plugin.methods else 0
        if not isinstance(frames, int) or not 0 <= frames <= MOST_LATENCY_FRAMES:
            raise ConfigError(f"{plugin.id}: latency_frames gave {frames!r}; 0 to {MOST_LATENCY_FRAMES} frames are possible")
        self._latency_frames = frames
        return frames

    def _attempt(self, method: str, *arguments: object) -> Any:
        try:
            return getattr(self._instance, method)(*arguments)
        except Exception as error:
            raise ConfigError(f"{self._name}: {method}: {said(error)}") from error

    @property
    def processor(self) -> Processor:
        return Processor(self._callback.address, None, 0, latency_frames=self._latency_frames)

    def run(self) -> None:
        exchange = self._exchange
        given, made = exchange.rings()
        quantum = exchange.struct.quantum
        while (at := exchange.wait()) >= 0:
            begun = time.perf_counter_ns()
            place = slice(at, at + quantum)
            refused = self._process(given[:, place], made[:, place], exchange.frame, exchange.events())
            exchange.done(refused=refused, ticks=int((time.perf_counter_ns() - begun) / lib.core_tick_ns()))
        if at != -1:
            raise OSError("the exchange's files were closed")

    def _process(self, given: Planes, made: Planes, frame: int, events: Sequence[tuple[int, int, float]]) -> bool:
        """Return whether it was refused. [audio]"""
        for _, param, value in events:
            self._values[self._ids[param]] = value
        self._context.frame = frame
        block = AudioBlock(given.T, made.T, self._rate_hz, frame, self._values)
        try:
            with self._lock:
                self._instance.process(block)
        except Exception as error:
            self._tell(error)
            return True
        except BaseException as error:  # sys.exit: the plugin wants its process to end
            os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
        return False

    def _tell(self, error: Exception) -> None:
        if (text := said(error)) != self._said:
            self._said = text
            with suppress(OSError):
                self._channel.note("raised", text=text)

    def deliver(self) -> None:
        """Nothing: what it posts is sent at once. [control]"""

    def save(self) -> tuple[str, bytes] | None:
        if "on_state_save" not in self._plugin.methods:
            return None
        with self._waiting():
            self._lock.acquire()
        try:
            state = self._attempt("on_state_save")
        finally:
            self._lock.release()
        try:
            return self._plugin.version, msgspec.msgpack.encode(state)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigError(f"{self._name}: on_state_save gave what cannot be stored ({error})") from None

    def destroy(self) -> None:
        """Nothing: the process ends. [control]"""
