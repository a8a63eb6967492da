"""The block pool: one owner per block, its reference count."""

import weakref
from collections.abc import Callable
from dataclasses import replace
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
    assert (0, 0) == (pool.fallbacks, pool.escapes)
    assert 4 == pool.free


@pytest.mark.parametrize("name", KEEPERS)
def test_what_a_hook_keeps_is_never_overwritten(name: str) -> None:
    """Whatever form of the block a hook keeps, its content stays, however many blocks follow."""
    pool = BlockPool(2, 64, capacity=4)
    kept = [dispatch(pool, number, KEEPERS[name]) for number in range(50)]

    assert [float(number) for number in range(50)] == [np.asarray(part).flat[0] for part in kept]
    assert (46, 50) == (pool.fallbacks, pool.escapes)
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


class FinaliserPool(BlockPool):
    """Wrong: what is handed out takes itself back when it is collected."""

    def __post_init__(self) -> None:
        """Start with arrays that have not been handed out."""
        super().__post_init__()
        self._free = [replace(lease, view=lease.owner.T) for lease in self._free]

    def get(self) -> Lease:
        """Hand out a fresh view with a finaliser."""
        lease = super().get()
        view = lease.owner.T.view()
        view.flags.writeable = False
        weakref.finalize(view, self._free.append, lease).atexit = False
        return replace(lease, view=view)

    def done(self, lease: Lease) -> None:
        """Leave it to the finaliser."""


class TwoOwnersPool(FinaliserPool):
    """Wrong: the finaliser takes the block back, and so does the end of the dispatch."""

    def done(self, lease: Lease) -> None:
        """Take it back here, too."""
        self._free.append(replace(lease, view=lease.owner.T))


def overwritten(pool: BlockPool, keeper: Callable[[Any], Any]) -> int:
    """Of 50 blocks that a hook keeps, how many do not hold what they held."""
    kept = [dispatch(pool, number, keeper) for number in range(50)]
    return sum(float(number) != np.asarray(part).flat[0] for number, part in enumerate(kept))


def handed_out_twice(pool: BlockPool) -> bool:
    """Whether two dispatches at the same time may get the same memory, after a few that kept nothing."""
    for number in range(3):
        dispatch(pool, number, lambda view: None)
    leases = [pool.get() for _ in range(pool.capacity)]
    return len({lease.address for lease in leases}) < len(leases)


@pytest.mark.parametrize("kind", [TrustingPool, FinaliserPool, TwoOwnersPool])
def test_negative_control_a_wrong_pool_overwrites_a_kept_slice(kind: type[BlockPool]) -> None:
    """A pool that trusts, or whose finaliser sits on the array that it hands out, loses kept slices; this one keeps all 50."""
    assert 0 == overwritten(BlockPool(2, 64, capacity=4), KEEPERS["slice"])
    assert 0 < overwritten(kind(2, 64, capacity=4), KEEPERS["slice"])


def test_negative_control_two_owners_hand_a_block_out_twice() -> None:
    """With two owners the same memory is lent to two dispatches at once; with one, finaliser or count, it never is."""
    assert not handed_out_twice(BlockPool(2, 64, capacity=4))
    assert not handed_out_twice(FinaliserPool(2, 64, capacity=4))
    assert handed_out_twice(TwoOwnersPool(2, 64, capacity=4))
