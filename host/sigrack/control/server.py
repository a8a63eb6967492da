"""The ZeroMQ sockets of a running host: ROUTER for commands, PUB for events."""

import asyncio
import contextlib
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from sigrack.control.schema import COMMANDS, Command, CommandError, Reply, Request
from sigrack.errors import EngineError, RackError, nearest
from sigrack.places import check_socket_free, events_endpoint

__all__ = ["ControlServer"]

log = logging.getLogger("sigrack")

Handler = Callable[[Command, Request], Awaitable[Reply]]


def _bind(socket: "zmq.Socket[Any]", endpoint: str) -> None:
    check_socket_free(endpoint)
    mask = os.umask(0o177)  # the socket file is made with mode 0600, never for a moment with another
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise EngineError(f"cannot open the control socket {endpoint}: {zmq.strerror(error.errno or 0)}") from None
    finally:
        os.umask(mask)


def decode(payload: bytes) -> tuple[Request, Command]:
    """Return a request and its command, checked. Raises CommandError. [any]"""
    try:
        request = msgspec.json.decode(payload, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CommandError("IPC_PROTOCOL_ERROR", f"not a request: {error}") from None
    if (kind := COMMANDS.get(request.cmd)) is None:
        raise CommandError("IPC_INVALID_COMMAND", f'unknown command "{request.cmd}"{nearest(request.cmd, list(COMMANDS))}')
    try:
        return request, msgspec.convert(request.params, kind)
    except msgspec.ValidationError as error:
        raise CommandError("IPC_INVALID_PARAMS", f"{request.cmd}: {_explain(str(error), kind)}") from None


def _explain(text: str, kind: type[Command]) -> str:
    """Turn msgspec's message into which parameter is wrong, and how it is written."""
    if wrong := re.fullmatch(r"Expected `(.*)`, got `(.*)` - at `\$\.(.*)`", text):
        wanted = " or ".join(_WRITTEN.get(name, name) for name in wrong[1].split(" | ") if name != "null")
        return f'"{wrong[3]}" must be {wanted}, not {_WRITTEN.get(wrong[2], wrong[2]).partition(",")[0]}'
    text = text.replace("`", '"').replace("Object contains unknown field", "unknown parameter")
    text = text.replace("Object missing required field", "missing parameter")
    return text + _valid(kind, text)


_WRITTEN = {
    "str": 'text, as "abc"',
    "int": "a whole number, as 5",
    "float": "a number, as 0.5",
    "bool": "true or false",
    "array": 'a list, as ["A", "B"]',
    "object": 'an object, as {"key": 5}',
    "null": "null",
}
"""Kinds of values as msgspec calls them, and how they are written in JSON."""


def _error(code: str, message: str) -> bytes:
    """Return an error reply; a message may hold parts of file names that are no text."""
    text = message.encode("utf-8", "backslashreplace").decode()
    return msgspec.json.encode({"status": "error", "error_code": code, "message": text})


def _valid(kind: type[Command], message: str) -> str:
    """Return the parameters that a command has, for a message about one that it has not."""
    names = [field.name for field in msgspec.structs.fields(kind)]
    if unknown := re.match(r'unknown parameter "(.*)"', message):
        return nearest(unknown[1], names) or "; it takes none"
    return ""


class ControlServer:
    """Answers commands one after the other, on the main loop."""

    def __init__(self, endpoint: str, handle: Handler) -> None:
        """Bind both sockets. Raises ConfigError, EngineError. [main]"""
        self.endpoint = endpoint
        self._handle = handle
        self._context = zmq.asyncio.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._events = zmq.Context(self._context).socket(zmq.PUB)  # plain: events are also sent when the loop has ended
        self._sequence = 0
        for socket in (self._router, self._events):
            socket.linger = 200
        try:
            _bind(self._router, endpoint)
            _bind(self._events, events_endpoint(endpoint))
        except RackError:
            self._close_sockets(linger_ms=0)
            raise

    async def serve(self) -> None:
        """Answer until cancelled. A command that waits (RELOAD) does not keep the others waiting. [main]"""
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                client, *frames = await self._router.recv_multipart()
                task = asyncio.create_task(self._reply(client, frames))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()

    async def _reply(self, client: bytes, frames: list[bytes]) -> None:
        end = frames.index(b"") + 1 if b"" in frames else 0  # a REQ client's envelope ends with an empty frame, a DEALER has none
        envelope, parts = frames[:end], frames[end:]
        if len(parts) == 1:
            reply = await self._answer(parts[0])
        else:
            reply = _error("IPC_PROTOCOL_ERROR", f"a request is one frame of JSON, not {len(parts)}")
        with contextlib.suppress(zmq.ZMQError):
            await self._router.send_multipart([client, *envelope, reply])

    async def _answer(self, payload: bytes) -> bytes:
        try:
            request, command = decode(payload)
            reply = await self._handle(command, request)
            return msgspec.json.encode({**msgspec.to_builtins(reply), "status": "ok"})
        except CommandError as failure:
            return _error(failure.code, failure.message)
        except Exception as error:
            log.exception("control: %r failed", payload[:200])
            return _error("INTERNAL_UNKNOWN", f"{type(error).__name__}: {error}")

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Send an event to whoever listens: {"type", "seq", "timestamp", "data"}. [main]"""
        self._sequence += 1
        event = {"type": kind, "seq": self._sequence, "timestamp": time.time(), "data": data}
        with contextlib.suppress(zmq.ZMQError, UnicodeEncodeError):
            self._events.send_multipart([kind.encode(), msgspec.json.encode(event)], flags=zmq.NOBLOCK)

    def close(self) -> None:
        """Close the sockets and remove their files. [main]"""
        self._close_sockets(linger_ms=200)
        for endpoint in (self.endpoint, events_endpoint(self.endpoint)):
            if endpoint.startswith("ipc://"):
                Path(endpoint.removeprefix("ipc://")).unlink(missing_ok=True)

    def _close_sockets(self, linger_ms: int) -> None:
        self._events.close(linger_ms)  # made by a shadow context: destroy() does not know it and would wait for it for ever
        self._context.destroy(linger_ms)
