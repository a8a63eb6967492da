"""A client for scripts and for the command line."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from sigrack.control.schema import COMMANDS, Change, Command, CommandError
from sigrack.errors import EngineError

__all__ = ["Client"]


class Client:
    """Sends commands to a running host. Use it as a context manager, from one thread."""

    def __init__(
        self,
        endpoint: str,
        timeout_s: float = 3.0,
        change_s: float = 60.0,
        on_wait: Callable[[], object] = lambda: None,
    ) -> None:
        """`timeout_s`: how long the host may be silent; a command that changes the rack may take `change_s` all in all.

        `on_wait` is called once for each command that takes longer than `timeout_s`.
        """
        self.endpoint = endpoint
        self._timeout_ms, self._change_s, self._on_wait = int(timeout_s * 1000), change_s, on_wait
        self._context = zmq.Context()
        self._socket = self._connected()

    def _connected(self) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.REQ)
        socket.linger = 0
        socket.sndtimeo = self._timeout_ms
        socket.req_relaxed = True
        socket.req_correlate = True
        socket.connect(self.endpoint)
        return socket

    def request(self, cmd: str, /, *, request_id: str | None = None, **params: Any) -> dict[str, Any]:
        """Return the whole reply. Raises CommandError if the host refuses, EngineError if it does not answer (in time).

        With an id of its own a request can be sent again when no answer came: it is carried out once.
        """
        identity = {} if request_id is None else {"id": request_id}
        try:
            self._socket.send(msgspec.json.encode({"cmd": cmd, "params": params, **identity}))
        except zmq.Again:
            raise self._silence() from None
        self._wait(cmd)
        reply: dict[str, Any] = msgspec.json.decode(self._socket.recv())
        if reply.get("status") != "ok":
            raise CommandError(reply.get("error_code", "?"), reply.get("message", "refused"))
        return reply

    def _wait(self, cmd: str) -> None:
        """Wait for the reply, and for that to a change as long as the host answers otherwise. Raises EngineError."""
        if self._socket.poll(self._timeout_ms):
            return
        if not issubclass(COMMANDS.get(cmd, Command), Change) or not self._host_answers():
            raise self._silence()
        self._on_wait()
        stop = time.monotonic() + self._change_s - self._timeout_ms / 1000
        while not self._socket.poll(self._timeout_ms):
            if not self._host_answers():
                raise self._silence()
            if time.monotonic() > stop:
                raise EngineError(f"the host at {self.endpoint} is still working on {cmd}; its log will tell what becomes of it")

    def _host_answers(self) -> bool:
        with self._connected() as socket:
            socket.send(msgspec.json.encode({"cmd": "PING"}))
            return bool(socket.poll(self._timeout_ms))

    def _silence(self) -> EngineError:
        return EngineError(f"no host answers at {self.endpoint}; is it running? (`sigrack run RACK.toml`)")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)
