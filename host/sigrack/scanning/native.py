"""The life of a native plugin, and that of a signal engine, in fast motion: from create to destroy, in a child of the scan."""

import ctypes as c
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from sigrack.errors import ConfigError, NoPluginError
from sigrack.loading import NativePlugin
from sigrack.loading.engines import SignalLibrary
from sigrack.loading.libraries import Library, open_library
from sigrack.loading.native import NativeInstance
from sigrack_engine.results import CALLBACK_ADDRESS, POST_ADDRESS
from sigrack_plugins import abi

__all__ = ["HarmError", "try_library"]

RATE_HZ = 48_000
CHANNELS = 2
MAX_FRAMES = 256
ALIGNED = 64
"""Bytes that the beginning of each channel is a multiple of, as in the engine."""
UNTOUCHED = 0x7FC0BEEF
"""A NaN that no plugin computes."""

_libc = c.CDLL(None)
_libc.mprotect.argtypes = [c.c_void_p, c.c_size_t, c.c_int]


class HarmError(Exception):
    """It has done what would have harmed a rack."""


class Tell(Protocol):
    """Reports facts."""

    def __call__(self, **facts: object) -> None:
        """Send them."""


class Plane:
    """A channel's samples between two pages that nobody can touch; what lies beside them on their own pages is watched."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 3 * mmap.PAGESIZE)
        self._start = c.addressof(c.c_char.from_buffer(self._map)) + mmap.PAGESIZE
        for page in (self._start - mmap.PAGESIZE, self._start + mmap.PAGESIZE):
            _libc.mprotect(page, mmap.PAGESIZE, 0)
        self._words = np.frombuffer(self._map, np.uint32, mmap.PAGESIZE // 4, mmap.PAGESIZE)

    def place(self, frames: int) -> tuple[int, "np.ndarray[tuple[int], np.dtype[np.float32]]"]:
        """Return the address of that many frames, which end as near to the forbidden page as they may, and the frames."""
        self._at = (mmap.PAGESIZE - -(-4 * frames // ALIGNED) * ALIGNED) // 4
        self._end = self._at + frames
        self._words[:] = UNTOUCHED
        return self._start + 4 * self._at, self._words[self._at : self._end].view(np.float32)

    def lock(self, locked: bool) -> None:
        """Let nobody write, or everybody."""
        _libc.mprotect(self._start, mmap.PAGESIZE, mmap.PROT_READ if locked else mmap.PROT_READ | mmap.PROT_WRITE)

    @property
    def spilt(self) -> bool:
        """Whether something was written beside the frames."""
        return bool((self._words[: self._at] != UNTOUCHED).any() or (self._words[self._end :] != UNTOUCHED).any())


class Player:
    """Sends blocks through an instance. Raises ConfigError for what a plugin must not do and a rack survives, else HarmError."""

    def __init__(self, instance: NativeInstance) -> None:
        self._instance = instance
        self._process = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(abi.Block))(instance.process_address)
        self._in, self._out = ([Plane() for _ in range(CHANNELS)] for _ in range(2))
        self._frame = 0
        self._random = np.random.default_rng(1)

    def play(self, frames: int, level: float, events: list[tuple[int, float]]) -> None:
        """Process one block of noise; `events`: number of a parameter, value."""
        places = [plane.place(frames) for plane in self._in], [plane.place(frames) for plane in self._out]
        for plane, (_, samples) in zip(self._in, places[0], strict=True):
            samples[:] = level * self._random.uniform(-1, 1, frames)
            plane.lock(True)
        addresses = [(c.c_void_p * CHANNELS)(*(address for address, _ in side)) for side in places]
        changes = (abi.Event * max(len(events), 1))(*(abi.Event(0, param, value) for param, value in events))
        block = abi.Block(
            c.sizeof(abi.Block), frames, self._frame, *(c.addressof(side) for side in addresses), CHANNELS, len(events), changes
        )
        refused = self._process(self._instance.pointer, block)
        for plane in self._in:
            plane.lock(False)
        self._frame += frames
        name = self._instance.plugin.id
        if any(plane.spilt for plane in self._out):
            raise HarmError(f"wrote beside a block of {frames} frames")
        if refused:
            raise ConfigError(f"{name}: refused a block of {frames} frames")
        if not all(np.isfinite(samples).all() for _, samples in places[1]):
            raise ConfigError(f"{name}: left frames of a block of {frames} unwritten, or made them NaN or infinite")


def try_library(path: Path, tell: Tell) -> None:
    """Do all that a rack does with a library's plugin and signal engine. Raises ConfigError, NoPluginError, HarmError."""
    tell(phase="load")
    library = open_library(path)
    exports = [hasattr(library.cdll, name) for name in (abi.ENTRY, "signal_create")]
    if not any(exports):
        raise NoPluginError(f"{path}: exports neither {abi.ENTRY} nor signal_create")
    for there, tries in zip(exports, (_try_plugin, _try_engine), strict=True):
        if there:
            tries(path, library, tell)
    tell(phase="unload")
    library.close()


def _try_plugin(path: Path, library: Library, tell: Tell) -> None:
    plugin = NativePlugin(path)
    tell(plugin=plugin.id, kind=plugin.kind, version=plugin.version, phase="create")
    try:
        instance = _create(plugin)
    except ConfigError as error:
        tell(note=f"no instance without a configuration: {error}")
    else:
        _live(plugin, instance, tell)
    plugin.close()


def _create(plugin: NativePlugin) -> NativeInstance:
    return plugin.create({}, 0, POST_ADDRESS)  # what it posts comes too late for whoever has handle 0


def _live(plugin: NativePlugin, instance: NativeInstance, tell: Tell) -> None:
    tell(phase="activate")
    _activate(plugin, instance)
    player = Player(instance)
    tell(phase="process")
    for frames, level, events in _blocks(plugin):
        player.play(frames, level, events)
    tell(phase="state_save")
    state = instance.save_state()
    if state is not None:
        tell(phase="state_load")
        second = _create(plugin)
        second.load_state(plugin.version, state)
        _activate(plugin, second)
        Player(second).play(MAX_FRAMES, 0.5, [])
        second.destroy()
    if instance.reset_address:
        tell(phase="reset")
        c.CFUNCTYPE(None, c.c_void_p)(instance.reset_address)(instance.pointer)
        player.play(MAX_FRAMES, 0.5, [])
    tell(phase="destroy")
    instance.destroy()


def _activate(plugin: NativePlugin, instance: NativeInstance) -> None:
    values = [info.initial for info in plugin.params]
    instance.activate(rate_hz=RATE_HZ, max_frames=MAX_FRAMES, channels=CHANNELS, values=values)


def _blocks(plugin: NativePlugin) -> Iterator[tuple[int, float, list[tuple[int, float]]]]:
    """Give each length of a block once with silence and once with noise, while the parameters go to their ends and back."""
    for frames in range(1, MAX_FRAMES + 1):
        yield frames, 0.0, []
    goals: list[Callable[[int], float]] = [
        lambda param: plugin.params[param].minimum,
        lambda param: plugin.params[param].maximum,
        lambda param: plugin.params[param].initial,
    ]
    for frames in range(MAX_FRAMES, 0, -1):
        goal = goals[frames % len(goals)]
        yield frames, 0.5, [(param, goal(param)) for param in range(len(plugin.params))]


def _try_engine(path: Path, library: Library, tell: Tell) -> None:
    engine = SignalLibrary(library, path)
    tell(kind="signal engine", phase="signal_create")
    handle = engine.create(b"{}")
    if not handle:
        tell(note="no engine without a configuration")
        return
    if engine.register:
        tell(phase="signal_register_callback")
        engine.register(handle, CALLBACK_ADDRESS, 0)  # likewise
    if engine.poll:
        tell(phase="signal_poll_callbacks")
        engine.poll(handle)
    tell(phase="signal_destroy")
    engine.destroy(handle)
