"""What adjacent filters would cost to run, multiplied or as biquads, without computing it; and which products to make."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from operator import mul

import numpy as np
import numpy.typing as npt

from sigrack_engine.compiler import NEGLIGIBLE_DB, Linear, length
from sigrack_engine.core import FirSpec, lib
from sigrack_engine.recursion import Recursion

__all__ = ["MOST_TAPS", "Forms", "cheaper", "cost_ns", "parted"]

MOST_TAPS = 4 << 20
"""FIR_MAX_TAPS: a longer product cannot be run."""
BINS = 512
"""Of the envelope of all filters together: how finely their decay is looked at."""


@dataclass(frozen=True, slots=True)
class Forms:
    """As what a linear slot may run: it has at least one form."""

    linear: Linear | None
    """Taps, which may be multiplied with those beside them; None: they are too many."""
    recursion: Recursion | None = None
    """Biquads, which run by themselves; None: it has none."""

    @property
    def ratio(self) -> int:
        """Frames that go out for each that comes in."""
        return self.linear.ratio if self.linear else 1


Label = tuple[object, ...]
"""Tells filters apart: equal ones have equal labels. Empty: all zeros."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """What is known of a filter without its taps."""

    labels: tuple[tuple[Label, ...], ...]
    """Of each path, by output and input."""
    energy: npt.NDArray[np.float64]
    """Of all paths together, in bins that are equally long for all filters."""
    ratio: int
    count: int
    """Taps of a path, before the end of a product is cut."""

    def then(self, other: "Sketch") -> "Sketch":
        """Return the sketch of the product, `other` being the later one."""
        inputs = range(len(self.labels[0]))
        labels = tuple(tuple(_path(self, row, i) for i in inputs) for row in other.labels)
        energy = np.convolve(self.energy, other.energy)
        return Sketch(labels, energy, self.ratio * other.ratio, (self.count - 1) * other.ratio + other.count)


def cost_ns(form: Linear | Recursion, block: int) -> float:
    """Return what a filter by itself takes for each frame that comes in, by the cost models. [any]"""
    if isinstance(form, Recursion):
        return form.ns
    return _cost(_sketch(form, 0, form.taps.shape[2]), block, 0, whole=True)


def cheaper(forms: Forms, block: int) -> Linear | Recursion:
    """Return the form that takes less by itself. [any]"""
    if forms.linear is None or (forms.recursion and forms.recursion.ns < cost_ns(forms.linear, block)):
        assert forms.recursion is not None
        return forms.recursion
    return forms.linear


def parted(parts: Sequence[Forms], block: int) -> list[int]:
    """Return which products to make of adjacent filters so that they cost least by the core's model: how many go into each. [any]

    `block`: frames that come in at once. A filter that makes four paths of two, behind a long one, is better left alone: the long
    one would have to be run four times; and so is one that costs less as biquads. Raises nothing: a single filter is always one.
    """
    ratios = list(accumulate((part.ratio for part in parts), mul, initial=1))
    linears = [part.linear for part in parts if part.linear]
    frames = -(-length(linears) // (BINS * ratios[-1]))  # of the input, in a bin
    sketches = [_sketch(part.linear, at, frames * ratios[at + 1]) if part.linear else None for at, part in enumerate(parts)]
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for end in range(1, len(parts) + 1):
        found: list[tuple[float, list[int]]] = []
        sketch: Sketch | None = None
        for begin in reversed(range(end)):
            before, single = sketches[begin], end - begin == 1
            sketch = before if single else before.then(sketch) if before and sketch else None
            ns = _cost(sketch, block * ratios[begin], frames * ratios[end], whole=single) if sketch else inf
            if single and (recursion := parts[begin].recursion):
                ns = min(ns, recursion.ns)
            cost, chosen = best[begin]
            found.append((cost + ratios[begin] * ns, [*chosen, end - begin]))
        best.append(min(found))
    return best[-1][1]


def _cost(sketch: Sketch, block: int, step: int, *, whole: bool) -> float:
    """Return what a product would take for each frame that comes in; `step` taps are a bin. `whole`: its end is not cut."""
    if sketch.count > MOST_TAPS and not whole:
        return inf
    count = sketch.count if whole else _kept(sketch, step)
    labels = sketch.labels
    paths = [label for row in labels for label in row if label]
    distinct = len(set(paths))
    used_in = sum(any(column) for column in zip(*labels, strict=True))
    used_out = sum(any(row) for row in labels)
    if len(paths) == 4 and len(labels) == 2 and labels[0] == labels[1][::-1]:
        paths, distinct = paths[:2], 2  # the core runs the sum and the difference of both inputs
    spec = FirSpec(inputs=len(labels[0]), outputs=len(labels), phases=sketch.ratio, count=count, block=block)
    return float(lib.core_fir_model(spec, len(paths), distinct, used_in, used_out))


def _kept(sketch: Sketch, step: int) -> int:
    """Return how many taps a product will have when its end is cut."""
    most = np.sqrt(sketch.energy * step)  # that taps of this energy can add up to
    rest = most[::-1].cumsum()[::-1]
    bins = int(np.count_nonzero(rest > most.sum() * 10 ** (NEGLIGIBLE_DB / 20)))
    return min(max(bins * step, 1), sketch.count)


def _path(earlier: Sketch, row: tuple[Label, ...], i: int) -> Label:
    """Return the label of the path from input `i` to the output of a later filter that has `row`."""
    ways = [(later, before[i]) for later, before in zip(row, earlier.labels, strict=True) if later and before[i]]
    return tuple(sorted(ways, key=repr))


def _sketch(part: Linear, number: int, step: int) -> Sketch:
    """Look at filter number `number`; `step` taps are one bin of all envelopes."""
    outputs, inputs, count = part.taps.shape
    known: list[npt.NDArray[np.floating]] = []
    labels = tuple(tuple(_label(part.taps[o, i], known, number) for i in range(inputs)) for o in range(outputs))
    squares = np.square(part.taps, dtype=np.float64).sum(axis=(0, 1))
    padded = np.zeros(-(-count // step) * step)
    padded[:count] = squares
    return Sketch(labels, padded.reshape(-1, step).sum(axis=1), part.ratio, count)


def _label(taps: "npt.NDArray[np.floating]", known: "list[npt.NDArray[np.floating]]", number: int) -> Label:
    if not taps.any():
        return ()
    for index, other in enumerate(known):
        if np.array_equal(taps, other):
            return (number, index)
    known.append(taps)
    return (number, len(known) - 1)
