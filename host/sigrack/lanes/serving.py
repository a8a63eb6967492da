"""The control thread of a child, whatever runs there: it does what the host asks."""

import faulthandler
import os
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sigrack.errors import ConfigError, RackError
from sigrack.lanes.lastwords import AtWork
from sigrack.lanes.messages import Channel, Message
from sigrack_engine.bell import Bell

__all__ = ["FAILED", "LOST", "Serving", "be_real_time"]

LOST = 71
"""Exit code of a child whose files were closed under it."""
FAILED = 72
"""Exit code of a child whose device has failed; it has left in the stack's file what the device said."""
LOOK_S = 0.25
"""How often it is looked whether they were: nothing else tells who waits for them."""
RLIMIT_RTTIME = 15  # the resource module does not know it
REAL_TIME_US = 500_000
"""Processor time without a pause after which the kernel ends a real-time thread."""


def be_real_time(priority: int) -> None:
    """Give this thread a SCHED_FIFO priority, if it is above 0 and that is permitted. [the child's audio thread]"""
    with suppress(OSError, ValueError):  # not permitted: as the host's own thread, it runs without
        if priority:
            resource.setrlimit(RLIMIT_RTTIME, (REAL_TIME_US, REAL_TIME_US))
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


class Serving:
    """Carries out orders, one after the other: the method `_NAME` for the order NAME. What it returns is the answer."""

    def __init__(self, end: int, stack: int) -> None:
        """`end`: of the channel to the host; `stack`: where Python's stack of who dies is written. [control]"""
        faulthandler.enable(stack, all_threads=False)  # those of threads that run on cannot be read safely
        self._at_work = AtWork(stack)
        self._worker = 0
        """The kernel's number of the thread for which this one waits; 0: there is none yet."""
        self._channel = Channel(socket.socket(fileno=end))
        self._bell = Bell()
        """Rings when there is something to deliver."""
        self._over = False

    def serve(self) -> None:
        """Do what the host asks until it is gone. [control]"""
        try:
            while (order := self._next()) is not None:
                self._take_up(order)
        except (OSError, ValueError):
            os._exit(LOST)

    def _next(self) -> Message | None:
        """Wait for an order; None: there will be none."""
        while not self._over:
            self._bell.arm()
            self._deliver()
            if self._over:
                break
            if self._ordered():
                return self._channel.receive()
        return None

    def _ordered(self) -> bool:
        """Wait for an order, or for the bell, or a while."""
        with self.waiting():
            ready, _, _ = select.select([self._channel.descriptor, self._bell.descriptor], [], [], LOOK_S)
        return self._channel.descriptor in ready

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """If the child hangs meanwhile, the worker does. [control]"""
        self._at_work.tell(self._worker)
        try:
            yield
        finally:
            self._at_work.tell(os.getpid())

    def _take_up(self, order: Message) -> None:
        self._answer(order, self._carried_out(order))

    def _carried_out(self, order: Message) -> Message:
        try:
            return {"data": getattr(self, f"_{order['do']}")(order)}
        except RackError as error:
            return {"error": str(error), "key": error.key if isinstance(error, ConfigError) else ()}

    def _answer(self, order: Message, answer: Message) -> None:
        self._channel.send({"id": order["id"]} | answer)
        self._over = order["do"] == "end"

    def _deliver(self) -> None:
        """Send what waits for the host. [control]"""
