"""The benchmarks run, and their last line is what they promise; their figures are not judged here."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from oracles.chain import interpolated
from sigrack_engine.compiler import Linear
from sigrack_engine.results import PostCounts

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CHAIN = ("overhead_ratio", "overhead_ns_per_slot", "late_ratio", "late_ratio_python", "start_to_first_block_ms")
DISPATCH = (
    *("engine_call_p999_ratio", "sustained_per_s", "sustained_per_item_per_s", "latency_p50_us", "stall_recovery_ms"),
    *("stall_memory_mb", "swap_p99_us", "pool_hit_rate", "dispatch_ns_per_record", "dispatch_ns_per_item", "wakeups_per_s"),
)
CONVOLUTION = (
    *("error_64k_b512_p2", "rtf_64k_b512_p2", "plan_loss_64k_b512_p2", "scipy_64k_b512_p2"),
    *("scipy_64k_b64_p4", "rtf_up16_640k_b256", "scipy_up16_640k_b256", "stuffed_up16_640k_b256", "plan_loss_up16_640k_b256"),
)
FUSED_CHAIN = (
    *("fusion_speedup", "fusion_speedup_256", "fusion_speedup_4096", "fusion_speedup_alike_256", "fusion_limit_4096"),
    *("compile_s", "fused_mb_256", "apart_mb_256", "error_db", "realtime_factor", "worst_block_256", "worst_block_rack_4096"),
)
SIGNAL_LANES = ("process_p50_us_100k", "process_p99_us_100k", "inline_p50_us_100k", "process_replay_per_s", "inline_replay_per_s")
LIMITER = ("ns_quiet_48k", "ns_loud_48k", "core_quiet_705k6", "core_loud_705k6", "copy_ratio_loud_705k6")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler called cc")
@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("chain.py", CHAIN),
        ("convolution.py", CONVOLUTION),
        ("dispatch.py", DISPATCH),
        ("fused_chain.py", FUSED_CHAIN),
        ("limiter.py", LIMITER),
        ("signal_lanes.py", SIGNAL_LANES),
    ],
)
def test_a_benchmark_prints_its_figures(script: str, names: tuple[str, ...]) -> None:
    """`--quick --json` ends with one JSON object that has every figure as a finite number."""
    command = [sys.executable, str(BENCHMARKS / script), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert 0 == done.returncode, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])

    for name in names:
        assert math.isfinite(report[name]), name


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++: the GPU's kernels cannot be compiled for this CPU")
def test_the_gpu_lanes_benchmark_prints_its_figures(tmp_path: Path) -> None:
    """On an emulated GPU; the child is killed, and another one is heard."""
    device = {
        "SIGRACK_CUDA_DEVICE": "gpu_device:opened",
        "GPU_FOLDER": str(tmp_path),
        "PYTHONPATH": str(BENCHMARKS.parent / "tests"),
    }
    command = [sys.executable, str(BENCHMARKS / "gpu_lane.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, env=os.environ | device)
    assert 0 == done.returncode, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])

    assert report["error_db"] < -120.0
    assert 0.0 < report["64k_b64_us_p50"]
    assert 0.0 < report["64k_b64_exchange_us_p50"]
    for name in ("render_cpu_rtf", "render_cuda_rtf", "misses", "dry_ms", "engine_load", "again_ms", "heard_ms"):
        assert math.isfinite(report[name]), name


def test_the_fused_chains_reference_is_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three filters one after another in float64; a wrong tap in the middle one is found."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from fused_chain_convolvers import error_db, reference

    generator = np.random.default_rng(1)
    shapes = [((2, 2, 301), 4), ((2, 2, 50), 1), ((2, 2, 77), 1)]
    parts = [Linear(generator.uniform(-1.0, 1.0, shape).astype(np.float32), ratio) for shape, ratio in shapes]
    parts[0].taps[0, 1] = parts[0].taps[1, 0] = 0.0
    samples = generator.uniform(-1.0, 1.0, (2, 500)).astype(np.float32)
    wanted = interpolated(samples.T.astype(np.float64), parts[0].taps, 4, np.arange(2000))
    for part in parts[1:]:
        wanted = interpolated(wanted, part.taps, 1, np.arange(2000))

    assert error_db(reference(samples, parts), wanted.T) < -250.0
    parts[1].taps[0, 1, 25] += 0.001
    assert error_db(reference(samples, parts), wanted.T) > -100.0


@pytest.mark.parametrize(
    ("value", "goal", "at_least", "verdict"),
    [
        (299.0, 300.0, True, "MISS"),
        (300.0, 300.0, True, "ok"),
        (300.0, 300.0, False, "ok"),
        (301.0, 300.0, False, "MISS"),
        (math.nan, 300.0, True, "MISS"),
        (math.nan, 300.0, False, "MISS"),
        (301.0, None, False, ""),
    ],
)
def test_a_goal_has_a_direction(
    monkeypatch: pytest.MonkeyPatch, value: float, goal: float | None, at_least: bool, verdict: str
) -> None:
    """A figure is judged by the most, or by the least, that it may be; what is not a number misses either."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from harness import Figure

    assert verdict == Figure("key", value, "", "", goal, at_least).verdict


@pytest.mark.parametrize(("late_ms", "recovery_ms"), [(0, 5.0), (20, 25.0), (400, 400.0)])
def test_recovery_is_counted_from_the_end_of_a_stall(monkeypatch: pytest.MonkeyPatch, late_ms: int, recovery_ms: float) -> None:
    """What comes `late_ms` after a stall is still late, in steps of 5 ms; if it stays so, all that was seen counts."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from dispatch_jobs import Arrivals

    milliseconds = np.arange(1000, dtype=np.int64)
    came_ns = 1_000_000 * np.concatenate([milliseconds[:500], milliseconds[600:]])
    late = (came_ns >= 600_000_000) & (came_ns < 600_000_000 + late_ms * 1_000_000)
    arrivals = Arrivals(len(came_ns))
    arrivals.count = len(came_ns)
    arrivals.delay_ns = np.where(late, 50_000_000, 100_000)
    arrivals.posted_ns = came_ns - arrivals.delay_ns
    arrivals.stalled_ns = (500_000_000, 600_000_000)

    assert pytest.approx(recovery_ms, abs=1.1) == arrivals.recovery_ms()


@pytest.mark.parametrize(
    "counts",
    [
        PostCounts(101, 90, 10, 0, 0, 0),
        PostCounts(100, 91, 9, 0, 0, 0),
        PostCounts(100, 90, 9, 1, 0, 0),
        PostCounts(100, 90, 9, 0, 1, 0),
        PostCounts(100, 90, 9, 0, 0, 1),
    ],
)
def test_a_factor_that_is_not_accounted_for_is_an_error(monkeypatch: pytest.MonkeyPatch, counts: PostCounts) -> None:
    """Of 100 factors 90 have come: the run counts only if the ring has dropped the other ten."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    from dispatch_rack import check_sums

    check_sums(100, 90, PostCounts(100, 90, 10, 0, 0, 0))
    with pytest.raises(RuntimeError, match="not exact"):
        check_sums(100, 90, counts)
