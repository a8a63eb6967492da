"""What runs in a child of a group on a GPU: a control thread, and an audio thread that lets the device make quanta.

The keeper forks before anything of CUDA is loaded: the child imports CuPy itself.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn, TypeVar

import numpy as np

from sigrack.errors import ConfigError
from sigrack.lanes.device import open_device
from sigrack.lanes.messages import Message
from sigrack.lanes.serving import FAILED, LOST, Serving, be_real_time
from sigrack_engine.core import lib
from sigrack_engine.cuda.convolver import CudaConvolver
from sigrack_engine.cuda.device import Device
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.session import Pinned, Ring, Taps
from sigrack_engine.exchange import ChildExchange, Shape

__all__ = ["main"]

LOOK_S = 0.0005

Result = TypeVar("Result")


class _GpuChild(Serving):
    """The rings of the exchange are pinned in place, so that the device reads and writes them itself.

    Drivers pin only what may be written, so this child may write where others only read. It runs nothing but our own code.
    """

    def __init__(self, descriptors: list[int], argument: Message) -> None:
        end, host, own, wake, self._stack = descriptors
        super().__init__(end, self._stack)
        self._exchange = ChildExchange(Shape(*argument["shape"]), (host, own, wake), trusted=True)
        self._priority, self._patient = argument["priority"], argument["patient"]
        self._device: Device | None = None
        self._convolver: CudaConvolver | None = None
        self._audio: threading.Thread | None = None
        self._number = 0
        """Of the change that was asked for last."""
        self._changing = False
        self._control = threading.Lock()
        """Held by the control thread inside the session, and for good by an audio thread that has failed."""

    # The control thread

    def _open(self, _: Message) -> str:
        self._device = open_device()
        return self._device.name

    def _load(self, order: Message) -> Message:
        exchange = self._exchange.struct
        quantum, capacity, ratio = exchange.quantum, exchange.capacity, exchange.ratio
        depth = capacity // quantum
        given, made = self._exchange.parts
        try:
            self._convolver = CudaConvolver(
                _taps(order),
                phases=ratio,
                block=quantum,
                device=self._device,
                source=Ring(exchange.in_, 0, capacity, quantum, depth),
                sink=Ring(exchange.out, 0, capacity * ratio, quantum * ratio, depth),
                pinned=(Pinned(*given), Pinned(*made)),
                most_taps=order["most_taps"],
                all_paths=order["all_paths"],
                fade_frames=order["fade_frames"],
            )
        except CudaError as error:
            raise ConfigError(str(error)) from None
        self._audio = threading.Thread(target=self._run, args=(self._convolver,), name="audio", daemon=True)
        self._audio.start()
        self._worker = self._audio.native_id or 0
        return {"device_bytes": self._convolver.bytes}

    def _change(self, order: Message) -> None:
        """Answer when the next block begins the change, unless another one is still being faded in."""
        assert self._convolver
        convolver = self._convolver
        self._number, self._changing = order["number"], True
        self._tend(partial(convolver.change, _taps(order)))
        while self._patient and not self._tend(lambda: convolver.session.ready):
            time.sleep(LOOK_S)

    def _tend(self, work: Callable[[], Result]) -> Result:
        """Do something of a change, which ends the process if it fails."""
        try:
            with self._control:
                return work()
        except CudaError as error:
            self._fail(error)

    def _deliver(self) -> None:
        if self._convolver and self._changing:
            self._tend(self._convolver.tend)
            if not self._convolver.changing:
                self._changing = False
                self._channel.send({"note": "changed", "number": self._number})

    def _end(self, _: Message) -> None:
        if self._audio:
            with self.waiting():
                self._audio.join()
        if self._convolver:
            self._convolver.close()

    def _fail(self, error: CudaError) -> NoReturn:
        """End the process, and leave behind what the device said. [any]"""
        os.pwrite(self._stack, str(error).encode(), 0)
        os._exit(FAILED)

    # The audio thread

    def _run(self, convolver: CudaConvolver) -> None:
        be_real_time(self._priority)
        try:
            self._make_quanta(convolver)
        except CudaError as error:
            self._control.acquire()
            with suppress(CudaError):
                convolver.close()
            self._fail(error)

    def _make_quanta(self, convolver: CudaConvolver) -> None:
        exchange, tick_ns = self._exchange, lib.core_tick_ns()
        while (at := exchange.wait()) >= 0:
            begun = time.perf_counter_ns()
            convolver.submit()
            convolver.wait()
            exchange.done(refused=False, ticks=int((time.perf_counter_ns() - begun) / tick_ns))
            if self._changing and not convolver.session.changing:
                self._bell.ring()
        if at != -1:
            os._exit(LOST)


def _taps(order: Message) -> Taps:
    return np.frombuffer(order["taps"], np.float32).reshape(order["paths"])


def main(descriptors: list[int], argument: Message) -> None:
    """Be a child: `descriptors` are its end of the channel, of the exchange, and where a stack is written. [control]"""
    _GpuChild(descriptors, argument).serve()
