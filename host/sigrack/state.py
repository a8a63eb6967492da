"""What a plugin hands to its successor."""

from dataclasses import dataclass
from typing import Any

import msgspec

from sigrack.errors import ConfigError, said
from sigrack_plugins import Plugin

__all__ = ["PluginState", "restore_python", "save_python"]


@dataclass(frozen=True, slots=True)
class PluginState:
    """A plugin's state as bytes, and whose it is."""

    plugin: str
    version: str
    data: bytes


def save_python(plugin: Plugin, name: str, version: str) -> PluginState:
    """Ask a Python plugin for its state. Raises ConfigError if it fails or gives what cannot be stored. [main]"""
    try:
        value = plugin.on_state_save()  # type: ignore[attr-defined]
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{name}: on_state_save: {said(error)}") from error
    try:
        return PluginState(name, version, msgspec.msgpack.encode(value))
    except (TypeError, OverflowError, RecursionError, ValueError) as error:
        raise ConfigError(
            f"{name}: on_state_save gave what cannot be stored ({error}); numbers, text, bytes, lists and dicts can"
        ) from None


def restore_python(plugin: Plugin, name: str, state: PluginState) -> None:
    """Give a Python plugin a state. Raises ConfigError if it refuses. [main]"""
    value: Any = msgspec.msgpack.decode(state.data)
    try:
        plugin.on_state_restore(value, state.version)  # type: ignore[attr-defined]
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{name}: on_state_restore: {said(error)}") from error
