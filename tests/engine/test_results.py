"""Records from native code to Python."""

import ctypes as c

from sigrack_engine.bell import Bell
from sigrack_engine.core import lib
from sigrack_engine.results import CALLBACK_ADDRESS, POST_ADDRESS, ResultRing

POST = c.CFUNCTYPE(c.c_int, c.c_uint64, c.c_uint32, c.c_uint64, c.c_void_p, c.c_uint32)(POST_ADDRESS)
CALLBACK = c.CFUNCTYPE(None, c.c_char_p, c.c_longlong, c.c_void_p, c.c_int, c.c_uint64)(CALLBACK_ADDRESS)


def values(*numbers: float) -> "c.Array[c.c_double]":
    """A C array."""
    return (c.c_double * len(numbers))(*numbers)


def test_records_arrive_as_they_were_posted() -> None:
    """Symbol, time, frame, count and values come through; taken records may be kept."""
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
    assert counts.posted == counts.delivered + counts.dropped + counts.refused + counts.stale + counts.queued
    assert "C" == ring.unknown
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
