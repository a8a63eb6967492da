"""Timers in rack time."""

import time
from collections.abc import Callable

from sigrack.timers import TimerEntry, Timers


def add(timers: Timers, time_ns: int, call: Callable[[], object], period_ns: int = 0) -> TimerEntry:
    """Add a call that begins at once to wait."""
    entry = TimerEntry(timers, time_ns, period_ns, call)
    timers.add(entry)
    return entry


def test_calls_come_in_order_once() -> None:
    """Calls run in the order of their times, equal times in the order in which they were added, each once."""
    timers, calls = Timers(), list[str]()
    for time_ns, name in ((30, "c"), (10, "a"), (20, "b"), (10, "a2")):
        add(timers, time_ns, lambda name=name: calls.append(name))  # type: ignore[misc]
    timers.run_due(25)
    timers.run_due(25)

    assert ["a", "a2", "b"] == calls
    assert 30 == timers.next_ns


def test_freewheel_makes_up_for_every_period() -> None:
    """Without a time limit a repeating call runs once per period that has passed, in order with the others."""
    timers, calls = Timers(), list[str]()
    add(timers, 10, lambda: calls.append("fast"), 10)
    add(timers, 25, lambda: calls.append("slow"), 25)
    timers.run_due(50)

    assert ["fast", "fast", "slow", "fast", "fast", "fast", "slow"] == calls


def test_live_runs_once_for_all_missed_periods() -> None:
    """With a time limit a repeating call that is behind runs once and is due next in the future, on its own grid."""
    timers, calls = Timers(), list[int]()
    add(timers, 10, lambda: calls.append(1), 10)
    left = timers.run_due(57, stop_ns=time.monotonic_ns() + 10**9)

    assert ([1], 60, False) == (calls, timers.next_ns, left)


def test_what_adds_itself_again_waits_for_the_next_time() -> None:
    """A call that schedules itself for now does not keep the loop: it runs once per turn."""
    timers, calls = Timers(), list[int]()

    def again() -> None:
        calls.append(1)
        add(timers, 0, again)

    add(timers, 0, again)
    timers.run_due(0)
    timers.run_due(0)

    assert [1, 1] == calls


def test_a_turn_ends_when_its_time_is_up() -> None:
    """Past the time limit no further call begins, and the caller is told that something is left."""
    timers, calls = Timers(), list[int]()
    add(timers, 1, lambda: calls.append(1))
    left = timers.run_due(5, stop_ns=time.monotonic_ns() - 1)

    assert ([], True) == (calls, left)
    assert not timers.run_due(5)
    assert [1] == calls


def test_a_cancelled_timer_never_runs() -> None:
    """Cancelling works before the call, and from inside another call of the same moment."""
    timers, calls = Timers(), list[str]()
    add(timers, 1, lambda: second.cancel())
    second = add(timers, 1, lambda: calls.append("second"))
    add(timers, 2, lambda: calls.append("third")).cancel()
    timers.run_due(5)

    assert [] == calls
    assert timers.next_ns is None


def test_what_is_added_for_the_past_keeps_nobody_from_his_turn() -> None:
    """A repeating call that adds one for long ago runs for every period that has passed, all the same."""
    timers, calls = Timers(), list[str]()

    def tick() -> None:
        calls.append("tick")
        add(timers, 0, lambda: calls.append("past"))

    add(timers, 10, tick, 10)
    timers.run_due(100)
    timers.run_due(100)

    assert ["tick"] * 10 + ["past"] * 10 == calls
