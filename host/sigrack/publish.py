"""Factors for other programs, over a ZeroMQ PUB socket."""

import os
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import zmq

from sigrack.config import Document
from sigrack.errors import ConfigError, EngineError, nearest
from sigrack.places import check_socket_free
from sigrack_plugins import FactorBatch

__all__ = ["Publisher", "selection"]

QUEUE_MESSAGES = 1000
"""Of each subscriber; beyond it messages are dropped."""
TOPIC = "factors."
ALL = "*"


def selection(document: Document, posted: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    """Return the symbols of each source that `[publish] factors` asks for. Raises ConfigError with the nearest. [main]

    `posted`: what every source may post. Names of sources may hold dots.
    """
    table = document.config.publish
    valid = [f"{source}.{symbol}" for source, symbols in posted.items() for symbol in (*symbols, ALL)]
    chosen: dict[str, frozenset[str]] = {}
    for pattern in table.factors if table else ():
        if pattern not in valid:
            document.fail(("publish", "factors"), f'no factor is called "{pattern}"{nearest(pattern, valid)}')
        for source, symbols in posted.items():
            if pattern == f"{source}.{ALL}":
                chosen[source] = frozenset(symbols)
            elif pattern.startswith(f"{source}.") and (symbol := pattern.removeprefix(f"{source}.")) in symbols:
                chosen[source] = chosen.get(source, frozenset()) | {symbol}
    return chosen


class Publisher:
    """A bound PUB socket. It never waits: what finds no room in it is dropped, and counted as far as ZeroMQ tells."""

    def __init__(self, endpoint: str, chosen: Mapping[str, frozenset[str]]) -> None:
        """Bind. Raises EngineError when the endpoint is taken, ConfigError when it cannot be had. [main]

        `chosen`: from `selection`.
        """
        check_socket_free(endpoint, "publish")
        self.chosen = dict(chosen)
        self.sent = 0
        """Messages handed to the socket."""
        self.dropped = 0
        """Messages that it did not take. What it drops for a single slow subscriber it does not tell."""
        self._encoder = msgspec.json.Encoder()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.linger = 0
        self._socket.sndhwm = QUEUE_MESSAGES
        mask = os.umask(0o177)  # other users may not listen
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            kind = EngineError if error.errno == zmq.EADDRINUSE else ConfigError
            raise kind(f"[publish] {endpoint}: {error.strerror}; choose another endpoint") from None
        finally:
            os.umask(mask)

    def send(self, batch: FactorBatch) -> None:
        """Send what was asked for of one batch as one message. Never waits. [main]"""
        symbols = self.chosen.get(batch.source)
        if not symbols:
            return
        names = [batch.symbols[number] for number in batch.symbol_ids.tolist()]
        rows = np.array([name in symbols for name in names], bool)
        if not rows.any():
            return
        counts, values = batch.counts[rows].tolist(), batch.values[rows].tolist()
        message = {
            "source": batch.source,
            "symbol": [name for name in names if name in symbols],
            "ts_ns": batch.ts_ns[rows].tolist(),
            "values": [row[:count] for row, count in zip(values, counts, strict=True)],
        }
        try:
            self._socket.send_multipart((f"{TOPIC}{batch.source}".encode(), self._encoder.encode(message)), zmq.NOBLOCK)
            self.sent += 1
        except zmq.Again:
            self.dropped += 1

    def close(self) -> None:
        """Close the socket; what it has not sent is lost. [main]"""
        self._socket.close()
        self._context.term()
