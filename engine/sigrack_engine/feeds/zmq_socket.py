"""ZeroMQ sockets that bring data as JSON."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from sigrack_engine.data import LEVELS, SIDES, DataError, Kind, Records, Symbols, from_columns
from sigrack_engine.feeds.errors import EndpointInUseError, FeedError

__all__ = ["Decoder", "ZmqSocket"]

QUEUE_MESSAGES = 10_000
"""The socket's own queue; beyond it ZeroMQ drops (SUB) or lets the sender wait (PUSH)."""
MOST_BYTES = 1 << 26
"""Of a message; who sends more is disconnected."""


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    ts_ns: int
    symbol: str


class _Depth(_Message):
    bid_price: list[float]
    bid_size: list[float]
    ask_price: list[float]
    ask_size: list[float]


class _Ticker(_Message):
    bid_price: float
    bid_size: float
    ask_price: float
    ask_size: float
    last_price: float


class _Trade(_Message):
    price: float
    quantity: float
    side: str = "unknown"
    trade_id: int = 0


class _IndexPrice(_Message):
    price: float


_MESSAGES: dict[str, type[_Message]] = {"depth": _Depth, "ticker": _Ticker, "trade": _Trade, "index_price": _IndexPrice}


class Decoder:
    """Turns messages of one kind into records, or refuses them."""

    def __init__(self, kind: Kind, symbols: Symbols) -> None:
        self._kind, self._symbols = kind, symbols
        message = _MESSAGES[kind.name]
        self._names = [field.name for field in msgspec.structs.fields(message)]
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(message | list[message])  # type: ignore[valid-type]

    def decode(self, payload: bytes) -> Records:
        """Return the records of one message: a JSON object, or an array of them. Raises DataError. [any]"""
        try:
            decoded = self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(str(error).replace("`", "")) from None
        messages: list[_Message] = decoded if isinstance(decoded, list) else [decoded]
        if not messages:
            raise DataError("an empty array")
        columns = {name: [getattr(message, name) for message in messages] for name in self._names}
        fields = {name: self._column(name, values) for name, values in columns.items()}
        if self._kind.name == "depth":
            fields["levels"] = np.array(_levels(messages), np.uint32)
        return from_columns(self._kind, fields)

    def _column(self, name: str, values: list[Any]) -> "npt.NDArray[Any]":
        if name == "symbol":
            return self._symbols.field(values)
        if name == "side":
            return np.array([_side(word) for word in values], np.uint32)
        field = self._kind.dtype[name]
        if field.shape:
            return np.array([(ladder + [0.0] * LEVELS)[:LEVELS] for ladder in values])
        if field.kind in "iu" and not all(0 <= value <= np.iinfo(field).max for value in values):
            raise DataError(f"{name} is out of range")
        return np.array(values, field)


def _levels(messages: list[Any]) -> list[int]:
    """Return how many levels each message has. Raises DataError unless its four lists agree."""
    for message in messages:
        lengths = {len(ladder) for ladder in (message.bid_price, message.bid_size, message.ask_price, message.ask_size)}
        if len(lengths) > 1 or not lengths <= set(range(1, LEVELS + 1)):
            raise DataError(f"bid_price, bid_size, ask_price and ask_size must have the same length, 1 to {LEVELS}")
    return [len(message.bid_price) for message in messages]


def _side(word: str) -> int:
    if word not in SIDES:
        raise DataError(f"side: {word[:64]!a} is not known", name=word, valid=tuple(SIDES))
    return SIDES[word]


class ZmqSocket:
    """A SUB or PULL socket. Opened on one thread, then used and closed by one other."""

    def __init__(self, endpoint: str, *, pull: bool = False, topic: str = "", bind: bool = False) -> None:
        """Raises FeedError if the endpoint cannot be had, EndpointInUseError if another has it. [main]"""
        import zmq

        self._frames = (1,) if pull else (1, 2)
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PULL if pull else zmq.SUB)
        self._socket.linger = 0
        self._socket.rcvhwm = QUEUE_MESSAGES
        self._socket.maxmsgsize = MOST_BYTES
        try:
            (self._socket.bind if bind else self._socket.connect)(endpoint)
        except zmq.ZMQError as error:
            self.close()
            kind = EndpointInUseError if error.errno == zmq.EADDRINUSE else FeedError
            raise kind(f"{endpoint}: {zmq.strerror(error.errno or 0)}; choose another endpoint") from None
        if not pull:
            self._socket.subscribe(topic)

    def receive(self, wait_ms: int) -> bytes | None:
        """Return the next message's payload; None: there was none within `wait_ms`. Raises DataError for a strange one. [feed]"""
        if not self._socket.poll(wait_ms):
            return None
        frames = self._socket.recv_multipart()
        if len(frames) not in self._frames:
            raise DataError(f"a message of {len(frames)} frames; {' or '.join(map(str, self._frames))} expected")
        return frames[-1]

    def close(self) -> None:
        """Close it. [feed]"""
        self._socket.close()
        self._context.term()
