"""Filters given by their coefficients, split into sections of the second order."""

import numpy as np
import numpy.typing as npt

from sigrack_plugins._equalizer.commands import Iir
from sigrack_plugins.api import Biquad

__all__ = ["split"]

Array = npt.NDArray[np.float64]

SAME = 1e-10
"""How far the sections' product may be from the coefficients, against the largest of them."""


def split(command: Iir) -> list[Biquad]:
    """Return sections whose product is the filter. Raises ValueError in one line if it is unstable or cannot be split. [any]"""
    with np.errstate(over="ignore"):
        b, a = (np.array(row) / command.denominator[0] for row in (command.numerator, command.denominator))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("IIR: the coefficients are too far apart")
    radius = max(np.abs(np.roots(a)), default=0.0)
    if not radius < 1.0:
        raise ValueError(f"IIR: the filter is unstable: it has a pole at a radius of {radius:.6g}, not below 1")
    if len(a) < 3:
        return [(float(b[0]), float(b[1]), 0.0, float(a[1]), 0.0)]
    if len(a) == 3:
        return [(float(b[0]), float(b[1]), float(b[2]), float(a[1]), float(a[2]))]
    return _sections(b, a)


def _sections(b: Array, a: Array) -> list[Biquad]:
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # found below
            numerators, denominators = _quadratics(b), _quadratics(a)
            same = _is_product(numerators, b) and _is_product(denominators, a)
    except np.linalg.LinAlgError:
        same = False
    if not same:
        raise ValueError("IIR: rounding keeps this filter from being split into sections: give it as several of a lower order")
    return [(b0, b1, b2, a1, a2) for (b0, b1, b2), (_, a1, a2) in zip(numerators, denominators, strict=True)]


def _quadratics(polynomial: Array) -> list[tuple[float, float, float]]:
    """Factors of the second order in 1/z, those of large roots first. Leading zeros are a delay: factors 1/z."""
    order = len(polynomial) - 1
    count = (order + 1) // 2
    if not polynomial.any():
        return [(0.0, 0.0, 0.0)] * count
    lead = int(np.flatnonzero(polynomial)[0])
    roots = np.roots(polynomial)
    pairs = sorted((root for root in roots if root.imag > 0), key=abs, reverse=True)
    real = sorted((root.real for root in roots if root.imag == 0), key=abs, reverse=True)
    linear = [(1.0, -root) for root in real] + [(0.0, 1.0)] * lead + [(1.0, 0.0)] * (2 * count - order)
    factors = [(1.0, -2.0 * root.real, abs(root) ** 2) for root in pairs]
    factors += [(p * r, p * s + q * r, q * s) for (p, q), (r, s) in zip(linear[::2], linear[1::2], strict=True)]
    first = tuple(float(value * polynomial[lead]) for value in factors[0])
    return [(first[0], first[1], first[2]), *((float(p), float(q), float(r)) for p, q, r in factors[1:])]


def _is_product(factors: list[tuple[float, float, float]], polynomial: Array) -> bool:
    product = np.ones(1)
    for factor in factors:
        product = np.convolve(product, factor)
    error = np.abs(product[: len(polynomial)] - polynomial).max()
    return bool(error <= SAME * np.abs(polynomial).max())
