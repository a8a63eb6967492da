"""`slots.c`, compiled, and chains of native slots that run through the engine or through its bare loop."""

import contextlib
import ctypes as c
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sigrack.loading import NativePlugin
from sigrack_engine.core import address
from sigrack_engine.engine import Engine, FreewheelBuffers, RunList
from sigrack_engine.results import POST_ADDRESS
from sigrack_engine.slot import Processor, SlotCore
from sigrack_engine.tap import TapRing
from sigrack_plugins import bundled, include

__all__ = ["CHANNELS", "FRAMES", "RATE_HZ", "Chain", "compiled", "eight_slots", "gains", "load"]

CHANNELS, FRAMES, RATE_HZ = 2, 64, 48_000
FADE_FRAMES = 960
SLOTS = 8

BLOCK_ADDRESS = address("core_engine_block")


class _Step(c.Structure):
    """`struct bench_step`."""

    _fields_ = [("process", c.c_void_p), ("self", c.c_void_p)]


_P, _U32, _U64, _I64 = c.c_void_p, c.c_uint32, c.c_uint64, c.c_int64

_SIGNATURES: dict[str, list[Any]] = {
    "bench_bare": [c.POINTER(_Step), _U32, _P, _U32, _U32],
    "bench_engine": [_P, _P, _P, _P, _U32, _U32],
    "bench_post": [_P, _U64, _U32],
    "bench_callback": [_P, _P, _U32],
    "bench_bell": [_P, _P, _P, _U32],
}


def compiled(source: str, folder: Path, *libraries: str) -> Path:
    """Compile a C file of this folder with $CC (or cc) -O2; return the shared library in `folder`."""
    path = Path(__file__).with_name(source)
    target = folder / f"{path.stem}.so"
    flags = ["-std=c11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", f"-iquote{include()}"]
    subprocess.run([*shlex.split(os.environ.get("CC", "cc")), *flags, path, "-o", target, *libraries], check=True)
    return target


def load() -> c.CDLL:
    """Compile and load `slots.c`."""
    with tempfile.TemporaryDirectory() as folder:
        library = c.CDLL(str(compiled("slots.c", Path(folder), "-lm")))
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = _I64, arguments
    return library


def eight_slots(bench: c.CDLL) -> list[Processor]:
    """Return the processors of `slots.c`."""
    functions = (c.c_void_p * SLOTS).in_dll(bench, "bench_slots")
    return [Processor(function or 0, None, 0) for function in functions]


@contextlib.contextmanager
def gains() -> Iterator[list[Processor]]:
    """Yield eight instances of the bundled gain plugin, a decibel less each."""
    plugin = NativePlugin(bundled()["gain"])
    values = [{"gain_db": -1.0}.get(param.id, param.initial) for param in plugin.params]
    instances = [plugin.create({}, 0, POST_ADDRESS) for _ in range(SLOTS)]
    for instance in instances:
        instance.activate(rate_hz=RATE_HZ, max_frames=FRAMES, channels=CHANNELS, values=values)
    try:
        yield [Processor(i.process_address, i.reset_address, i.pointer) for i in instances]
    finally:
        for instance in instances:
            instance.destroy()


class Chain:
    """The same processors twice: in an engine's run list and in the bare loop. 64 frames of noise in stereo are the input."""

    def __init__(self, bench: c.CDLL, processors: Sequence[Processor], taps: Sequence[TapRing] = ()) -> None:
        import numpy as np

        self._bench = bench
        self.engine = Engine(CHANNELS, FRAMES, FADE_FRAMES)
        self._slots = [
            SlotCore(p, channels=CHANNELS, max_frames=FRAMES, fade_frames=FADE_FRAMES, active=True) for p in processors
        ]
        self._steps = (_Step * len(processors))(*(_Step(p.process, p.instance) for p in processors))
        self._buffers = FreewheelBuffers(self.engine, FRAMES)
        noise = np.random.default_rng(1).standard_normal((CHANNELS, FRAMES))
        self._buffers.input[:] = 0.1 * noise
        self.input = _planes(self._buffers.input)
        self.output = _planes(self._buffers.output)
        self.engine.publish(RunList([*self._slots, *taps]), dip=False)
        self.engine_ns(1)

    def engine_ns(self, blocks: int) -> float:
        """Return the nanoseconds per block through the engine."""
        total = self._bench.bench_engine(BLOCK_ADDRESS, self.engine.pointer, self.input, self.output, FRAMES, blocks)
        return float(total) / blocks

    def bare_ns(self, blocks: int) -> float:
        """Return the nanoseconds per block through the bare loop."""
        return float(self._bench.bench_bare(self._steps, len(self._steps), self.input, FRAMES, blocks)) / blocks

    def slot_ns(self, blocks: int) -> list[float]:
        """Return the nanoseconds per block of each processor alone, through the bare loop."""
        single = ((_Step * 1)(step) for step in self._steps)
        return [self._bench.bench_bare(step, 1, self.input, FRAMES, blocks) / blocks for step in single]

    def __enter__(self) -> "Chain":
        return self

    def __exit__(self, *_: object) -> None:
        if any(slot.meters.nonfinite or slot.meters.faults for slot in self._slots):
            raise RuntimeError("a slot failed under measurement: the figures are void")
        self.engine.close()
        for slot in self._slots:
            slot.close()


def _planes(array: Any) -> "c.Array[c.c_void_p]":
    return (c.c_void_p * len(array))(*(plane.ctypes.data for plane in array))
