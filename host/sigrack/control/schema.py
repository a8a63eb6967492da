"""Every command: its name, its parameters, its sentence. Decoder, client and docs/control.md come from here."""

from typing import Any

import msgspec

__all__ = ["COMMANDS", "Command", "CommandError", "Reply", "Request", "to_markdown"]


class Command(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Base of all commands; the fields are the parameters."""


class Ping(Command, frozen=True):
    """Answers `pong`."""


class GetStatus(Command, frozen=True):
    """What runs: state, rack, source, latency, slots with their parameters."""


class Stats(Command, frozen=True):
    """Counters and meters: blocks, load, late blocks, drops, hooks, the last value of every factor."""


class List(Command, frozen=True):
    """The plugins that can be named in a rack; the libraries that are mapped, and why each one stays."""


class ParamGet(Command, frozen=True, kw_only=True):
    """One parameter, or all of a slot."""

    slot: str
    param: str | None = None


class ParamSet(Command, frozen=True, kw_only=True):
    """Sets a parameter from the next block on; the plugin smooths it."""

    slot: str
    param: str
    value: float


class Bypass(Command, frozen=True, kw_only=True):
    """Cross-fades a slot to its input (on = true) or back."""

    slot: str
    on: bool = True


class CrossfeedEnable(Command, frozen=True):
    """Cross-fades the rack's crossfeed slot in."""


class CrossfeedDisable(Command, frozen=True):
    """Cross-fades the rack's crossfeed slot out."""


class CrossfeedGetStatus(Command, frozen=True):
    """Whether the rack has a crossfeed slot and whether it is heard."""


class Load(Command, frozen=True, kw_only=True):
    """Adds a slot, before another one or at the end. The next RELOAD goes back to what the rack's file says."""

    name: str
    plugin: str
    before: str | None = None
    params: dict[str, Any] = {}
    config: dict[str, Any] = {}


class Unload(Command, frozen=True, kw_only=True):
    """Takes a slot or a signal engine out; drain: what it has posted is delivered first."""

    name: str
    drain: bool = True


class Swap(Command, frozen=True, kw_only=True):
    """Puts a new instance into a slot's place, of the same plugin as its file is now or of another one, and hands its state over.
    On failure the old one plays on."""

    name: str
    plugin: str | None = None
    params: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    drain: bool = True


class Reload(Command, frozen=True):
    """Reads the rack's file again; what has not changed runs on. With a name: loads that plugin's own file again. What is invalid
    changes nothing."""

    name: str | None = None


class Shutdown(Command, frozen=True):
    """Ends the host in an orderly way."""


COMMANDS: dict[str, type[Command]] = {
    "PING": Ping,
    "GET_STATUS": GetStatus,
    "STATS": Stats,
    "LIST": List,
    "PARAM_GET": ParamGet,
    "PARAM_SET": ParamSet,
    "BYPASS": Bypass,
    "CROSSFEED_ENABLE": CrossfeedEnable,
    "CROSSFEED_DISABLE": CrossfeedDisable,
    "CROSSFEED_GET_STATUS": CrossfeedGetStatus,
    "LOAD": Load,
    "UNLOAD": Unload,
    "SWAP": Swap,
    "RELOAD": Reload,
    "SHUTDOWN": Shutdown,
}


class Request(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a client sends."""

    cmd: str
    params: dict[str, Any] = {}


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What it gets back; `data` only where there is some."""

    message: str | None = None
    data: Any = None


class CommandError(Exception):
    """A command that cannot be carried out."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


ERROR_CODES = {
    "IPC_PROTOCOL_ERROR": 'the request is not JSON of the form `{"cmd": ..., "params": {...}}`',
    "IPC_INVALID_COMMAND": "no such command",
    "IPC_INVALID_PARAMS": "a parameter is missing, unknown, of the wrong type or out of range",
    "VALIDATION_NOT_FOUND": "no such slot, signal engine or parameter",
    "VALIDATION_INVALID_PLUGIN": "a plugin cannot be loaded, refuses its configuration or does not start; nothing was changed",
    "VALIDATION_INVALID_CONFIG": "the rack's file has an error; nothing was changed",
    "ENGINE_FAILED": "a plugin or a resource failed while the rack was being changed; nothing was changed",
    "CROSSFEED_NOT_INITIALIZED": "the rack has no crossfeed slot",
    "INTERNAL_UNKNOWN": "a fault of the host; its log says more",
}


def to_markdown() -> str:
    """Return the reference, for docs/control.md. [any]"""
    lines = ["| command | parameters | what it does |", "|---|---|---|"]
    for name, command in COMMANDS.items():
        fields = [_field(field) for field in msgspec.structs.fields(command)]
        lines.append(f"| `{name}` | {', '.join(fields) or '-'} | {' '.join((command.__doc__ or '').split())} |")
    lines += ["", "| error code | meaning |", "|---|---|"]
    lines += [f"| `{code}` | {meaning} |" for code, meaning in ERROR_CODES.items()]
    return "\n".join(lines) + "\n"


def _field(field: msgspec.structs.FieldInfo) -> str:
    kind = getattr(field.type, "__name__", str(field.type)).replace(" | None", "").partition("[")[0]
    if field.required:
        return f"`{field.name}`: {kind}"
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    optional = f" = {msgspec.json.encode(default).decode()}"
    return f"`{field.name}`: {kind}{optional}"
