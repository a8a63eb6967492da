"""The rack's TOML file: strict, every error with its line."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args

import msgspec
from msgspec import Meta

from sigrack.errors import ConfigError, nearest
from sigrack.locate import Path as KeyPath
from sigrack.locate import line_of

__all__ = [
    "RATES_HZ",
    "Config",
    "ControlTable",
    "Document",
    "RackTable",
    "SignalTable",
    "SinkTable",
    "SlotTable",
    "SourceTable",
    "load",
    "parse",
]

RATES_HZ = (
    *(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000),
    *(base * factor for factor in (1, 2, 4, 8, 16) for base in (44_100, 48_000)),
)
"""Sample rates that the rack runs at, in frames per second."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_ENDPOINT = r"^(ipc:///.+|tcp://.+:\d+)$"
Name = Annotated[str, Meta(pattern=_NAME)]
Frames = Annotated[int, Meta(ge=1, le=65_536)]


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
    """Length of cross-fades and dips."""
    priority: Annotated[int, Meta(ge=0, le=90)] = 70
    """SCHED_FIFO priority of the engine thread; 0 asks for none."""


class SourceTable(_Table, frozen=True, kw_only=True):
    """`[source]`: `file` runs as fast as it can and loses nothing, `clock` runs in real time."""

    driver: Literal["file", "clock"]
    path: str
    loop: bool = False
    rate_hz: int | None = None
    """The rate that the file must have."""


class SinkTable(_Table, frozen=True, kw_only=True):
    """`[sink]`: where the bus ends."""

    driver: Literal["file", "pipe", "none"] = "none"
    path: str | None = None
    """A sound file; for `pipe` a named pipe, or - for standard output (raw samples)."""
    format: Literal["float32", "int16", "int24", "int32"] | None = None
    """Of the samples; by default float32 (FLAC: int24)."""
    overwrite: bool = False


class SlotTable(_Table, frozen=True, kw_only=True):
    """`[[slot]]`: one plugin in the rack."""

    name: Name
    plugin: str
    """A bundled plugin's name, a path to a .so or .py file, or a Python module."""
    bypass: bool = False
    params: dict[str, Any] = {}
    config: dict[str, Any] = {}


class SignalTable(_Table, frozen=True, kw_only=True):
    """`[[signal]]`: a signal engine; it is fed the audio at the end of the rack."""

    name: Name
    library: str
    symbols: Annotated[list[str], Meta(min_length=1)]
    """Every symbol that it may post."""
    config: dict[str, Any] = {}
    feed: Literal["audio", "none"] = "audio"


class ControlTable(_Table, frozen=True, kw_only=True):
    """`[control]`: the ZeroMQ sockets."""

    enabled: bool = True
    endpoint: Annotated[str, Meta(pattern=_ENDPOINT)] | None = None
    """Default: an ipc socket in the runtime directory. Events: the same with `.pub`, for tcp the next port."""


class Config(_Table, frozen=True, kw_only=True):
    """The whole file."""

    rack: RackTable = RackTable()
    source: SourceTable
    sink: SinkTable = SinkTable()
    slot: list[SlotTable] = []
    signal: list[SignalTable] = []
    control: ControlTable = ControlTable()


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
        """Return `path` relative to the file that names it. [any]"""
        return (self.path.parent / Path(path).expanduser()).resolve()

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
        ("source",): SourceTable,
        ("sink",): SinkTable,
        ("slot",): SlotTable,
        ("signal",): SignalTable,
        ("control",): ControlTable,
    }
    return tables.get(path[:1])


def _fields(path: KeyPath) -> list[str]:
    """Return the keys that are valid in the table at `path`."""
    table = _table(path)
    return [field.name for field in msgspec.structs.fields(table)] if table else []


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
    return document


def _check(document: Document) -> None:
    """Check what types cannot say."""
    config = document.config
    seen: dict[str, str] = {}
    named: dict[str, Sequence[SlotTable | SignalTable]] = {"slot": config.slot, "signal": config.signal}
    for kind, tables in named.items():
        for index, table in enumerate(tables):
            if table.name in seen:
                document.fail((kind, index, "name"), f'the name "{table.name}" is taken by a {seen[table.name]}')
            seen[table.name] = kind
    if config.source.loop and config.source.driver == "file":
        document.fail(("source", "loop"), 'loop needs driver = "clock": a file source would never end')
    if config.sink.driver != "none" and not config.sink.path:
        document.fail(("sink",), f'[sink] with driver = "{config.sink.driver}" lacks the key "path"')
    if config.sink.driver == "none" and config.sink.path:
        document.fail(("sink", "path"), 'path needs driver = "file" or "pipe"')
    rate = config.source.rate_hz
    if rate is not None and rate not in RATES_HZ:
        document.fail(("source", "rate_hz"), f"unknown sample rate {rate}; valid: {', '.join(map(str, sorted(RATES_HZ)))}")
    endpoint = config.control.endpoint or ""
    if endpoint.startswith("tcp:") and not 0 < int(endpoint.rpartition(":")[2]) < 65_535:
        document.fail(("control", "endpoint"), "control.endpoint: tcp://HOST:PORT needs a PORT below 65535; events take the next")


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
    source = msgspec.structs.replace(document.config.source, path=str(play.absolute()))
    document = Document(path, text, msgspec.structs.replace(document.config, source=source), given=("source",))
    document.play = play
    return document
