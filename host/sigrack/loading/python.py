"""Python plugins: a module with one subclass of `sigrack_plugins.Plugin`."""

import dataclasses
import inspect
import re
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from sigrack.errors import ConfigError, NoPluginError, nearest, said
from sigrack.hooks import is_generator
from sigrack.loading.modules import hold, import_plugin, module_hash
from sigrack.loading.native import ParamInfo
from sigrack_plugins import HOOKS, Param, Plugin

__all__ = ["PythonPlugin"]

_ARGUMENTS = {
    "on_start": 0,
    "on_block": 1,
    "on_factors": 1,
    "on_factor": 4,
    "on_data": 1,
    "on_stop": 0,
    "on_state_save": 0,
    "on_state_restore": 2,
    "fir": 1,
    "ratio": 1,
    "latency_frames": 1,
    "recursive": 1,
    "process": 1,
    "activate": 1,
    "work": 1,
}
_COROUTINES = {"on_block", "on_factors", "on_factor", "on_data"}
"""Hooks that may be coroutines."""
_PROCESSORS = {"process", "activate", "latency_frames", "on_state_save", "on_state_restore"}
"""What a plugin with `process` may have: it lives in a process of its own."""


def _plugin_class(module: ModuleType, where: object) -> type[Plugin]:
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Plugin) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(sorted(kind.__name__ for kind in found)) or "none"
        kind = ConfigError if found else NoPluginError
        raise kind(f"{where}: a plugin module holds exactly one subclass of sigrack_plugins.Plugin, here: {names}")
    return found[0]


def _check_methods(kind: type[Plugin], where: object) -> frozenset[str]:
    """Return the names of the methods that the host will call."""
    for name in dir(kind):
        if name.startswith("on_") and name not in HOOKS:
            raise ConfigError(f'{where}: {kind.__name__} has an unknown hook "{name}"{nearest(name, HOOKS)}')
    methods = frozenset(name for name in _ARGUMENTS if callable(getattr(kind, name, None)))
    if not methods - {"on_start", "on_stop", "on_state_save", "on_state_restore"}:
        raise ConfigError(f"{where}: {kind.__name__} does nothing: it has no process, no hook, no fir, no recursive and no work")
    if {"on_factor", "on_factors"} <= methods:
        raise ConfigError(f"{where}: {kind.__name__} has both on_factor and on_factors: keep one")
    if len(methods & {"on_state_save", "on_state_restore"}) == 1:
        raise ConfigError(f"{where}: {kind.__name__} has only one of on_state_save and on_state_restore: state needs both")
    for name in methods:
        _check_arguments(getattr(kind, name), name, f"{where}: {kind.__name__}.{name}")
    if "process" in methods and (others := methods - _PROCESSORS):
        raise ConfigError(
            f"{where}: {kind.__name__} has process, which runs in a process of its own, and {min(others)}, in the host: "
            "make two plugins of it"
        )
    if "activate" in methods and "process" not in methods:
        raise ConfigError(f"{where}: {kind.__name__}.activate is called before process, but there is no process")
    if (extra := methods & {"ratio", "latency_frames"}) and not methods & {"fir", "process"}:
        raise ConfigError(f"{where}: {kind.__name__}.{min(extra)} says something of a filter, but there is no fir")
    if kind.Config is not None and not dataclasses.is_dataclass(kind.Config):
        raise ConfigError(f"{where}: {kind.__name__}.Config must be a dataclass")
    return methods


def _check_arguments(method: Callable[..., Any], name: str, where: str) -> None:
    wanted = _ARGUMENTS[name]
    if inspect.iscoroutinefunction(method) and name not in _COROUTINES:
        raise ConfigError(f"{where} is a coroutine; only {', '.join(sorted(_COROUTINES))} may be one")
    if is_generator(method):
        raise ConfigError(f"{where} is a generator: it has a `yield`, so calling it runs nothing; take the `yield` out")
    try:
        inspect.signature(method).bind(*range(wanted + 1))
    except TypeError:
        raise ConfigError(f"{where} must take self and {wanted} more argument(s)") from None


def _params(kind: type[Plugin], where: object) -> list[ParamInfo]:
    infos: list[ParamInfo] = []
    for param in kind.params:
        if not isinstance(param, Param) or any(info.id == param.id for info in infos):
            raise ConfigError(f"{where}: {kind.__name__}.params holds Param objects, each with an id of its own")
        info = ParamInfo(param.id, param.name or param.id, param.unit, param.minimum, param.maximum, param.initial)
        try:
            info.check(info.initial)
        except ValueError as error:
            raise ConfigError(f"{where}: {kind.__name__}: {error}") from None
        infos.append(info)
    return infos


class PythonPlugin:
    """A Python module that was found fit to be a plugin."""

    kind = "python"

    def __init__(self, target: Path | str) -> None:
        """Import and check. Raises ConfigError. [main, worker]"""
        self.path = target
        module = import_plugin(target, self)
        self.file = Path(module.__file__ or "")
        self.sha256 = module_hash(module)
        """Of the module's own file; empty if it has none."""
        self._class = _plugin_class(module, target)
        self.methods = _check_methods(self._class, target)
        stem = target.stem if isinstance(target, Path) else target.rpartition(".")[2]
        self.id = self._class.id or stem
        self.name = self._class.__name__
        self.version = self._class.version
        self.description = (inspect.getdoc(self._class) or "").partition("\n")[0]
        self.factors = dict(self._class.factors)
        self.tap_seconds = self._class.tap_seconds
        self.params = _params(self._class, target)

    @property
    def stateful(self) -> bool:
        """Whether its instances have a state to save and restore."""
        return "on_state_save" in self.methods

    @property
    def processes(self) -> bool:
        """Whether it is a processor, for a process of its own."""
        return "process" in self.methods

    @property
    def options(self) -> dict[str, str]:
        """Keys of `[slot.config]`, each with its type and default as text. [any]"""
        kind = self._class.Config
        if kind is None:
            return {}
        return {
            field.name: f"{getattr(field.type, '__name__', field.type)}"
            + ("" if field.default is dataclasses.MISSING else f" = {field.default!r}")
            for field in dataclasses.fields(kind)
        }

    def create(self, config: Mapping[str, Any], resolve: Callable[[str], Path]) -> Plugin:
        """Make an instance with its configuration checked. Raises ConfigError, whose message lacks the file. [main]"""
        try:
            plugin = self._class()
        except (Exception, SystemExit, CancelledError) as error:
            raise ConfigError(f"{self.id}: {said(error)}") from error
        hold(self._class.__module__, plugin)
        plugin.config = self._configure(config, resolve)
        return plugin

    def _configure(self, config: Mapping[str, Any], resolve: Callable[[str], Path]) -> Any:
        kind = self._class.Config
        valid = [field.name for field in dataclasses.fields(kind)] if kind else []
        for key in config:
            if key not in valid:
                raise ConfigError(f'{self.id} has no configuration key "{key}"{nearest(key, valid)}', ("config", key))
        if kind is None:
            return None

        def decode(wanted: type, value: Any) -> Any:
            if wanted is Path and isinstance(value, str):
                return resolve(value)
            raise TypeError(f"expected {'a path' if wanted is Path else wanted.__name__}, got {type(value).__name__}")

        try:
            return msgspec.convert(dict(config), kind, dec_hook=decode, strict=True)
        except (msgspec.ValidationError, OSError, ValueError) as error:
            text, _, where = str(error).replace("`", "").partition(" - at $.")
            text = re.sub(r"^Object missing required field (\w+)", r'[slot.config] lacks the key "\1"', text)
            message = f"{where}: {text[0].lower()}{text[1:]}" if where else text
            raise ConfigError(f"{self.id}: {message}") from None
        except (Exception, SystemExit, CancelledError) as error:
            raise ConfigError(f"{self.id}: {said(error)}") from error
