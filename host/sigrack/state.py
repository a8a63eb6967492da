"""What a plugin hands to its successor, in the same host or in the next one."""

from dataclasses import dataclass

import msgspec

from sigrack.errors import ConfigError, said
from sigrack.hooks import Hooked
from sigrack_plugins import Setup

__all__ = ["Lender", "Loan", "PluginState", "StateRefusedError", "restore", "save"]


@dataclass(frozen=True, slots=True)
class PluginState:
    """A plugin's state as bytes, and whose it is."""

    plugin: str
    version: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Loan:
    """A state that was kept, on its way into a plugin."""

    slot: str
    setup: str
    """What the plugin that gave it heard and wrote."""
    state: PluginState


class StateRefusedError(ConfigError):
    """A native plugin did not start with the state that it was given back; perhaps it starts without."""

    def __init__(self, message: str, loan: Loan) -> None:
        super().__init__(message)
        self.loan = loan


class Lender:
    """Gives states back that were kept; this one has none."""

    def lend(self, slot: str, plugin: str, version: str, setup: Setup) -> Loan | None:
        """Return the state for a new instance in a slot. [main, worker]"""
        return None

    def accept(self, loan: Loan) -> None:
        """The plugin has it. [any]"""

    def refuse(self, loan: Loan, why: object) -> None:
        """The plugin cannot take it. [any]"""


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
