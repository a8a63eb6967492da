"""What runs in a child of a lane of plugins: a control thread, which does what the host asks, and an audio thread.

The keeper imports this module and forks; `main` is where a child begins.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from sigrack.errors import ConfigError
from sigrack.lanes.messages import Message
from sigrack.lanes.processors import MemberChannel, NativeProcessor, PluginProcessor, PythonProcessor
from sigrack.lanes.serving import LOST, Serving, be_real_time
from sigrack.loading import NativePlugin, PythonPlugin, is_native
from sigrack_engine.chain import Chain
from sigrack_engine.exchange import ChildExchange, Shape
from sigrack_engine.keeper import CHILD_FAILED
from sigrack_engine.naming import name_process
from sigrack_engine.slot import SlotCore

__all__ = ["main"]


class _Line:
    """Members that play one behind the other, each with a bypass and a guard of its own."""

    def __init__(
        self, exchange: ChildExchange, members: Sequence[PluginProcessor], channels: Sequence[MemberChannel], chain: Message
    ) -> None:
        self._exchange, self._channels = exchange, channels
        self._cores = [
            SlotCore(
                member.processor,
                channels=exchange.struct.channels,
                max_frames=exchange.struct.quantum,
                fade_frames=chain["fade_frames"],
                active=active,
            )
            for member, active in zip(members, chain["active"], strict=True)
        ]
        self._chain = Chain(exchange, self._cores)

    def run(self) -> None:
        """Process until the host closes the exchange. [audio]"""
        self._exchange.run(Chain.process_address, self._chain.pointer)

    def deliver(self) -> None:
        """Tell once what the guards have caught. [control]"""
        for core, channel in zip(self._cores, self._channels, strict=True):
            meters = core.meters
            found = {"its output was NaN or infinite": meters.nonfinite, "it refused a block": meters.faults}
            for what in [what for what, count in found.items() if count and what not in core.told]:
                core.told.add(what)
                channel.note("bad", text=f"{what}: its input was played for that quantum; more are not told")


class _Child(Serving):
    def __init__(self, descriptors: list[int], argument: Message) -> None:
        end, host, own, wake, stack = descriptors
        super().__init__(end, stack)
        self._exchange = ChildExchange(Shape(*argument["shape"]), (host, own, wake))
        self._priority = argument["priority"]
        name_process(argument["name"])
        self._members: dict[int, PluginProcessor] = {}
        self._line: _Line | None = None
        self._audio: threading.Thread | None = None

    def _deliver(self) -> None:
        for member in self._members.values():
            member.deliver()
        if self._line:
            self._line.deliver()

    def _load(self, order: Message) -> Message:
        target: Path | str = Path(order["plugin"]) if order["is_file"] else order["plugin"]
        channel = MemberChannel(self._channel, order["member"])
        plugin: NativePlugin | PythonPlugin
        member: PluginProcessor
        if is_native(target):
            plugin = NativePlugin(target)
            member = NativeProcessor(plugin, self._exchange, channel, self._bell)
        else:
            plugin = PythonPlugin(target)
            if not plugin.processes:
                raise ConfigError(f"{target}: has no process: only processors have a process of their own")
            member = PythonProcessor(plugin, self._exchange, channel, order["name"], self.waiting)
        self._members[order["member"]] = member
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
        return {"latency_frames": self._members[order["member"]].begin(order)}

    def _play(self, order: Message) -> None:
        members = [self._members[number] for number in order["members"]]
        run = members[0].run
        if chain := order["chain"]:
            self._line = _Line(self._exchange, members, [MemberChannel(self._channel, n) for n in order["members"]], chain)
            run = self._line.run
        native = all(isinstance(member, NativeProcessor) for member in members)
        self._audio = threading.Thread(target=self._run, args=(run,), kwargs={"native": native}, name="audio", daemon=True)
        self._audio.start()
        self._worker = self._audio.native_id or 0

    def _run(self, run: Callable[[], None], *, native: bool) -> None:
        if native:
            be_real_time(self._priority)
        try:
            run()
        except OSError:
            os._exit(LOST)
        except BaseException:  # a process without its audio thread is none
            traceback.print_exc()
            os._exit(CHILD_FAILED)

    def _flush(self, _: Message) -> None:
        """Process what was given, and send all results."""
        with self.waiting():
            while not self._exchange.idle:
                time.sleep(0.001)
        self._deliver()

    def _save(self, order: Message) -> tuple[str, bytes] | None:
        return self._members[order["member"]].save()

    def _end(self, _: Message) -> None:
        if self._audio:
            with self.waiting():
                self._audio.join()
        for member in self._members.values():
            member.destroy()


def main(descriptors: list[int], argument: Message) -> None:
    """Be a child: `descriptors` are its end of the channel, of the exchange, and where a stack is written. [control]"""
    _Child(descriptors, argument).serve()
