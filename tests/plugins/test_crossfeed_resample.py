"""Responses at another rate, judged by their frequency responses as defined."""

import numpy as np
import numpy.typing as npt
import pytest

from heads import response
from sigrack_plugins._crossfeed.resample import at_rate
from sigrack_plugins._crossfeed.responses import Responses

Doubles = npt.NDArray[np.float64]

RATES = [
    (44_100, 48_000),
    (48_000, 44_100),
    (705_600, 44_100),
    (44_100, 768_000),
    (96_000, 44_100),
    (8_000, 48_000),
    (47_999, 48_000),
]
POINTS = 150


def noises(count: int = 200, seed: int = 3) -> Doubles:
    """Four paths of noise that dies away, the hardest of responses: all frequencies, and loud from the first tap on."""
    decay = np.exp(-4 * np.arange(count) / count)
    noises: Doubles = np.random.default_rng(seed).standard_normal((4, count)) * decay
    return noises


def errors_db(old: Doubles, old_hz: int, new: Doubles, new_hz: int, late_s: Doubles) -> tuple[float, float]:
    """The largest error up to 0.45 and what is left from 0.55 times the lower rate, against the largest value of the response."""
    low = min(old_hz, new_hz)
    keep, stop = np.linspace(0, 0.45 * low, POINTS), np.linspace(0.55 * low, max(new_hz / 2, 0.55 * low), POINTS)
    kept, left, largest = 0.0, 0.0, 0.0
    for path in range(4):
        wanted = response(old[path], old_hz, keep)
        found = response(new[path], new_hz, keep) * np.exp(2j * np.pi * keep * late_s[path])
        kept, largest = max(kept, float(np.abs(found - wanted).max())), max(largest, float(np.abs(wanted).max()))
        if stop[0] < new_hz / 2:
            left = max(left, float(np.abs(response(new[path], new_hz, stop)).max()))
    return 20 * np.log10(kept / largest), 20 * np.log10(max(left, 1e-30) / largest)


@pytest.mark.parametrize(("old_hz", "new_hz"), RATES)
def test_the_filter_stays_what_it_is(old_hz: int, new_hz: int) -> None:
    """Up to 0.45 times the lower rate magnitude and phase are kept within -115 dB; from 0.55 times on -110 dB are left."""
    old = noises()
    new, delay = at_rate(Responses("it", old, old_hz), new_hz)
    kept_db, left_db = errors_db(old, old_hz, new, new_hz, np.full(4, delay / new_hz))

    assert kept_db < -115.0
    assert left_db < -110.0
    assert delay / new_hz < 41 / min(old_hz, new_hz), "as late as the documentation says"


def test_the_judge_sees_a_bad_resampler() -> None:
    """Negative control: interpolation by straight lines, and a delay wrong by a hundredth of a sample, are found out."""
    old = noises()
    grid = np.arange(0, 199, 44_100 / 48_000)
    lines = np.array([np.interp(grid, np.arange(200), path) for path in old]) * 44_100 / 48_000
    good, delay = at_rate(Responses("it", old, 44_100), 48_000)

    assert errors_db(old, 44_100, lines, 48_000, np.zeros(4))[0] > -20.0
    assert errors_db(old, 44_100, good, 48_000, np.full(4, (delay + 0.01) / 48_000))[0] > -60.0


@pytest.mark.parametrize(("old_hz", "new_hz"), [(48_000, 48_000), (44_100, 96_000)])
def test_each_path_has_its_own_delay(old_hz: int, new_hz: int) -> None:
    """Delays of parts of a sample are kept as exactly as everything else, each path's its own."""
    late = np.array([0.0, 0.25, 3.7, 41.0])
    old = noises()
    new, delay = at_rate(Responses("it", old, old_hz, late), new_hz)

    assert errors_db(old, old_hz, new, new_hz, delay / new_hz + late / old_hz)[0] < -115.0
    assert errors_db(old, old_hz, new, new_hz, delay / new_hz + late[::-1] / old_hz)[0] > -20.0


def test_whole_samples_are_exact() -> None:
    """At the same rate whole delays shift the taps, to the bit, and nothing comes later than it should."""
    old = noises(50)
    new, delay = at_rate(Responses("it", old, 48_000, np.array([0.0, 2.0, 7.0, 1.0])), 48_000)

    assert (0, (4, 57)) == (delay, new.shape)
    for path, late in enumerate((0, 2, 7, 1)):
        assert np.array_equal(old[path], new[path, late : late + 50])
        assert np.count_nonzero(new[path]) == 50


def test_a_response_of_one_tap() -> None:
    """One tap at 44.1 kHz is a kernel at 48 kHz whose sum, its level at low frequencies, is the tap."""
    new, _ = at_rate(Responses("it", np.array([[1.0], [0.5], [-0.25], [0.0]]), 44_100), 48_000)

    assert np.allclose([1.0, 0.5, -0.25, 0.0], new.sum(axis=1), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_any_rates(seed: int) -> None:
    """The same for random rates, lengths and delays."""
    rng = np.random.default_rng(seed)
    old_hz, new_hz = (int(rate) for rate in rng.integers(8_000, 768_001, 2))
    old, late = noises(int(rng.integers(1, 600)), seed), rng.uniform(0, 30, 4)
    new, delay = at_rate(Responses("it", old, old_hz, late), new_hz)
    kept_db, left_db = errors_db(old, old_hz, new, new_hz, delay / new_hz + late / old_hz)

    assert kept_db < -115.0
    assert left_db < -110.0
