"""What runs in a child of a signal engine's lane: a control thread, and a feeder, which alone makes native calls."""

import queue
import threading
from collections import deque
from pathlib import Path

import numpy as np

from sigrack.lanes.messages import Message
from sigrack.lanes.serving import Serving
from sigrack.loading.engines import NativeEngine
from sigrack_engine.data import KINDS
from sigrack_engine.naming import name_process
from sigrack_engine.remote import ChildBooks
from sigrack_engine.results import ResultRing

__all__ = ["main"]

TURN_RECORDS = 1024
"""Records of one message."""
POLL_S = 0.001
"""How often an engine is polled that gets no data."""


class _EngineChild(Serving):
    """Native calls may wait until records are sent, so orders about the engine are the feeder's, and their answers follow the
    records that were posted before."""

    def __init__(self, descriptors: list[int], argument: Message) -> None:
        end, books, stack = descriptors
        super().__init__(end, stack)
        self._name = argument["name"]
        name_process(self._name)
        self._books = ChildBooks(books)
        self._engine: NativeEngine | None = None
        self._ring: ResultRing | None = None
        self._begun = False
        """The host knows that there is an engine: before that it takes no records, and would not hear so behind them."""
        self._most = TURN_RECORDS
        self._orders: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._answers: deque[tuple[Message, Message]] = deque()
        feeder = threading.Thread(target=self._feed, name="feeder", daemon=True)
        feeder.start()
        self._worker = feeder.native_id or 0

    def _take_up(self, order: Message) -> None:
        if order["do"] in ("ping", "hurry"):
            super()._take_up(order)
        else:
            self._orders.put(order)

    def _deliver(self) -> None:
        answers = [self._answers.popleft() for _ in range(len(self._answers))]
        if self._begun:
            self._send_records()
        for order, answer in answers:
            self._answer(order, answer)
            if order["do"] == "begin":
                self._begun = True
                self._bell.ring()

    def _send_records(self) -> None:
        """Send what waits now. [control]"""
        owed = self._ring.queued if self._ring else 0
        while self._ring and owed > 0 and (taken := self._ring.take(min(owed, self._most))):
            records, count = taken
            self._channel.send({"note": "results", "records": records.tobytes()})
            owed -= count

    def _ping(self, _: Message) -> None:
        pass

    def _hurry(self, _: Message) -> None:
        if self._engine and self._ring:
            self._engine.hurry()
            self._ring.set_patient(False)

    # What the feeder does

    def _feed(self) -> None:
        order: Message = {"do": ""}
        while order["do"] != "end":
            try:
                order = self._orders.get(timeout=POLL_S if self._engine and self._engine.polls else None)
            except queue.Empty:
                assert self._engine
                self._engine.poll()
                continue
            self._answers.append((order, self._carried_out(order)))
            self._bell.ring()

    def _begin(self, order: Message) -> None:
        engine = NativeEngine(Path(order["path"]), self._name, order["takes"])
        ring = ResultRing(self._bell, order["symbols"], None, order["queue"], order["max_values"])
        ring.keep_books(self._books.address)
        self._most = min(TURN_RECORDS, ring.capacity // 2)
        self._engine, self._ring = engine, ring
        engine.begin(order["config"], ring, patient=order["patient"])

    def _on_data(self, order: Message) -> None:
        assert self._engine
        if "planes" in order:
            planes = np.frombuffer(order["planes"], np.float32).reshape(order["channels"], -1)
            self._engine.give_audio(planes, order["rate_hz"], order["frame"])
        else:
            self._engine.give_records([(kind, np.frombuffer(data, KINDS[kind].dtype)) for kind, data in order["parts"]])
        self._engine.poll()

    def _end(self, _: Message) -> None:
        assert self._ring
        if self._engine:
            self._engine.destroy()
        self._ring.shut()


def main(descriptors: list[int], argument: Message) -> None:
    """Be a child: `descriptors` are its end of the channel, its books, and where a stack is written. [control]"""
    _EngineChild(descriptors, argument).serve()
