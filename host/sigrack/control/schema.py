"""Every command: its name, its parameters, its sentence. Decoder, client and docs/control.md come from here."""

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

__all__ = ["COMMANDS", "Change", "Command", "CommandError", "Reply", "Request", "Write", "to_markdown"]


PresetName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]*$")]


class Command(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Base of all commands; the fields are the parameters."""


class Write(Command, frozen=True):
    """Base of those that change something: with a request id each is carried out once."""


class Change(Write, frozen=True):
    """Base of those that change what the rack holds: they may take long, and all are told when they fail."""


class Ping(Command, frozen=True):
    """Answers `pong`."""


class GetStatus(Command, frozen=True):
    """What runs: state, rack, source, latency, slots with their parameters; what of the rack's file is overridden."""


class Stats(Command, frozen=True):
    """Counters and meters: blocks, load, late blocks, drops, hooks, the last value of every factor."""


class List(Command, frozen=True):
    """The plugins that can be named in a rack; the libraries that are mapped, and why each one stays."""


class ParamGet(Command, frozen=True, kw_only=True):
    """One parameter, or all of a slot."""

    slot: str
    param: str | None = None


class ParamSet(Write, frozen=True, kw_only=True):
    """Sets a parameter from the next block on; the plugin smooths it."""

    slot: str
    param: str
    value: float


class Bypass(Write, frozen=True, kw_only=True):
    """Cross-fades a slot to its input, or to what the channels held that it writes (on = true), or back."""

    slot: str
    on: bool = True


class ChannelSet(Write, frozen=True, kw_only=True):
    """Mutes a channel that goes out, makes it solo (others are then muted), sets its level, -120 (silence) to 24 dB: in a
    ramp, from the next block on. What is left out stays."""

    name: str
    mute: bool | None = None
    solo: bool | None = None
    gain_db: float | None = None


class CrossfeedEnable(Write, frozen=True):
    """Cross-fades the rack's crossfeed slot in."""


class CrossfeedDisable(Write, frozen=True):
    """Cross-fades the rack's crossfeed slot out."""


class CrossfeedGetStatus(Command, frozen=True):
    """Whether the rack has a crossfeed slot and whether it is heard; its name, its source (model, file, folder or combined), its
    head size if it has one."""


class CrossfeedSetSize(Change, frozen=True, kw_only=True):
    """Another head size, xs, s, m, l or xl, for a crossfeed from a folder or from the head model. Takes the place of a radius."""

    head_size: str


class CrossfeedSetCombined(Change, frozen=True, kw_only=True):
    """Ready-made responses in base64: spectra of an even number of taps (complex64) or taps (float32), for the rack's rate or for
    rate_hz. A rack of another rate family refuses them."""

    combined_ll: str
    combined_lr: str
    combined_rl: str
    combined_rr: str
    rate_family: Literal["44k", "48k"] | None = None
    format: Literal["complex64", "float32"] = "complex64"
    rate_hz: int | None = None


class HeadModel(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, omit_defaults=True):
    """The head model's settings; what is left out is the plugin's default."""

    head_radius_m: float | None = None
    ear_spacing_m: float | None = None
    far_shadow_db: float | None = None
    diffuse_tilt_db: float | None = None
    level_db: float | None = None


class CrossfeedGenerateWoodworth(Change, frozen=True, kw_only=True):
    """The crossfeed of the head model, for loudspeakers at +-azimuth_deg; model: head_radius_m, ear_spacing_m, far_shadow_db,
    diffuse_tilt_db, level_db."""

    azimuth_deg: float = 30.0
    model: HeadModel = HeadModel()
    rate_family: Literal["44k", "48k"] | None = None


class Load(Change, frozen=True, kw_only=True):
    """Adds a slot, before another one or at the end; in, out and from lane on as in a `[[slot]]` table."""

    name: str
    plugin: str
    before: str | None = None
    inputs: list[str] | None = msgspec.field(default=None, name="in")
    outputs: list[str] | None = msgspec.field(default=None, name="out")
    lane: str | None = None
    lane_blocks: int = 1
    memory_mb: int = 2048
    crash_budget: int = 5
    params: dict[str, Any] = {}
    config: dict[str, Any] = {}


class LoadSignal(Change, frozen=True, kw_only=True):
    """Adds a signal engine; the parameters are those of a `[[signal]]` table."""

    name: str
    library: str
    symbols: list[str]
    config: dict[str, Any] = {}
    feed: str | list[str] = "audio"
    lane: str = "process"
    memory_mb: int = 2048
    crash_budget: int = 5
    queue: int = 16_384


class Unload(Change, frozen=True, kw_only=True):
    """Takes a slot or a signal engine out; drain: what it has posted is delivered first."""

    name: str
    drain: bool = True


class Swap(Change, frozen=True, kw_only=True):
    """Puts a new instance into a slot's place, of the same plugin as its file is now or of another one, and hands its state over.
    lane as in its table; null: as it says. On failure the old one plays on."""

    name: str
    plugin: str | None = None
    lane: str | None = None
    params: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    drain: bool = True


class Reload(Change, frozen=True):
    """Reads the rack's file again; what has not changed runs on, and what control has changed stays unless the file has changed
    in the same place. With a name: loads that plugin's own file again. What is invalid changes nothing."""

    name: str | None = None


class Release(Change, frozen=True, kw_only=True):
    """Loads a slot or a signal engine that is held back after crashes, or all of them: the end of safe mode. What cannot be
    loaded now is loaded at the next start."""

    name: str | None = None


class Undo(Change, frozen=True):
    """Takes the last change back; the last 50 are kept. What one parameter was set to within half a second is one change."""


class Redo(Change, frozen=True):
    """Makes the change again that was taken back last."""


class PresetSave(Write, frozen=True, kw_only=True):
    """Keeps all settings (slots, signal engines, channels) under a name; one that exists is replaced."""

    name: PresetName


class PresetRecall(Change, frozen=True, kw_only=True):
    """Goes to the settings that were kept under a name. The name `file` stands for the rack's file as it is."""

    name: PresetName


class PresetDelete(Write, frozen=True, kw_only=True):
    """Forgets the settings that were kept under a name."""

    name: PresetName


class PresetList(Command, frozen=True):
    """The names under which settings are kept, and since when."""


class Compare(Change, frozen=True, kw_only=True):
    """Goes to the other of two complete settings, A and B, or to the one that is named. Both begin alike; each keeps what is
    changed while it is the one in force."""

    side: Literal["A", "B"] | None = None


class Save(Change, frozen=True):
    """Writes into the rack's file what control has changed; its comments and its layout stay."""


class Shutdown(Write, frozen=True):
    """Ends the host in an orderly way."""


COMMANDS: dict[str, type[Command]] = {
    "PING": Ping,
    "GET_STATUS": GetStatus,
    "STATS": Stats,
    "LIST": List,
    "PARAM_GET": ParamGet,
    "PARAM_SET": ParamSet,
    "BYPASS": Bypass,
    "CHANNEL_SET": ChannelSet,
    "CROSSFEED_ENABLE": CrossfeedEnable,
    "CROSSFEED_DISABLE": CrossfeedDisable,
    "CROSSFEED_GET_STATUS": CrossfeedGetStatus,
    "CROSSFEED_STATUS": CrossfeedGetStatus,
    "CROSSFEED_SET_SIZE": CrossfeedSetSize,
    "CROSSFEED_SET_COMBINED": CrossfeedSetCombined,
    "CROSSFEED_GENERATE_WOODWORTH": CrossfeedGenerateWoodworth,
    "LOAD": Load,
    "LOAD_SIGNAL": LoadSignal,
    "UNLOAD": Unload,
    "SWAP": Swap,
    "RELOAD": Reload,
    "RELEASE": Release,
    "UNDO": Undo,
    "REDO": Redo,
    "PRESET_SAVE": PresetSave,
    "PRESET_RECALL": PresetRecall,
    "PRESET_DELETE": PresetDelete,
    "PRESET_LIST": PresetList,
    "COMPARE": Compare,
    "SAVE": Save,
    "SHUTDOWN": Shutdown,
}


class Request(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a client sends."""

    cmd: str
    params: dict[str, Any] = {}
    id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    """Who sends the same request again with the same id gets the same reply: it is carried out once, also over a restart."""


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
    "VALIDATION_NOT_FOUND": "no such slot, signal engine, parameter, channel or preset",
    "VALIDATION_NOTHING_TO_DO": "nothing can be taken back, or made again",
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
    kind = _kind(field.type)
    if field.required:
        return f"`{field.encode_name}`: {kind}"
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    optional = f" = {msgspec.json.encode(default).decode()}"
    return f"`{field.encode_name}`: {kind}{optional}"


def _kind(kind: Any) -> str:
    """Return a type as JSON's users call it."""
    if get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) in (UnionType, Union):
        return " or ".join(_kind(option) for option in get_args(kind) if option is not NoneType)
    if get_origin(kind) is Annotated:
        return _kind(get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "dict"
    return str(getattr(kind, "__name__", kind)).partition("[")[0]
