"""Which products are made of adjacent filters, against the costs of all ways to part them, products computed and planned."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, combinations, pairwise
from math import inf, prod

import numpy as np
import pytest

from sigrack_engine.compiler import Linear, compiled
from sigrack_engine.costs import Forms, cheaper, parted
from sigrack_engine.fir import Fir
from sigrack_engine.recursion import Recursion
from sigrack_plugins.api import BiquadStage

SHAPES = "alike", "different", "mirrored", "full"


def linear(random: np.random.Generator, shape: str, taps: int, ratio: int = 1) -> Linear:
    """Return a filter of noise that falls by 80 dB: of each channel alone, or across."""
    fall = 10.0 ** (-4.0 * np.arange(taps) / taps)
    made = random.standard_normal((4, taps)) * fall
    own, other, third, fourth = made.astype(np.float32)
    zero = np.zeros_like(own)
    rows = {
        "alike": [[own, zero], [zero, own]],
        "different": [[own, zero], [zero, other]],
        "mirrored": [[own, other], [other, own]],
        "full": [[own, other], [third, fourth]],
    }
    return Linear(np.array(rows[shape]), ratio)


def ways(count: int) -> Iterator[list[int]]:
    """Yield all ways to part so many things that stand in a row: how many go into each part."""
    for size in range(count):
        for cuts in combinations(range(1, count), size):
            yield [end - begin for begin, end in pairwise((0, *cuts, count))]


def biquads(sections: int) -> Recursion:
    """Return a recursion of so many sections in each of two channels."""
    return Recursion((BiquadStage(np.eye(2), [0, 0], [[(1.0, 0.0, 0.0, 0.0, 0.0)] * sections] * 2),))


def cost(parts: Sequence[Forms], way: list[int], block: int) -> float:
    """Return what the convolvers and biquads of a way take by the models for each frame that comes in."""
    total, ratio = 0.0, 1
    for begin, end in pairwise(accumulate(way, initial=0)):
        recursion = parts[begin].recursion if end - begin == 1 else None
        ns = [recursion.ns] if recursion else []
        linears = [part.linear for part in parts[begin:end] if part.linear]
        if len(linears) == end - begin:
            product = compiled(linears)
            fir = Fir(product.taps.astype(np.float32), phases=product.ratio, block=block * ratio)
            ns.append(sum(stage.ns for stage in fir.stages))
            fir.close()
        total += ratio * min(ns, default=inf)
        ratio *= prod(part.ratio for part in parts[begin:end])
    return total


def recursive(random: np.random.Generator, one: Linear) -> Forms:
    """Let a filter that keeps the rate have biquads, too, or instead of its taps, or not."""
    if one.ratio > 1 or random.random() < 0.5:
        return Forms(one)
    return Forms(one if random.random() < 0.7 else None, biquads(int(random.integers(0, 40))))


@pytest.mark.parametrize("seed", range(24))
def test_the_chosen_way_costs_least(seed: int) -> None:
    """Of all ways to part two to four random filters, none costs much less than the chosen one."""
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 5))
    ratios = [4 if at == 0 and random.random() < 0.5 else 1 for at in range(count)]
    lengths = np.exp(random.uniform(0.0, np.log(30_000), count)).astype(int) + 1
    linears = [linear(random, str(random.choice(SHAPES)), int(n), r) for n, r in zip(lengths, ratios, strict=True)]
    parts = [recursive(random, one) for one in linears]
    block = int(2 ** random.integers(5, 13))
    costs = {tuple(way): cost(parts, way, block) for way in ways(count)}

    assert costs[tuple(parted(parts, block))] <= 1.1 * min(costs.values())


def test_neither_way_is_always_the_best() -> None:
    """One product is the best of filters that keep the channels apart; a long one stays alone before one that mixes them."""
    random = np.random.default_rng(1)
    long = Forms(linear(random, "alike", 60_000))

    assert [2] == parted([long, Forms(linear(random, "different", 500))], 256)
    assert [1, 1] == parted([long, Forms(linear(random, "full", 500))], 256)
    assert cost([long, long], [1, 1], 256) > 1.5 * cost([long, long], [2], 256)


def test_biquads_are_folded_where_that_costs_less() -> None:
    """Beside a long filter short taps cost next to nothing; long ones cost more than biquads; two with biquads stay apart."""
    random = np.random.default_rng(1)
    long, short, ringing = (linear(random, "alike", taps) for taps in (60_000, 500, 50_000))

    assert [2] == parted([Forms(long), Forms(short, biquads(5))], 256)
    assert [1, 1] == parted([Forms(long), Forms(ringing, biquads(1))], 256)
    assert [1, 1] == parted([Forms(long), Forms(None, biquads(5))], 256)
    assert [1, 1] == parted([Forms(ringing, biquads(5)), Forms(ringing, biquads(5))], 256)
    assert isinstance(cheaper(Forms(ringing, biquads(5)), 256), Recursion)
    assert cheaper(Forms(short, biquads(500)), 256) is short


def test_silence_and_single_filters_are_parted_too() -> None:
    """Filters of zeros cost nothing, and one filter is one product."""
    silent = Forms(Linear(np.zeros((2, 2, 10), np.float32)))

    assert [1] == parted([silent], 64)
    assert 2 == sum(parted([silent, silent], 64))
