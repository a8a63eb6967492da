"""Native plugins: the C ABI of `sigrack.h`."""

import ctypes as c
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigrack.config import as_json
from sigrack.errors import ConfigError, NoPluginError
from sigrack.loading.libraries import Library, open_library
from sigrack_plugins import abi

__all__ = ["NativeInstance", "NativePlugin", "ParamInfo"]

FIRST_SIZE = abi.PluginStruct.flags.offset
"""Of the plugin struct as it was first published: through `destroy`."""
MOST_STATE = 1 << 26
"""The longest state, in bytes."""


@dataclass(frozen=True, slots=True)
class ParamInfo:
    """A parameter, as its plugin describes it."""

    id: str
    name: str
    unit: str
    minimum: float
    maximum: float
    initial: float

    def check(self, value: object) -> float:
        """Return `value` as a number in range. Raises ValueError. [any]"""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.id} must be a number, not {value!r}")
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{self.id} = {value:g} is out of range: {self.minimum:g} to {self.maximum:g} {self.unit}")
        return float(value)


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""


def _unique(kind: str, names: list[str]) -> None:
    """Raise ValueError unless each has a name of its own."""
    for name in names:
        if not name:
            raise ValueError(f"a {kind} lacks its name")
        if names.count(name) > 1:
            raise ValueError(f'it has two {kind}s with the name "{name}"')


def _array(kind: type[Any], first: Any, count: int) -> list[Any]:
    """Read a C array whose elements may be longer than we know them: each begins with its size."""
    if not count:
        return []
    if not first:
        raise ValueError(f"it promises {count} {kind.__name__.lower()}s and holds none")
    start = c.addressof(first.contents)
    stride = first.contents.size
    if stride < c.sizeof(kind):
        raise ValueError(f"its {kind.__name__.lower()} structs are shorter than this host's: rebuild it with this sigrack.h")
    return [kind.from_address(start + i * stride) for i in range(count)]


def _enter(path: Path, library: Library) -> abi.PluginStruct:
    """Return a copy of the plugin's struct, with zeros where the plugin's own ends."""
    try:
        entry = getattr(library.cdll, abi.ENTRY)
    except AttributeError:
        raise NoPluginError(f"{path}: not a sigrack plugin: it exports no {abi.ENTRY}") from None
    entry.restype = c.POINTER(abi.PluginStruct)
    pointer = entry()
    if not pointer:
        raise ConfigError(f"{path}: {abi.ENTRY} returned NULL")
    theirs: abi.PluginStruct = pointer.contents
    if theirs.abi != abi.ABI:
        raise ConfigError(f"{path}: has plugin ABI {theirs.abi}, this host needs {abi.ABI}: rebuild it")
    if theirs.size < FIRST_SIZE:
        raise ConfigError(f"{path}: its plugin struct is shorter than this host's: rebuild it with this sigrack.h")
    plugin = abi.PluginStruct()
    c.memmove(c.addressof(plugin), c.addressof(theirs), _whole_fields(theirs.size))
    if not (plugin.create and plugin.activate and plugin.process and plugin.destroy):
        raise ConfigError(f"{path}: lacks one of create, activate, process, destroy")
    if bool(plugin.state_save) != bool(plugin.state_load):
        present, absent = ("state_save", "state_load") if plugin.state_save else ("state_load", "state_save")
        raise ConfigError(f"{path}: has {present} but no {absent}: a plugin has both or neither")
    return plugin


def _whole_fields(size: int) -> int:
    """Return how many of the first `size` bytes hold fields that end within them."""
    fields = [getattr(abi.PluginStruct, entry[0]) for entry in abi.PluginStruct._fields_]
    ends: list[int] = [field.offset + field.size for field in fields]
    return max(end for end in ends if end <= size)


class NativePlugin:
    """A loaded library that exports `sigrack_plugin_entry`."""

    kind = "native"

    def __init__(self, path: Path) -> None:
        """Load and check. Raises ConfigError, EngineError. [control]"""
        self.path = self.file = path
        self.library = open_library(path)
        self.sha256 = self.library.sha256
        self._lock = threading.Lock()
        self._instances = 0
        self._closed = False
        try:
            self._read()
        except ValueError as error:
            self.library.close()
            raise ConfigError(f"{path}: {error}") from None
        except BaseException:
            self.library.close()
            raise

    def _read(self) -> None:
        self._struct = _enter(self.path, self.library)
        self.id = _text(self._struct.id) or self.path.stem
        self.name = _text(self._struct.name) or self.id
        self.version = _text(self._struct.version)
        self.description = _text(self._struct.description)
        self.stateful = bool(self._struct.state_save)
        """Whether its instances have a state to save and load."""
        self.unloadable = bool(self._struct.flags & abi.UNLOADABLE)
        """Whether it may be unmapped after its last instance."""
        self.library.unloadable = self.unloadable
        self.params = [
            ParamInfo(_text(p.id), _text(p.name), _text(p.unit), p.minimum, p.maximum, p.initial)
            for p in _array(abi.Param, self._struct.params, self._struct.param_count)
        ]
        factors = _array(abi.Factor, self._struct.factors, self._struct.factor_count)
        self.factors = {_text(f.symbol): _text(f.unit) for f in factors}
        _unique("parameter", [info.id for info in self.params])
        _unique("factor", [_text(f.symbol) for f in factors])
        for info in self.params:
            info.check(info.initial)

    def close(self) -> None:
        """Let the library go, at once or with the last instance; once is enough. [control]"""
        self._count(0, closed=True)

    def _count(self, change: int, *, closed: bool = False) -> None:
        """Note an instance more or less; the last one leaves a closed library. [control]"""
        with self._lock:  # an abandoned control thread may come back beside the new one
            was_held = self._instances or not self._closed
            self._instances += change
            self._closed |= closed
            is_held = self._instances or not self._closed
        if was_held and not is_held:
            self.library.close()

    def create(self, config: Mapping[str, Any], cookie: int, post: int) -> "NativeInstance":
        """Make an instance that posts through `cookie`. Raises ConfigError. [control]"""
        text = as_json(config, (",", ":"))
        self._count(1)
        host = abi.Host(c.sizeof(abi.Host), abi.ABI, cookie, post)
        error = c.create_string_buffer(256)
        pointer = self._struct.create(host, text, error, len(error))
        if not pointer:
            self._count(-1)
            sentence = _text(error.value) or "create failed and did not say why"
            raise ConfigError(f"{self.id}: {sentence}", ("config",) if config else ("plugin",))
        return NativeInstance(self, self._struct, pointer, host)

    def destroyed(self) -> None:
        """Note that an instance has gone. [control]"""
        self._count(-1)


class NativeInstance:
    """One instance of a native plugin."""

    def __init__(self, plugin: NativePlugin, struct: abi.PluginStruct, pointer: int, host: abi.Host) -> None:
        self.plugin = plugin
        self.pointer = pointer
        self.process_address: int = struct.process
        self.reset_address: int | None = struct.reset
        self._struct = struct
        self._host = host

    def activate(self, *, rate_hz: int, max_frames: int, channels: int, values: list[float]) -> abi.Contract:
        """Prepare for processing. Raises ConfigError. [control]"""
        numbers = (c.c_double * max(len(values), 1))(*values)
        setup = abi.SetupStruct(c.sizeof(abi.SetupStruct), rate_hz, max_frames, channels, numbers)
        contract = abi.Contract(size=c.sizeof(abi.Contract))
        if self._struct.activate(self.pointer, setup, contract):
            raise ConfigError(f"{self.plugin.id}: cannot run with {channels} channels at {rate_hz} Hz")
        return contract

    def destroy(self) -> None:
        """Free it: the engine has left it for good. [control]"""
        self._struct.destroy(self.pointer)
        self.plugin.destroyed()

    def save_state(self) -> bytes | None:
        """Return the state; None: there is none. Raises ConfigError when it is too long. [control]"""
        if not self.plugin.stateful:
            return None
        room, length = 0, self._struct.state_save(self.pointer, None, 0)
        while room < length <= MOST_STATE:  # it may have grown since it was asked
            room = min(2 * length, MOST_STATE) if room else length
            data = c.create_string_buffer(room)
            length = self._struct.state_save(self.pointer, data, room)
        if length > MOST_STATE:
            raise ConfigError(f"{self.plugin.id}: its state has {length} bytes; {MOST_STATE >> 20} MiB is the most")
        return data.raw[:length] if length else None

    def load_state(self, version: str, data: bytes) -> None:
        """Take over what a plugin of that version saved; before `activate`. Raises ConfigError. [control]"""
        if not self.plugin.stateful:
            raise ConfigError(f"{self.plugin.id}: has no state, and cannot take one over from version {version}")
        error = c.create_string_buffer(256)
        if self._struct.state_load(self.pointer, version.encode(), data, len(data), error, len(error)):
            sentence = _text(error.value) or "did not say why"
            raise ConfigError(f"{self.plugin.id}: cannot take over the state of version {version}: {sentence}")
