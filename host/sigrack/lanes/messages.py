"""What the host and a child say to each other: msgpack, each message behind its length."""

import asyncio
import socket
import struct
import threading
from typing import Any

import msgspec

__all__ = ["Channel", "Message", "packed", "receive", "send"]

Message = dict[str, Any]

_LENGTH = struct.Struct("<I")
MOST_BYTES = 80 << 20
"""Of a message: a state has 64 MiB at most."""


def packed(message: Message) -> bytes:
    """Return what goes over the channel. [any]"""
    data = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(data)) + data


class Channel:
    """The child's end: waits."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()

    @property
    def descriptor(self) -> int:
        """Readable when a message comes, or the end."""
        return self._end.fileno()

    def send(self, message: Message) -> None:
        """Send; waits as long as the host does not read. Raises OSError. [child]"""
        with self._lock:
            self._end.sendall(packed(message))

    def receive(self) -> Message | None:
        """Wait for the next message; None: the host has gone. Reads no byte of the one behind it. [child]"""
        head = self._read(_LENGTH.size)
        data = self._read(*_LENGTH.unpack(head)) if head else None
        return msgspec.msgpack.decode(data) if data else None

    def _read(self, length: int) -> bytes | None:
        """Return so many bytes; None: the host has gone. More would leave the descriptor unreadable with a message unread."""
        data = bytearray(length)
        view = memoryview(data)
        while view:
            if not (count := self._end.recv_into(view)):
                return None
            view = view[count:]
        return bytes(data)


async def receive(reader: asyncio.StreamReader) -> Message | None:
    """Wait for a child's next message; None: there will be none. Raises ValueError for what is no message. [minder]"""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MOST_BYTES:
            raise ValueError(f"{length} bytes; {MOST_BYTES} are the most")
        message: Message = msgspec.msgpack.decode(await reader.readexactly(length), type=dict[str, Any])
    except (asyncio.IncompleteReadError, OSError):
        return None
    return message


def send(writer: asyncio.StreamWriter, message: Message) -> None:
    """Send to a child, which may be gone. [minder]"""
    writer.write(packed(message))
