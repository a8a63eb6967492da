"""Which products are made of adjacent filters, against the costs of all ways to part them, products computed and planned."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, combinations, pairwise

import numpy as np
import pytest

from sigrack_engine.compiler import Linear, compiled
from sigrack_engine.costs import parted
from sigrack_engine.fir import Fir

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


def cost(parts: Sequence[Linear], way: list[int], block: int) -> float:
    """Return what the convolvers of a way take by the core's model for each frame that comes in."""
    total, ratio = 0.0, 1
    for begin, end in pairwise(accumulate(way, initial=0)):
        product = compiled(parts[begin:end])
        fir = Fir(product.taps.astype(np.float32), phases=product.ratio, block=block * ratio)
        total += ratio * sum(stage.ns for stage in fir.stages)
        fir.close()
        ratio *= product.ratio
    return total


@pytest.mark.parametrize("seed", range(24))
def test_the_chosen_way_costs_least(seed: int) -> None:
    """Of all ways to part two to four random filters, none costs much less than the chosen one."""
    random = np.random.default_rng(seed)
    count = int(random.integers(2, 5))
    ratios = [4 if at == 0 and random.random() < 0.5 else 1 for at in range(count)]
    lengths = np.exp(random.uniform(0.0, np.log(30_000), count)).astype(int) + 1
    parts = [linear(random, str(random.choice(SHAPES)), int(n), r) for n, r in zip(lengths, ratios, strict=True)]
    block = int(2 ** random.integers(5, 13))
    costs = {tuple(way): cost(parts, way, block) for way in ways(count)}

    assert costs[tuple(parted(parts, block))] <= 1.1 * min(costs.values())


def test_neither_way_is_always_the_best() -> None:
    """One product is the best of filters that keep the channels apart; a long one stays alone before one that mixes them."""
    random = np.random.default_rng(1)
    long = linear(random, "alike", 60_000)

    assert [2] == parted([long, linear(random, "different", 500)], 256)
    assert [1, 1] == parted([long, linear(random, "full", 500)], 256)
    assert cost([long, long], [1, 1], 256) > 1.5 * cost([long, long], [2], 256)


def test_silence_and_single_filters_are_parted_too() -> None:
    """Filters of zeros cost nothing, and one filter is one product."""
    silent = Linear(np.zeros((2, 2, 10), np.float32))

    assert [1] == parted([silent], 64)
    assert 2 == sum(parted([silent, silent], 64))
