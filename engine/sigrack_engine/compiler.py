"""Adjacent linear filters become one: their product as taps of a matrix FIR."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

__all__ = ["Linear", "compiled", "length"]

Taps = npt.NDArray[np.float64]

NEGLIGIBLE_DB = -150.0
"""What of a product's end is this far below all of it is cut off."""


@dataclass(frozen=True, slots=True)
class Linear:
    """What a linear slot does, at the rate it puts out."""

    taps: "npt.NDArray[np.floating]"
    """Shape (outputs, inputs, taps)."""
    ratio: int = 1
    """Frames that go out for each that comes in: the input is taken with zeros between its frames."""
    latency_frames: int = 0
    """Of what goes out."""

    @property
    def memory_frames(self) -> int:
        """How far back input matters, in frames that come in."""
        return -(-len(self.taps[0, 0]) // self.ratio)


def length(parts: Sequence[Linear]) -> int:
    """Return how many taps the product of `parts`, in the order of the signal, has before its end is cut. [any]"""
    taps = 1
    for part in parts:
        taps = (taps - 1) * part.ratio + part.taps.shape[2]
    return taps


def compiled(parts: Sequence[Linear]) -> Linear:
    """Return one filter that does what `parts` do one after the other. Computed in float64. [worker]"""
    if len(parts) == 1:
        return parts[0]
    count = length(parts)
    span = 1 << (count - 1).bit_length()
    later = [prod(part.ratio for part in parts[index + 1 :]) for index in range(len(parts))]
    product: npt.NDArray[np.complex128] | None = None
    for part, ratio in zip(parts, later, strict=True):
        spectrum = _spectrum(part.taps, ratio, span)
        product = spectrum if product is None else np.einsum("omf,mif->oif", spectrum, product)
    assert product is not None
    taps = np.fft.irfft(product, span)[..., :count]
    latency = sum(part.latency_frames * ratio for part, ratio in zip(parts, later, strict=True))
    return Linear(_cut(taps), prod(part.ratio for part in parts), latency)


def _spectrum(taps: "npt.NDArray[np.floating]", ratio: int, span: int) -> npt.NDArray[np.complex128]:
    """Return the spectrum of taps with ratio - 1 zeros after each."""
    spread = np.zeros((*taps.shape[:2], span))
    spread[..., : taps.shape[2] * ratio : ratio] = taps
    return np.fft.rfft(spread)


def _cut(taps: Taps) -> Taps:
    """Leave out the end that nobody hears: what all of it could add to an output is NEGLIGIBLE_DB below the largest gain."""
    loudest = np.abs(taps).sum(axis=(1, 2)).max()
    rest = np.abs(taps).sum(axis=(0, 1))[::-1].cumsum()[::-1]
    kept = int(np.count_nonzero(rest > loudest * 10 ** (NEGLIGIBLE_DB / 20)))
    return np.ascontiguousarray(taps[..., : max(kept, 1)])
