"""The block pool: one owner per block, its reference count."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sigrack_engine.pool import BlockPool, Lease

KEEPERS: dict[str, Callable[[Any], Any]] = {
    "array": lambda view: view,
    "slice": lambda view: view[3:7],
    "column": lambda view: view[:, 1],
    "reshape": lambda view: view.T.reshape(-1),
    "memoryview": memoryview,
    "asarray": np.asarray,
    "transpose": lambda view: view.T,
}


def dispatch(pool: BlockPool, number: int, hook: Callable[[Any], Any]) -> Any:
    """Fill an array with `number`, hand it to `hook`, give it back; return what the hook kept."""
    lease = pool.get()
    lease.owner[:] = number
    kept = hook(lease.view)
    pool.done(lease)
    return kept


def test_without_keepers_the_pool_is_always_reused() -> None:
    """A hundred dispatches that keep nothing need one array; free + leased == capacity throughout."""
    pool = BlockPool(2, 64, capacity=4)
    owners = set()
    for number in range(100):
        dispatch(pool, number, lambda view: owners.add(id(view.base)))
        assert pool.capacity == pool.free + pool.leased

    assert 1 == len(owners)
    assert 0 == pool.fallbacks
    assert 4 == pool.free


@pytest.mark.parametrize("name", KEEPERS)
def test_what_a_hook_keeps_is_never_overwritten(name: str) -> None:
    """Whatever form of the block a hook keeps, its content stays, however many blocks follow."""
    pool = BlockPool(2, 64, capacity=4)
    kept = [dispatch(pool, number, KEEPERS[name]) for number in range(50)]

    assert [float(number) for number in range(50)] == [np.asarray(part).flat[0] for part in kept]
    assert 46 == pool.fallbacks
    assert (0, 4) == (pool.free, pool.leased)


@pytest.mark.parametrize("name", KEEPERS)
def test_arrays_come_back_when_they_are_let_go(name: str) -> None:
    """Once the plugin drops what it kept, the pool is whole again and serves from it."""
    pool = BlockPool(2, 64, capacity=4)
    kept = [dispatch(pool, number, KEEPERS[name]) for number in range(4)]
    kept.clear()
    before = pool.fallbacks
    for number in range(20):
        dispatch(pool, number, lambda view: None)

    assert before == pool.fallbacks
    assert 4 == pool.free


class TrustingPool(BlockPool):
    """The wrong way: takes every array back at the end of the dispatch."""

    def done(self, lease: Lease) -> None:
        """Never look at the count."""
        self._free.append(lease)


def test_negative_control_a_trusting_pool_overwrites() -> None:
    """The check above is able to fail: a pool that ignores the reference count overwrites kept blocks."""
    pool = TrustingPool(2, 64, capacity=4)
    kept = [dispatch(pool, number, KEEPERS["slice"]) for number in range(50)]

    assert [float(number) for number in range(50)] != [part.flat[0] for part in kept]
