"""What mixes, delays and second-order sections do to a signal, sample after sample, in long double."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["recursion", "section", "through"]

Long = npt.NDArray[np.longdouble]
Stage = tuple["npt.ArrayLike", Sequence[int], Sequence[Sequence[Sequence[float]]]]
"""A mix (out, in); for each channel out a delay in frames and its sections."""


def section(coefficients: Sequence[float], signal: "npt.ArrayLike", kind: type[np.floating] = np.longdouble) -> Long:
    """Return what one section (b0, b1, b2, a1, a2) makes of a signal, its state and all else of type `kind`: direct form II."""
    b0, b1, b2, a1, a2 = (kind(value) for value in coefficients)
    w1 = w2 = kind(0)
    made = []
    for x in np.asarray(signal, kind):
        w = x - a1 * w1 - a2 * w2
        made.append(b0 * w + b1 * w1 + b2 * w2)
        w2, w1 = w1, w
    return np.array(made, np.longdouble)


def recursion(sections: Iterable[Sequence[float]], signal: "npt.ArrayLike") -> Long:
    """Return what sections one after the other make of a signal."""
    result = np.asarray(signal, np.longdouble)
    for coefficients in sections:
        result = section(coefficients, result)
    return result


def through(stages: Iterable[Stage], signal: "npt.ArrayLike") -> Long:
    """Return what stages make of a signal of shape (frames, channels)."""
    result = np.asarray(signal, np.longdouble)
    for mix, delays, rows in stages:
        factors = np.asarray(mix, np.longdouble)
        columns = []
        for factor, late, row in zip(factors, delays, rows, strict=True):
            mixed = (result * factor).sum(axis=1)
            columns.append(recursion(row, np.concatenate([np.zeros(late, np.longdouble), mixed])[: len(mixed)]))
        result = np.array(columns).T
    return result
