"""Crossfeed from SOFA files: written by sofar for the tests, and the one that Debian's libmysofa1 installs."""

import builtins
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from heads import crossfeed, refusal, response, taps_of
from sigrack_plugins.api import Setup

sofar = pytest.importorskip("sofar", reason="no sofar: pip install 'sigrack[sofa]'")
netcdf = pytest.importorskip("netCDF4", reason="sofar brings it")

Doubles = npt.NDArray[np.float64]

KEMAR = Path("/usr/share/libmysofa/MIT_KEMAR_normal_pinna.sofa")
AZIMUTHS_DEG = np.arange(0.0, 360.0, 15.0)
TAPS = 8
VIEW_45 = math.radians(45)


def signature(azimuth_deg: float, ear: int) -> Doubles:
    """Taps that tell direction and ear, exact in float32."""
    taps = np.zeros(TAPS)
    taps[:3] = [1.0, (azimuth_deg % 360.0) / 512.0, ear + 1]
    return taps


def measured(azimuths_deg: Doubles = AZIMUTHS_DEG) -> Any:
    """A SimpleFreeFieldHRIR with one measurement per azimuth, 1.5 m away."""
    sofa = sofar.Sofa("SimpleFreeFieldHRIR")
    sofa.Data_IR = np.array([[signature(azimuth, ear) for ear in (0, 1)] for azimuth in azimuths_deg])
    sofa.Data_SamplingRate = 48_000
    sofa.Data_Delay = np.zeros((1, 2))
    sofa.SourcePosition = np.array([[azimuth, 0.0, 1.5] for azimuth in azimuths_deg])
    return sofa


def write(folder: Path, sofa: Any) -> Path:
    """Write it, checked by sofar."""
    path = folder / "head.sofa"
    sofar.write_sofa(str(path), sofa)
    return path


def check(taps: Doubles, left_deg: float, right_deg: float, *, ears: tuple[int, int] = (0, 1)) -> None:
    """Assert that the paths are those of two directions, each in its place."""
    left, right = ears
    assert np.array_equal(signature(left_deg, left), taps[0, 0, :TAPS]), "LL"
    assert np.array_equal(signature(left_deg, right), taps[1, 0, :TAPS]), "LR"
    assert np.array_equal(signature(right_deg, left), taps[0, 1, :TAPS]), "RL"
    assert np.array_equal(signature(right_deg, right), taps[1, 1, :TAPS]), "RR"


@pytest.mark.parametrize("azimuth_deg", [0.0, 30.0, 90.0, 135.0, 180.0])
def test_directions(tmp_path: Path, azimuth_deg: float) -> None:
    """The left loudspeaker is at +azimuth, the right one at -azimuth; each ear gets its own response of each, to the bit."""
    check(taps_of(file=write(tmp_path, measured()), azimuth_deg=azimuth_deg), azimuth_deg, -azimuth_deg)


def cartesian(sofa: Any) -> None:
    """The same places as x, y, z."""
    angles = np.radians(sofa.SourcePosition[:, 0])
    sofa.SourcePosition = 1.5 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    sofa.SourcePosition_Type, sofa.SourcePosition_Units = "cartesian", "metre"


def negative_azimuths(sofa: Any) -> None:
    """-180 to 180 instead of 0 to 360."""
    sofa.SourcePosition[:, 0] = (sofa.SourcePosition[:, 0] + 180) % 360 - 180


def moved_listener(sofa: Any) -> None:
    """The listener is somewhere else, and the sources around him."""
    cartesian(sofa)
    sofa.SourcePosition += np.array([10.0, -4.0, 1.0])
    sofa.ListenerPosition = np.array([[10.0, -4.0, 1.0]])


def turned_listener(sofa: Any) -> None:
    """The listener looks 45 degrees to the left of x, and the sources have turned with him."""
    sofa.SourcePosition[:, 0] += 45
    sofa.ListenerView = np.array([[math.cos(VIEW_45), math.sin(VIEW_45), 0.0]])


def turned_listener_in_angles(sofa: Any) -> None:
    """The same, with the view as angles."""
    sofa.SourcePosition[:, 0] += 45
    sofa.ListenerView, sofa.ListenerUp = np.array([[45.0, 0.0, 1.0]]), np.array([[0.0, 90.0, 1.0]])
    sofa.ListenerView_Type, sofa.ListenerView_Units = "spherical", "degree, degree, metre"


def turned_measurements(sofa: Any) -> None:
    """One loudspeaker in front, and the listener turned for each measurement."""
    angles = np.radians(-sofa.SourcePosition[:, 0])
    sofa.ListenerView = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    sofa.ListenerUp = np.tile([0.0, 0.0, 1.0], (len(angles), 1))
    sofa.SourcePosition = np.array([[0.0, 0.0, 1.5]])


def nearer_ones_too(sofa: Any) -> None:
    """All directions again, from 0.2 m and other responses, before those from 1.5 m."""
    sofa.SourcePosition = np.concatenate([sofa.SourcePosition * [1, 1, 0.2 / 1.5], sofa.SourcePosition])
    sofa.Data_IR = np.concatenate([sofa.Data_IR * 0.5, sofa.Data_IR])


@pytest.mark.parametrize(
    "change",
    [
        cartesian,
        negative_azimuths,
        moved_listener,
        turned_listener,
        turned_listener_in_angles,
        turned_measurements,
        nearer_ones_too,
    ],
)
def test_ways_to_say_the_same(tmp_path: Path, change: Callable[[Any], None]) -> None:
    """However a file describes the same directions, they are found."""
    sofa = measured()
    change(sofa)

    check(taps_of(file=write(tmp_path, sofa), azimuth_deg=30.0), 30, -30)


def test_ears_in_the_other_order(tmp_path: Path) -> None:
    """If ReceiverPosition says that receiver 0 is the right ear, it is taken for the right ear."""
    sofa = measured()
    sofa.ReceiverPosition = -sofa.ReceiverPosition

    check(taps_of(file=write(tmp_path, sofa)), 30, -30, ears=(1, 0))


def test_directions_by_emitters(tmp_path: Path) -> None:
    """FreeFieldHRIR with one measurement and a direction per emitter is read, too."""
    sofa = sofar.Sofa("FreeFieldHRIR")
    sofa.Data_IR = measured().Data_IR.transpose(1, 2, 0)[None]
    sofa.Data_SamplingRate = 48_000
    sofa.Data_Delay = np.zeros((1, 2, 1))
    sofa.EmitterPosition, sofa.EmitterPosition_Type = measured().SourcePosition, "spherical"

    check(taps_of(file=write(tmp_path, sofa)), 30, -30)


def test_spherical_harmonics(tmp_path: Path) -> None:
    """FreeFieldHRIR in spherical harmonics has no directions to choose from, and is refused."""
    line = refusal(tmp_path, file=write(tmp_path, sofar.Sofa("FreeFieldHRIR")))

    assert 'file: head.sofa: EmitterPosition is of the type "spherical harmonics", not spherical or cartesian' == line


@pytest.mark.parametrize("each", [False, True])
def test_delays(tmp_path: Path, each: bool) -> None:
    """Data.Delay, one for all measurements or one for each, comes in front of the taps of its ear."""
    sofa = measured()
    sofa.Data_Delay = np.array([[3.0, 5.0]])
    if each:
        sofa.Data_Delay = np.tile([[3.0, 5.0]], (len(AZIMUTHS_DEG), 1))
        sofa.Data_Delay[2] = [0.0, 7.0]
    taps = taps_of(file=write(tmp_path, sofa), azimuth_deg=30.0)
    first = [[int(np.flatnonzero(taps[ear, channel])[0]) for channel in (0, 1)] for ear in (0, 1)]

    assert [[0, 3], [7, 5]] if each else [[3, 3], [5, 5]] == first


def test_a_delay_of_half_a_sample(tmp_path: Path) -> None:
    """A delay that is no whole number keeps its value: the ears are 5.5 samples apart at all frequencies up to 0.45."""
    sofa = measured()
    sofa.Data_IR = np.tile(np.eye(1, TAPS), (len(AZIMUTHS_DEG), 2, 1))
    sofa.Data_Delay = np.array([[0.0, 5.5]])
    taps = taps_of(file=write(tmp_path, sofa))
    hz = np.linspace(0, 0.45 * 48_000, 100)
    ratio = response(taps[1, 0], 48_000, hz) / response(taps[0, 0], 48_000, hz)

    assert np.allclose(np.exp(-2j * np.pi * hz * 5.5 / 48_000), ratio, atol=3e-6)


@pytest.mark.parametrize(("within_deg", "found"), [(5.0, True), (2.5, True), (2.4, False)])
def test_the_nearest_direction(tmp_path: Path, within_deg: float, found: bool) -> None:
    """The nearest measurement is taken and named in the log if it is near enough; else the refusal names it."""
    path = write(tmp_path, measured())
    settings: dict[str, Any] = {"file": path, "azimuth_deg": 32.5, "within_deg": within_deg}
    if not found:
        wanted = (
            "nothing within 2.4 degrees of azimuth 32.5, elevation 0: the nearest is azimuth 30, elevation 0, 2.5 degrees away"
        )
        assert f"file: head.sofa has {wanted}; see within_deg" == refusal(tmp_path, **settings)
        return
    plugin, context = crossfeed(**settings)
    check(plugin.fir(Setup(48_000, 2)).astype(np.float64), 30, -30)

    assert [
        f"{path}: the left loudspeaker is the measurement at azimuth 30, elevation 0, 2.5 degrees off",
        f"{path}: the right loudspeaker is the measurement at azimuth -30, elevation 0, 2.5 degrees off",
    ] == context.lines[:2]


def test_elevation(tmp_path: Path) -> None:
    """Loudspeakers above the head are found by their elevation, and those at ear height are not taken for them."""
    sofa = measured()
    sofa.SourcePosition = np.concatenate([sofa.SourcePosition, sofa.SourcePosition + np.array([0, 40, 0])])
    sofa.Data_IR = np.concatenate([sofa.Data_IR, 4 * sofa.Data_IR])
    path = write(tmp_path, sofa)
    level, above = (taps_of(file=path, elevation_deg=elevation_deg) for elevation_deg in (0.0, 40.0))

    assert np.array_equal(4 * level, above)
    assert "the nearest is azimuth 30, elevation 40, 20 degrees away" in refusal(tmp_path, file=path, elevation_deg=60.0)


def test_another_rate(tmp_path: Path) -> None:
    """Responses measured at another rate are resampled, and the log says so."""
    sofa = measured()
    sofa.Data_SamplingRate = 44_100
    sofa.Data_IR = sofa.Data_IR / 8
    plugin, context = crossfeed(file=write(tmp_path, sofa))
    taps = plugin.fir(Setup(96_000, 2)).astype(np.float64)

    assert np.allclose(signature(30, 1).sum() / 8, taps[1, 0].sum(), rtol=1e-5)
    assert "resampled from 44100 to 96000 Hz: the same up to 19.8 kHz" in context.lines[0]


# Mistakes


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    assert "file: none.sofa: No such file or directory" == refusal(tmp_path, file=tmp_path / "none.sofa")


def test_without_sofar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the one line names the extra."""
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "sofar":
            raise ModuleNotFoundError("No module named 'sofar'")
        return real(name, *rest, **more)

    path = write(tmp_path, measured())
    monkeypatch.setattr(builtins, "__import__", absent)
    line = refusal(tmp_path, file=path)

    assert "file: head.sofa: SOFA files need the extra `sofa`: pip install 'sigrack[sofa]' (No module named 'sofar')" == line


@pytest.mark.parametrize("content", [b"", b"no SOFA\n" * 100, b"\x89HDF\r\n\x1a\n" + b"\0" * 2000, b"CDF\x01" + b"\0" * 100])
def test_not_sofa(tmp_path: Path, content: bytes) -> None:
    """What is no SOFA file, or none to speak of, is refused."""
    (tmp_path / "head.sofa").write_bytes(content)

    assert refusal(tmp_path, file=tmp_path / "head.sofa").startswith(("file: head.sofa is no SOFA file", "file: head.sofa lacks"))


def test_half_a_file(tmp_path: Path) -> None:
    """Half a file is refused."""
    path = write(tmp_path, measured())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    assert refusal(tmp_path, file=path).startswith("file: head.sofa is no SOFA file that can be read: ")


def test_large_letters(tmp_path: Path) -> None:
    """A name in large letters is refused with the way out: the library below would look for another file."""
    path = write(tmp_path, measured()).rename(tmp_path / "HEAD.SOFA")

    assert "file: HEAD.SOFA: the name must end in .sofa, in small letters" == refusal(tmp_path, file=path)


@pytest.mark.parametrize("convention", ["SimpleFreeFieldHRTF", "SimpleFreeFieldHRSOS", "GeneralFIR"])
def test_other_conventions(tmp_path: Path, convention: str) -> None:
    """Other conventions are named beside those that are taken."""
    line = refusal(tmp_path, file=write(tmp_path, sofar.Sofa(convention)))

    assert f"file: head.sofa holds {convention}; crossfeed takes SimpleFreeFieldHRIR and FreeFieldHRIR" == line


def not_finite(sofa: Any) -> None:
    """A tap that is none."""
    sofa.Data_IR[2, 1, 4] = np.nan


def one_ear(sofa: Any) -> None:
    """Only one receiver."""
    sofa.Data_IR, sofa.Data_Delay, sofa.ReceiverPosition = sofa.Data_IR[:, :1], np.zeros((1, 1)), np.array([[0.0, 0.09, 0.0]])


def position_not_finite(sofa: Any) -> None:
    """A place that is none."""
    sofa.SourcePosition[3, 0] = np.inf


def a_rate_of_zero(sofa: Any) -> None:
    """No rate."""
    sofa.Data_SamplingRate = 0.0


def negative_delay(sofa: Any) -> None:
    """Sound before it was made."""
    sofa.Data_Delay = np.array([[-1.0, 0.0]])


def huge_delay(sofa: Any) -> None:
    """More than a second."""
    sofa.Data_Delay = np.array([[1e9, 0.0]])


def source_in_the_head(sofa: Any) -> None:
    """A place without direction."""
    sofa.SourcePosition[7] = [0.0, 0.0, 0.0]


def looking_up(sofa: Any) -> None:
    """A listener whose view is his upward direction."""
    sofa.ListenerView = np.array([[0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (not_finite, "file: head.sofa: tap 4 of LR is nan"),
        (one_ear, "file: head.sofa: Data.IR has 1 receivers, not two ears"),
        (position_not_finite, "file: head.sofa: SourcePosition has a value that is missing or not finite"),
        (a_rate_of_zero, "file: head.sofa: Data.SamplingRate: a rate of 0 Hz is not a whole number from 8000 to 768000"),
        (negative_delay, "file: head.sofa: Data.Delay goes from -1 to 0 samples"),
        (huge_delay, "file: head.sofa: Data.Delay goes from 0 to 1e+09 samples"),
        (source_in_the_head, "file: head.sofa: measurement 7 was made where the listener is"),
        (looking_up, "file: head.sofa: ListenerView and ListenerUp are not two directions"),
    ],
)
def test_contents_that_cannot_be(tmp_path: Path, damage: Callable[[Any], None], message: str) -> None:
    """What makes no sense inside a file is refused with the variable."""
    sofa = measured()
    damage(sofa)

    assert message == refusal(tmp_path, file=write(tmp_path, sofa))


def in_radians(file: Any) -> None:
    """Angles in a unit that AES69 does not have."""
    file["SourcePosition"].Units = "radian, radian, metre"


def of_another_type(file: Any) -> None:
    """Coordinates of no known type."""
    file["SourcePosition"].Type = "cylindrical"


def a_number_for_a_type(file: Any) -> None:
    """A type that is no word."""
    file["SourcePosition"].Type = 7


def too_few_positions(file: Any) -> None:
    """Fewer places than measurements."""
    file.renameVariable("SourcePosition", "Old")
    file.createDimension("five", 5)
    new = file.createVariable("SourcePosition", "f8", ("five", "C"))
    new[:] = file["Old"][:5]
    new.Type, new.Units = file["Old"].Type, file["Old"].Units


def text_for_delays(file: Any) -> None:
    """A variable of letters."""
    file.renameVariable("Data.Delay", "Old")
    file.createVariable("Data.Delay", "S1", ("M", "R"))[:] = b"x"


def flat_responses(file: Any) -> None:
    """Responses of four dimensions where three are stated."""
    file.renameVariable("Data.IR", "Old")
    file.createVariable("Data.IR", "f8", ("M", "R", "N", "C"))[:] = 1.0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (in_radians, 'SourcePosition is in "radian, radian, metre", not in degree, degree, metre'),
        (of_another_type, 'SourcePosition is of the type "cylindrical", not spherical or cartesian'),
        (a_number_for_a_type, "SourcePosition:Type is no text"),
        (too_few_positions, "SourcePosition is 5 x 3, not 24 x 3"),
        (text_for_delays, "Data.Delay is not made of numbers"),
        (flat_responses, "Data.IR has the shape (24, 2, 8, 3), not 3 dimensions"),
    ],
)
def test_files_that_sofar_would_not_write(tmp_path: Path, damage: Callable[[Any], None], message: str) -> None:
    """What contradicts AES69 is refused with the variable."""
    path = write(tmp_path, measured())
    with netcdf.Dataset(path, "a") as file:
        damage(file)

    assert f"file: head.sofa: {message}" == refusal(tmp_path, file=path)


@pytest.mark.parametrize(
    "name", ["Data.IR", "Data.SamplingRate", "Data.Delay", "SourcePosition", "ListenerView", "ReceiverPosition"]
)
def test_a_variable_that_is_missing(tmp_path: Path, name: str) -> None:
    """A file without one of its variables is refused with its name."""
    path = write(tmp_path, measured())
    with netcdf.Dataset(path, "a") as file:
        file.renameVariable(name, "Other")

    assert f"file: head.sofa lacks {name}" == refusal(tmp_path, file=path)


@pytest.mark.slow
def test_damaged_files(tmp_path: Path) -> None:
    """A file with damaged bytes is read or refused in one line."""
    content = write(tmp_path, measured()).read_bytes()
    rng, outcomes = random.Random(5), set()
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 2)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / "head.sofa").write_bytes(damaged)
        message = ""
        try:
            taps = taps_of(file=tmp_path / "head.sofa")
        except ValueError as error:
            message = str(error)
        outcomes.add("refused" if message else "read")
        assert re.fullmatch(r"file: \S*head\.sofa.*", message) if message else np.isfinite(taps).all(), message

    assert {"refused", "read"} == outcomes


# A real head

needs_kemar = pytest.mark.skipif(not KEMAR.exists(), reason=f"no {KEMAR}: apt install libmysofa1")


@needs_kemar
def test_kemar_at_its_own_rate() -> None:
    """At 44.1 kHz the taps are the file's numbers for azimuths 30 and 330, each path in its place."""
    sofa = sofar.read_sofa(str(KEMAR), verbose=False)
    at = {azimuth: int(np.argmin(np.abs(sofa.SourcePosition - [azimuth, 0, 1.4]).sum(axis=1))) for azimuth in (30, 330)}
    taps = taps_of(44_100, file=KEMAR)

    assert [[30, 0], [330, 0]] == [sofa.SourcePosition[row, :2].tolist() for row in at.values()]
    assert np.array_equal(sofa.Data_IR[at[30]].astype(np.float32), taps[:, 0])
    assert np.array_equal(sofa.Data_IR[at[330]].astype(np.float32), taps[:, 1])


@needs_kemar
@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 192_000])
def test_kemar_is_a_head(rate_hz: int) -> None:
    """A measured head hears the near channel louder above 2 kHz, and the far one 0.2 to 0.35 ms later, at any rate."""
    taps = taps_of(rate_hz, file=KEMAR)
    hz = np.linspace(2000, 10_000, 100)
    for near, far in ((taps[0, 0], taps[1, 0]), (taps[1, 1], taps[0, 1])):
        levels = [np.square(np.abs(response(path, rate_hz, hz))).mean() for path in (near, far)]
        lag = np.argmax(np.correlate(far, near, "full")) - (len(near) - 1)
        assert levels[0] > 4 * levels[1]
        assert 0.2e-3 < lag / rate_hz < 0.35e-3
