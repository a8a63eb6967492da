"""Filter design: what is asked is decided in full, and what is made does it, by the judgement of the frequency oracle."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from oracles.frequency import half_hz, log_outside, ripple_db, stop_db
from sigrack_engine.design import DesignError, Filter, Specification, design, measure, misses, specify
from sigrack_engine.design.homomorphic import magnitude, minimum_phase
from sigrack_engine.design.kaiser import lowpass
from sigrack_engine.design.specification import RATIOS

ROOT = Path(__file__).parents[2]
SHIPPED: list[dict[str, Any]] = [
    {"input_rate_hz": 44_100, "phase": "minimum"},
    {"input_rate_hz": 44_100, "phase": "linear"},
    {"input_rate_hz": 48_000, "phase": "minimum"},
    {"input_rate_hz": 48_000, "phase": "linear"},
    {"input_rate_hz": 44_100, "phase": "minimum", "taps": 2_097_152},
]


@cache
def small(ratio: int = 4, phase: str = "minimum") -> Filter:
    """A filter of 500 taps per phase."""
    return design(specify(ratio=ratio, phase=phase, taps=500 * ratio))


def judged(made: Filter) -> None:
    """Assert that the oracle finds in the taps what the specification says, and what the design has measured."""
    spec, taps = made.specification, made.taps
    worst_db = stop_db(taps, spec.output_rate_hz, spec.stop_edge_hz)
    ripple = ripple_db(taps, spec.output_rate_hz, spec.pass_edge_hz)
    branches = [float(taps[phase :: spec.ratio].sum(dtype=np.float64)) for phase in range(spec.ratio)]

    assert spec.taps == len(taps)
    assert worst_db <= -spec.attenuation_db
    assert ripple <= spec.ripple_db
    assert max(abs(branch - 1.0) for branch in branches) < spec.ratio * 10.0 ** (-spec.attenuation_db / 20.0)
    assert abs(worst_db - made.measured.stop_db) < 0.1
    assert abs(ripple - made.measured.ripple_db) < 0.01 * ripple + 1e-7
    assert abs(half_hz(taps, spec.output_rate_hz, spec.pass_edge_hz, spec.stop_edge_hz) - made.measured.half_hz) < 0.1
    if spec.phase == "linear":
        assert np.array_equal(taps, taps[::-1])
    else:
        assert abs(log_outside(taps)) < 1e-4


# What is asked


def test_the_default_upsamples_compact_disc() -> None:
    """Nothing said: 44.1 kHz x16, minimum phase, 640,000 taps, 140 dB from 22.05 kHz, 0.01 dB to where the taps allow."""
    spec = specify()

    assert (44_100, 16, "minimum", 640_000) == (spec.input_rate_hz, spec.ratio, spec.phase, spec.taps)
    assert (22_050.0, 140.0, 0.01, 16.0) == (spec.stop_edge_hz, spec.attenuation_db, spec.ripple_db, spec.dc_gain)
    assert 22_039.0 < spec.pass_edge_hz < 22_040.0


@pytest.mark.parametrize("taps", [None, 640_000, 640_001, 2_097_152])
def test_linear_phase_has_a_whole_delay(taps: int | None) -> None:
    """An even number of taps becomes one more, so that the delay is whole: 20,000 input frames by default."""
    spec = specify(phase="linear", taps=taps)

    assert (taps or 640_000) | 1 == spec.taps
    assert 0 == (spec.taps - 1) // 2 % spec.ratio


@pytest.mark.parametrize("phase", ["minimum", "linear"])
@pytest.mark.parametrize("asked", [{"taps": 1000}, {"taps": 5000, "pass_edge_hz": 21_000.0}])
def test_too_few_taps_are_an_error_that_says_what_would_do(asked: dict[str, Any], phase: str) -> None:
    """The number of taps and the edge that the message names are enough, and nothing less is."""
    with pytest.raises(DesignError, match="too few") as refused:
        specify(phase=phase, **asked)
    needed = int(re.findall(r"needs (\d+) taps", str(refused.value))[0])

    specify(phase=phase, **asked | {"taps": needed})
    with pytest.raises(DesignError, match="too few"):
        specify(phase=phase, **asked | {"taps": needed - 2})
    if edge := re.findall(r"pass_edge_hz = (\d+)", str(refused.value)):
        assert design(specify(phase=phase, **asked | {"pass_edge_hz": float(edge[0])}))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"ratio": 3}, "ratio: 3 is not one of 1, 2, 4"),
        ({"phase": "hybrid"}, "phase: 'hybrid' is not one of minimum, linear"),
        ({"taps": 0}, "taps: 0 is not between 1 and"),
        ({"taps": 5_000_000}, "taps: 5000000 is not between"),
        ({"input_rate_hz": 0}, "input_rate_hz: 0 is not"),
        ({"attenuation_db": 10.0}, "attenuation_db: 10 is not"),
        ({"attenuation_db": float("nan")}, "attenuation_db: nan is not"),
        ({"ripple_db": 0.0}, "ripple_db: 0 is not"),
        ({"stop_edge_hz": 400_000.0}, "stop_edge_hz: 400000 is not between 1 and 352800"),
        ({"pass_edge_hz": 23_000.0}, "pass_edge_hz: 23000 is not between 0.001 and 22050"),
        ({"pass_edge_hz": 22_050.0}, "pass_edge_hz: 22050 is the stop band's edge as well"),
        ({"taps": 640_000, "attenuation_db": 170.0}, None),
    ],
)
def test_nonsense_is_named(asked: dict[str, Any], message: str | None) -> None:
    """A value that cannot be is an error that begins with its name; a wish beyond float32 fails when it is measured."""
    if message is not None:
        with pytest.raises(DesignError, match=f"^{re.escape(message)}"):
            specify(**asked)
    else:
        with pytest.raises(DesignError, match="float32 taps do not reach that"):
            design(specify(taps=16_000, attenuation_db=170.0))


# What is made


@pytest.mark.parametrize("phase", ["minimum", "linear"])
@pytest.mark.parametrize("ratio", RATIOS[1:])
def test_every_ratio_and_phase_does_what_is_asked(ratio: int, phase: str) -> None:
    """The worst of the stop band, the ripple, each phase's sum and the kind of phase are as specified, by the oracle."""
    judged(small(ratio, phase))


@pytest.mark.parametrize("phase", ["minimum", "linear"])
@pytest.mark.parametrize(("attenuation_db", "ripple_db"), [(30.0, 1.0), (60.0, 0.01), (100.0, 1e-4), (145.0, 0.01)])
def test_other_depths_do_what_is_asked(phase: str, attenuation_db: float, ripple_db: float) -> None:
    """From 30 dB on, and where the ripple asks for more than the attenuation."""
    judged(design(specify(phase=phase, taps=8000, attenuation_db=attenuation_db, ripple_db=ripple_db)))


def test_nothing_to_stop_is_a_unit_impulse() -> None:
    """At ratio 1 all frequencies pass, and the filter leaves the signal alone."""
    assert [1.0] == design(specify(ratio=1)).taps.tolist()


@pytest.mark.parametrize("phase", ["minimum", "linear"])
def test_an_edge_that_is_given_is_honoured(phase: str) -> None:
    """The slope fills the room between the edges, and taps that it does not need are zeros."""
    made = design(specify(ratio=4, phase=phase, taps=9001, pass_edge_hz=18_000.0))

    judged(made)
    assert made.specification.taps_used == np.count_nonzero(made.taps)
    assert abs(made.measured.half_hz - (18_000.0 + 22_050.0) / 2.0) < 20.0


def test_surplus_taps_make_the_slope_steeper() -> None:
    """Without an edge given, twice the taps halve the width of the slope; no pass band goes beyond half the input rate."""
    wide, narrow = (22_050.0 - specify(taps=taps).pass_edge_hz for taps in (320_000, 640_000))

    assert abs(wide / narrow - 2.0) < 1e-4
    assert 22_050.0 == specify(stop_edge_hz=24_100.0).pass_edge_hz


def test_minimum_phase_is_the_spectral_factor_that_roots_give() -> None:
    """The cepstrum gives the polynomial whose zeros are those of |H|^2 + floor^2 inside the unit circle."""
    window, floor = lowpass(17, 0.15, 30.0), 0.03
    power = np.convolve(window, window[::-1])
    power[16] += floor**2
    zeros = np.roots(power)
    factor = np.poly(zeros[np.abs(zeros) < 1.0]).real
    factor *= window.sum() / factor.sum()

    found = minimum_phase(np.hypot(magnitude(window), floor))

    assert np.abs(factor / factor.sum() - found[:17] / found[:17].sum()).max() < 1e-9
    assert np.abs(found[17:]).max() < 1e-12


def test_the_oracle_knows_minimum_phase() -> None:
    """Its sum over zeros outside of the circle is 0 for minimum phase, log 2 for one zero at 2, large for linear phase."""
    taps = small().taps

    assert abs(log_outside(taps)) < 1e-4
    assert abs(log_outside(np.convolve(taps.astype(np.float64), [1.0, -2.0])) - np.log(2.0)) < 1e-4
    assert 1.0 < log_outside(small(phase="linear").taps)


# What is wrong


def one_tap(taps: npt.NDArray[np.float64]) -> None:
    """A tap is off by 1e-5."""
    taps[700] += 1e-5


def octave(taps: npt.NDArray[np.float64]) -> None:
    """The edge lies an octave too high."""
    taps[:] = lowpass(len(taps), 0.25, 150.0) * 4.0


def edge(taps: npt.NDArray[np.float64]) -> None:
    """The edge lies 100 Hz too high."""
    taps[:] = lowpass(len(taps), 22_100.0 / 176_400.0, 150.0) * 4.0


def branch(taps: npt.NDArray[np.float64]) -> None:
    """One of the phases is 0.1 % too loud."""
    taps[::4] *= 1.001


def tilt(taps: npt.NDArray[np.float64]) -> None:
    """An echo makes the pass band uneven by 0.02 dB."""
    taps[20:] += 0.001 * taps[:-20].copy()


@pytest.mark.parametrize("spoil", [one_tap, octave, edge, branch, tilt])
def test_a_spoiled_filter_fails(spoil: Any) -> None:
    """The oracle and the measurement both see it, and agree on how bad it is."""
    spec = small().specification
    exact = small().taps.astype(np.float64)
    spoil(exact)
    taps = exact.astype(np.float32)

    found = measure(taps, spec)
    worst_db = stop_db(taps, spec.output_rate_hz, spec.stop_edge_hz)
    ripple = ripple_db(taps, spec.output_rate_hz, spec.pass_edge_hz)

    assert worst_db > -spec.attenuation_db or ripple > spec.ripple_db
    assert misses(found, spec)
    assert abs(worst_db - found.stop_db) < 0.1
    assert abs(ripple - found.ripple_db) < 0.01 * ripple + 1e-7


@pytest.mark.parametrize(
    ("factor", "phase", "message"),
    [
        (0.99, "minimum", "gain of 3.96 at 0 Hz, specified 4"),
        (-1.0, "minimum", "gain of -4"),
        (1.0, "linear", "not of minimum phase"),
    ],
)
def test_wrong_gain_and_wrong_phase_are_named(factor: float, phase: str, message: str) -> None:
    """A filter that attenuates as it should can still be too soft, upside down, or of the wrong phase."""
    spec = small().specification
    found = measure(small(phase=phase).taps * np.float32(factor), spec)

    assert misses(found, spec)[0].startswith(message)


# The designs in the manual


def printed(spec: Specification) -> list[str]:
    """Return the cells of the design's row in the manual."""
    head = f"| {spec.input_rate_hz / 1000:g} kHz x{spec.ratio} | {spec.phase} | {spec.taps:,} |"
    row = next(line for line in (ROOT / "docs" / "design.md").read_text().splitlines() if line.startswith(head))
    return [cell.strip() for cell in row.removeprefix(head).strip("| ").split("|")]


@pytest.mark.slow
@pytest.mark.parametrize("asked", SHIPPED, ids=lambda asked: "-".join(map(str, asked.values())))
def test_the_shipped_designs_do_what_the_manual_says(asked: dict[str, Any]) -> None:
    """The oracle finds what is specified, and the figures in docs/design.md."""
    made = design(specify(**asked))
    spec = made.specification
    worst, ripple, half = printed(spec)[:3]

    judged(made)
    assert abs(float(worst.split()[0]) - stop_db(made.taps, spec.output_rate_hz, spec.stop_edge_hz, 16)) < 0.1
    assert ripple_db(made.taps, spec.output_rate_hz, 20_000.0) < 1e-5
    assert ripple_db(made.taps, spec.output_rate_hz, spec.pass_edge_hz) < 2.0 * float(ripple.split()[0])
    assert abs(float(half.split()[0]) - half_hz(made.taps, spec.output_rate_hz, spec.pass_edge_hz, spec.stop_edge_hz)) < 0.1


@pytest.mark.slow
def test_two_million_taps_fit_into_memory() -> None:
    """A design of 2,097,152 taps of minimum phase takes less than 4 GiB."""
    made = "from sigrack_engine.design import design, specify; design(specify(taps=2_097_152))"
    told = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"

    found = subprocess.run([sys.executable, "-c", f"{made}; {told}"], check=True, capture_output=True, text=True)

    assert int(found.stdout) < 4 << 20  # KiB
