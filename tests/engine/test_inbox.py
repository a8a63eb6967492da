"""The inbox: bounded, counted, one doorbell token however many records wait."""

import asyncio
import threading

import janus

from sigrack_engine.inbox import Inbox
from waiting import wait_until

Batch = tuple[int, ...]


def test_full_inbox_drops_the_newest_and_counts() -> None:
    """Beyond its capacity in records the inbox drops, and posted == delivered + dropped + refused + queued."""
    inbox = Inbox[Batch](capacity=10)
    accepted = [inbox.post((number, number)) for number in range(8)]
    inbox.refuse(3)

    assert [True] * 5 + [False] * 3 == accepted
    assert [(number, number) for number in range(5)] == inbox.take()
    assert (19, 10, 6, 3, 0) == (inbox.posted, inbox.delivered, inbox.dropped, inbox.refused, inbox.queued)


def test_an_empty_inbox_takes_a_batch_of_any_length() -> None:
    """One batch longer than the capacity passes when nothing waits, and not behind another one."""
    inbox = Inbox[Batch](capacity=2)

    assert (True, False) == (inbox.post((1, 2, 3)), inbox.post((4,)))


def test_a_patient_inbox_makes_threads_wait_and_loses_nothing() -> None:
    """In freewheel a thread that finds it full waits until there is room; the main thread never waits."""
    inbox = Inbox[Batch](capacity=2)
    inbox.patient = True
    poster = threading.Thread(target=lambda: [inbox.post((number,)) for number in range(50)])
    poster.start()
    taken: list[Batch] = []
    while poster.is_alive() or inbox.queued:
        assert inbox.queued <= 2
        taken += inbox.take()
    mine = [inbox.post((number,)) for number in range(5)]

    assert [(number,) for number in range(50)] == taken
    assert [True] * 5 == mine
    assert 0 == inbox.dropped


def test_giving_up_patience_lets_waiting_threads_go() -> None:
    """A thread that waits for room drops what it has, counted, as soon as patience ends."""
    inbox = Inbox[Batch](capacity=1)
    inbox.patient = True
    poster = threading.Thread(target=lambda: [inbox.post((number,)) for number in range(3)])
    poster.start()
    wait_until(lambda: inbox.posted == 2)
    inbox.give_up()
    poster.join()

    assert (3, 2, 1) == (inbox.posted, inbox.dropped, inbox.queued)


def test_one_token_for_many_records() -> None:
    """While nobody drains, a thousand posts put one token into janus, not a thousand."""

    async def scenario() -> tuple[int, int, int]:
        bell: janus.Queue[None] = janus.Queue()
        inbox = Inbox[Batch]()
        inbox.post((-1,))
        inbox.attach(bell)
        for number in range(1000):
            inbox.post((number,))
        first = bell.sync_q.qsize()
        await bell.async_q.get()
        drained = len(inbox.take())
        inbox.post((0,))
        second = bell.sync_q.qsize()
        await bell.aclose()
        return first, drained, second

    assert (1, 1001, 1) == asyncio.run(scenario())


def test_posts_from_many_threads_are_all_accounted_for() -> None:
    """Eight threads post while one takes: every record is delivered or dropped, each thread's own in order."""
    inbox = Inbox[Batch](capacity=64)
    taken: list[Batch] = []

    def post_many(base: int) -> None:
        for number in range(2000):
            inbox.post((base + number,))

    threads = [threading.Thread(target=post_many, args=(10_000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += inbox.take()
    taken += inbox.take()

    assert 16_000 == inbox.posted == len(taken) + inbox.dropped
    for index in range(8):
        mine = [number for (number,) in taken if number // 10_000 == index]
        assert sorted(mine) == mine
