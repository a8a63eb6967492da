"""What the author of a Python plugin writes against. Imports no numpy, so that a start stays short."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

__all__ = [
    "HOOKS",
    "SECOND",
    "AudioBlock",
    "Biquad",
    "BiquadStage",
    "Block",
    "Context",
    "DataBatch",
    "FactorBatch",
    "Param",
    "Plugin",
    "Setup",
    "Tap",
    "Timer",
]

Biquad = tuple[float, float, float, float, float]
"""b0, b1, b2, a1, a2 of a second-order section in powers of 1/z; a0 is 1."""

SECOND = 1_000_000_000
"""One second of rack time, in nanoseconds."""

HOOKS = (
    "on_start",
    "on_block",
    "on_factors",
    "on_factor",
    "on_data",
    "on_stop",
    "on_state_save",
    "on_state_restore",
)
"""Every hook there is. A method `on_...` with another name is an error at load."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The conditions under which a slot runs."""

    rate_hz: int
    channels: int
    """How many the slot hears: those that its `in` names, or all of the bus."""
    inputs: tuple[str, ...] = ()
    """Their names."""
    outputs: tuple[str, ...] = ()
    """Names of the channels that it writes."""

    @property
    def out_channels(self) -> int:
        """How many it writes."""
        return len(self.outputs) or self.channels


@dataclass(frozen=True, slots=True, eq=False)
class BiquadStage:
    """One step of a recursive filter: a mix, then for each channel that comes out a delay and second-order sections.

    With x the samples that come in, channel o is its sections, one after the other, applied to the sum over i of
    mix[o, i] x[i], late by delay_frames[o]. A section (b0, b1, b2, a1, a2) is (b0 + b1/z + b2/z^2) / (1 + a1/z + a2/z^2),
    its poles inside the unit circle. All is computed in float64.
    """

    mix: "npt.NDArray[np.float64]"
    """Factors of shape (channels out, channels in)."""
    delay_frames: Sequence[int]
    """One for each channel out; up to 4,194,304 each, in all stages together 1 GiB of eight bytes each."""
    sections: "Sequence[Sequence[Biquad]]"
    """One sequence for each channel out; it may be empty."""


@dataclass(frozen=True, slots=True)
class Block:
    """A run of audio, as seen at the plugin's place in the rack.

    `samples` is float32 of shape (frames, channels), read-only and planar: `samples[:, c]` is contiguous. It may be kept, and
    so may slices of it. It holds `[rack] hook_frames` frames; fewer at the end of the stream and before a gap.
    """

    samples: "Samples"
    rate_hz: int
    frame: int
    """Engine frame number of the first frame."""

    @property
    def frames(self) -> int:
        """Length in frames."""
        return int(self.samples.shape[0])

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.samples.shape[1])

    @property
    def time_ns(self) -> int:
        """Rack time of the first frame in nanoseconds."""
        return self.frame * SECOND // self.rate_hz


@dataclass(frozen=True, slots=True)
class Param:
    """A number that can be set while audio runs, of a plugin that has `process`."""

    id: str
    """Lower case, with its unit: "gain_db"."""
    minimum: float
    maximum: float
    initial: float
    unit: str = ""
    name: str = ""
    """For people."""


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """What `process` turns from input into output. Valid until it returns.

    `input` (read-only) and `output` (to be written, all of it) are float32 of shape (frames, channels), planar: `input[:, c]` is
    contiguous. They lie in the memory that is shared with the host.
    """

    input: "Samples"
    output: "Samples"
    rate_hz: int
    frame: int
    """Engine frame number of the first frame."""
    values: "Mapping[str, float]"
    """The parameters, as they are from this block on."""


@dataclass(frozen=True, slots=True)
class FactorBatch:
    """Results of one source, in the order in which they were posted. May be kept; its arrays are read-only.

    All arrays have one entry per record. Iterating yields `(symbol, ts_ns, values)`.
    """

    source: str
    symbols: tuple[str, ...]
    """Names for `symbol_ids`."""
    symbol_ids: "npt.NDArray[np.uint32]"
    ts_ns: "npt.NDArray[np.int64]"
    """The source's own clock in nanoseconds; rack time for slots."""
    frame: "npt.NDArray[np.uint64]"
    """Engine frame at which the record was measured (slots) or posted (signal engines)."""
    posted_ns: "npt.NDArray[np.int64]"
    """CLOCK_MONOTONIC in nanoseconds at the time of posting."""
    counts: "npt.NDArray[np.uint32]"
    """How many values the record has."""
    values: "npt.NDArray[np.float64]"
    """Shape (records, widest record); what lies beyond `counts` is undefined."""

    def __len__(self) -> int:
        return len(self.symbol_ids)

    def __iter__(self) -> "Iterator[tuple[str, int, npt.NDArray[np.float64]]]":
        rows = zip(self.symbol_ids.tolist(), self.ts_ns.tolist(), self.counts.tolist(), self.values, strict=True)
        for symbol, ts_ns, count, values in rows:
            yield self.symbols[symbol], ts_ns, values[:count]


@dataclass(frozen=True, slots=True)
class DataBatch:
    """Market-like data of one feed, in the feed's order. May be kept. Iterating yields records."""

    source: str
    """The feed's name."""
    kind: str
    """"depth", "ticker", "trade" or "index_price"."""
    records: "npt.NDArray[np.void]"
    """Read-only structured array; its fields are those of the C struct of that kind in `sigrack_signal.h`."""
    epoch_ns: int
    """`ts_ns` of rack time 0: at speed 1 the rack time of a record is its `ts_ns` minus this."""

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> "Iterator[np.void]":
        return iter(self.records)


class Timer(Protocol):
    """A pending call of `Context.at` or `Context.every`."""

    def cancel(self) -> None:
        """Never run it again. [main]"""


class Tap(Protocol):
    """The audio at the plugin's place, for a thread of the plugin's own (see `Plugin.work`)."""

    @property
    def rate_hz(self) -> int:
        """Frames per second."""

    @property
    def channels(self) -> int:
        """Number of channels."""

    @property
    def frame(self) -> int:
        """Engine frame number of the first frame of the array yielded last. [worker]"""

    @property
    def lost(self) -> int:
        """Frames that were dropped because this tap was read too slowly. Always 0 in freewheel. [any]"""

    def __iter__(self) -> "Iterator[Samples]":
        """Yield arrays of shape (frames, channels), float32, C order, each the reader's own, until the rack stops. [worker]"""


class Context(Protocol):
    """What a plugin may ask of its host. Times are rack time: live it follows the clock, in freewheel it is simulated."""

    @property
    def name(self) -> str:
        """The slot's name. [any]"""

    @property
    def setup(self) -> Setup:
        """Rate and channels. [any]"""

    @property
    def config(self) -> Mapping[str, Any]:
        """The slot's `[slot.config]` table, as written. [any]"""

    def now(self) -> int:
        """Return the rack time in nanoseconds: frames processed / rate. [any]"""

    def at(self, time_ns: int, call: Callable[[], None]) -> Timer:
        """Run `call` once, on the main loop, at the rack time `time_ns`. [main]"""

    def every(self, period_ns: int, call: Callable[[], None]) -> Timer:
        """Run `call` each `period_ns` of rack time, on the main loop. [main]"""

    def log(self, message: str) -> None:
        """Write one line into the host's log, under the slot's name. [any]"""

    def post(self, symbol: str, values: "npt.ArrayLike", ts_ns: int | None = None) -> bool:
        """Post one record under the slot's name as source; `ts_ns` defaults to now. False: dropped and counted. [any]"""

    def post_many(self, symbol: str, values: "npt.ArrayLike", ts_ns: "npt.ArrayLike") -> bool:
        """Post many records of one symbol: `values` of shape (records, values), `ts_ns` of shape (records,). [any]"""

    def subscribe(self, source: str | None = None, symbol: str | None = None) -> None:
        """Narrow `on_factors`, `on_factor` and `on_data` to a source, or a symbol, or both; several calls add up.

        Raises KeyError for what does not exist. [main]
        """

    def set_param(self, slot: str, param: str, value: float) -> None:
        """Set a parameter of any slot; the change is transient (not saved). Raises KeyError, ValueError. [main]"""

    def low_pass(
        self,
        rate_hz: int,
        ratio: int,
        *,
        phase: str = "minimum",
        taps: int | None = None,
        file: "Path | None" = None,
    ) -> "Samples":
        """Return a filter for upsampling from `rate_hz` by `ratio`: its taps, float32 of shape (taps,), at the output's rate.

        It is designed, which may take seconds, and kept for the next time; or read from `file` and measured against what the file
        says of it. Raises ValueError in one line for what cannot be had. [worker: in `fir`]
        """

    def pinned(self) -> "AbstractContextManager[None]":
        """`with ctx.pinned():` in a coroutine hook: the plugin is not destroyed meanwhile, whoever else uses it. [main]"""

    def load(
        self,
        name: str,
        plugin: str,
        config: Mapping[str, Any] | None = None,
        params: Mapping[str, float] | None = None,
        before: str | None = None,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        lane: str | None = None,
    ) -> "Future[None]":
        """Ask for a new slot, before the slot `before` or at the end, on all channels or from `inputs` to `outputs`.

        `lane`: "process" for a process of its own, "inline" for none.
        All requests for a change are carried out when the hook that asks has returned. The future is done when the change is in
        force; it holds an exception when nothing was changed. Only a coroutine may wait for it (`asyncio.wrap_future`). [any]
        """

    def load_signal(
        self,
        name: str,
        library: str,
        symbols: Sequence[str],
        config: Mapping[str, Any] | None = None,
        feed: str | Sequence[str] = "audio",
        lane: str = "process",
    ) -> "Future[None]":
        """Ask for a new signal engine, which may post `symbols`; `feed`: "audio", "none", or the names of feeds. [any]

        `lane`: "process" for a process of its own, "inline" for none.
        """

    def unload(self, name: str) -> "Future[None]":
        """Ask for the end of a slot or a signal engine, also of this one. [any]"""

    def swap(
        self,
        name: str,
        plugin: str | None = None,
        config: Mapping[str, Any] | None = None,
        params: Mapping[str, float] | None = None,
        lane: str | None = None,
    ) -> "Future[None]":
        """Ask for a new instance in the place of `name`: of its plugin's file as it is now, or of another plugin. [any]

        `lane`: as for `load`; None: as it is written for the one that is there.
        """


class Plugin:
    """Base class of a Python plugin. A module that is loaded as a plugin holds exactly one subclass.

    Define what you need of: the hooks in `HOOKS`, `fir`, `recursive`, `work`. Hooks run on the main loop's thread only, one at a
    time; an exception is caught, counted and shown, and the audio goes on. In a live rack a hook that does not return within
    `[rack] hook_limit_ms` is interrupted, and its plugin bypassed.

    on_block, on_factors, on_factor, on_data and the functions given to `ctx.at` and `ctx.every` may be coroutines (`async def`):
    they run one at a time, in order, and hold the plugin meanwhile.

    on_start(self)
        Audio is about to run; `self.ctx` is there. ValueError and OSError say why the plugin cannot work: the rack stays off.
    on_block(self, block: Block)
        The next `hook_frames` frames at the plugin's place.
    on_factors(self, batch: FactorBatch)
        Results of one source.
    on_factor(self, source: str, symbol: str, ts_ns: int, values)
        The same, one record at a time; define one of the two.
    on_data(self, batch: DataBatch)
        Records of a feed.
    on_stop(self)
        The last call, if on_start has returned.
    on_state_save(self) -> numbers, text, bytes, None, or lists and dicts of them
        What a successor needs to go on; also called before a reload of the plugin's file.
    on_state_restore(self, state, version: str)
        Take over what `on_state_save` of the plugin's `version` gave. Called after on_start; ValueError says why it cannot be.
    fir(self, setup: Setup) -> array of shape (channels out, channels in, taps), float32
        Makes the plugin a linear processor: the engine convolves the bus with these taps. Called before on_start. [worker]
    recursive(self, setup: Setup) -> sequence of BiquadStage, or None
        The same as mixes, delays and second-order sections: the host runs them, or the taps that do the same, whichever takes
        less. It neither changes the rate nor is late: `ratio` must be 1 and `latency_frames` 0. None: ask `fir` instead. [worker]
    ratio(self, setup: Setup) -> int
        Frames that go out for each that comes in, 1 to 32, after `fir`: its taps are at the rate that goes out, and the input is
        taken with zeros between its frames. A slot that raises the rate cannot be bypassed. [worker]
    latency_frames(self, setup: Setup) -> int
        By how much the filter's output is late, in frames that go out, after `fir`: renders are in time by it. [worker]
    process(self, block: AudioBlock)
        Makes the plugin a processor: it writes `block.output`. It runs in a process of its own and touches no host object; there
        its parameters (`params`) and a context of `name`, `setup`, `config`, `log` and `post` are all it has, and
        `activate`, `latency_frames`, `on_state_save` and `on_state_restore` the only other methods. What it
        raises is heard as the input; what ends or hangs its process, too, until the next one has begun. [its own process]
    activate(self, setup: Setup)
        Before the first block. [its own process]
    work(self, tap: Tap)
        Runs on a thread of its own with a tap of its own, from start until the tap ends. Touches no other host object than
        `ctx.log` and `ctx.post`. [worker]
    """

    id: ClassVar[str] = ""
    """Name of the plugin; the module's name if empty."""
    version: ClassVar[str] = "0"
    params: ClassVar[Sequence[Param]] = ()
    """Of a plugin that has `process`."""
    factors: ClassVar[Mapping[str, str]] = {}
    """Symbols that the plugin posts, each with its unit."""
    Config: ClassVar[type | None] = None
    """A dataclass: the `[slot.config]` table is checked against it, its fields of type Path become absolute, and `self.config`
    is an instance. Without it the table must be empty. Raise ValueError in `__post_init__` for what types cannot say."""
    tap_seconds: ClassVar[float] = 4.0
    """How far `work` may fall behind."""

    ctx: Context
    config: Any
