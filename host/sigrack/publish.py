"""Factors for other programs, over a ZeroMQ PUB socket."""

import os
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import zmq

from sigrack.config import Document
from sigrack.errors import ConfigError, EngineError, nearest
from sigrack.places import check_socket_free
from sigrack.subscriptions import Posted
from sigrack_plugins import FactorBatch

__all__ = ["Publisher", "check_factors"]

QUEUE_MESSAGES = 1000
"""Of each subscriber; beyond it messages are dropped."""
TOPIC = "factors."
ALL = "*"


def check_factors(document: Document, posted: Posted) -> None:
    """Raise ConfigError with the nearest if `[publish] factors` asks for what nobody posts. [main]

    `posted`: what every source may post.
    """
    table = document.config.publish
    valid = [f"{source}.{symbol}" for source, symbols in posted.items() for symbol in (*(symbols or ()), ALL)]
    for pattern in table.factors if table else ():
        if pattern not in valid and posted.get(pattern.rpartition(".")[0], ()) is not None:
            document.fail(("publish", "factors"), f'no factor is called "{pattern}"{nearest(pattern, valid)}')


class Publisher:
    """A bound PUB socket. It never waits: what finds no room in it is dropped, and counted as far as ZeroMQ tells."""

    def __init__(self, endpoint: str, factors: Sequence[str]) -> None:
        """Bind. Raises EngineError when the endpoint is taken, ConfigError when it cannot be had. [main]

        `factors`: "SOURCE.SYMBOL" or "SOURCE.*"; of sources that come later as well.
        """
        check_socket_free(endpoint, "publish")
        self._factors = frozenset(factors)
        self._masks: dict[str, tuple[tuple[str, ...], npt.NDArray[np.bool_]]] = {}
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
        rows = self._wanted(batch)[batch.symbol_ids]
        if not rows.any():
            return
        counts, values = batch.counts[rows].tolist(), batch.values[rows].tolist()
        message = {
            "source": batch.source,
            "symbol": [batch.symbols[number] for number in batch.symbol_ids[rows].tolist()],
            "ts_ns": batch.ts_ns[rows].tolist(),
            "values": [row[:count] for row, count in zip(values, counts, strict=True)],
        }
        try:
            self._socket.send_multipart((f"{TOPIC}{batch.source}".encode(), self._encoder.encode(message)), zmq.NOBLOCK)
            self.sent += 1
        except zmq.Again:
            self.dropped += 1

    def _wanted(self, batch: FactorBatch) -> npt.NDArray[np.bool_]:
        """Return which of a batch's symbols were asked for, by number."""
        known = self._masks.get(batch.source)
        if known is None or known[0] is not batch.symbols:
            names = [f"{batch.source}.{symbol}" for symbol in batch.symbols]
            every = f"{batch.source}.{ALL}" in self._factors
            mask = np.array([every or name in self._factors for name in names], bool)
            known = self._masks[batch.source] = batch.symbols, mask
        return known[1]

    def close(self) -> None:
        """Close the socket; what it has not sent is lost. [main]"""
        self._socket.close()
        self._context.term()
