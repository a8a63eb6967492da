"""The inbox: bounded, counted, one doorbell token however many records wait."""

import asyncio
import threading

import janus
import numpy as np

from sigrack_engine.inbox import Inbox, Post


def record(number: int) -> Post:
    """A record that carries its number."""
    return Post("source", "symbol", number, 0, 0, np.array([float(number)]))


def test_full_inbox_drops_the_newest_and_counts() -> None:
    """Beyond its capacity the inbox refuses, and posted == delivered + dropped + queued."""
    inbox = Inbox(capacity=10)
    accepted = [inbox.post(record(number)) for number in range(15)]

    assert [True] * 10 + [False] * 5 == accepted
    assert list(range(10)) == [post.ts_ns for post in inbox.take()]
    assert (15, 10, 5, 0) == (inbox.posted, inbox.delivered, inbox.dropped, inbox.queued)


def test_one_token_for_many_records() -> None:
    """While nobody drains, a thousand posts put one token into janus, not a thousand."""

    async def scenario() -> tuple[int, int, int]:
        bell: janus.Queue[None] = janus.Queue()
        inbox = Inbox()
        inbox.post(record(-1))
        inbox.attach(bell)
        for number in range(1000):
            inbox.post(record(number))
        first = bell.sync_q.qsize()
        await bell.async_q.get()
        drained = len(inbox.take())
        inbox.post(record(0))
        second = bell.sync_q.qsize()
        await bell.aclose()
        return first, drained, second

    assert (1, 1001, 1) == asyncio.run(scenario())


def test_posts_from_many_threads_are_all_accounted_for() -> None:
    """Eight threads post while one takes: every record is delivered or dropped, each thread's own in order."""
    inbox = Inbox(capacity=64)
    taken: list[Post] = []

    def post_many(base: int) -> None:
        for number in range(2000):
            inbox.post(record(base + number))

    threads = [threading.Thread(target=post_many, args=(10_000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += inbox.take()
    taken += inbox.take()

    assert 16_000 == inbox.posted == len(taken) + inbox.dropped
    for index in range(8):
        mine = [post.ts_ns for post in taken if post.ts_ns // 10_000 == index]
        assert sorted(mine) == mine
