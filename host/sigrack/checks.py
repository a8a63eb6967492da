"""What the types of a rack's tables cannot say: what goes together, and what is there twice."""

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from sigrack.errors import nearest
from sigrack.locate import Path as KeyPath
from sigrack.places import events_endpoint
from sigrack.tables import NO_FEEDS, RATES_HZ, FeedTable, RackTable, SignalTable, SinkTable, SlotTable

if TYPE_CHECKING:
    from sigrack.config import Document

__all__ = ["check", "check_feeds", "check_signals"]

_SYMBOL = re.compile(r"[ -~]{1,63}")
_ALL_HOSTS = ("*", "0.0.0.0")


def check(document: "Document") -> None:
    """Check what types cannot say."""
    config = document.config
    seen = {table.name: f"slot of the rack's own ([rack] {table.name})" for table in config.own_slots}
    if not config.rack.limiter and config.rack.ceiling_db != RackTable().ceiling_db:
        document.fail(("rack", "ceiling_db"), "ceiling_db needs limiter = true")
    if not config.rack.fallback and config.rack.backend == "cpu":
        document.fail(("rack", "fallback"), 'fallback needs backend = "cuda" or "auto"')
    named: dict[str, Sequence[SlotTable | SignalTable | FeedTable]] = {
        "slot": config.slot,
        "signal": config.signal,
        "feed": config.feed,
    }
    for kind, tables in named.items():
        for index, table in enumerate(tables):
            if table.name in seen:
                document.fail((kind, index, "name"), f'the name "{table.name}" is taken by a {seen[table.name]}')
            seen[table.name] = kind
    _check_source(document)
    check_feeds(document)
    _check_sink(document)
    check_signals(document)
    _check_endpoints(document)


def _check_sink(document: "Document") -> None:
    config, sink = document.config, document.config.sink
    if sink.driver != "none" and not sink.path:
        document.fail(("sink",), f'[sink] with driver = "{sink.driver}" lacks the key "path"')
    if sink.driver != "none" and config.replay:
        document.fail(("sink", "driver"), 'a replay at speed = "max" makes no sound: it takes driver = "none" only')
    given = {"path": sink.path, "ring_s": sink.ring_s, "overflow": sink.overflow != SinkTable().overflow}
    for key in ("path", "ring_s", "overflow"):
        if sink.driver == "none" and given[key]:
            document.fail(("sink", key), f'{key} needs driver = "file" or "pipe"')
        if not config.live and key != "path" and given[key]:
            document.fail(("sink", key), f"{key} is for real time: a file source waits for the sink")


def check_signals(document: "Document") -> None:
    """Check what signal engines may post, and that the feeds which they name exist. Raises ConfigError. [any]"""
    for index, signal in enumerate(document.config.signal):
        _check_symbols(document, index, signal.symbols)
        _check_signal_feeds(document, index, signal)


def _check_symbols(document: "Document", index: int, symbols: list[str]) -> None:
    key = ("signal", index, "symbols")
    seen: set[str] = set()
    for symbol in symbols:
        if not _SYMBOL.fullmatch(symbol):
            document.fail(key, f"symbols: {symbol[:64]!a} is not 1 to 63 printable ASCII characters")
        if symbol in seen:
            document.fail(key, f'symbols: "{symbol}" is there twice')
        seen.add(symbol)


def _check_signal_feeds(document: "Document", index: int, signal: SignalTable) -> None:
    names = [feed.name for feed in document.config.feed]
    for name in signal.feeds:
        if name not in names:
            valid = names if isinstance(signal.feed, list) else [*names, *NO_FEEDS]
            document.fail(("signal", index, "feed"), f'there is no feed "{name}"{nearest(name, valid)}')
    if len(set(signal.feeds)) < len(signal.feeds):
        document.fail(("signal", index, "feed"), "feed: a name is there twice")


def _check_endpoints(document: "Document") -> None:
    """Ports must exist, and nothing can be bound twice."""
    config = document.config
    taken: list[tuple[str, str]] = []
    if config.control.enabled and (endpoint := config.control.endpoint):
        if endpoint.startswith("tcp:") and not 0 < _port(endpoint) < 65_535:
            message = "control.endpoint: tcp://HOST:PORT needs a PORT below 65535; events take the next"
            document.fail(("control", "endpoint"), message)
        taken = [("[control]", endpoint), ("the events of [control]", events_endpoint(endpoint))]
    if config.publish:
        _check_endpoint(document, ("publish", "endpoint"), config.publish.endpoint, taken)
        taken.append(("[publish]", config.publish.endpoint))
    for index, feed in enumerate(config.feed):
        if feed.endpoint:
            _check_endpoint(document, ("feed", index, "endpoint"), feed.endpoint, taken if feed.bind else [])
            taken += [(f'the feed "{feed.name}"', feed.endpoint)] if feed.bind else []


def _check_endpoint(document: "Document", key: KeyPath, endpoint: str, taken: list[tuple[str, str]]) -> None:
    if endpoint.startswith("tcp:") and not 0 < _port(endpoint) <= 65_535:
        document.fail(key, f"{key[0]}.endpoint: {endpoint}: a PORT is a number from 1 to 65535")
    if owner := next((owner for owner, other in taken if _same_place(endpoint, other)), None):
        document.fail(key, f"{key[0]}.endpoint: {endpoint} is taken by {owner}; choose another")


def _port(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def _same_place(one: str, other: str) -> bool:
    """Whether two endpoints cannot both be bound."""
    if one.startswith("ipc:") or other.startswith("ipc:"):
        return os.path.normpath(one) == os.path.normpath(other)
    hosts = {endpoint.removeprefix("tcp://").rpartition(":")[0] for endpoint in (one, other)}
    return _port(one) == _port(other) and (len(hosts) == 1 or not hosts.isdisjoint(_ALL_HOSTS))


def _check_source(document: "Document") -> None:
    source = document.config.source
    if source.driver == "none" and source.path:
        document.fail(("source", "path"), 'path needs driver = "file", "clock" or "pipe"')
    if source.driver != "none" and not source.path:
        document.fail(("source",), '[source] lacks the key "path"')
    if source.loop and source.driver == "file":
        document.fail(("source", "loop"), 'loop needs driver = "clock": a file source would never end')
    if source.loop and source.driver != "clock":
        document.fail(("source", "loop"), 'loop needs driver = "clock" and a path')
    if source.ring_s and source.driver not in ("clock", "pipe"):
        document.fail(("source", "ring_s"), 'ring_s needs driver = "clock" or "pipe"')
    _check_pipe(document)
    rate = source.rate_hz
    if rate is not None and rate not in RATES_HZ:
        document.fail(("source", "rate_hz"), f"unknown sample rate {rate}; valid: {', '.join(map(str, sorted(RATES_HZ)))}")


def _check_pipe(document: "Document") -> None:
    """Raw samples do not tell what they are."""
    source = document.config.source
    for key in ("format", "reopen"):
        if source.driver != "pipe" and getattr(source, key):
            document.fail(("source", key), f'{key} needs driver = "pipe"')
    for key in ("rate_hz", "channels"):
        if source.driver == "pipe" and getattr(source, key) is None:
            document.fail(("source",), f'[source] with driver = "pipe" lacks the key "{key}": raw samples do not tell')
    if source.reopen and source.path == "-":
        document.fail(("source", "reopen"), "reopen needs a named pipe: standard input has one writer only")


def check_feeds(document: "Document") -> None:
    """Check that the feeds fit the source. Raises ConfigError. [any]"""
    config = document.config
    for index, feed in enumerate(config.feed):
        if feed.name in NO_FEEDS:
            document.fail(("feed", index, "name"), f'the name "{feed.name}" has a meaning of its own in [[signal]] feed')
        _check_ends(document, index, feed)
        _check_speed(document, index, feed)


def _check_ends(document: "Document", index: int, feed: FeedTable) -> None:
    """A file has a path, a socket an endpoint, and none has what is the other's."""
    key = ("feed", index)
    if feed.driver == "zmq":
        if not feed.endpoint:
            document.fail(key, '[[feed]] with driver = "zmq" lacks the key "endpoint"')
        if feed.path:
            document.fail((*key, "path"), 'path needs driver = "csv" or "npz"')
        if feed.socket == "pull" and feed.topic:
            document.fail((*key, "topic"), 'topic needs socket = "sub"')
        return
    if not feed.path:
        document.fail(key, f'[[feed]] with driver = "{feed.driver}" lacks the key "path"')
    defaults = {field.name: field.default for field in msgspec.structs.fields(FeedTable)}
    for name in ("endpoint", "socket", "topic", "bind"):
        if getattr(feed, name) != defaults[name]:
            document.fail((*key, name), f'{name} needs driver = "zmq"')


def _check_speed(document: "Document", index: int, feed: FeedTable) -> None:
    key, config = ("feed", index, "speed"), document.config
    if feed.driver == "zmq" and config.source.driver == "file":
        document.fail(("feed", index, "driver"), 'zmq runs in real time: it needs [source] driver = "clock", "pipe" or "none"')
    if feed.speed == "max":
        if feed.driver == "zmq":
            document.fail(key, "a socket sets its own pace: speed is for files")
        if config.source.driver != "none":
            document.fail(key, f"a {config.source.driver} source sets the pace: give a speed, as 1.0")
        if not config.replay:
            document.fail(key, 'speed = "max" needs all feeds to be files with speed = "max"')
    elif not 1e-6 <= feed.speed <= 1e9:
        document.fail(key, f"speed: {feed.speed:g} is out of range: 1e-6 to 1e9")
    elif feed.driver == "zmq" and feed.speed != 1.0:
        document.fail(key, "a socket sets its own pace: speed is for files")
