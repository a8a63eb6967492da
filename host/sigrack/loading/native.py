"""Native plugins: the C ABI of `sigrack.h`."""

import ctypes as c
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigrack.errors import ConfigError
from sigrack.loading.libraries import open_library
from sigrack_plugins import abi

__all__ = ["NativeInstance", "NativePlugin", "ParamInfo"]


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


class NativePlugin:
    """A loaded library that exports `sigrack_plugin_entry`."""

    kind = "native"

    def __init__(self, path: Path) -> None:
        """Load and check. Raises ConfigError. [control]"""
        self.path = path
        self._struct = self._enter(path)
        self.id = _text(self._struct.id) or path.stem
        self.name = _text(self._struct.name) or self.id
        self.version = _text(self._struct.version)
        self.description = _text(self._struct.description)
        try:
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
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None

    @staticmethod
    def _enter(path: Path) -> abi.PluginStruct:
        library = open_library(path)
        try:
            entry = getattr(library, abi.ENTRY)
        except AttributeError:
            raise ConfigError(f"{path}: not a sigrack plugin: it exports no {abi.ENTRY}") from None
        entry.restype = c.POINTER(abi.PluginStruct)
        pointer = entry()
        if not pointer:
            raise ConfigError(f"{path}: {abi.ENTRY} returned NULL")
        plugin: abi.PluginStruct = pointer.contents
        if plugin.abi != abi.ABI:
            raise ConfigError(f"{path}: has plugin ABI {plugin.abi}, this host needs {abi.ABI}: rebuild it")
        if plugin.size < c.sizeof(abi.PluginStruct):
            raise ConfigError(f"{path}: its plugin struct is shorter than this host's: rebuild it with this sigrack.h")
        if not (plugin.create and plugin.activate and plugin.process and plugin.destroy):
            raise ConfigError(f"{path}: lacks one of create, activate, process, destroy")
        return plugin

    def create(self, config: Mapping[str, Any], cookie: int, post: int) -> "NativeInstance":
        """Make an instance that posts through `cookie`. Raises ConfigError. [control]"""
        host = abi.Host(c.sizeof(abi.Host), abi.ABI, cookie, post)
        error = c.create_string_buffer(256)
        text = json.dumps(config, separators=(",", ":"), default=str).encode()
        pointer = self._struct.create(host, text, error, len(error))
        if not pointer:
            sentence = _text(error.value) or "create failed and did not say why"
            raise ConfigError(f"{self.id}: {sentence}", ("config",) if config else ("plugin",))
        return NativeInstance(self, self._struct, pointer, host)


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
