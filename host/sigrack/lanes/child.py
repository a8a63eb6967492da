"""What runs in a child of a lane: a control thread, which does what the host asks, and an audio thread.

The keeper imports this module and forks; `main` is where a child begins.
"""

import os
import resource
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from sigrack.config import resolved
from sigrack.errors import ConfigError, said
from sigrack.lanes.messages import Channel, Message
from sigrack.lanes.serving import LOST, Serving
from sigrack.loading import NativePlugin, PythonPlugin
from sigrack_engine.bell import Bell
from sigrack_engine.core import ChildSetup, lib
from sigrack_engine.exchange import ChildExchange, Shape
from sigrack_engine.keeper import CHILD_FAILED
from sigrack_engine.naming import name_process
from sigrack_engine.results import POST_ADDRESS, ResultRing
from sigrack_plugins import AudioBlock, Setup
from sigrack_plugins.abi import MAX_CHANNELS

__all__ = ["main"]

RECORDS = 4096
"""Results that may wait for the control thread."""
TURN_RECORDS = 1024
RLIMIT_RTTIME = 15  # the resource module does not know it
REAL_TIME_US = 500_000
"""Processor time without a pause after which the kernel ends a real-time thread."""
MOST_LATENCY_FRAMES = 1 << 22


class _Processor(Protocol):
    """A plugin in this process."""

    def begin(self, order: Message) -> int:
        """Make the instance; return its latency in frames. Raises ConfigError. [control]"""

    def run(self) -> None:
        """Process until the host closes the exchange. [audio]"""

    def save(self) -> tuple[str, bytes] | None:
        """Return version and state. Raises ConfigError. [control]"""

    def destroy(self) -> None:
        """Free the instance: `run` has returned. [control]"""


class _Poster:
    """Results of the processor, on their way to the host."""

    def __init__(self, symbols: list[str], bell: Bell) -> None:
        self.symbols = symbols
        self.ring = ResultRing(bell, symbols, None, RECORDS, MAX_CHANNELS) if symbols else None
        self._lost = 0

    def send(self, channel: Channel) -> None:
        """Send what waits. [control]"""
        while self.ring and (taken := self.ring.take(TURN_RECORDS)):
            records, _ = taken
            rows = [
                (int(record["symbol"]), int(record["frame"]), record["values"][: record["count"]].tolist()) for record in records
            ]
            counts = self.ring.counts
            lost, self._lost = counts.dropped + counts.refused - self._lost, counts.dropped + counts.refused
            channel.send({"note": "results", "records": rows, "lost": lost})


class _Native:
    def __init__(self, plugin: NativePlugin, exchange: ChildExchange, poster: _Poster) -> None:
        self._plugin, self._exchange, self._poster = plugin, exchange, poster

    def begin(self, order: Message) -> int:
        ring = self._poster.ring
        self._instance = self._plugin.create(order["config"], ring.cookie if ring else 0, POST_ADDRESS)
        if order["state"]:
            self._instance.load_state(*order["state"])
        contract = self._instance.activate(
            rate_hz=order["rate_hz"],
            max_frames=self._exchange.struct.quantum,
            channels=self._exchange.struct.channels,
            values=order["values"],
        )
        latency_frames: int = contract.latency_frames
        return latency_frames

    def run(self) -> None:
        setup = ChildSetup(self._instance.process_address, self._instance.pointer)
        if lib.core_child_run(self._exchange.struct, setup):
            os._exit(LOST)

    def save(self) -> tuple[str, bytes] | None:
        data = self._instance.save_state()
        return None if data is None else (self._plugin.version, data)

    def destroy(self) -> None:
        self._instance.destroy()


class _Context:
    """What a processor in Python may ask for."""

    def __init__(self, name: str, setup: Setup, config: Mapping[str, Any], channel: Channel, symbols: list[str]) -> None:
        self.name, self.setup, self.config = name, setup, config
        self._channel, self._symbols = channel, symbols
        self.frame = 0

    def now(self) -> int:
        """Return the rack time of the block, in nanoseconds."""
        return self.frame * 1_000_000_000 // self.setup.rate_hz

    def log(self, message: str) -> None:
        """Write one line into the host's log."""
        self._channel.send({"note": "log", "text": str(message)})

    def post(self, symbol: str, values: Any, ts_ns: int | None = None) -> bool:
        """Post one record of a symbol in `factors`; its time is the block's."""
        if symbol not in self._symbols:
            raise KeyError(f'"{symbol}" is not among the plugin\'s factors: {", ".join(self._symbols) or "it has none"}')
        row = [float(value) for value in (values if hasattr(values, "__len__") else [values])]
        self._channel.send({"note": "results", "records": [(self._symbols.index(symbol), self.frame, row)], "lost": 0})
        return True


class _Python:
    def __init__(self, plugin: PythonPlugin, exchange: ChildExchange, channel: Channel, name: str) -> None:
        self._plugin, self._exchange, self._channel, self._name = plugin, exchange, channel, name
        self._lock = threading.Lock()
        """Methods of the plugin run one at a time."""
        self._said = ""

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
        return frames

    def _attempt(self, method: str, *arguments: object) -> Any:
        try:
            return getattr(self._instance, method)(*arguments)
        except Exception as error:
            raise ConfigError(f"{self._name}: {method}: {said(error)}") from error

    def run(self) -> None:
        exchange, values = self._exchange, self._values
        given, made = exchange.rings()
        quantum, process = exchange.struct.quantum, self._instance.process
        while (at := exchange.wait()) >= 0:
            for _, param, value in exchange.events():
                values[self._ids[param]] = value
            frame = self._context.frame = exchange.frame
            block = AudioBlock(given[:, at : at + quantum].T, made[:, at : at + quantum].T, self._rate_hz, frame, values)
            begun = time.perf_counter_ns()
            refused = False
            try:
                with self._lock:
                    process(block)
            except Exception as error:
                refused = True
                self._tell(error)
            except BaseException as error:  # sys.exit: the plugin wants its process to end
                os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
            exchange.done(refused=refused, ticks=int((time.perf_counter_ns() - begun) / lib.core_tick_ns()))
        if at != -1:
            os._exit(LOST)

    def _tell(self, error: Exception) -> None:
        if (text := said(error)) != self._said:
            self._said = text
            with suppress(OSError):
                self._channel.send({"note": "raised", "text": text})

    def save(self) -> tuple[str, bytes] | None:
        if "on_state_save" not in self._plugin.methods:
            return None
        with self._lock:
            state = self._attempt("on_state_save")
        try:
            return self._plugin.version, msgspec.msgpack.encode(state)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigError(f"{self._name}: on_state_save gave what cannot be stored ({error})") from None

    def destroy(self) -> None:
        """Nothing: the process ends."""


class _Child(Serving):
    def __init__(self, descriptors: list[int], argument: Message) -> None:
        end, host, own, wake, stack = descriptors
        super().__init__(end, stack)
        self._exchange = ChildExchange(Shape(*argument["shape"]), (host, own, wake))
        self._name, self._priority = argument["name"], argument["priority"]
        name_process(self._name)
        self._poster: _Poster | None = None
        self._processor: _Processor | None = None
        self._audio: threading.Thread | None = None

    def _deliver(self) -> None:
        if self._poster:
            self._poster.send(self._channel)

    def _load(self, order: Message) -> Message:
        target: Path | str = Path(order["target"]) if order["is_file"] else order["target"]
        plugin: NativePlugin | PythonPlugin
        if isinstance(target, Path) and target.suffix == ".so":
            plugin = NativePlugin(target)
        else:
            plugin = PythonPlugin(target)
            if not plugin.processes:
                raise ConfigError(f"{target}: has no process: only processors have a process of their own")
        self._poster = _Poster(list(plugin.factors) if isinstance(plugin, NativePlugin) else [], self._bell)
        if isinstance(plugin, NativePlugin):
            self._processor = _Native(plugin, self._exchange, self._poster)
        else:
            self._processor = _Python(plugin, self._exchange, self._channel, self._name)
        return {
            "kind": plugin.kind,
            "id": plugin.id,
            "name": plugin.name,
            "version": plugin.version,
            "description": plugin.description,
            "stateful": plugin.stateful,
            "params": [
                {field: getattr(info, field) for field in ("id", "name", "unit", "minimum", "maximum", "initial")}
                for info in plugin.params
            ],
            "factors": plugin.factors,
            "file": str(plugin.file),
            "sha256": plugin.sha256,
        }

    def _begin(self, order: Message) -> Message:
        assert self._processor
        latency_frames = self._processor.begin(order)
        self._audio = threading.Thread(target=self._run, name="audio", daemon=True)
        self._audio.start()
        return {"latency_frames": latency_frames}

    def _run(self) -> None:
        assert self._processor
        if self._priority and isinstance(self._processor, _Native):
            with suppress(OSError, ValueError):  # not permitted: as the host's own thread, it runs without
                resource.setrlimit(RLIMIT_RTTIME, (REAL_TIME_US, REAL_TIME_US))
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(self._priority))
        try:
            self._processor.run()
        except BaseException:  # a process without its audio thread is none
            traceback.print_exc()
            os._exit(CHILD_FAILED)

    def _flush(self, _: Message) -> None:
        """Process what was given, and send all results."""
        assert self._poster
        while not self._exchange.idle:
            time.sleep(0.001)
        self._poster.send(self._channel)

    def _save(self, _: Message) -> tuple[str, bytes] | None:
        assert self._processor
        return self._processor.save()

    def _end(self, _: Message) -> None:
        if self._audio:
            self._audio.join()
        if self._processor:
            self._processor.destroy()


def main(descriptors: list[int], argument: Message) -> None:
    """Be a child: `descriptors` are its end of the channel, of the exchange, and where stacks are written. [control]"""
    _Child(descriptors, argument).serve()
