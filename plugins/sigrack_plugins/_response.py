"""The frequency response of a recursive filter, where it may be highest."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sigrack_plugins.api import Biquad, BiquadStage

__all__ = ["responses"]

Array = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complex128]

EVEN, LOGARITHMIC = 1 << 12, 1 << 13
"""Points of the grid that any filter gets."""
LOWEST = 1e-8
"""The first of the logarithmic ones, in turns per frame: 1 Hz at 100 MHz."""
NEAR, NEAREST, FARTHEST = 8192, 0.02, 200.0
"""Points around all resonances, each in the middle of some on both sides, so many halves of its width from it."""
PER_TOOTH = 8
"""Points for each tooth of the comb that a delay beside a shorter one makes."""
MOST_TEETH = 1 << 17
"""Of more teeth it is not looked where they are: they count as if some of them were everywhere."""
AT_ONCE = 1 << 12
"""Frequencies that are computed at once."""


def responses(stages: Sequence[BiquadStage]) -> Iterator[Spectrum]:
    """Yield parts of the response on a grid, complex of shape (out, in, frequencies).

    With delays that are too long for the grid they are real: what the paths add up to where their phases agree.
    """
    delays = sum(max(stage.delay_frames) for stage in stages) if len(stages) > 1 else 0  # in one stage no two paths meet
    phases = delays <= MOST_TEETH
    turns = _grid(stages, PER_TOOTH * delays if phases else 0)
    for start in range(0, len(turns), AT_ONCE):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what no number holds is infinite, or none
            part = _respond(stages, turns[start : start + AT_ONCE], phases=phases)
        yield part


def _grid(stages: Sequence[BiquadStage], teeth: int) -> Array:
    """Frequencies in turns per frame, 0 to 1/2."""
    points = [np.linspace(0.0, 0.5, max(EVEN, teeth) + 1), np.geomspace(LOWEST, 0.5, LOGARITHMIC)]
    known = {section for stage in stages for row in stage.sections for section in row}
    near = np.geomspace(NEAREST, FARTHEST, min(max(NEAR // max(len(known), 1), 8), 96))
    near = np.concatenate([-near, [0.0], near])
    for section in known:
        *_, a1, a2 = section
        if (spread := a2 - a1 * a1 / 4.0) > 0.0:
            centre, half = np.arctan2(np.sqrt(spread), -a1 / 2.0), 1.0 - np.sqrt(a2)
            points.append((centre + half * near) / (2.0 * np.pi))
    grid: Array = np.unique(np.concatenate(points))
    return grid[(grid >= 0.0) & (grid <= 0.5)]


def _respond(stages: Sequence[BiquadStage], turns: Array, *, phases: bool) -> Spectrum:
    # 1 - 1/z: around it the polynomials lose nothing at low frequencies.
    difference = 2j * np.sin(np.pi * turns) * np.exp(-1j * np.pi * turns)
    inputs = np.asarray(stages[0].mix).shape[1]
    paths = np.repeat(np.eye(inputs, dtype=np.complex128)[:, :, None], len(turns), axis=2)
    for stage in stages:
        mix = np.asarray(stage.mix, np.float64)
        paths = np.einsum("om,mif->oif", mix if phases else np.abs(mix), paths)
        rows: dict[tuple[Biquad, ...], Spectrum] = {}
        for out, (late, row) in enumerate(zip(stage.delay_frames, stage.sections, strict=True)):
            if (key := tuple(row)) not in rows:
                rows[key] = _row(row, difference)
            own = rows[key]
            paths[out] *= own * np.exp(-2j * np.pi * (turns * late % 1.0)) if phases else np.abs(own)
    return paths


def _row(row: Sequence[Biquad], difference: Spectrum) -> Spectrum:
    response = np.ones(len(difference), np.complex128)
    for section in row:
        response *= _section(section, difference)
    return response


def _section(section: Biquad, difference: Spectrum) -> Spectrum:
    b0, b1, b2, a1, a2 = section
    return _polynomial(b0, b1, b2, difference) / _polynomial(1.0, a1, a2, difference)


def _polynomial(c0: float, c1: float, c2: float, difference: Spectrum) -> Spectrum:
    """c0 + c1 / z + c2 / z^2 as a polynomial in 1 - 1/z."""
    result: Spectrum = (c0 + c1 + c2) - difference * ((c1 + 2.0 * c2) - c2 * difference)
    return result
