"""`[publish]`: what leaves the PUB socket, and what is said about factors that do not exist."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from sigrack.config import Document, parse
from sigrack.errors import ConfigError, RackError
from sigrack.publish import Publisher, check_factors
from sigrack_plugins import FactorBatch
from waiting import wait_until

POSTED = {"book": ["BTCUSDT", "ETHUSDT"], "book.fast": ["BTCUSDT"], "level": ["PEAK"]}


def document(factors: list[str], endpoint: str = "ipc:///tmp/x") -> Document:
    """A rack that publishes."""
    text = f'[source]\ndriver = "none"\n[publish]\nendpoint = "{endpoint}"\nfactors = {json.dumps(factors)}\n'
    return parse(Path("rack.toml"), text)


def batch(source: str, symbols: list[int], values: list[list[float]]) -> FactorBatch:
    """Records whose time is their number."""
    count = len(symbols)
    padded = np.full((count, 3), 99.0)
    for row, mine in zip(padded, values, strict=True):
        row[: len(mine)] = mine
    counts = np.array([len(mine) for mine in values], np.uint32)
    numbers = np.arange(count)
    ids = np.array(symbols, np.uint32)
    return FactorBatch(source, ("BTCUSDT", "ETHUSDT"), ids, numbers, numbers.astype(np.uint64), numbers, counts, padded)


def test_factors_that_are_posted() -> None:
    """SOURCE.SYMBOL names one, SOURCE.* all of a source; a source's name may hold a dot."""
    check_factors(document(["book.ETHUSDT", "book.fast.*"]), POSTED)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("book.ETHUSD", "book.ETHUSDT"),
        ("bok.*", "book.*"),
        ("level.PEEK", "level.PEAK"),
        ("book.fast.ETHUSDT", "book.fast.BTCUSDT"),
    ],
)
def test_a_factor_that_is_not_posted(name: str, near: str) -> None:
    """A factor that nobody posts is refused with line and the nearest."""
    with pytest.raises(ConfigError) as caught:
        check_factors(document([name]), POSTED)

    assert f'rack.toml:5: no factor is called "{name}"; did you mean "{near}"?' == str(caught.value)


@pytest.fixture
def endpoint(runtime: Path) -> str:
    """An ipc endpoint of the test's own."""
    return f"ipc://{runtime}/pub"


@pytest.fixture
def publisher(endpoint: str) -> Iterator[Publisher]:
    """One that publishes ETHUSDT of book."""
    publisher = Publisher(endpoint, ["book.ETHUSDT", "all.*"])
    yield publisher
    publisher.close()


def test_a_batch_is_one_message(publisher: Publisher, endpoint: str) -> None:
    """A batch leaves as one message with the chosen symbols' times and values, each as long as it was posted; others do not."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.connect(endpoint)
        subscriber.subscribe("factors.book")

        def knock() -> int:
            publisher.send(batch("book", [1], [[0.0]]))
            return subscriber.poll(10)

        wait_until(knock)
        while subscriber.poll(50):
            subscriber.recv_multipart()
        publisher.send(batch("other", [1], [[1.0]]))
        publisher.send(batch("book", [0], [[1.0]]))
        publisher.send(batch("book", [1, 0, 1], [[1.5, 2.0], [3.0], [float("nan")]]))
        topic, payload = subscriber.recv_multipart()

        assert b"factors.book" == topic
        assert {
            "source": "book",
            "symbol": ["ETHUSDT", "ETHUSDT"],
            "ts_ns": [0, 2],
            "values": [[1.5, 2.0], [None]],
        } == json.loads(payload)
        assert 0 == subscriber.poll(50)


def test_all_of_a_source_means_what_comes_later_too(publisher: Publisher, endpoint: str) -> None:
    """SOURCE.* sends every symbol of the source, also those of a successor that posts others."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.connect(endpoint)
        subscriber.subscribe("factors.all")

        def knock() -> int:
            publisher.send(batch("all", [1], [[0.0]]))
            return subscriber.poll(10)

        wait_until(knock)
        while subscriber.poll(50):
            subscriber.recv_multipart()
        later = batch("all", [0], [[1.0]])
        publisher.send(dataclasses.replace(later, symbols=("NEW",)))
        _, payload = subscriber.recv_multipart()

        assert ["NEW"] == json.loads(payload)["symbol"]


def test_nobody_is_waited_for(publisher: Publisher, endpoint: str) -> None:
    """A subscriber that reads nothing does not hold the sender up, however much is sent."""
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.linger = 0
        subscriber.connect(endpoint)
        subscriber.subscribe("")
        for _ in range(20_000):
            publisher.send(batch("book", [1], [[1.0]]))

        assert 20_000 == publisher.sent + publisher.dropped


def test_other_users_may_not_listen(publisher: Publisher, endpoint: str) -> None:
    """The socket's file is its owner's alone."""
    assert 0o600 == Path(endpoint.removeprefix("ipc://")).stat().st_mode & 0o777
    assert 0 == publisher.sent


def test_an_endpoint_in_use(publisher: Publisher, endpoint: str, tmp_path: Path) -> None:
    """An endpoint that another has, and a path that is a file, are refused by name."""
    (tmp_path / "file").write_text("")

    for wrong, said in ((endpoint, "is in use by another process"), (f"ipc://{tmp_path}/file", "is not a socket")):
        with pytest.raises(RackError, match=said):
            Publisher(wrong, ["book.ETHUSDT"])
