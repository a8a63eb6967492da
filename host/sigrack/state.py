"""What a plugin hands to its successor."""

from dataclasses import dataclass

import msgspec

from sigrack.errors import ConfigError, said
from sigrack.hooks import Hooked

__all__ = ["PluginState", "restore", "save"]


@dataclass(frozen=True, slots=True)
class PluginState:
    """A plugin's state as bytes, and whose it is."""

    plugin: str
    version: str
    data: bytes


def save(hooked: Hooked, name: str, version: str) -> PluginState:
    """Ask a Python plugin for its state. Raises ConfigError if it fails or gives what cannot be stored and read again. [main]"""
    try:
        value = hooked.attempt("on_state_save", hooked.plugin.on_state_save)  # type: ignore[attr-defined]
    except BaseException as error:
        raise ConfigError(f"{name}: on_state_save: {said(error)}") from error
    try:
        data = msgspec.msgpack.encode(value)
        msgspec.msgpack.decode(data)
    except (TypeError, OverflowError, RecursionError, ValueError, msgspec.MsgspecError) as error:
        text = f"{name}: on_state_save gave what cannot be stored ({error}); numbers, text, bytes, lists and dicts can"
        raise ConfigError(text) from None
    return PluginState(name, version, data)


def restore(hooked: Hooked, name: str, state: PluginState) -> None:
    """Give a Python plugin a state. Raises ConfigError if it refuses. [main]"""
    value = msgspec.msgpack.decode(state.data)
    try:
        hooked.attempt("on_state_restore", hooked.plugin.on_state_restore, value, state.version)  # type: ignore[attr-defined]
    except BaseException as error:
        raise ConfigError(f"{name}: on_state_restore: {said(error)}") from error
