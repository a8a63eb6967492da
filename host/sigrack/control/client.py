"""A client for scripts and for the command line."""

from typing import Any

import msgspec
import zmq

from sigrack.control.schema import CommandError
from sigrack.errors import EngineError

__all__ = ["Client"]


class Client:
    """Sends commands to a running host. Use it as a context manager, from one thread."""

    def __init__(self, endpoint: str, timeout_s: float = 3.0) -> None:
        self.endpoint = endpoint
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REQ)
        self._socket.linger = 0
        self._socket.rcvtimeo = self._socket.sndtimeo = int(timeout_s * 1000)
        self._socket.req_relaxed = True
        self._socket.req_correlate = True
        self._socket.connect(endpoint)

    def request(self, cmd: str, **params: Any) -> dict[str, Any]:
        """Return the whole reply. Raises CommandError if the host refuses, EngineError if it does not answer."""
        try:
            self._socket.send(msgspec.json.encode({"cmd": cmd, "params": params}))
            reply: dict[str, Any] = msgspec.json.decode(self._socket.recv())
        except zmq.Again:
            raise EngineError(f"no host answers at {self.endpoint}; is it running? (`sigrack run RACK.toml`)") from None
        if reply.get("status") != "ok":
            raise CommandError(reply.get("error_code", "?"), reply.get("message", "refused"))
        return reply

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)
