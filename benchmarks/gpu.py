"""The convolver on an NVIDIA GPU: round trips of one live stream, many streams in real time, whole signals.

python benchmarks/gpu.py [--quick] [--json] [--check]; benchmarks/README.md explains the keys.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import Report, finish, machine, options, pinned
from sigrack_engine.cuda.bank import StreamBank
from sigrack_engine.cuda.convolver import CudaConvolver
from sigrack_engine.cuda.device import opened
from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.offline import Offline
from sigrack_engine.cuda.plan import Shape, plan_for
from sigrack_engine.cuda.session import Session

try:
    import cupy
    from cupyx.scipy.signal import oaconvolve
except ImportError as why:
    sys.exit(f"this compares with CuPy, which is not whole: {why}")

__all__ = ["main"]

Floats = npt.NDArray[np.float32]

COPY_FLOATS = 1 << 30
STREAM_TAPS, STREAM_BLOCK, STREAM_RATE_HZ = 65_536, 512, 48_000
SECONDS = 10
RESERVE_BYTES = 1 << 30
WANTED_DB = -120.0
PACED_S = 2.0
LONGEST_PACED_S = 0.05


@dataclass(frozen=True, slots=True)
class Live:
    """One stream in real time."""

    name: str
    taps: int
    block: int
    rate_hz: int
    p50_us: float
    p99_us: float | None = None
    phases: int = 1

    @property
    def period_s(self) -> float:
        """Of a block."""
        return self.block / self.rate_hz


LIVE = (
    Live("640k_b4096", 640_000, 4096, 705_600, 45.0, 55.0),
    Live("2m_b4096", 2_097_152, 4096, 705_600, 60.0),
    Live("64k_b64", 65_536, 64, 48_000, 35.0),
    Live("up16_b1408", 640_000, 1408, 44_100, 60.0, phases=16),
    Live("up16_b25536", 640_000, 25_536, 44_100, 90.0, phases=16),
)


def filters(generator: np.random.Generator, count: int, *, crossed: bool) -> Floats:
    """Return decaying noise for two channels; not `crossed`: one filter for both."""
    fall = np.exp(-6.9 * np.arange(count) / count) / np.sqrt(count)
    taps: Floats = (generator.uniform(-1.0, 1.0, (2, 2, count)) * fall).astype(np.float32)
    if not crossed:
        taps[0, 1] = taps[1, 0] = 0.0
        taps[1, 1] = taps[0, 0]
    return taps


def error_db(found: Floats, samples: Floats, taps: Floats, phases: int, generator: np.random.Generator) -> float:
    """Return the largest error at random output frames against sums in float64, in dB of the largest of these."""
    worst = largest = 0.0
    for frame in generator.integers(0, found.shape[1], 64).tolist():
        meet = np.arange(frame % phases, min(taps.shape[2], frame + 1), phases)
        heard = samples[:, (frame - meet) // phases].astype(np.float64)
        wanted = np.einsum("oit,it->o", taps[:, :, meet].astype(np.float64), heard)
        worst = max(worst, float(np.abs(found[:, frame] - wanted).max()))
        largest = max(largest, float(np.abs(wanted).max()))
    return float(20.0 * np.log10(worst / largest))


def device_us(work: Callable[[], Any], rounds: int) -> float:
    """Return what queued work takes on the device: the median of so many rounds."""
    start, stop, times = cupy.cuda.Event(), cupy.cuda.Event(), []
    for number in range(rounds + 2):
        start.record()
        work()
        stop.record()
        stop.synchronize()
        if number >= 2:
            times.append(cupy.cuda.get_elapsed_time(start, stop) * 1e3)
    return float(median(times))


class Measurement:
    """All cases, one after the other."""

    def __init__(self, report: Report, *, quick: bool) -> None:
        self._report, self._quick, self._generator = report, quick, np.random.default_rng(0)
        report.details["gpu"] = opened().name
        self._errors_db: list[float] = []
        self._ceiling = self._copy_bytes_per_us()
        cupy.get_default_memory_pool().free_all_blocks()

    def _copy_bytes_per_us(self) -> float:
        """What the device copies in its memory: read and written."""
        origin = cupy.ones(COPY_FLOATS, cupy.float32)
        to = cupy.empty_like(origin)
        per_us = float(2 * origin.nbytes) / device_us(lambda: cupy.copyto(to, origin), 10)
        self._report.add("copy_tb_s", per_us / 1e6, "TB/s", "read and written by a copy in the device's memory")
        return per_us

    def _judged(self, error: float) -> float:
        self._errors_db.append(error)
        return error

    def judge(self) -> None:
        """All that was measured must be right."""
        self._report.add("error_db", max(self._errors_db), "dB", "worst of all outputs against float64", goal=WANTED_DB)

    # ---- one stream

    def live(self, case: Live) -> None:
        """Round trips of one stream: submit, until the host has the output."""
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        taps = filters(self._generator, case.taps, crossed=case.phases == 1)
        began = time.perf_counter()
        with CudaConvolver(taps, phases=case.phases, block=case.block) as convolver:
            activated_s = time.perf_counter() - began
            error = self._error(convolver, taps)
            count = 300 if self._quick else 3000
            busy = [self._trip(convolver) for _ in range(count)][count // 10 :]
            paced = [trip for trip, _ in self._paced(convolver, case)]
            trips, hosts = ([pair[k] for pair in busy] for k in (0, 1))
            self._tell(case, trips, hosts, paced)
            self._report.details[case.name] = {
                "stages": [[stage.bins, stage.growth, stage.partitions] for stage in convolver.stages],
                "error_db": self._judged(error),
                "activation_s": activated_s,
                "device_mb": convolver.bytes / 2**20,
                "products_share": self._share(convolver.session),
                "kernels_us": self._kernels(convolver.session),
                "max_us": max(trips),
                "paced_max_us": max(paced, default=0.0),
            }

    def _tell(self, case: Live, trips: list[float], hosts: list[float], paced: list[float]) -> None:
        add, name = self._report.add, case.name
        add(
            f"{name}_p50_us",
            median(trips),
            "us",
            "round trip, one block after the other",
            goal=case.p50_us,
            samples=trips[:: len(trips) // 200 + 1],
        )
        add(f"{name}_p99_us", float(np.quantile(trips, 0.99)), "us", "... the 99th percentile", goal=case.p99_us)
        if paced:
            add(f"{name}_paced_p50_us", median(paced), "us", f"... one block every {case.period_s * 1e3:.3g} ms")
            add(f"{name}_paced_p99_us", float(np.quantile(paced, 0.99)), "us", "... the 99th percentile")
        add(f"{name}_host_us", median(hosts), "us", "of that, until the block is queued")

    def _error(self, convolver: CudaConvolver, taps: Floats) -> float:
        blocks = -(-convolver.plan.stages[-1].from_tap // convolver.block) + 40
        if convolver.phases > 1:
            blocks = 3
        samples = self._generator.uniform(-1.0, 1.0, (2, blocks * convolver.block)).astype(np.float32)
        parts = [convolver.process(samples[:, n * convolver.block : (n + 1) * convolver.block]) for n in range(blocks)]
        return error_db(np.concatenate(parts, axis=1), samples, taps, convolver.phases, self._generator)

    @staticmethod
    def _trip(convolver: CudaConvolver) -> tuple[float, float]:
        start = time.perf_counter()
        convolver.submit()
        queued = time.perf_counter()
        convolver.wait()
        return (time.perf_counter() - start) * 1e6, (queued - start) * 1e6

    def _paced(self, convolver: CudaConvolver, case: Live) -> Iterator[tuple[float, float]]:
        if case.period_s > LONGEST_PACED_S:
            return
        due = time.perf_counter()
        for _ in range(int(PACED_S / 4 / case.period_s if self._quick else PACED_S / case.period_s)):
            due += case.period_s
            while time.perf_counter() < due:
                pass
            yield self._trip(convolver)

    def _share(self, session: Session) -> float:
        """What the products read, over what a copy would move in that time."""
        plan, shape = session.plan, session.plan.shape
        paths = shape.filters * shape.phases + shape.inputs
        read = sum(stage.partitions for stage in plan.stages) * paths * plan.bins * 8 * shape.streams
        return read / self._alone(session, "products") / self._ceiling

    def _alone(self, session: Session, name: str) -> float:
        """What one kernel takes, repeated, in us."""
        repeat = 20
        with session.queue:
            return device_us(session.measured(name, repeat), 10) / repeat

    def _kernels(self, session: Session) -> dict[str, float]:
        return {name: self._alone(session, name) for name in session.work if name != "tick"}

    # ---- many streams

    def streams(self) -> None:
        """As many true-stereo streams as the memory holds, each with a filter of its own."""
        paths = ((0, 1), (2, 3))

        def needed(streams: int) -> int:
            shape = Shape(paths, STREAM_TAPS, STREAM_BLOCK, streams=streams, spare=64)
            return sum(plan_for(shape, opened().limits).bytes_of().values()) + 2 * 2 * streams * 2 * STREAM_BLOCK * 4

        free, _ = opened().memory()
        count = int((free - RESERVE_BYTES) / needed(10_000) * 10_000) // 100 * 100
        if self._quick:
            count = min(count, 2000)
        print(f"{count} streams ...", file=sys.stderr, flush=True)
        generator = self._generator
        distinct = [filters(generator, STREAM_TAPS, crossed=True) for _ in range(7)]
        with StreamBank(count, taps=STREAM_TAPS, block=STREAM_BLOCK) as bank:
            for stream in range(count):
                bank.load(stream, distinct[stream % 7])
            error = self._stream_error(bank, distinct)
            block_us = self._block_us(bank)
            period_us = STREAM_BLOCK / STREAM_RATE_HZ * 1e6
            possible = min(count, int(count * period_us / block_us))
            add = self._report.add
            goal = None if self._quick else 36_000
            add("streams", possible, "", "true-stereo streams in real time", goal=goal, at_least=True)
            add("streams_block_ms", block_us / 1e3, "ms", f"a block of {count} streams; {period_us / 1e3:.3g} ms are real time")
            add("streams_mb", bank.bytes / count / 2**20, "MiB", "memory of the device for each stream")
            add(
                "products_share",
                self._share(bank.session),
                "",
                "what products read, over what a copy moves",
                goal=0.9,
                at_least=True,
            )
            session = bank.session
            self._report.details["streams_detail"] = {
                "count": count,
                "error_db": self._judged(error),
                "stages": [[stage.bins, stage.growth, stage.partitions] for stage in bank.plan.stages],
                "kernels_us": self._kernels(session),
                "copies_us": self._copies(bank),
            }

    def _stream_error(self, bank: StreamBank, distinct: list[Floats]) -> float:
        blocks, looked = 24, [0, 1, bank.streams // 2 + 3, bank.streams - 1]
        signal = self._generator.uniform(-1.0, 1.0, (2, blocks * STREAM_BLOCK)).astype(np.float32)
        found = []
        for number in range(blocks):
            into = bank.into
            for stream in looked:
                into[stream] = signal[:, number * STREAM_BLOCK : (number + 1) * STREAM_BLOCK]
            bank.submit()
            found.append(bank.collect()[looked].copy())
        whole = np.concatenate(found, axis=-1)
        errors = [error_db(whole[k], signal, distinct[stream % 7], 1, self._generator) for k, stream in enumerate(looked)]
        return max(errors)

    def _block_us(self, bank: StreamBank) -> float:
        """What a block takes with all copies, two on their way at once."""
        count = 32 if self._quick else 200
        bank.submit()
        bank.submit()
        start = time.perf_counter()
        for _ in range(count):
            bank.collect()
            bank.submit()
        elapsed = time.perf_counter() - start
        bank.collect()
        bank.collect()
        return elapsed / count * 1e6

    @staticmethod
    def _copies(bank: StreamBank) -> list[float]:
        (into, out), device, queue = bank._sizes, bank.device, bank.session.queue
        host, staged = bank._host, bank._staged
        with queue:
            return [
                device_us(lambda: device.copy(staged[0], host[0], into, queue), 5),
                device_us(lambda: device.copy(host[1], staged[1], out, queue), 5),
            ]

    # ---- whole signals

    def offline(self) -> None:
        """10 s of stereo at 705.6 kHz through 640,000 taps, four paths, in the device's memory, beside cupyx."""
        print("offline ...", file=sys.stderr, flush=True)
        frames = SECONDS * 705_600
        taps = filters(self._generator, 640_000, crossed=True)
        samples = cupy.random.uniform(-1.0, 1.0, (2, frames), dtype=cupy.float32)
        filtered, on_device = cupy.empty_like(samples), cupy.asarray(taps)
        rounds = 5 if self._quick else 15

        def peer() -> None:
            for row in on_device:
                oaconvolve(samples[0], row[0]) + oaconvolve(samples[1], row[1])

        with Offline(taps) as offline:

            def ours() -> None:
                offline.convolve_in_place(samples.data.ptr, filtered.data.ptr, frames)

            def timed(work: Callable[[], None]) -> float:
                cupy.cuda.runtime.deviceSynchronize()
                start = time.perf_counter()
                work()
                cupy.cuda.runtime.deviceSynchronize()
                return (time.perf_counter() - start) * 1e3

            pairs = [(timed(ours), timed(peer)) for _ in range(rounds)][2:]
            error = error_db(filtered.get(), samples.get(), taps, 1, self._generator)
            ms = median(pair[0] for pair in pairs)
            add = self._report.add
            add(
                "offline_ms",
                ms,
                "ms",
                "10 s of stereo at 705.6 kHz, 640,000 taps, 4 paths, in device memory",
                samples=[pair[0] for pair in pairs],
            )
            add("offline_speed", SECONDS * 1e3 / ms, "x", "... against real time", goal=9000, at_least=True)
            add(
                "offline_oaconvolve_ratio",
                median(pair[1] / pair[0] for pair in pairs),
                "x",
                "cupyx oaconvolve, in turn",
                goal=1.5,
                at_least=True,
            )
            plan = offline.bank.plan
            self._report.details["offline_detail"] = {
                "error_db": self._judged(error),
                "chunk": offline.chunk,
                "kernels_us": self._kernels(offline.bank.session),
                "plan": [plan.hop, plan.segments, plan.stages[0].partitions, plan.tile, plan.columns, plan.lanes],
            }

    def upsampling(self) -> None:
        """10 s of stereo from 44.1 to 705.6 kHz, 640,000 taps, from host memory and back."""
        print("upsampling ...", file=sys.stderr, flush=True)
        frames = SECONDS * 44_100
        taps = filters(self._generator, 640_000, crossed=False)
        samples = self._generator.uniform(-1.0, 1.0, (2, frames)).astype(np.float32)
        with Offline(taps, phases=16) as offline:

            def once() -> float:
                start = time.perf_counter()
                for _ in offline.run(samples[:, at : at + offline.chunk] for at in range(0, frames, offline.chunk)):
                    pass
                return (time.perf_counter() - start) * 1e3

            times = [once() for _ in range(5 if self._quick else 20)][2:]
            error = error_db(offline.convolve(samples), samples, taps, 16, self._generator)
            plan = offline.bank.plan
            self._report.add(
                "up16_offline_ms", median(times), "ms", "10 s of stereo, x16, 640,000 taps, with copies", goal=2.2, samples=times
            )
            self._report.details["up16_offline_detail"] = {
                "error_db": self._judged(error),
                "chunk": offline.chunk,
                "kernels_us": self._kernels(offline.bank.session),
                "plan": [plan.hop, plan.segments, plan.stages[0].partitions, plan.tile, plan.columns, plan.lanes],
            }


def main() -> int:
    """Measure, print, return the exit code."""
    chosen = options("The convolver on a GPU")
    report = Report()
    try:
        opened()
    except CudaError as why:
        print(why, file=sys.stderr)
        return 1
    with pinned():
        measurement = Measurement(report, quick=chosen.quick)
        for case in LIVE:
            measurement.live(case)
        measurement.offline()
        measurement.upsampling()
        measurement.streams()
        measurement.judge()
    return finish(report, machine() | {"gpu": opened().name}, chosen)


if __name__ == "__main__":
    sys.exit(main())
