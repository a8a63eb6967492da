"""The rack's TOML file: strict, every error with its line."""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

import msgspec
from msgspec import Meta

from sigrack.errors import ConfigError, nearest
from sigrack.locate import Path as KeyPath
from sigrack.locate import line_of
from sigrack.places import events_endpoint
from sigrack_plugins.abi import MAX_CHANNELS

__all__ = [
    "HEADROOM",
    "LIMITER",
    "RATES_HZ",
    "BusTable",
    "Config",
    "ControlTable",
    "Document",
    "FeedTable",
    "PublishTable",
    "RackTable",
    "SignalTable",
    "SinkTable",
    "SlotTable",
    "SourceTable",
    "as_json",
    "check_feeds",
    "check_signals",
    "load",
    "parse",
    "signal_table",
    "slot_table",
]

RATES_HZ = (
    *(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000),
    *(base * factor for factor in (1, 2, 4, 8, 16) for base in (44_100, 48_000)),
)
"""Sample rates that the rack runs at, in frames per second."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_ENDPOINT = r"^(ipc:///[^\x00-\x1f]+|tcp://[!-~]+:[0-9]{1,9})$"
_SYMBOL = re.compile(r"[ -~]{1,63}")
_ALL_HOSTS = ("*", "0.0.0.0")
HEADROOM, LIMITER = "headroom", "limiter"
"""Names of the slots that the host puts at the end of a rack, if it is to."""
NO_FEEDS = ("audio", "none")
"""What `feed` of a signal engine may say beside the names of feeds."""
Name = Annotated[str, Meta(pattern=_NAME)]
Channels = Annotated[list[Name], Meta(min_length=1, max_length=MAX_CHANNELS)]
Frames = Annotated[int, Meta(ge=1, le=65_536)]
RingSeconds = Annotated[float, Meta(gt=0, le=10)]
SampleFormat = Literal["float32", "int16", "int24", "int32"]


Table = TypeVar("Table", bound=msgspec.Struct)


class _Table(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


class RackTable(_Table, frozen=True, kw_only=True):
    """`[rack]`."""

    name: Name | None = None
    """Names the control socket and the lock; the file's name by default."""
    block_frames: Frames = 256
    """Length of an engine block."""
    hook_frames: Frames = 1024
    """Length of the blocks that `on_block` gets."""
    fade_ms: Annotated[float, Meta(ge=0, le=10_000)] = 20.0
    """Length of cross-fades and dips; in a live rack also of the fade from silence at the start and to it at the stop."""
    headroom: Literal["auto", "worst"] | Annotated[float, Meta(ge=0, le=60)] = 0.0
    """By how many dB what goes out is attenuated; `auto`: so that no frequency is louder than it came in; `worst`: no sound."""
    limiter: bool = False
    """Whether a true-peak limiter stands at the end."""
    ceiling_db: Annotated[float, Meta(ge=-60, le=0)] = -0.1
    """What it keeps true peaks below, in dBTP."""
    ahead_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 256
    """Memory for filters that are compiled ahead, so that a switch in a group of slots answers at once; MiB."""
    priority: Annotated[int, Meta(ge=0, le=90)] = 70
    """SCHED_FIFO priority of the engine thread; 0 asks for none."""
    hook_budget_ms: Annotated[float, Meta(gt=0, le=1e6)] = 10.0
    """What a hook may take; calls over it are counted."""
    hook_limit_ms: Annotated[float, Meta(ge=0, le=1e6)] = 2000.0
    """A hook that takes longer in a live rack is interrupted and its plugin bypassed; 0: never."""


class BusTable(_Table, frozen=True, kw_only=True):
    """`[bus]`: the channels that run through the rack."""

    channels: Channels | None = None
    """Their names. The first ones are the source's, further ones begin silent. By default "1", "2" ... for the source's."""
    out: Channels | None = None
    """Those that go to the sink, in this order; by default all."""
    mute: list[Name] = []
    """Those of `out` that are muted at the start."""


class SourceTable(_Table, frozen=True, kw_only=True):
    """`[source]`: a `file` as fast as it can, nothing is lost; in real time a file (`clock`), a `pipe` or no audio (`none`)."""

    driver: Literal["file", "clock", "pipe", "none"]
    path: str = ""
    """A sound file; for `pipe` a named pipe, or - for standard input (raw samples)."""
    loop: bool = False
    rate_hz: int | None = None
    """The rate that the file must have; that of the silence without one, and of a pipe."""
    channels: Annotated[int, Meta(ge=1, le=32)] | None = None
    """How many the file must have; the silence or a pipe has."""
    format: SampleFormat | None = None
    """Of a pipe's samples; by default float32."""
    reopen: bool = False
    """Whether a pipe goes on with the next writer when the last one has gone."""
    ring_s: RingSeconds | None = None
    """How much is read ahead; by default a second."""


class SinkTable(_Table, frozen=True, kw_only=True):
    """`[sink]`: where the bus ends."""

    driver: Literal["file", "pipe", "none"] = "none"
    path: str | None = None
    """A sound file; for `pipe` a named pipe, or - for standard output (raw samples)."""
    format: SampleFormat | None = None
    """Of the samples; by default float32 (FLAC: int24)."""
    overwrite: bool = False
    ring_s: RingSeconds | None = None
    """How far it may fall behind in real time; by default a second."""
    overflow: Literal["drop-newest", "drop-oldest"] = "drop-newest"
    """What is dropped when it falls behind further."""


class SlotTable(_Table, frozen=True, kw_only=True):
    """`[[slot]]`: one plugin in the rack."""

    name: Name
    plugin: str
    """A bundled plugin's name, a path to a .so or .py file, or a Python module."""
    inputs: Channels | None = msgspec.field(default=None, name="in")
    """The channels that it hears; by default all of the bus."""
    outputs: Channels | None = msgspec.field(default=None, name="out")
    """The channels that it writes; by default those that it hears."""
    bypass: bool = False
    params: dict[str, Any] = {}
    config: dict[str, Any] = {}


class SignalTable(_Table, frozen=True, kw_only=True):
    """`[[signal]]`: a signal engine; it is fed the audio at the end of the rack, or feeds."""

    name: Name
    library: str
    symbols: Annotated[list[str], Meta(min_length=1)]
    """Every symbol that it may post."""
    config: dict[str, Any] = {}
    feed: str | Annotated[list[str], Meta(min_length=1)] = "audio"
    """`audio`, `none`, or the names of feeds."""
    lane: Literal["inline"] = "inline"
    queue: Annotated[int, Meta(ge=16, le=1_048_576)] = 16_384
    """Records that may wait for the main loop."""

    @property
    def feeds(self) -> tuple[str, ...]:
        """The names of the feeds that it gets."""
        if isinstance(self.feed, list):
            return tuple(self.feed)
        return () if self.feed in NO_FEEDS else (self.feed,)


class FeedTable(_Table, frozen=True, kw_only=True):
    """`[[feed]]`: where market-like data comes from."""

    name: Name
    driver: Literal["csv", "npz", "zmq"]
    kind: Literal["depth", "ticker", "trade", "index_price"]
    path: str = ""
    """The file of csv and npz."""
    symbols: Annotated[list[str], Meta(min_length=1)] | None = None
    """Those that may come; by default all."""
    speed: float | Literal["max"] = 1.0
    """Of the file's clock, measured in rack time; `max`: as fast as possible."""
    endpoint: Annotated[str, Meta(pattern=_ENDPOINT)] | None = None
    """Of zmq."""
    socket: Literal["sub", "pull"] = "sub"
    topic: str = ""
    """What sub subscribes to."""
    bind: bool = False
    """Whether the socket binds the endpoint; else it connects."""


class PublishTable(_Table, frozen=True, kw_only=True):
    """`[publish]`: factors for other programs."""

    endpoint: Annotated[str, Meta(pattern=_ENDPOINT)]
    factors: Annotated[list[str], Meta(min_length=1)]
    """`SOURCE.SYMBOL`, or `SOURCE.*` for all of a source."""


class ControlTable(_Table, frozen=True, kw_only=True):
    """`[control]`: the ZeroMQ sockets."""

    enabled: bool = True
    endpoint: Annotated[str, Meta(pattern=_ENDPOINT)] | None = None
    """Default: an ipc socket in the runtime directory. Events: the same with `.pub`, for tcp the next port."""


class Config(_Table, frozen=True, kw_only=True):
    """The whole file."""

    rack: RackTable = RackTable()
    bus: BusTable = BusTable()
    source: SourceTable
    sink: SinkTable = SinkTable()
    slot: list[SlotTable] = []
    signal: list[SignalTable] = []
    feed: list[FeedTable] = []
    publish: PublishTable | None = None
    control: ControlTable = ControlTable()

    @property
    def own_slots(self) -> list[SlotTable]:
        """The slots that the host itself puts at the end. They fade with the rack, so without fades of their own at the start."""
        rack, out = self.rack, self.bus.out
        slots = []
        if rack.headroom:
            params = {"gain_db": -rack.headroom} if isinstance(rack.headroom, float) else {}
            slots.append(SlotTable(name=HEADROOM, plugin="gain", params=params, inputs=out))
        if rack.limiter:
            params = {"ceiling_db": rack.ceiling_db, "soft_start_ms": 0.0}
            slots.append(SlotTable(name=LIMITER, plugin="limiter", params=params, inputs=out))
        return slots

    @property
    def replay(self) -> bool:
        """Whether the feeds set the pace: as fast as possible, without audio."""
        return self.source.driver == "none" and bool(self.feed) and all(feed.speed == "max" for feed in self.feed)

    @property
    def live(self) -> bool:
        """Whether rack time follows the clock; else nothing is dropped."""
        return self.source.driver != "file" and not self.replay


class Document:
    """A configuration together with the text it was read from, so that later errors can name the line."""

    def __init__(self, path: Path, text: str, config: Config, given: tuple[str, ...] = ()) -> None:
        """`given`: tables that were not read from the text but given by the caller."""
        self.path, self.text, self.config, self._given = path, text, config, given
        self.play: Path | None = None
        """The file that is played instead of the source's own."""

    @property
    def name(self) -> str:
        """The rack's name."""
        return self.config.rack.name or self.path.stem

    def resolve(self, path: str) -> Path:
        """Return `path` relative to the file that names it. Raises ConfigError for what can be none. [any]"""
        try:
            return (self.path.parent / Path(path).expanduser()).resolve()
        except (ValueError, RuntimeError) as error:  # a NUL, an unknown ~user, links in a circle
            raise ConfigError(f"{self.path}: {path[:200]!a} is no path: {error}") from None

    def fail(self, key: KeyPath, message: str) -> NoReturn:
        """Raise ConfigError for the value at `key`. [any]"""
        if key[0] in self._given:
            raise ConfigError(message)
        raise ConfigError(f"{self.path}:{line_of(self.text, key)}: {message}")


_WHERE = re.compile(r" - at `\$(.*)`$")
_STEP = re.compile(r"\.(\w[\w-]*)|\[(\d+)\]|\[(\.\.\.)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")
_CHOICE = re.compile(r"Invalid enum value '(.*)'")
_PATTERNS = {
    _NAME: "must be letters, digits, dots, underlines and hyphens, with a letter or digit in front",
    _ENDPOINT: "must be ipc:///PATH or tcp://HOST:PORT",
}
_NO_ARRAY = "Expected `array`, got `object`"
_MISSING = re.compile(r"Object missing required field `(.*?)`")


def _key_path(where: str) -> KeyPath:
    return tuple(key or int(index) for key, index, _ in _STEP.findall(where) if key or index)


def _table(path: KeyPath) -> type[msgspec.Struct] | None:
    tables: dict[KeyPath, type[msgspec.Struct]] = {
        (): Config,
        ("rack",): RackTable,
        ("bus",): BusTable,
        ("source",): SourceTable,
        ("sink",): SinkTable,
        ("slot",): SlotTable,
        ("signal",): SignalTable,
        ("feed",): FeedTable,
        ("publish",): PublishTable,
        ("control",): ControlTable,
    }
    return tables.get(path[:1])


def _fields(path: KeyPath) -> list[str]:
    """Return the keys that are valid in the table at `path`."""
    table = _table(path)
    return [field.encode_name for field in msgspec.structs.fields(table)] if table else []


def _choices(path: KeyPath) -> list[str]:
    """Return the values that are valid for the key at `path`, if they can be listed."""
    table = _table(path)
    kinds = {field.name: field.type for field in msgspec.structs.fields(table)} if table else {}
    literals = [kind, *get_args(kind)] if (kind := kinds.get(str(path[-1]))) else []
    return [str(choice) for literal in literals for choice in get_args(literal) if isinstance(choice, str)]


def _shown(path: KeyPath) -> str:
    if not path:
        return "the file"
    return f"[[{path[0]}]]" if len(path) > 1 and isinstance(path[1], int) else f"[{path[0]}]"


def _explain(error: msgspec.ValidationError) -> tuple[KeyPath, str]:
    """Turn msgspec's message into where and what."""
    text = str(error)
    where = _WHERE.search(text)
    path = _key_path(where[1]) if where else ()
    text = _WHERE.sub("", text)
    if unknown := _UNKNOWN.match(text):
        return (*path, unknown[1]), f'unknown key "{unknown[1]}" in {_shown(path)}{nearest(unknown[1], _fields(path))}'
    if missing := _MISSING.match(text):
        return path, f'{_shown(path)} lacks the key "{missing[1]}"'
    key = ".".join(str(part) for part in path if isinstance(part, str))
    if wrong := _CHOICE.match(text):
        return path, f'{key}: "{wrong[1]}" is not known{nearest(wrong[1], _choices(path))}'
    for pattern, sentence in _PATTERNS.items():
        if repr(pattern) in text:
            return path, f"{key} {sentence}"
    if text == _NO_ARRAY and len(path) == 1:
        text = f"{text}; write [[{key}]]"
    return path, f"{key}: {text[0].lower()}{text[1:]}".replace("`", "")


def parse(path: Path, text: str) -> Document:
    """Check a configuration. Raises ConfigError with file, line, key and the nearest valid one. [any]"""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        line = place[1] if place else len(text.splitlines())
        raise ConfigError(f"{path}:{line}: not valid TOML: {re.sub(r' [(]at .*[)]$', '', str(error))}") from None
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        key, message = _explain(error)
        raise ConfigError(f"{path}:{line_of(text, key)}: {message}") from None
    document = Document(path, text, config)
    _check(document)
    document.config = msgspec.structs.replace(config, slot=[*config.slot, *config.own_slots])
    return document


def _check(document: Document) -> None:
    """Check what types cannot say."""
    config = document.config
    seen = {table.name: f"slot of the rack's own ([rack] {table.name})" for table in config.own_slots}
    if not config.rack.limiter and config.rack.ceiling_db != RackTable().ceiling_db:
        document.fail(("rack", "ceiling_db"), "ceiling_db needs limiter = true")
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


def _check_sink(document: Document) -> None:
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


def check_signals(document: Document) -> None:
    """Check what signal engines may post, and that the feeds which they name exist. Raises ConfigError. [any]"""
    for index, signal in enumerate(document.config.signal):
        _check_symbols(document, index, signal.symbols)
        _check_signal_feeds(document, index, signal)


def _check_symbols(document: Document, index: int, symbols: list[str]) -> None:
    key = ("signal", index, "symbols")
    seen: set[str] = set()
    for symbol in symbols:
        if not _SYMBOL.fullmatch(symbol):
            document.fail(key, f"symbols: {symbol[:64]!a} is not 1 to 63 printable ASCII characters")
        if symbol in seen:
            document.fail(key, f'symbols: "{symbol}" is there twice')
        seen.add(symbol)


def _check_signal_feeds(document: Document, index: int, signal: SignalTable) -> None:
    names = [feed.name for feed in document.config.feed]
    for name in signal.feeds:
        if name not in names:
            valid = names if isinstance(signal.feed, list) else [*names, *NO_FEEDS]
            document.fail(("signal", index, "feed"), f'there is no feed "{name}"{nearest(name, valid)}')
    if len(set(signal.feeds)) < len(signal.feeds):
        document.fail(("signal", index, "feed"), "feed: a name is there twice")


def _check_endpoints(document: Document) -> None:
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


def _check_endpoint(document: Document, key: KeyPath, endpoint: str, taken: list[tuple[str, str]]) -> None:
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


def _check_source(document: Document) -> None:
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


def _check_pipe(document: Document) -> None:
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


def check_feeds(document: Document) -> None:
    """Check that the feeds fit the source. Raises ConfigError. [any]"""
    config = document.config
    for index, feed in enumerate(config.feed):
        if feed.name in NO_FEEDS:
            document.fail(("feed", index, "name"), f'the name "{feed.name}" has a meaning of its own in [[signal]] feed')
        _check_ends(document, index, feed)
        _check_speed(document, index, feed)


def _check_ends(document: Document, index: int, feed: FeedTable) -> None:
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


def _check_speed(document: Document, index: int, feed: FeedTable) -> None:
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


def load(path: Path, play: Path | None = None) -> Document:
    """Read and check a configuration file; `play` takes the place of the source's path. Raises ConfigError. [any]"""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    document = parse(path, text)
    if play is None:
        return document
    if document.config.source.driver not in ("file", "clock"):
        document.fail(("source", "driver"), 'a file can be played only with driver = "file" or "clock"')
    source = msgspec.structs.replace(document.config.source, path=str(play.absolute()))
    document = Document(path, text, msgspec.structs.replace(document.config, source=source), given=("source",))
    document.play = play
    return document


def slot_table(values: dict[str, Any]) -> SlotTable:
    """Check the table of one slot that no file describes. Raises ConfigError. [any]"""
    return _given_table(values, SlotTable)


def signal_table(values: dict[str, Any]) -> SignalTable:
    """Check the table of one signal engine that no file describes, but for what a rack must have. Raises ConfigError. [any]"""
    return _given_table(values, SignalTable)


def _given_table(values: dict[str, Any], kind: type[Table]) -> Table:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(error)[1]) from None


def as_json(config: Mapping[str, Any], separators: tuple[str, str] | None = None) -> bytes:
    """Return a table `config` for native code, dates as text. Raises ConfigError with the key of nan or inf. [any]"""

    def encoded(value: object) -> bytes:
        return json.dumps(value, allow_nan=False, separators=separators, default=str).encode()

    for name, value in config.items():
        try:
            encoded(value)
        except ValueError:
            raise ConfigError(f"config.{name}: nan and inf cannot be handed over; give a number", ("config", name)) from None
    return encoded(config)
