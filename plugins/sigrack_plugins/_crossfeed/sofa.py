"""Measured head-related impulse responses from SOFA files (AES69, "Spatially Oriented Format for Acoustics").

Read are the conventions SimpleFreeFieldHRIR, and FreeFieldHRIR where it lists directions (no spherical harmonics). In AES69's
coordinates x points to the front, y to the left, z up; azimuth counts in degrees from the front to the left. So the left
loudspeaker stands at +azimuth, the right one at -azimuth, as seen by the listener: his position and view are taken into account.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sigrack_plugins._crossfeed.responses import PATHS, Array, Responses, check_rate
from sigrack_plugins._crossfeed.sofa_file import SofaFile, unit_vectors

__all__ = ["read_sofa"]

CONVENTIONS = ("SimpleFreeFieldHRIR", "FreeFieldHRIR")
EARS = 2
LONGEST_DELAY_S = 1.0
"""Of Data.Delay: more is a mistake."""
EXACT_DEG = 0.01
"""A measurement that is as near is the one that was asked for."""


@dataclass(frozen=True)
class _Measured:
    """What a file holds, one row per direction."""

    positions: Array
    """As the listener sees them, (rows, 3): metres to the front, left, up."""
    responses: Array
    """(rows, ear, taps), the left ear first."""
    late: Array
    """(rows, ear), samples."""
    rate_hz: int


def read_sofa(path: Path, azimuth_deg: float, elevation_deg: float, within_deg: float) -> Responses:
    """Read the responses for loudspeakers at +-azimuth. Raises ValueError in one line. [worker]

    Each loudspeaker takes the nearest measurement; of several in one direction the farthest from the head.
    """
    file = SofaFile(path)
    measured = _measured(file)
    rows, notes = [], []
    for name, azimuth in (("left", azimuth_deg), ("right", -azimuth_deg)):
        row, angle = _nearest(measured.positions, azimuth, elevation_deg)
        at = _place(measured.positions[row])
        if angle > within_deg:
            raise ValueError(
                f"{file.source} has nothing within {within_deg:g} degrees of azimuth {azimuth:g}, elevation {elevation_deg:g}: "
                f"the nearest is {at}, {angle:.3g} degrees away; see within_deg"
            )
        if angle > EXACT_DEG:
            notes.append(f"{path}: the {name} loudspeaker is the measurement at {at}, {angle:.2g} degrees off")
        rows.append(row)
    paths, late = measured.responses[rows].reshape(len(PATHS), -1), measured.late[rows].reshape(len(PATHS))
    return Responses(file.source, paths, measured.rate_hz, late, tuple(notes))


def _nearest(positions: Array, azimuth_deg: float, elevation_deg: float) -> tuple[int, float]:
    """Return the row nearest to a direction, and the angle between them in degrees."""
    wanted = unit_vectors(np.array([[azimuth_deg, elevation_deg]]))[0]
    across = np.linalg.norm(np.cross(positions, wanted), axis=1)
    angles = np.degrees(np.arctan2(across, positions @ wanted)).round(6)
    row = int(np.lexsort((-np.linalg.norm(positions, axis=1), angles))[0])
    return row, float(angles[row])


def _place(position: Array) -> str:
    front, left, up = position
    azimuth, elevation = np.degrees([np.arctan2(left, front), np.arctan2(up, np.hypot(front, left))]).round(2) + 0.0
    return f"azimuth {azimuth:g}, elevation {elevation:g}"


def _measured(file: SofaFile) -> _Measured:
    convention = file.text("GLOBAL_SOFAConventions")
    if convention not in CONVENTIONS:
        raise ValueError(f"{file.source} holds {convention}; crossfeed takes {' and '.join(CONVENTIONS)}")
    rates = np.unique(file.numbers("Data_SamplingRate", 1))
    if len(rates) != 1:
        raise ValueError(f"{file.source}: Data.SamplingRate has {len(rates)} values")
    rate_hz = check_rate(f"{file.source}: Data.SamplingRate", float(rates[0]))
    responses, late, positions = _simple(file) if file.text("GLOBAL_DataType") == "FIR" else _by_emitter(file)
    if not ((late >= 0) & (late <= LONGEST_DELAY_S * rate_hz)).all():
        raise ValueError(f"{file.source}: Data.Delay goes from {late.min():g} to {late.max():g} samples")
    ears = [0, 1] if _left_first(file) else [1, 0]
    return _Measured(_seen(file, positions), responses[:, ears], late[:, ears], rate_hz)


def _simple(file: SofaFile) -> tuple[Array, Array, Array]:
    """Return responses (rows, ears, taps), delays (rows, ears), places (rows, 3) of a file with a direction per measurement."""
    responses = file.numbers("Data_IR", 3, finite=False)
    _check_ears(file, responses)
    rows = len(responses)
    late = file.rows("Data_Delay", file.numbers("Data_Delay", 2), (rows, EARS))
    return responses, late, file.positions("SourcePosition", rows)


def _by_emitter(file: SofaFile) -> tuple[Array, Array, Array]:
    """Return the same of a file with one measurement, and a direction per emitter."""
    responses = file.numbers("Data_IR", 4, finite=False)
    _check_ears(file, responses)
    if len(responses) != 1:
        raise ValueError(f"{file.source}: Data.IR has {len(responses)} measurements of {responses.shape[3]} emitters, not 1")
    responses = responses[0].transpose(2, 0, 1)
    rows = len(responses)
    late = file.rows("Data_Delay", file.numbers("Data_Delay", 3)[0].T, (rows, EARS))
    positions = file.positions("EmitterPosition", rows, dimensions=3) + file.positions("SourcePosition", 1)
    return responses, late, positions


def _check_ears(file: SofaFile, responses: Array) -> None:
    if responses.shape[1] != EARS:
        raise ValueError(f"{file.source}: Data.IR has {responses.shape[1]} receivers, not two ears")


def _seen(file: SofaFile, positions: Array) -> Array:
    """Return places as the listener sees them."""
    rows = len(positions)
    front = _axis(file, file.positions("ListenerView", rows))
    left = _axis(file, np.cross(file.positions("ListenerUp", rows, typed_by="ListenerView"), front))
    axes = np.stack([front, left, np.cross(front, left)], axis=1)
    seen: Array = np.einsum("nij,nj->ni", axes, positions - file.positions("ListenerPosition", rows))
    if not seen.any(axis=1).all():
        raise ValueError(f"{file.source}: measurement {np.argmin(seen.any(axis=1))} was made where the listener is")
    return seen


def _axis(file: SofaFile, vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (lengths > 1e-6).all():
        raise ValueError(f"{file.source}: ListenerView and ListenerUp are not two directions")
    axis: Array = vectors / lengths
    return axis


def _left_first(file: SofaFile) -> bool:
    """Whether receiver 0 is the left ear: as ReceiverPosition says, else as the conventions have it."""
    ears = file.positions("ReceiverPosition", EARS, dimensions=3)
    return bool(ears[0, 1] >= ears[1, 1])
