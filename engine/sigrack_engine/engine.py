"""The engine: one block = one pass over the run list."""

import ctypes as c
from collections.abc import Sequence
from math import prod

import numpy as np

from sigrack_engine.core import EngineStats, StepStruct, checked, lib, quick
from sigrack_engine.faders import Faders
from sigrack_engine.slot import SlotCore
from sigrack_engine.tap import TapRing

__all__ = ["Engine", "FreewheelBuffers", "RunList", "Step"]

Step = SlotCore | TapRing | Faders
"""What a run list is made of."""

_publish = quick("core_engine_publish")
_collect = quick("core_engine_collect")
_stats = quick("core_engine_stats")
_free = quick("core_run_list_free")


class RunList:
    """The native calls that make one block, in order. The engine frees it once it was published."""

    def __init__(self, steps: Sequence[Step]) -> None:
        """Copy `steps`. Raises CoreError. [main, worker]"""
        self.steps = tuple(steps)
        array = (StepStruct * len(steps))()
        for step, thing in zip(array, steps, strict=True):
            if isinstance(thing, TapRing):
                step.tap = thing.pointer
            elif isinstance(thing, Faders):
                step.faders = thing.pointer
            else:
                step.slot = thing.pointer
        self.pointer = checked(lib.core_run_list_new(array, len(steps)), f"a run list of {len(steps)} steps (255 at most)")
        self.cores = tuple(step for step in steps if isinstance(step, SlotCore))
        """Those that change the sound."""
        self.ratio = prod(core.ratio for core in self.cores)
        """Frames that come out for each that goes in."""

    def free(self) -> None:
        """Free it: it was not published. [main, worker]"""
        _free(self.pointer)


class Engine:
    """Holds the run list in use and the one that comes next."""

    def __init__(self, channels: int, max_frames: int, dip_frames: int) -> None:
        self.inputs = self.outputs = channels
        """Channels that come in and go out: all, unless `set_ends` says otherwise."""
        self.max_frames = max_frames
        self.ratio = 1
        """Frames that come out for each that goes in."""
        self.pointer = checked(lib.core_engine_new(channels, max_frames, dip_frames), "the engine")
        self.frame_address: int = lib.core_engine_frame(self.pointer)
        self._frame = c.c_uint64.from_address(self.frame_address)
        self._published = 0
        self._last: EngineStats | None = None

    def set_ends(self, inputs: int, out: Sequence[int]) -> None:
        """Let the source fill the first `inputs` channels, and those in `out` go out, in that order. [control, before it runs]"""
        checked(lib.core_engine_set_ends(self.pointer, inputs, len(out), bytes(out)), "the ends of the bus")
        self.inputs, self.outputs = inputs, len(out)

    def set_ratio(self, ratio: int) -> None:
        """Let so many frames come out for each that goes in: run lists of another ratio are silent. [control, before it runs]"""
        checked(lib.core_engine_set_ratio(self.pointer, ratio), f"the bus at {ratio} times the rate (256 at most)")
        self.ratio = ratio

    def fade_in(self) -> None:
        """Begin with a fade from silence. [control, before it runs, after `set_ratio`]"""
        lib.core_engine_fade_in(self.pointer)

    def fade_out(self) -> None:
        """Fade to silence and stay there: `stats.silent` tells when. [main]"""
        lib.core_engine_fade_out(self.pointer)

    def publish(self, run_list: "RunList", *, dip: bool) -> int:
        """Run `run_list` from the next block boundary on, with a dip to silence around the change if asked. [main]

        Return its serial: once `has_left` says so, what only older lists hold is out of the engine. The engine takes no list into
        use before the one that it has left was collected: so `has_left` must be asked until it says so.
        """
        if never_ran := _publish(self.pointer, run_list.pointer, dip):
            _free(never_ran)
        self._published += 1
        return self._published

    def has_left(self, serial: int) -> bool:
        """Whether the engine runs list `serial` or a newer one; frees the list that it has left. [main]"""
        if left := _collect(self.pointer):
            _free(left)
        return int(self.stats.running) >= serial

    def skip(self, frames: int) -> bool:
        """Let silence pass; False: blocks must be run, for slots or taps or for a list that waits. [engine: the caller]"""
        return bool(lib.core_engine_skip(self.pointer, frames))

    @property
    def frame(self) -> int:
        """Number of the next frame. [any]"""
        return self._frame.value

    @property
    def stats(self) -> EngineStats:
        """Counters; the last ones once it is closed. [any]"""
        if self._last is not None:
            return self._last
        stats = EngineStats()
        _stats(self.pointer, stats)
        return stats

    def close(self) -> None:
        """Free it: it does not run any more. [control]"""
        self._last = self.stats
        self._frame = c.c_uint64(self._last.frame)
        lib.core_engine_free(self.pointer)


class FreewheelBuffers:
    """Planar input and output for running the engine on the caller's thread."""

    def __init__(self, engine: Engine, frames: int) -> None:
        self._engine = engine
        self.input = np.zeros((engine.inputs, frames), np.float32)
        self.output = np.zeros((engine.outputs, frames * engine.ratio), np.float32)
        self._in = (c.c_void_p * engine.inputs)()
        self._out = (c.c_void_p * engine.outputs)()
        self._in_planes = [plane.ctypes.data for plane in self.input]
        self._out_planes = [plane.ctypes.data for plane in self.output]

    def run(self, start: int, frames: int) -> None:
        """Process frames [start, start + frames) of `input` into the same time of `output`. [engine: the caller]"""
        offset = 4 * start
        for channel, source in enumerate(self._in_planes):
            self._in[channel] = source + offset
        for channel, target in enumerate(self._out_planes):
            self._out[channel] = target + offset * self._engine.ratio
        lib.core_engine_block(self._engine.pointer, self._in, self._out, frames)
