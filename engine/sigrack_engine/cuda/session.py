"""One activation of the convolver on a GPU: owns everything there, allocates nothing afterwards, gives all back when closed."""

import ctypes as c
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from sigrack_engine.cuda.device import Device, Event, Stream
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.plan import COMPLEX, FLOAT, LONGEST, MOST_STAGES, Plan

__all__ = ["Pinned", "Ring", "Samples", "Session", "Taps", "filter_of", "host_floats"]

Samples = npt.NDArray[np.float32]
Taps = npt.NDArray[np.float32]
"""(outputs, inputs, taps), at the output's rate."""
EVER = 2**56
PIECE = 256
MOST_WRITERS = 64
"""Thread blocks that write a channel's output to the host: enough to fill the bus; each of them must wait for it."""


@dataclass(frozen=True, slots=True)
class Ring:
    """Memory that the device reaches, where blocks come from or go to: block n is at n % depth. Strides are in float32s."""

    address: int
    stream: int
    channel: int
    block: int
    depth: int


@dataclass(frozen=True, slots=True)
class Pinned:
    """Host memory of whole pages that a session pins in place, and lets go before its owner unmaps it."""

    address: int
    size: int


class _Ring(c.Structure):
    _fields_ = [(name, c.c_int64) for name in ("address", "stream", "channel", "block", "depth")]


class _Session(c.Structure):
    """`struct Session` of kernels.cu."""

    _fields_ = [
        *((name, c.c_int64) for name in ("block", "arrived", "streams", "slots", "limit", "fade_frames", "flag")),
        ("in_", _Ring),
        ("out", _Ring),
        *((name, c.c_int64) for name in ("roots", "routes", "owners", "history", "planes", "fetched")),
        *((name, c.c_int64 * MOST_STAGES) for name in ("filters", "signals", "sums", "made")),
    ]


def filter_of(taps: Taps) -> tuple[tuple[int, ...], ...]:
    """Return which paths are zeros and which are equal, as `Shape` wants it."""
    seen: dict[bytes, int] = {}
    return tuple(tuple(seen.setdefault(path.tobytes(), len(seen)) if path.any() else -1 for path in row) for row in taps)


def host_floats(address: int, *shape: int) -> npt.NDArray[np.float32]:
    """Return an array over memory of a device's `allocate_host`, which must outlive it."""
    return np.ctypeslib.as_array(c.cast(address, c.POINTER(c.c_float)), shape)


def roots() -> npt.NDArray[np.complex64]:
    """Return for each ring, in the order of a heap, the root of what it is split by: the first ring is x^N - i."""
    angles = np.zeros(LONGEST)
    angles[1] = 0.25
    for level in range(1, LONGEST.bit_length() - 1):
        above = angles[1 << (level - 1) : 1 << level] / 2
        angles[1 << level : 2 << level] = np.stack([above, above + 0.5], axis=1).ravel()
    made: npt.NDArray[np.complex64] = np.exp(1j * np.pi * angles).astype(np.complex64)
    return made


@dataclass(slots=True)
class _Fade:
    """A filter that comes: to which stream, in which slot."""

    stream: int
    slot: int
    prepared: Event
    end_block: int = -1
    """When it has come; -1: it is not in force yet."""


class Session:
    """Runs one plan. [control, unless said otherwise; lane: the one thread that submits blocks]"""

    def __init__(
        self,
        device: Device,
        plan: Plan,
        source: Ring,
        sink: Ring,
        *,
        pinned: Sequence[Pinned] = (),
        fade_frames: int = 1,
        limit: int = EVER,
        tells: bool = False,
    ) -> None:
        """Take all that `plan` needs. All filters are zeros.

        `pinned`: host memory in which `source` and `sink` lie. `fade_frames`: of output, of a change. `limit`: input frames that
        there are. `tells`: `told` says how far blocks are. Raises CudaError; then nothing is left behind.
        """
        self.device, self.plan = device, plan
        self.blocks = 0
        """Blocks that were submitted."""
        self._fade_frames = max(1, fade_frames)
        self._free = deque(range(plan.shape.streams, plan.shape.slots))
        self._slots = np.arange(plan.shape.streams)
        self._coming: deque[_Fade] = deque()
        self._fading: deque[_Fade] = deque()
        with ExitStack() as self._owned:
            self._build(source, sink, pinned, limit, tells)
            self._owned = self._owned.pop_all()

    def _build(self, source: Ring, sink: Ring, pinned: Sequence[Pinned], limit: int, tells: bool) -> None:
        device, plan, owned = self.device, self.plan, self._owned
        for piece in pinned:
            device.register(piece.address, piece.size)
            owned.callback(device.unregister, piece.address)
        self._kernels = device.kernels(plan.source, self._shared_bytes())
        self.work = self._work_of_block()
        self._lay_out()
        self._memory = device.allocate(self.device_bytes)
        owned.callback(device.free, self._memory)
        self._taps_bytes = -(-plan.shape.filters * plan.shape.taps * FLOAT // PIECE) * PIECE
        self._staging = self._take_host(self._taps_bytes + c.sizeof(_Session))
        self._flag = self._take_host(PIECE) if tells else 0
        self._main, self._side = device.stream(urgent=True), device.stream()
        for queue in (self._main, self._side):
            owned.callback(device.synchronize, queue)
        self._staged, self._freed = device.event(), device.event()
        self._marks = deque(device.event() for _ in range(plan.shape.spare))
        self._write_header(source, sink, limit)
        self._graph = device.record_graph(self._main, self._queue_block)
        device.synchronize(self._main)

    def _take_host(self, size: int) -> int:
        address = self.device.allocate_host(size)
        self._owned.callback(self.device.free_host, address)
        return address

    def _shared_bytes(self) -> dict[str, int]:
        plan = self.plan
        sizes = {"forward": plan.shared_bytes(0), "inverse": plan.shared_bytes(0, faded=True), "tick": 0, "assign": 0}
        sizes["products"] = plan.columns * plan.lanes * COMPLEX if plan.lanes > 1 else 0
        if plan.shape.phases > 1:
            sizes["interleave"] = 0
        if plan.fetched:
            sizes["fetch"] = 0
        for stage in range(len(plan.stages)):
            sizes[f"prepare_{stage}"] = plan.shared_bytes(stage)
            if stage:
                sizes[f"ahead_{stage}"] = plan.shared_bytes(stage)
        return sizes

    def _lay_out(self) -> None:
        self._offsets, at = {}, -(-c.sizeof(_Session) // PIECE) * PIECE
        for name, size in self.plan.bytes_of().items():
            self._offsets[name] = at
            at += -(-size // PIECE) * PIECE
        self._taps_offset = at
        self.device_bytes = at + self.plan.shape.filters * self.plan.shape.taps * FLOAT
        """Memory held on the device."""

    def _write_header(self, source: Ring, sink: Ring, limit: int) -> None:
        at = {name: self._memory + offset for name, offset in self._offsets.items()}
        shape, header = self.plan.shape, _Session.from_address(self._staging + self._taps_bytes)
        header.fade_frames, header.flag = self._fade_frames, self._flag
        header.streams, header.slots = shape.streams, shape.slots
        header.roots, header.routes, header.owners = at["roots"], at["routes"], at["owners"]
        header.history, header.planes, header.fetched = at["history"], at["planes"], at["fetched"]
        for name in ("filters", "signals", "sums", "made"):
            for stage in range(len(self.plan.stages)):
                getattr(header, name)[stage] = at[f"{name}{stage}"]
        self._header = header
        self.bind(source, sink, limit)
        routes = np.zeros((shape.streams, 3), np.int64)
        routes[:, 0], routes[:, 1] = np.arange(shape.streams), -1
        owners = np.full(shape.slots, -1, np.int64)
        owners[: shape.streams] = np.arange(shape.streams)
        self._upload(at["roots"], roots().tobytes())
        self._upload(at["routes"], routes.tobytes())
        self._upload(at["owners"], owners.tobytes())

    def bind(self, source: Ring, sink: Ring, limit: int = EVER) -> None:
        """Let blocks come from and go to other memory, counted from 0 again; history stays without `reset`. [lane]"""
        header, device = self._header, self.device
        device.synchronize(self._main)
        header.in_, header.out = (_Ring(*(getattr(ring, name) for name in Ring.__slots__)) for ring in (source, sink))
        header.limit = limit
        device.copy(self._memory, self._staging + self._taps_bytes, c.sizeof(_Session), self._main)
        device.synchronize(self._main)
        self.blocks = 0

    def _upload(self, to: int, data: bytes) -> None:
        """Copy data to the device, and wait until it is there."""
        room = self._taps_bytes
        for start in range(0, len(data), room):
            piece = data[start : start + room]
            c.memmove(self._staging, piece, len(piece))
            self.device.copy(to + start, self._staging, len(piece), self._main)
            self.device.synchronize(self._main)

    def _queue_block(self) -> None:
        for name in self.work:
            self._queue(name)

    def _queue(self, name: str) -> None:
        grid, threads = self.work[name]
        self._kernels[name](self._main, grid, threads, self._memory)

    def measured(self, name: str, times: int) -> Callable[[], None]:
        """Return a call that lets one kernel of a block run so often, alone: for measuring. [lane]"""

        def repeated() -> None:
            for _ in range(times):
                self._queue(name)

        graph = self.device.record_graph(self._main, repeated)
        return lambda: graph.launch(self._main)

    def _work_of_block(self) -> dict[str, tuple[tuple[int, int, int], int]]:
        """Return a block's kernels in their order: grid, threads."""
        plan, shape = self.plan, self.plan.shape
        channels, voices = shape.streams * shape.inputs, shape.streams * shape.voices
        tiles = shape.slots * (plan.bins // plan.columns)
        few = min(256, plan.limits.threads)
        work = {"fetch": ((-(-plan.hop * plan.segments // few), channels, 1), few)} if plan.fetched else {}
        work["forward"] = ((channels * plan.segments, 1, 1), plan.threads(0))
        products = (tiles, len(plan.stages) * shape.phases, -(-plan.segments // plan.tile))
        work["products"] = (products, plan.columns * plan.lanes)
        work["inverse"] = ((voices * plan.segments, 1, 1), plan.threads(0))
        if shape.phases > 1:
            parts = -(-plan.hop * plan.segments * shape.phases // (4 * few))
            work["interleave"] = ((shape.streams * shape.outputs, min(parts, MOST_WRITERS), 1), few)
        for number, stage in enumerate(plan.stages[1:], 1):
            members = -(-shape.streams // stage.growth)
            work[f"ahead_{number}"] = ((members * (shape.inputs + shape.voices), 1, 1), plan.threads(number))
        work["tick"] = ((1, 1, 1), 1)
        return work

    # ---- filters

    def load(self, stream: int, taps: Taps) -> None:
        """Give a stream its filter at once: nothing runs."""
        self._prepare(int(self._slots[stream]), taps)
        self.device.await_event(self._staged, self._main)

    def change(self, stream: int, taps: Taps) -> bool:
        """Let a stream fade over to other taps, as soon as it has caught up; False: too many changes are on their way.

        `taps` may be shorter than what the plan holds, not longer, and have no path that the plan has not.
        """
        if any(each.stream == stream for each in (*self._coming, *self._fading)):
            return False
        try:
            slot = self._free.popleft()
        except IndexError:
            return False
        try:
            self._prepare(slot, taps)
        except BaseException:
            self._free.append(slot)
            raise
        fade = _Fade(stream, slot, self._marks.popleft())
        self.device.record(fade.prepared, self._side)
        self._coming.append(fade)
        return True

    @property
    def changing(self) -> bool:
        """Whether a filter is on its way. [any]"""
        return bool(self._coming or self._fading)

    @property
    def ready(self) -> bool:
        """Whether no filter is being turned into spectra: the next block begins the change. [any]"""
        coming = tuple(self._coming)
        return not coming or self.device.passed(coming[-1].prepared)

    def check(self, taps: Taps) -> None:
        """Raise CudaError when the plan cannot hold these taps. [any]"""
        self._paths(taps)

    def _paths(self, taps: Taps) -> Taps:
        """Return the different filters; raise CudaError when the plan cannot hold them."""
        shape = self.plan.shape
        if taps.ndim != 3 or taps.shape[:2] != (shape.outputs, shape.inputs):
            raise CudaError(f"taps of shape {taps.shape}: this session has {shape.outputs} outputs and {shape.inputs} inputs")
        if not 1 <= taps.shape[2] <= shape.taps:
            raise CudaError(f"{taps.shape[2]} taps: this session holds 1 to {shape.taps}")
        paths = np.zeros((shape.filters, taps.shape[2]), np.float32)
        seen: set[int] = set()
        for o, row in enumerate(shape.filter_of):
            for i, number in enumerate(row):
                if number not in seen and number >= 0:
                    paths[number] = taps[o, i]
                    seen.add(number)
                if not np.array_equal(taps[o, i], paths[number]) if number >= 0 else taps[o, i].any():
                    was = "equal to another" if number >= 0 else "zeros"
                    raise CudaError(f"the path from input {i} to output {o} is not {was}, as it was when this session was made")
        return paths

    def _prepare(self, slot: int, taps: Taps) -> None:
        """Turn taps into spectra, on the side stream."""
        paths, plan, device = self._paths(taps), self.plan, self.device
        device.synchronize(self._staged)
        device.await_event(self._freed, self._side)  # the slot's last block
        c.memmove(self._staging, paths.ctypes.data, paths.nbytes)
        device.copy(self._memory + self._taps_offset, self._staging, paths.nbytes, self._side)
        for number, stage in enumerate(plan.stages):
            parts = plan.shape.filters * plan.shape.phases * stage.partitions
            arguments = (self._memory, slot, self._memory + self._taps_offset, paths.shape[1])
            self._kernels[f"prepare_{number}"](self._side, (parts, 1, 1), plan.threads(number), *arguments)
        device.record(self._staged, self._side)

    # ---- blocks

    def submit(self) -> None:
        """Queue the next block, whose input is there. [lane]"""
        if self._coming or self._fading:
            self._tend()
        self._graph.launch(self._main)
        self.blocks += 1

    @property
    def queue(self) -> Stream:
        """The queue in which blocks run."""
        return self._main

    def _tend(self) -> None:
        """Begin and end fades. [lane]"""
        shape = self.plan.shape
        while self._fading and self._fading[0].end_block <= self.blocks:
            self._end(self._fading.popleft())
        if self._coming and self.device.passed(self._coming[0].prepared):
            fade = self._coming[0]
            start = (self.blocks * shape.block + self.plan.lead_frames) * shape.phases
            fade.end_block = -(-(start + self._fade_frames) // (shape.block * shape.phases)) + 1
            self._assign(fade.stream, int(self._slots[fade.stream]), fade.slot, start, -1)
            self._fading.append(fade)
            self._coming.popleft()  # not before: `change` looks for the stream in both

    def _end(self, fade: _Fade) -> None:
        old = int(self._slots[fade.stream])
        self._assign(fade.stream, fade.slot, -1, 0, old)
        self.device.record(self._freed, self._main)
        self._slots[fade.stream] = fade.slot
        self._marks.append(fade.prepared)
        self._free.append(old)

    def _assign(self, stream: int, slot: int, incoming: int, fade_from: int, freed: int) -> None:
        self._kernels["assign"](self._main, (1, 1, 1), 1, self._memory, stream, slot, incoming, fade_from, freed)

    @property
    def told(self) -> int:
        """Blocks whose output is there. [lane]"""
        return int(c.c_uint64.from_address(self._flag).value)

    def reset(self) -> None:
        """Forget all input; a change that is on its way is over at once. [lane]"""
        device = self.device
        device.synchronize(self._side)
        device.synchronize(self._main)
        while self._coming or self._fading:
            self._end((self._coming or self._fading).popleft())
        start = self._offsets["history"]
        device.clear(self._memory + start, self._taps_offset - start, self._main)
        device.clear(self._memory, 2 * 8, self._main)  # block, arrived
        device.synchronize(self._main)
        if self._flag:
            c.memset(self._flag, 0, 8)
        self.blocks = 0

    def close(self) -> None:
        """Wait until nothing runs, and give everything back; a device that has failed cannot keep it from that."""
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
