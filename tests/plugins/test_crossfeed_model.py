"""The crossfeed's head model against the published formulas."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from heads import response, taps_of
from oracles.head import Head

Doubles = npt.NDArray[np.float64]

RATES_HZ = [44_100, 48_000, 96_000, 192_000]
AZIMUTHS_DEG = [25.0, 30.0, 45.0, 60.0, 90.0]


def group_delay_us(taps: Doubles, rate_hz: int, hz: Doubles) -> Doubles:
    """Minus the slope of the phase, by a difference over 2 Hz."""
    above, below = response(taps, rate_hz, hz + 1.0), response(taps, rate_hz, hz - 1.0)
    delay: Doubles = -np.angle(above / below) / (4.0 * np.pi)
    return 1e6 * delay


def audible(rate_hz: int) -> Doubles:
    """Frequencies up to 20 kHz or 0.4 times the rate."""
    return np.geomspace(20.0, min(20_000.0, 0.4 * rate_hz), 80)


def spacing_m(ears_deg: float, radius_m: float = 0.0875) -> float:
    """From ear to ear through the head, for ears that far from the front."""
    return 2 * radius_m * math.sin(math.radians(ears_deg))


HEADS: list[tuple[dict[str, Any], Head]] = [
    *(({"azimuth_deg": azimuth_deg}, Head(azimuth_deg)) for azimuth_deg in AZIMUTHS_DEG),
    ({"head_radius_m": 0.07}, Head(30, 0.07)),
    ({"head_size": "xl"}, Head(30, 0.0964)),
    ({"ear_spacing_m": spacing_m(100)}, Head(30, ears_deg=100)),
    ({"azimuth_deg": 90.0, "ear_spacing_m": spacing_m(115)}, Head(90, ears_deg=115)),
    ({"far_shadow_db": -8.0}, Head(30, shadow_db=-8)),
    ({"far_shadow_db": -30.0, "azimuth_deg": 45.0}, Head(45, shadow_db=-30)),
    ({"far_shadow_db": 0.0}, Head(30, shadow_db=0)),
]


@pytest.mark.parametrize(("settings", "head"), HEADS)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_far_ear_delay(rate_hz: int, settings: dict[str, Any], head: Head) -> None:
    """From 20 Hz to 0.4 times the rate the far ear is as late as Woodworth's delay and the head's shadow say, within 0.6 us."""
    hz = audible(rate_hz)
    delay_us = group_delay_us(taps_of(rate_hz, **settings)[0, 1], rate_hz, hz)

    assert np.abs(delay_us - head.delay_us(hz)).max() < 0.6


@pytest.mark.parametrize("azimuth_deg", [10.0, 15.0, 20.0])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_far_ear_delay_of_few_samples(rate_hz: int, azimuth_deg: float) -> None:
    """A delay of few samples still is that of the model within 0.1 us up to 10 kHz."""
    hz = np.geomspace(20.0, 10_000.0, 80)
    delay_us = group_delay_us(taps_of(rate_hz, azimuth_deg=azimuth_deg)[0, 1], rate_hz, hz)

    assert np.abs(delay_us - Head(azimuth_deg).delay_us(hz)).max() < 0.1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_high_frequencies_have_woodworths_delay(rate_hz: int) -> None:
    """At the upper end what remains is a / c (phi + sin phi): 261.1 us at 30 degrees, within 2 us."""
    top = audible(rate_hz)[-1:]
    delay_us = group_delay_us(taps_of(rate_hz)[0, 1], rate_hz, top)

    assert abs(delay_us[0] - 261.1) < 2.0


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_low_frequencies_are_later(rate_hz: int) -> None:
    """At 50 Hz the delay is within 10 % of 3 a / c sin phi, which Kuhn 1977 derives for a sphere at low frequencies."""
    delay_us = group_delay_us(taps_of(rate_hz)[0, 1], rate_hz, np.array([50.0]))
    kuhn_us = 3e6 * 0.0875 / 343.0 * math.sin(math.radians(30.0))

    assert abs(delay_us[0] / kuhn_us - 1) < 0.1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_the_delay_test_sees_a_fraction_of_a_sample(rate_hz: int) -> None:
    """Negative control: half a sample more, by averaging neighbours, is seen as such."""
    hz = np.geomspace(20.0, 1000.0, 20)
    cross = taps_of(rate_hz)[0, 1]
    late = np.convolve(cross, [0.5, 0.5])
    shift_us = group_delay_us(late, rate_hz, hz) - group_delay_us(cross, rate_hz, hz)

    assert np.allclose(0.5e6 / rate_hz, shift_us)
    assert shift_us.min() > 2.0


@pytest.mark.parametrize(("settings", "head"), HEADS)
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_far_ear_level(rate_hz: int, settings: dict[str, Any], head: Head) -> None:
    """The far ear's level follows Brown and Duda's filter within 0.02 dB."""
    hz = audible(rate_hz)
    taps = taps_of(rate_hz, level_db=-9.0, **settings)
    level_db = 20 * np.log10(np.abs(response(taps[0, 1], rate_hz, hz) / taps[0, 0, 0]))
    wanted_db = -9.0 + 20 * np.log10(np.abs(head.shadow(hz)))

    assert np.abs(level_db - wanted_db).max() < 0.02


def test_the_settings_are_heard() -> None:
    """Negative control: the oracle tells each setting's head from the plain one by far more than the tests allow."""
    hz = audible(48_000)
    plain = Head(30)
    for _, head in HEADS:
        if head != plain:
            apart_db = np.abs(20 * np.log10(np.abs(head.shadow(hz) / plain.shadow(hz)))).max()
            assert apart_db > 0.2 or np.abs(head.delay_us(hz) - plain.delay_us(hz)).max() > 10


@pytest.mark.parametrize("tilt_db", [-12.0, -2.0, 3.0, 12.0])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_tilt(rate_hz: int, tilt_db: float) -> None:
    """All four paths get the analogue shelf within 0.06 dB; if it rises, low frequencies fall instead."""
    hz = audible(rate_hz)
    plain, tilted = taps_of(rate_hz), taps_of(rate_hz, diffuse_tilt_db=tilt_db)
    wanted_db = 20 * np.log10(np.abs(Head(30, tilt_db=tilt_db).tilt(hz))) - max(0.0, tilt_db)
    for ear, channel in ((0, 0), (0, 1), (1, 0), (1, 1)):
        ratio = response(tilted[ear, channel], rate_hz, hz) / response(plain[ear, channel], rate_hz, hz)
        assert np.abs(20 * np.log10(np.abs(ratio)) - wanted_db).max() < 0.06


@pytest.mark.parametrize("rate_hz", [8_000, *RATES_HZ, 768_000])
def test_head_is_symmetric_and_direct_sound_is_not_late(rate_hz: int) -> None:
    """Both ears have the same taps, and the direct path is its first tap alone, the largest of all."""
    taps = taps_of(rate_hz)

    assert np.array_equal(taps[0, 0], taps[1, 1])
    assert np.array_equal(taps[0, 1], taps[1, 0])
    assert [0] == np.flatnonzero(taps[0, 0]).tolist()
    assert np.abs(taps).max() == taps[0, 0, 0]


@pytest.mark.parametrize("level_db", [-40.0, -6.0, 0.0])
@pytest.mark.parametrize("rate_hz", [8_000, *RATES_HZ, 768_000])
def test_level_at_low_frequencies(rate_hz: int, level_db: float) -> None:
    """What is equal in both channels keeps its level at low frequencies, and the cross path has the level that was asked for."""
    direct, cross = taps_of(rate_hz, level_db=level_db)[0].sum(axis=1)

    assert 1.0 == pytest.approx(direct + cross, abs=1e-6)
    assert level_db == pytest.approx(20 * math.log10(cross / direct), abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        *({"azimuth_deg": azimuth_deg} for azimuth_deg in (10.0, 30.0, 90.0)),
        {"far_shadow_db": 0.0},
        {"far_shadow_db": 0.0, "azimuth_deg": 10.0},
        {"diffuse_tilt_db": 12.0},
        {"diffuse_tilt_db": -12.0, "ear_spacing_m": 0.16},
    ],
)
@pytest.mark.parametrize("rate_hz", [8_000, *RATES_HZ, 768_000])
def test_no_frequency_becomes_louder(rate_hz: int, settings: dict[str, Any]) -> None:
    """Direct and cross path together raise no frequency by more than 0.01 dB, whatever the phases: it needs no headroom."""
    taps = taps_of(rate_hz, level_db=0.0, **settings)
    spectra = np.abs(np.fft.rfft(taps[0], 1 << 16))

    assert spectra.sum(axis=0).max() < 10 ** (0.01 / 20)


@pytest.mark.parametrize(("rate_hz", "count"), [(48_000, 147), (768_000, 2323)])
def test_length(rate_hz: int, count: int) -> None:
    """The taps end where the response has died away, as long as the documentation says."""
    cross = np.abs(taps_of(rate_hz)[0, 1])

    assert count == len(cross)
    assert cross[-1] < 1e-6 * cross.max()


def test_longest_response_is_still_short() -> None:
    """The largest head at 768 kHz takes less than 10 ms of taps, with a tilt less than 16 ms."""
    largest = {"azimuth_deg": 90.0, "head_radius_m": 0.15}

    assert taps_of(768_000, **largest).shape[2] < 7680
    assert taps_of(768_000, **largest, diffuse_tilt_db=-12.0).shape[2] < 12_288


@pytest.mark.parametrize(("size", "radius_m"), [("xs", 0.0815), ("s", 0.0853), ("m", 0.089), ("l", 0.0927), ("xl", 0.0964)])
def test_head_sizes(size: str, radius_m: float) -> None:
    """A head size is a radius: the mean head of Algazi's data and one or two standard deviations from it."""
    assert np.array_equal(taps_of(head_radius_m=radius_m), taps_of(head_size=size))
    assert np.array_equal(taps_of(head_radius_m=radius_m), taps_of(head_size=size.upper()))
    assert radius_m != 0.0875


def test_ears_at_the_widest_place_are_the_default() -> None:
    """Ears a diameter apart are where they are by default; closer ones hear the difference."""
    assert np.array_equal(taps_of(), taps_of(ear_spacing_m=0.175))
    assert not np.allclose(taps_of()[0, 1, :100], taps_of(ear_spacing_m=0.17)[0, 1, :100])
