"""Records from native code to Python."""

import ctypes as c
import threading
from pathlib import Path

from children import python
from sigrack_engine.bell import Bell
from sigrack_engine.core import lib
from sigrack_engine.results import CALLBACK_ADDRESS, POST_ADDRESS, PostCounts, ResultRing
from waiting import wait_until

POST = c.CFUNCTYPE(c.c_int, c.c_uint64, c.c_uint32, c.c_uint64, c.c_void_p, c.c_uint32)(POST_ADDRESS)
CALLBACK = c.CFUNCTYPE(None, c.c_char_p, c.c_longlong, c.c_void_p, c.c_int, c.c_uint64)(CALLBACK_ADDRESS)


def values(*numbers: float) -> "c.Array[c.c_double]":
    """A C array."""
    return (c.c_double * len(numbers))(*numbers)


def settled(counts: PostCounts) -> bool:
    """Whether every record has become exactly one thing."""
    return counts.posted == counts.delivered + counts.dropped + counts.refused + counts.stale + counts.queued


def post(ring: ResultRing, times: int) -> None:
    """Post records of one value."""
    for number in range(times):
        POST(ring.cookie, 0, number, values(1.0), 1)


def test_records_arrive_as_they_were_posted() -> None:
    """Symbol, time, frame, count and values come through; taken records may be kept, and nobody can change them."""
    ring = ResultRing(Bell(), ["A", "B"], None, capacity=8)
    CALLBACK(b"B", 123, values(1.0, 2.0), 2, ring.cookie)
    POST(ring.cookie, 0, 77, values(3.0), 1)
    taken = ring.take(10)
    assert taken is not None
    records, count = taken
    for _ in range(20):
        POST(ring.cookie, 0, 1, values(-1.0), 1)
        ring.take(10)

    assert 2 == count
    assert not records.flags.writeable
    assert [1, 0] == records["symbol"].tolist()
    assert [123, 0] == records["ts_ns"].tolist()
    assert [0, 77] == records["frame"].tolist()
    assert [[1.0, 2.0], [3.0]] == [row[:n].tolist() for row, n in zip(records["values"], records["count"], strict=True)]


def test_everything_that_is_not_delivered_is_counted() -> None:
    """Unknown symbols and too many values are refused, a full ring drops, a shut one counts late calls; the sum is exact."""
    ring = ResultRing(Bell(), ["A"], None, capacity=4, max_values=2)
    CALLBACK(b"C", 0, values(1.0), 1, ring.cookie)
    CALLBACK(b"D", 0, values(1.0), 1, ring.cookie)
    CALLBACK(b"A", 0, values(1.0, 2.0, 3.0), 3, ring.cookie)
    POST(ring.cookie, 9, 0, values(1.0), 1)
    for _ in range(6):
        POST(ring.cookie, 0, 0, values(1.0), 1)
    taken = ring.take(3)
    counts, late = ring.counts, lib.core_handle_late()
    ring.shut()
    CALLBACK(b"A", 0, values(1.0), 1, ring.cookie)

    assert taken is not None
    assert 3 == len(taken[0]) == taken[1]
    assert (10, 3, 2, 4, 0, 1) == tuple(getattr(counts, name) for name in counts.__slots__)
    assert settled(counts)
    assert "C" == ring.unknown
    assert ("A", 3) == ring.too_long
    assert late + 1 == lib.core_handle_late()
    assert ring.close()


def test_a_late_call_after_the_ring_is_freed_is_refused() -> None:
    """A callback with the cookie of a freed ring touches nothing, also when its slot serves another ring by then."""
    first = ResultRing(Bell(), ["A"], None)
    cookie = first.cookie
    assert first.close()
    others = [ResultRing(Bell(), ["A"], None, capacity=2)]
    while others[-1].cookie % 4096 != cookie % 4096:
        others.append(ResultRing(Bell(), ["A"], None, capacity=2))
    late = lib.core_handle_late()
    CALLBACK(b"A", 0, values(1.0), 1, cookie)
    posted = {ring.counts.posted for ring in others}
    for ring in others:
        assert ring.close()

    assert late + 1 == lib.core_handle_late()
    assert {0} == posted


def test_nothing_is_too_long_until_it_is() -> None:
    """A record of max_values values fits; the first longer one is named by its symbol and length, also when the ring is freed."""
    ring = ResultRing(Bell(), ["A", "B"], None, max_values=2)
    CALLBACK(b"B", 0, values(1.0, 2.0), 2, ring.cookie)
    before = ring.too_long
    CALLBACK(b"B", 0, values(1.0, 2.0, 3.0), 3, ring.cookie)
    POST(ring.cookie, 0, 0, values(1.0, 2.0, 3.0, 4.0), 4)
    found = ring.too_long
    assert ring.close()

    assert before is None
    assert ("B", 3) == found == ring.too_long


def test_what_is_taken_may_be_kept() -> None:
    """Taken records are a copy: they do not change with the ring, and outlive it."""
    ring = ResultRing(Bell(), ["A"], None, capacity=2)
    post(ring, 2)
    taken = ring.take(2)
    assert taken is not None
    records = taken[0]
    for number in (7, 8):
        POST(ring.cookie, 0, number, values(-1.0), 1)
    again = ring.take(2)
    assert ring.close()

    assert again is not None
    assert [0, 1] == records["frame"].tolist()
    assert [1.0, 1.0] == records["values"][:, 0].tolist()
    assert [-1.0, -1.0] == again[0]["values"][:, 0].tolist()


def test_what_is_discarded_is_stale() -> None:
    """Discarding empties the ring into `stale`, across the end of its memory too; what is posted afterwards is delivered."""
    ring = ResultRing(Bell(), ["A"], None, capacity=8)
    post(ring, 5)
    ring.take(5)
    post(ring, 7)
    ring.discard()
    counts = ring.counts
    post(ring, 1)
    taken = ring.take(8)

    assert PostCounts(posted=12, delivered=5, dropped=0, refused=0, stale=7, queued=0) == counts
    assert taken is not None
    assert 1 == taken[1]
    assert ring.close()


def test_a_freed_ring_keeps_its_account() -> None:
    """Releasing frees once, however often it is asked; what was queued is stale, the sum exact, and nothing can be taken."""
    ring = ResultRing(Bell(), ["A"], None, capacity=4)
    post(ring, 6)
    ring.take(1)
    released = [ring.release() for _ in range(3)]
    ring.discard()
    ring.set_patient(True)

    assert [True, True, True] == released
    assert PostCounts(posted=6, delivered=1, dropped=2, refused=0, stale=3, queued=0) == ring.counts
    assert settled(ring.counts)
    assert 0 == ring.queued
    assert ring.take(4) is None
    assert ring.close()


def test_releasing_waits_for_nobody() -> None:
    """An engine that waits in a full, patient ring is let go by the release, which frees when it has left; its post drops."""
    ring = ResultRing(Bell(), ["A"], None, capacity=2)
    ring.set_patient(True)
    engine = threading.Thread(target=lambda: [CALLBACK(b"A", n, values(1.0), 1, ring.cookie) for n in range(3)])
    engine.start()
    wait_until(lambda: ring.counts.posted == 3)
    before = ring.counts
    wait_until(ring.release)
    engine.join()

    assert PostCounts(posted=3, delivered=0, dropped=0, refused=0, stale=0, queued=2) == before
    assert PostCounts(posted=3, delivered=0, dropped=1, refused=0, stale=2, queued=0) == ring.counts


def test_a_patient_ring_waits_for_room() -> None:
    """An engine that meets a full ring waits until there is room, and no record is lost; a shut ring lets it go."""
    ring = ResultRing(Bell(), ["A"], None, capacity=2)
    ring.set_patient(True)
    engine = threading.Thread(target=lambda: [CALLBACK(b"A", n, values(1.0), 1, ring.cookie) for n in range(100)])
    engine.start()
    times: list[int] = []
    while len(times) < 90:
        if taken := ring.take(2):
            times += taken[0]["ts_ns"].tolist()
    ring.shut()
    engine.join()
    late = 100 - ring.counts.posted

    assert list(range(len(times))) == times
    assert ring.counts.dropped <= 1
    assert 0 <= late <= 10
    assert settled(ring.counts)
    assert ring.close()


GROWTH = """
import sys
from pathlib import Path
from resource import getpagesize
from sigrack_engine.bell import Bell
from sigrack_engine.results import ResultRing
from test_results import post

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()

records = 65_536
post(ResultRing(Bell(), ["A"], None, capacity=2), 1)
before = resident()
ring = ResultRing(Bell(), ["A"], None, capacity=records)
made = resident()
post(ring, records)
print(made - before, resident() - made)
"""


def test_no_poster_is_the_first_on_a_page() -> None:
    """65,536 records, 12 MiB, are resident before the first post, so that an engine's thread takes no page fault."""
    child = python(GROWTH, folder=Path(__file__).parent)
    made, posted = map(int, child.stdout.split())

    assert made > 12_000_000
    assert posted < 100_000
