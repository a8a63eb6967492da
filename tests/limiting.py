"""The bundled limiter, called as the engine calls it, and sounds that are hard for it."""

import ctypes as c
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from sigrack.loading import NativePlugin
from sigrack_engine.bell import Bell
from sigrack_engine.results import POST_ADDRESS, ResultRing
from sigrack_plugins import abi, bundled

__all__ = ["HARD", "RATE_HZ", "Doubles", "Floats", "Limiter", "hard", "limited"]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.floating]

RATE_HZ = 48_000
_PROCESS = c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(abi.Block))
_RESET = c.CFUNCTYPE(None, c.c_void_p)


class Limiter:
    """One instance with what it posts; parameters by name, the others as the plugin has them, but without a soft start."""

    def __init__(
        self, channels: int = 1, /, rate_hz: float = RATE_HZ, lookahead_ms: float | None = None, **params: float
    ) -> None:
        plugin = NativePlugin(bundled()["limiter"])
        self.params = [param.id for param in plugin.params]
        values = {param.id: param.initial for param in plugin.params} | {"soft_start_ms": 0.0} | params
        self._bell = Bell()
        self.results = ResultRing(self._bell, list(plugin.factors), None, max_values=abi.MAX_CHANNELS)
        config = {} if lookahead_ms is None else {"lookahead_ms": lookahead_ms}
        self._instance = plugin.create(config, self.results.cookie, POST_ADDRESS)
        contract = self._instance.activate(
            rate_hz=int(rate_hz), max_frames=1 << 20, channels=channels, values=[values[name] for name in self.params]
        )
        self.latency: int = contract.latency_frames
        self._process = _PROCESS(self._instance.process_address)
        self._frame = 0

    def __enter__(self) -> "Limiter":
        return self

    def __exit__(self, *_: object) -> None:
        self._instance.destroy()
        self.results.shut()
        self.results.close()
        self._bell.close()

    def block(self, sound: Floats, *changes: tuple[int, str, float]) -> Floats:
        """Process (channels, frames); each change is an offset, a parameter and its value from there on."""
        sound = np.ascontiguousarray(sound)
        out = np.full_like(sound, np.nan)
        events = (abi.Event * len(changes))(*(abi.Event(at, self.params.index(name), value) for at, name, value in changes))
        planes = [(c.c_void_p * len(array))(*(plane.ctypes.data for plane in array)) for array in (sound, out)]
        addresses = [c.addressof(plane) for plane in planes]
        frames = sound.shape[1]
        block = abi.Block(c.sizeof(abi.Block), frames, self._frame, *addresses, len(sound), len(changes), events)
        assert 0 == self._process(self._instance.pointer, block)
        self._frame += frames
        return out

    def play(self, sound: npt.ArrayLike, *changes: tuple[int, str, float]) -> Floats:
        """Process a whole sound, mono or (channels, frames), and return it without the latency."""
        planes = np.atleast_2d(np.asarray(sound, np.float32))
        flushed = np.hstack([planes, np.zeros((len(planes), self.latency), np.float32)])
        return self.block(flushed, *changes)[:, self.latency :]

    def reset(self) -> None:
        """As the engine does after a fault."""
        assert self._instance.reset_address
        _RESET(self._instance.reset_address)(self._instance.pointer)

    def posted(self, symbol: str) -> tuple[list[int], Doubles]:
        """Frames and values (records, values) of one factor; the other's records are dropped."""
        taken = self.results.take(1 << 16)
        if taken is None:
            return [], np.empty((0, 0))
        mine = taken[0][taken[0]["symbol"] == self.results.symbols.index(symbol)]
        return mine["frame"].tolist(), mine["values"][:, : mine["count"][0]]


def limited(sound: npt.ArrayLike, rate_hz: float = RATE_HZ, lookahead_ms: float | None = None, **params: float) -> Floats:
    """Send a sound through a new limiter."""
    with Limiter(len(np.atleast_2d(np.asarray(sound))), rate_hz, lookahead_ms, **params) as limiter:
        return limiter.play(sound)


def _tone(frames: int, frequency: float, phase: float = 0.3) -> Doubles:
    return np.asarray(np.sin(2 * np.pi * frequency * np.arange(frames) + phase))


def _loud_tone(frequency: float, frames: int) -> Doubles:
    return 2 * _tone(frames, frequency)


def _reversals(frames: int, period: int) -> Doubles:
    """Full scale at half the rate, turned over each `period` frames: all side lobes of the sinc add up there."""
    at = np.arange(frames)
    return np.where(at % 2, 1.0, -1.0) * np.where(at // period % 2, 1.0, -1.0)


def _levels(frames: int, length: int, seed: int) -> Doubles:
    """Levels between -40 and 40 dB that jump each `length` frames."""
    levels = np.random.default_rng(seed).uniform(-40, 40, frames // length + 1)
    return np.asarray(10 ** (levels.repeat(length)[:frames] / 20))


def _impulses(frames: int) -> Doubles:
    random = np.random.default_rng(5)
    return np.where(random.uniform(size=frames) < 0.01, 100 * random.standard_normal(frames), 0.0)


def _noise(frames: int, seed: int = 1) -> Doubles:
    return np.random.default_rng(seed).standard_normal(frames)


HARD: dict[str, Callable[[int], Doubles]] = {
    "noise at 0 dB": lambda n: _noise(n),
    "noise at 12 dB": lambda n: 4 * _noise(n, 2),
    "noise at 40 dB": lambda n: 100 * _noise(n, 3),
    "jumping noise": lambda n: _noise(n) * _levels(n, 100, 1),
    "flickering noise": lambda n: _noise(n) * _levels(n, 7, 2),
    "random bits": lambda n: np.sign(_noise(n, 4)),
    "random bits at 40 dB": lambda n: 100 * np.sign(_noise(n, 5)),
    "square wave": lambda n: 4 * np.sign(_tone(n, 0.0201)),
    "high square wave": lambda n: 4 * np.sign(_tone(n, 0.1317)),
    "impulse": lambda n: 10.0 * (np.arange(n) == n // 2),
    "impulses": _impulses,
    "step up": lambda n: 3.0 * (np.arange(n) > n // 2),
    "step down": lambda n: 3.0 * (np.arange(n) < n // 2),
    "reversals": lambda n: _reversals(n, 200),
    "rare reversals": lambda n: _reversals(n, 2000),
    "reversals at 20 dB": lambda n: 10 * _reversals(n, 301),
    "chirp": lambda n: 3 * np.sin(0.5 * np.pi * np.arange(n) ** 2 / n),
    "modulated tone": lambda n: _tone(n, 0.2) * np.exp(4 * _tone(n, 1 / 300)),
    "quarter": lambda n: np.sqrt(2) * _tone(n, 0.25, np.pi / 4),
    **{f"tone at {f}": partial(_loud_tone, f) for f in (0.33, 0.4, 0.45, 0.46, 0.47, 0.48, 0.49, 0.495)},
}
"""Sounds by name: each is a function of the number of frames; frequencies are in cycles per frame."""


def hard(name: str, frames: int = 12_000) -> Floats:
    """Return a hard sound in one channel."""
    return np.asarray(HARD[name](frames), np.float32)
