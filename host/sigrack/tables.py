"""The tables of the rack's TOML file, as they are written: their keys, types and defaults."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sigrack_plugins.abi import MAX_CHANNELS

__all__ = [
    "ENDPOINT",
    "HEADROOM",
    "LANE",
    "LIMITER",
    "NAME",
    "NO_FEEDS",
    "RATES_HZ",
    "BusTable",
    "Config",
    "ControlTable",
    "FeedTable",
    "PublishTable",
    "RackTable",
    "SignalTable",
    "SinkTable",
    "SlotTable",
    "SourceTable",
]

RATES_HZ = (
    *(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000),
    *(base * factor for factor in (1, 2, 4, 8, 16) for base in (44_100, 48_000)),
)
"""Sample rates that the rack runs at, in frames per second."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
LANE = r"^(inline|process(:[A-Za-z0-9][A-Za-z0-9_.-]*)?)$"
ENDPOINT = r"^(ipc:///[^\x00-\x1f]+|tcp://[!-~]+:[0-9]{1,9})$"
HEADROOM, LIMITER = "headroom", "limiter"
"""Names of the slots that the host puts at the end of a rack, if it is to."""
NO_FEEDS = ("audio", "none")
"""What `feed` of a signal engine may say beside the names of feeds."""
Name = Annotated[str, Meta(pattern=NAME)]
Channels = Annotated[list[Name], Meta(min_length=1, max_length=MAX_CHANNELS)]
Frames = Annotated[int, Meta(ge=1, le=65_536)]
RingSeconds = Annotated[float, Meta(gt=0, le=10)]
SampleFormat = Literal["float32", "int16", "int24", "int32"]


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
    backend: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where filters run as taps; `auto`: on a GPU what takes much of a core, if there is one."""
    fallback: bool = True
    """Whether the CPU runs beside the GPU in a live rack, so that nothing is missing when that fails."""
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
    lane: Annotated[str, Meta(pattern=LANE)] | None = None
    """`process`: in a process of its own; what has `process` in Python always, what filters never. `process:NAME`: in one with
    the slots beside it that say the same. `inline`: on the host's engine thread. By default `inline` for what came with the host,
    `process` for other native plugins."""
    lane_blocks: Annotated[int, Meta(ge=1, le=64)] = 1
    """How many blocks that process may take for one: its latency."""
    memory_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 2048
    """What that process may allocate; 0: no limit."""
    crash_budget: Annotated[int, Meta(ge=0, le=1000)] = 5
    """Its deaths within a minute after which it is given up; 0: never."""

    @property
    def lane_name(self) -> str:
        """Of the lane that it shares; empty if it shares none."""
        return self.lane.partition(":")[2] if self.lane else ""

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
    lane: Literal["inline", "process"] = "process"
    """`process`: in a process of its own; `inline`: in the host's."""
    memory_mb: Annotated[int, Meta(ge=0, le=1_000_000)] = 2048
    """What that process may allocate; 0: no limit."""
    crash_budget: Annotated[int, Meta(ge=0, le=1000)] = 5
    """Its deaths within a minute after which it is given up; 0: never."""
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
    endpoint: Annotated[str, Meta(pattern=ENDPOINT)] | None = None
    """Of zmq."""
    socket: Literal["sub", "pull"] = "sub"
    topic: str = ""
    """What sub subscribes to."""
    bind: bool = False
    """Whether the socket binds the endpoint; else it connects."""


class PublishTable(_Table, frozen=True, kw_only=True):
    """`[publish]`: factors for other programs."""

    endpoint: Annotated[str, Meta(pattern=ENDPOINT)]
    factors: Annotated[list[str], Meta(min_length=1)]
    """`SOURCE.SYMBOL`, or `SOURCE.*` for all of a source."""


class ControlTable(_Table, frozen=True, kw_only=True):
    """`[control]`: the ZeroMQ sockets."""

    enabled: bool = True
    endpoint: Annotated[str, Meta(pattern=ENDPOINT)] | None = None
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
