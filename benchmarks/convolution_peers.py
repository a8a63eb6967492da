"""Other convolvers, if they are there: none is linked, vendored or a dependency. Each is found when the benchmark runs."""

import ctypes as c
import functools
import importlib
import importlib.metadata
import operator
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convolution_cases import Samples, Task
from convolution_streams import Convolver, Ours, Stream, planes
from sigrack_engine.core import lib

__all__ = ["FINDERS", "SCALING", "Maker", "NotInstalledError", "NotPossibleError"]

SCALING = ("pedalboard", "ffmpeg")
"""Peers that scale the filter by a factor of their own: their output is right but for that."""
FILE_LENGTHS = 8
"""A file in filter lengths; much longer ones cost scipy more per frame."""
ZITA_MOST_FRAMES = 8192
ZITA_MOST_TAPS = 1 << 20


class NotInstalledError(Exception):
    """A peer is not installed; the message says how it would be."""


class NotPossibleError(Exception):
    """A peer cannot do a case."""


Maker = Callable[[Task], Convolver]


def _two_paths(task: Task, peer: str) -> tuple[Samples, Samples]:
    """Return the filters of left and right."""
    if task.case.paths != 2:
        raise NotPossibleError(f"{peer} has no paths across")
    return task.taps[0, 0], task.taps[1, 1]


def _repeated(samples: Samples, frames: int) -> Samples:
    return np.tile(samples, (1, -(-frames // samples.shape[1])))[:, :frames]


class _WholeFile(Convolver):
    """scipy.signal.oaconvolve over a file in memory, path by path: no streaming, so no latency that could be compared."""

    def __init__(self, task: Task, oaconvolve: Callable[..., Any]) -> None:
        self._paths = [[(i, path) for i, path in enumerate(row) if path.any()] for row in task.taps]
        self._oaconvolve = oaconvolve
        self._file = _repeated(task.without_phases().samples, FILE_LENGTHS * task.case.taps)

    def _rows(self, samples: Samples) -> list[Samples]:
        return [functools.reduce(operator.iadd, (self._oaconvolve(samples[i], path) for i, path in row)) for row in self._paths]

    def convolve(self, samples: Samples) -> Samples:
        return np.stack([row[: samples.shape[1]] for row in self._rows(samples)])

    def ns_per_frame(self) -> float:
        begun = time.process_time_ns()
        self._rows(self._file)
        return (time.process_time_ns() - begun) / int(self._file.shape[1])


def _find_scipy(folder: Path, quick: bool) -> tuple[str, Maker]:
    try:
        signal = importlib.import_module("scipy.signal")
    except ImportError:
        raise NotInstalledError("pip install scipy") from None
    return importlib.metadata.version("scipy"), lambda task: _WholeFile(task, signal.oaconvolve)


class _Pedalboard(Stream):
    """pedalboard.Convolution."""

    def __init__(self, task: Task, convolution: Callable[..., Any]) -> None:
        super().__init__(task.case)
        taps = np.stack(_two_paths(task, "pedalboard"))
        plugin = convolution(taps, 1.0, task.case.rate_hz)
        self.bind(lambda: self._keep(plugin.process(self.input, task.case.rate_hz, buffer_size=task.case.block, reset=False)))

    def _keep(self, output: Samples) -> None:
        self.output = output


def _find_pedalboard(folder: Path, quick: bool) -> tuple[str, Maker]:
    try:
        convolution = importlib.import_module("pedalboard").Convolution
    except ImportError:
        raise NotInstalledError("pip install pedalboard") from None
    return importlib.metadata.version("pedalboard"), lambda task: _Pedalboard(task, convolution)


class _Zita(Stream):
    """zita-convolver, partitions from the block to 8192 frames; its threads share our CPU."""

    def __init__(self, task: Task, shim: c.CDLL) -> None:
        if task.case.taps > ZITA_MOST_TAPS:
            raise NotPossibleError(f"zita takes {ZITA_MOST_TAPS} taps at most")
        task = task.without_phases(ZITA_MOST_FRAMES)
        super().__init__(task.case)
        self._shim, self._task, self._planes = shim, task, (planes(self.input), planes(self.output))
        paths = [path for row in task.taps for path in row]
        equal = task.case.paths == 2 and np.array_equal(paths[0], paths[3])
        used = [path.ctypes.data if path.any() else None for path in paths]
        filters = (c.c_void_p * 4)(*used[:3], used[0] if equal else used[3])
        density = task.case.paths / 4
        self._pointer = shim.bench_zita_new(task.case.taps, task.case.block, density, filters, *self._planes)
        if not self._pointer:
            raise NotPossibleError("zita refuses")
        self.bind(shim.bench_zita_process, self._pointer)

    def close(self) -> None:
        self._shim.bench_zita_free(self._pointer)


def _find_zita(folder: Path, quick: bool) -> tuple[str, Maker]:
    source, library = Path(__file__).with_name("convolution_zita.cpp"), folder / "zita.so"
    command = ["c++", "-O2", "-shared", "-fPIC", str(source), "-o", str(library), "-lzita-convolver"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise NotInstalledError("apt-get install g++ libzita-convolver-dev libfftw3-dev") from None
    shim = c.CDLL(str(library))
    shim.bench_zita_new.restype = c.c_void_p
    shim.bench_zita_new.argtypes = [c.c_uint32, c.c_uint32, c.c_float, c.c_void_p, c.c_void_p, c.c_void_p]
    shim.bench_zita_process.argtypes = shim.bench_zita_free.argtypes = [c.c_void_p]
    major, minor = divmod(shim.bench_zita_version(), 100)
    return f"{major}.{minor}", lambda task: _Zita(task, shim)


def _child_cpu_ns() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e9 * (used.ru_utime + used.ru_stime)


class _Afir(Convolver):
    """ffmpeg's afir, file to file: CPU time of a long run minus a short one, so that starting and loading do not count."""

    def __init__(self, task: Task, folder: Path, more_frames: int) -> None:
        self._task, self._folder, self._more = task, folder, more_frames
        self._write("filter.f32", np.stack(_two_paths(task, "afir")))
        self._write("short.f32", task.samples)
        self._write("long.f32", _repeated(task.samples, task.samples.shape[1] + more_frames))

    def _write(self, name: str, samples: Samples) -> None:
        samples.T.astype("<f4").tofile(self._folder / name)

    def _run(self, source: str, sink: str) -> None:
        block = self._task.case.block
        most = 8192 if block < 4096 else 32_768
        raw = f"-f f32le -ar {self._task.case.rate_hz} -ac 2"
        graph = f"[0:a][1:a]afir=gtype=none:irfmt=input:minp={block}:maxp={most}"
        command = f"ffmpeg -v error -nostdin -y -threads 1 -filter_complex_threads 1 {raw} -i {source} {raw} -i filter.f32"
        subprocess.run(
            [*shlex.split(command), "-filter_complex", graph, *shlex.split(f"{raw} {sink}")], cwd=self._folder, check=True
        )

    def convolve(self, samples: Samples) -> Samples:
        self._write("check.f32", samples)
        self._run("check.f32", "out.f32")
        found: Samples = np.fromfile(self._folder / "out.f32", "<f4").reshape(-1, 2).T
        return found[:, : samples.shape[1]]

    def ns_per_frame(self) -> float:
        taken = []
        for source in ("short.f32", "long.f32"):
            begun = _child_cpu_ns()
            self._run(source, "/dev/null")
            taken.append(_child_cpu_ns() - begun)
        return (taken[1] - taken[0]) / self._more

    def close(self) -> None:
        for path in self._folder.glob("*.f32"):
            path.unlink()


def _find_ffmpeg(folder: Path, quick: bool) -> tuple[str, Maker]:
    program = shutil.which("ffmpeg")
    if not program:
        raise NotInstalledError("apt-get install ffmpeg")
    banner = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout
    return banner.split()[2], lambda task: _Afir(task, folder, 500_000 if quick else 2_000_000)


def _find_stuffed(folder: Path, quick: bool) -> tuple[str, Maker]:
    """Our own convolver at the output's rate: what the upsampler's phases save."""
    return lib.core_level().decode(), lambda task: Ours(task.without_phases())


FINDERS: dict[str, Callable[[Path, bool], tuple[str, Maker]]] = {
    "scipy": _find_scipy,
    "pedalboard": _find_pedalboard,
    "zita": _find_zita,
    "ffmpeg": _find_ffmpeg,
    "stuffed": _find_stuffed,
}
"""By name. Each takes a folder for files and whether the run is quick; returns the peer's version and what makes it ready for a
task. Raises NotInstalledError."""
