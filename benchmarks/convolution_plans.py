"""Whether the stages that the core's cost model chose are the best: others take turns with them."""

import itertools
import operator
from collections.abc import Iterator, Sequence
from statistics import median

from convolution_cases import LONGEST_PARTITION, Task
from convolution_streams import Ours
from harness import interleave, paired

__all__ = ["compare", "neighbours"]

SHORTEST_PARTITION, MOST_STAGES = 256, 4
STEADY_GROWTH = (4, 8, 16)


def _candidates(chosen: Sequence[int], block: int) -> Iterator[list[int]]:
    """Yield lists, also some that cannot be: one stage larger, smaller, less, more; and steady growth from the block on."""
    yield from ([*chosen[:s], size, *chosen[s + 1 :]] for s in range(len(chosen)) for size in (chosen[s] // 2, chosen[s] * 2))
    yield from ([*chosen[:s], *chosen[s + 1 :]] for s in range(len(chosen)))
    yield from ([*chosen, chosen[-1] * growth] for growth in (2, 4, 8))
    first = max(SHORTEST_PARTITION, block)
    for growth in STEADY_GROWTH:
        yield [size for size in (first * growth**s for s in range(MOST_STAGES)) if size <= LONGEST_PARTITION]


def _possible(partitions: Sequence[int]) -> bool:
    bounds = bool(partitions) and SHORTEST_PARTITION <= partitions[0] and partitions[-1] <= LONGEST_PARTITION
    return bounds and len(partitions) <= MOST_STAGES and all(b >= 2 * a for a, b in itertools.pairwise(partitions))


def neighbours(chosen: Sequence[int], block: int) -> list[list[int]]:
    """Return the lists to compare with `chosen`, each once."""
    different = {tuple(partitions): None for partitions in _candidates(chosen, block) if _possible(partitions)}
    different.pop(tuple(chosen), None)
    return [list(partitions) for partitions in different]


def compare(task: Task, *, rounds: int, seconds: float, most: int | None = None) -> tuple[float, dict[str, float]]:
    """Return what the chosen stages lose against the best tried (0.1: 10 % more time), and the times of all over theirs."""
    streams = _streams(task, most)
    for stream in streams.values():
        stream.warm_up(task)
        stream.last_for(seconds)
    samples = interleave({name: stream.ns_per_frame for name, stream in streams.items()}, rounds)
    for stream in streams.values():
        stream.close()
    chosen = next(iter(samples))
    ratios = {name: median(paired(operator.truediv, found, samples[chosen])) for name, found in samples.items()}
    return 1 / min(ratios.values()) - 1, ratios


def _streams(task: Task, most: int | None) -> dict[str, Ours]:
    """Return convolvers by their stages, the chosen ones first; a list whose last stages get no taps is another's double."""
    first = Ours(task)
    streams = {str(first.partitions): first}
    for partitions in neighbours(first.partitions, task.case.block)[:most]:
        stream = Ours(task, partitions)
        if streams.setdefault(str(stream.partitions), stream) is not stream:
            stream.close()
    return streams
