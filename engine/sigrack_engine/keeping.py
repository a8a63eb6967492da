"""The keeper, as the host sees it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sigrack_engine.keeper import MESSAGE_BYTES

__all__ = ["Death", "Keeper", "KeeperError"]

END_S = 5.0


class KeeperError(RuntimeError):
    """The keeper could not be started, or is gone."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended."""

    signal: int | None = None
    code: int | None = None
    why: str = ""
    """Why it was killed, if the host or the keeper did it."""
    core: bool = False
    """Whether a core dump was written."""
    rss_kb: int = 0
    cpu_s: float = 0.0

    @property
    def text(self) -> str:
        """In a few words."""
        if self.why:
            return self.why
        if self.signal is None:
            return f"exit code {self.code}"
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"


class Keeper:
    """Starts children and hears of their deaths. `read` when `descriptor` is readable."""

    def __init__(
        self, modules: Sequence[str], on_start: Callable[[int, int], object], on_death: Callable[[int, Death], object]
    ) -> None:
        """Start the process; it imports `modules`. `on_start`: number, pid. Raises KeeperError. [any]"""
        self._on_start, self._on_death = on_start, on_death
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)  # and no other: a plugin beside us may be called as a module
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "sigrack_engine.keeper", str(theirs.fileno()), *modules],
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise KeeperError(f"the keeper of lanes cannot be started: {error.strerror}") from None
        self._socket = ours
        self.pid = self._process.pid

    @property
    def descriptor(self) -> int:
        """Readable when there is news."""
        return self._socket.fileno()

    def start(self, number: int, entry: str, argument: object, descriptors: Sequence[int], memory_mb: int = 0) -> None:
        """Fork a child that calls `entry` ("module:function") with the descriptors and `argument`. Raises KeeperError. [any]"""
        message = {"start": number, "entry": entry, "argument": argument, "memory_mb": memory_mb}
        self._send(message, descriptors)

    def kill(self, number: int, why: str, by: int = signal.SIGKILL, thread: int = 0) -> None:
        """Kill a child by a signal, which goes to one of its threads, if it has that; its death will say why.

        Nothing, if it is gone. Raises KeeperError. [any]
        """
        self._send({"kill": number, "why": why, "signal": by, "thread": thread})

    def _send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        packet = json.dumps(message).encode()
        if len(packet) > MESSAGE_BYTES:
            raise KeeperError(f"a message of {len(packet)} bytes is too long for the keeper")
        try:
            with self._lock:
                socket.send_fds(self._socket, [packet], descriptors)
        except OSError as error:
            raise KeeperError(f"the keeper of lanes is gone: {error.strerror}") from None

    def read(self) -> bool:
        """Take one piece of news; False: the keeper is gone, and all children with it. [minder]"""
        try:
            packet = self._socket.recv(MESSAGE_BYTES)
        except OSError:
            packet = b""
        if not packet:
            return False
        message: dict[str, Any] = json.loads(packet)
        if (number := message.pop("started", None)) is not None:
            self._on_start(number, message["pid"])
        else:
            self._on_death(message.pop("ended"), Death(**message))
        return True

    def close(self) -> None:
        """End it and all children, and wait for it. [any]"""
        self._socket.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
