"""Signal engines in processes of their own: the same factors as in the host's, whatever they do, and nothing left behind."""

import gc
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from director import DIRECTOR
from factories import Compile
from laned import conduct, living
from laned import run as conducted
from racks import freewheel, noise, write
from risky import RISKY
from sigrack.config import load
from sigrack.errors import ConfigError
from sigrack.lanes import EngineOrders, engine, lives, policy
from sigrack.quarantine import Quarantine, QuarantinedError
from sigrack.session import Session
from sigrack.signals import SignalEngine
from sigrack.status import stats, status
from sigrack_engine.core import Books
from sigrack_engine.feeds import DataCounts
from sigrack_engine.remote import SharedBooks
from sigrack_engine.results import PostCounts
from waiting import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
COLLECTOR = '[[slot]]\nname = "collector"\nplugin = "./collector.py"\n'
QUIET = "[control]\nenabled = false\n"
TRADES = 4000
SLICE = 512
"""Records that a replay gives at once."""

Record = tuple[str, int, list[float]]


@pytest.fixture
def risky(cc: Compile) -> Path:
    """The engine that does harm."""
    return cc(RISKY, "risky", "-O1", "-pthread", "-Wno-infinite-recursion")


def table(library: Path, more: str = "", *, name: str = "risky", lane: str = "process", feed: str = '"trades"') -> str:
    """The table of an engine."""
    head = f'[[signal]]\nname = "{name}"\nlibrary = "{library}"\nlane = "{lane}"\nfeed = {feed}\n'
    return f'{head}symbols = ["PRICE", "TICK"]\n{more}\n'


def trades(folder: Path, records: int, step_ns: int, speed: str) -> str:
    """The table of a feed of trades, the numbers of which are also their prices."""
    numbers = np.arange(1, records + 1)
    columns = {"symbol": np.full(records, b"S", "S8"), "price": 1.0 * numbers, "quantity": 1.0 * numbers, "trade_id": numbers}
    np.savez(folder / "t.npz", ts_ns=step_ns * numbers, **columns)  # type: ignore[arg-type]
    return f'[[feed]]\nname = "trades"\ndriver = "npz"\nkind = "trade"\npath = "t.npz"\nspeed = {speed}\n'


def replay(folder: Path, tables: str, records: int = TRADES) -> Session:
    """A session that sends trades to engines as fast as it can; not yet run."""
    feed = trades(folder, records, 1000, '"max"')
    return Session(load(write(folder, f'[source]\ndriver = "none"\n{QUIET}{feed}{COLLECTOR}{tables}')))


def live(folder: Path, tables: str, rack: str = "") -> Session:
    """A session in real time without audio; not yet run."""
    return Session(load(write(folder, f'[rack]\n{rack}\n[source]\ndriver = "none"\n{QUIET}{COLLECTOR}{tables}')))


def run_until(session: Session, condition: Callable[[], Any]) -> int:
    """Run until `condition` holds; return the exit code."""
    held: list[bool] = []

    def look() -> None:
        try:
            wait_until(condition, 60)
            held.append(True)
        finally:
            session.stop()

    thread = threading.Thread(target=look)
    thread.start()
    code = session.run()
    thread.join()
    assert held
    return code


def plugin(session: Session, name: str = "collector") -> Any:
    """The plugin object of a slot."""
    hooked = session.rack.slot(name).hooked
    assert hooked is not None
    return hooked.plugin


def heard(collector: Any, source: str = "risky") -> list[Record]:
    """What a collector was given of a source."""
    batches = [batch for batch in getattr(collector, "batches", []) if batch.source == source]
    return [(symbol, ts_ns, values.tolist()) for batch in batches for symbol, ts_ns, values in batch]


def prices(records: list[Record]) -> list[int]:
    """The numbers of the trades that were answered, in order."""
    return [int(values[0]) for symbol, _, values in records if symbol == "PRICE"]


def settled(counts: PostCounts) -> bool:
    """Whether the account is exact and nothing is on its way."""
    ends = counts.delivered + counts.dropped + counts.refused + counts.stale
    return counts.posted == ends and counts.queued == 0


def engine_of(session: Session, number: int = 0) -> SignalEngine:
    """An engine of a session."""
    return session.rack.signals[number]


def facts(one: SignalEngine) -> dict[str, Any]:
    """What STATS tells of its lane."""
    assert one.lane
    return one.lane.facts


# The same as in the host's process


@pytest.mark.parametrize("queue", [16, 16_384])
@pytest.mark.parametrize("block_frames", [64, 1000])
def test_audio_gives_the_same_factors(tmp_path: Path, cc: Compile, block_frames: int, queue: int) -> None:
    """A render through the example gives, bit for bit, what it gives in the host's process, and as many records."""
    spectrum = cc((EXAMPLES / "signal_engine" / "spectrum.c").read_text(), "spectrum", "-O2", "-pthread")
    found: list[tuple[list[Record], PostCounts]] = []
    for lane in ("inline", "process"):
        more = f'queue = {queue}\nsymbols = ["ENERGY", "CROSSINGS"]\nconfig = {{ window_ms = 5 }}\n'
        tables = f'[[signal]]\nname = "spectrum"\nlibrary = "{spectrum}"\nlane = "{lane}"\n{more}'
        run = freewheel(tmp_path, COLLECTOR + tables, noise(96_000), rack=f"block_frames = {block_frames}")
        collector, one = plugin(run), engine_of(run)
        assert 0 == run.run()
        found.append((heard(collector, "spectrum"), one.ring.counts))
        assert (96_000, 0) == (one.fed, one.unfed)

    assert found[0] == found[1]
    assert PostCounts(800, 800, 0, 0, 0, 0) == found[0][1]


@pytest.mark.parametrize("queue", [16, 16_384])
def test_a_replay_gives_the_same_factors(tmp_path: Path, risky: Path, queue: int) -> None:
    """Every record is answered once, in order, also where the rings hold 16."""
    found = []
    for lane in ("inline", "process"):
        run = replay(tmp_path, table(risky, f"queue = {queue}", lane=lane))
        collector, one = plugin(run), engine_of(run)
        assert 0 == run.run()
        assert one.data
        found.append((heard(collector), one.ring.counts, one.data.counts))

    assert found[0] == found[1]
    assert (list(range(1, TRADES + 1)), DataCounts(TRADES, TRADES, 0, 0)) == (prices(found[1][0]), found[1][2])


def test_without_patience_a_replay_loses_factors(tmp_path: Path, risky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: where the child does not wait for room the same replay drops, and counts what it drops."""

    def impatient(*, patient: bool, **orders: Any) -> EngineOrders:
        return EngineOrders(**orders, patient=not patient)

    monkeypatch.setattr("sigrack.signals.EngineOrders", impatient)
    run = replay(tmp_path, table(risky, "queue = 16"))
    collector, one = plugin(run), engine_of(run)
    run.run()
    counts = one.ring.counts

    assert 0 < counts.dropped == TRADES - counts.delivered
    assert (TRADES, counts.delivered) == (counts.posted, len(heard(collector)))


@pytest.mark.parametrize(("lane", "elsewhere"), [("process", True), ("inline", False)])
def test_its_code_runs_in_another_process(tmp_path: Path, risky: Path, lane: str, elsewhere: bool) -> None:
    """The engine is in a child, which GET_STATUS and STATS name; negative control: inline it is not."""
    run = live(tmp_path, table(risky, "config = { ticks = 100 }", lane=lane, feed='"none"'))
    collector, one = plugin(run), engine_of(run)
    told: list[Any] = []

    def ready() -> bool:
        told[:] = [status(run)["signals"][0]["lane"], stats(run)["signals"]["risky"]["lane"]]
        return one.ring.delivered == 100

    assert 0 == run_until(run, ready)
    pids = {int(values[0]) for _, _, values in heard(collector)}

    assert elsewhere == (pids != {os.getpid()})
    assert lane == told[0]
    assert (pids == {told[1]["pid"]} and told[1]["state"] == "running") if elsewhere else told[1] is None
    assert PostCounts(100, 100, 0, 0, 0, 0) == one.ring.counts


# Faults

DEATHS: dict[str, tuple[str, ...]] = {
    "segv": ("SIGSEGV",),
    "abort": ("SIGABRT",),
    "fpe": ("SIGFPE",),
    "kill": ("SIGKILL",),
    "exit": ("exit code 3",),
    "quit": ("exit code 5",),
    "stack": ("SIGSEGV",),
    "heap": ("SIGABRT",),
    "past": ("SIGSEGV", "SIGABRT", "exit code 71", "garbage"),  # as what is overwritten is used first,
    "spin": ("no answer",),
    "sleep": ("no answer",),
    "deaf": ("no answer",),
    "close": ("exit code 71",),
    "leak": ("memory limit of 64 MiB",),
}
"""What the death may be counted as."""
ODD = [np.nan, np.inf, -np.inf, 1e-310, 1e34]
HARMLESS: dict[str, tuple[list[list[float]], int]] = {
    "rounding": ([], 0),
    "threads": ([], 0),
    "fork": ([], 0),
    "odd": ([ODD], 0),
    "long": ([], 1),
    "unknown": ([], 1),
}
"""What is delivered beside, and how many records are refused, each time."""
POISON, EVERY = 1500, 2 * SLICE
"""Which trade does harm, and how many come until the next."""


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hangs is waited for a moment only, and who has died begins again soon."""
    monkeypatch.setattr(engine, "DATA_S", 0.2)  # ten times as long where the engine may wait for room
    monkeypatch.setattr(lives, "END_S", 0.5)
    monkeypatch.setattr(policy, "FIRST_S", 0.01)
    monkeypatch.setattr(policy, "MOST_S", 0.01)


def strike(folder: Path, library: Path, what: str, times: int) -> tuple[SignalEngine, list[Record], list[tuple[str, Any]]]:
    """Let an engine do the same harm so many times in one replay, beside one that does none, whose factors are checked; return
    it, its factors, and the events of its lane."""
    config = f'memory_mb = 64\ncrash_budget = 0\nconfig = {{ data = "{what}", poison = {POISON}, every = {EVERY} }}'
    run = replay(folder, table(library, config) + table(library, name="calm", lane="inline"), records=(times + 1) * EVERY)
    collector, one = plugin(run), engine_of(run)
    assert one.lane
    events: list[tuple[str, Any]] = []
    one.lane.tell = lambda kind, **data: events.append((kind, data))
    assert 0 == run.run()
    assert [("PRICE", 1000 * n, [float(n)]) for n in range(1, (times + 1) * EVERY + 1)] == heard(collector, "calm")
    assert [] == run.rack.left_behind
    return one, heard(collector), events


def check_death(folder: Path, library: Path, what: str, times: int, said: pytest.LogCaptureFixture) -> None:
    """The child dies of a record so many times: the host lives, only what was handed over with it is lost, and counted; the next
    child has the same configuration; cause and event name it."""
    one, found, events = strike(folder, library, what, times)
    answered, counts, told, records = prices(found), one.ring.counts, facts(one), (times + 1) * EVERY
    parts = [(POISON - 1 + n * EVERY) // SLICE * SLICE for n in range(times)]  # each that was handed over with one, from 0
    lost = {number for first in parts for number in range(first + 1, first + SLICE + 1)}

    assert [number for number in range(1, records + 1) if number not in lost] == [n for n in answered if n not in lost]
    assert all(number % EVERY < POISON % EVERY for number in answered if number in lost) or what == "close"
    assert sorted(set(answered)) == answered
    assert settled(counts)
    assert (len(answered), told["lost_records"]) == (counts.delivered, counts.dropped)
    assert one.data
    assert DataCounts(records, records - times * SLICE, times * SLICE, 0) == one.data.counts
    causes = [data["cause"] for _, data in events if data["state"] == "died"]
    assert set(causes) <= set(DEATHS[what])
    assert (Counter(causes), times + 1) == (Counter(told["deaths"]), told["lives"])
    assert [("lane", "died", "risky"), ("lane", "running", "risky")] * times == [
        (kind, data["state"], data["signal"]) for kind, data in events
    ]
    assert times == sum(said.text.count(f"risky: its child died: {cause}") for cause in set(causes))


def check_harmless(folder: Path, library: Path, what: str, times: int) -> None:
    """Nobody dies: all that can be delivered is, as it was posted, and the rest is refused and counted."""
    one, found, events = strike(folder, library, what, times)
    records = (times + 1) * EVERY
    more, refused = HARMLESS[what]
    struck = {POISON + n * EVERY for n in range(times)}
    expected = [row for n in range(1, records + 1) for row in [*(more if n in struck else []), [float(n)]]]
    delivered = len(expected)

    assert [] == events
    np.testing.assert_equal([values for _, _, values in found], expected)
    assert PostCounts(delivered + times * refused, delivered, 0, times * refused, 0, 0) == one.ring.counts
    assert one.data
    assert DataCounts(records, records, 0, 0) == one.data.counts
    assert ({}, 1) == (facts(one)["deaths"], facts(one)["lives"])


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("what", DEATHS)
def test_a_death_in_on_data(tmp_path: Path, risky: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """The child dies of one record."""
    check_death(tmp_path, risky, what, 1, caplog)


@pytest.mark.parametrize("what", HARMLESS)
def test_harm_that_nobody_dies_of(tmp_path: Path, risky: Path, what: str, heirs: str) -> None:
    """Rounding is changed, threads and a forked process are left running, values are odd, too many or of nobody."""
    check_harmless(tmp_path, risky, what, 1)

    wait_until(lambda: not living(heirs), what="the end of all processes")


@pytest.mark.soak
@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("what", [*DEATHS, *HARMLESS])
def test_fifty_faults(tmp_path: Path, risky: Path, what: str, heirs: str, caplog: pytest.LogCaptureFixture) -> None:
    """The same fault fifty times in one replay."""
    if what in DEATHS:
        check_death(tmp_path, risky, what, 50, caplog)
    else:
        check_harmless(tmp_path, risky, what, 50)

    wait_until(lambda: not living(heirs), what="the end of all processes")


@pytest.mark.soak
def test_fifty_ends_that_hang(
    tmp_path: Path, risky: Path, heirs: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine is swapped fifty times, and its end hangs each time: each child is ended and told, what it has posted is
    delivered, another engine loses nothing, and the sound is as it was."""
    monkeypatch.setattr(lives, "END_S", 0.2)
    sound = noise(60 * 1024)
    hanging = table(risky, 'config = { destroy = "sleep", ticks = 20 }', feed='"none"')
    calm = table(risky, "config = { ticks = 2000 }", name="calm", feed='"none"')
    run = conduct(tmp_path, COLLECTOR + hanging + calm, sound)
    collector = plugin(run)

    def swap(ctx: Any) -> Callable[[], bool]:
        done = len(set(pids()))
        future = ctx.swap("risky")
        return lambda: future.done() and len(set(pids())) > done

    def pids() -> list[float]:
        return [values[0] for _, _, values in heard(collector)]

    played = conducted(tmp_path, run, {(n + 5) * 1024: swap for n in range(50)})

    np.testing.assert_array_equal(sound, played)
    assert 51 == caplog.text.count("risky: at its end: end did not return within 0.2 s")
    assert 51 == len(set(pids()))
    assert list(range(2000)) == [tick for _, tick, _ in heard(collector, "calm")]
    assert [] == run.rack.left_behind
    wait_until(lambda: not living(heirs), what="the end of all processes")


# Deaths elsewhere


def test_inline_the_same_death_takes_the_host_along(tmp_path: Path, risky: Path) -> None:
    """Negative control: in the host's process the record is the host's end."""
    pid = os.fork()
    if not pid:
        run = replay(tmp_path, table(risky, 'config = { data = "kill", poison = 1500 }', lane="inline"))
        run.run()
        os._exit(0)

    assert signal.SIGKILL == os.waitpid(pid, 0)[1]


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("place", ["thread", "poll"])
@pytest.mark.parametrize("what", ["segv", "exit", "close"])
def test_a_death_elsewhere(tmp_path: Path, risky: Path, place: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies in a thread of its own or while it is polled, at any moment: it is started again, and the account is exact."""
    monkeypatch.setattr(engine, "PING_S", 0.1)
    run = replay(tmp_path, table(risky, f'config = {{ {place} = "{what}", poison = 1500 }}'), records=20_000)
    collector, one = plugin(run), engine_of(run)
    assert 0 == run.run()
    answered, counts, told = prices(heard(collector)), one.ring.counts, facts(one)

    assert settled(counts)
    assert counts.delivered == len(answered) == len(set(answered))
    assert list(range(1, 1025)) == answered[:1024]
    assert set(DEATHS[what]) >= set(told["deaths"])
    assert one.data
    assert one.data.counts.fed + one.data.counts.dropped == 20_000
    assert place == "thread" or 2 == told["lives"]


@pytest.mark.usefixtures("impatience")
@pytest.mark.parametrize("what", ["segv", "exit", "sleep", "close"])
def test_a_death_in_destroy(tmp_path: Path, risky: Path, what: str) -> None:
    """Whatever it does at its end, all that it has posted is delivered, and the host ends in order."""
    run = replay(tmp_path, table(risky, f'config = {{ destroy = "{what}" }}'))
    collector, one = plugin(run), engine_of(run)

    assert 0 == run.run()
    assert list(range(1, TRADES + 1)) == prices(heard(collector))
    assert PostCounts(TRADES, TRADES, 0, 0, 0, 0) == one.ring.counts
    assert ("ended", {}) == (facts(one)["state"], facts(one)["deaths"])


@pytest.mark.parametrize(
    ("what", "why"),
    [("segv", "SIGSEGV"), ("exit", "exit code 3"), ("sleep", "begin did not return within 0.5 s"), ("close", "exit code 71")],
)
def test_a_death_in_create(tmp_path: Path, risky: Path, what: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that does not survive its creation is refused, with its file, line and cause; nothing runs on."""
    if what == "sleep":
        monkeypatch.setattr(lives, "LOAD_S", 0.5)
    with pytest.raises(ConfigError) as info:
        live(tmp_path, table(risky, f'config = {{ create = "{what}" }}', feed='"none"'))

    assert f"{tmp_path}/rack.toml:12: {risky}: its child died in begin: {why}" == str(info.value)
    assert "sigrack_engine.keeper" not in children()


def test_a_next_life_that_does_not_begin(tmp_path: Path, risky: Path) -> None:
    """A child that dies in its creation counts as well: the budget ends it; what comes then is dropped and counted."""
    mark = tmp_path / "mark"
    config = f'crash_budget = 3\nconfig = {{ data = "segv", create = "abort", poison = 600, mark = "{mark}" }}'
    run = replay(tmp_path, table(risky, config) + table(risky, name="calm", lane="inline"))
    collector, one = plugin(run), engine_of(run)
    assert 0 == run.run()

    assert {"SIGSEGV": 1, "SIGABRT": 2} == facts(one)["deaths"]
    assert one.data
    assert DataCounts(TRADES, SLICE, TRADES - SLICE, 0) == one.data.counts
    assert list(range(1, SLICE + 1)) == prices(heard(collector))[:SLICE]
    assert list(range(1, TRADES + 1)) == prices(heard(collector, "calm"))


@pytest.mark.parametrize(("budget", "deaths"), [(2, 2), (4, 4)])
def test_the_budget(tmp_path: Path, risky: Path, budget: int, deaths: int, caplog: pytest.LogCaptureFixture) -> None:
    """After so many deaths within a minute there is no other child: a replay goes on without it, and the log says so."""
    config = f'crash_budget = {budget}\nconfig = {{ data = "segv", poison = 1, every = 1 }}'
    run = replay(tmp_path, table(risky, config))
    one = engine_of(run)
    states: list[str] = []
    assert one.lane
    assert one.data
    one.lane.tell = lambda kind, **data: states.append(data["state"])
    assert 0 == run.run()

    assert {"SIGSEGV": deaths} == facts(one)["deaths"]
    assert [*(["died", "running"] * deaths)[:-1], "quarantined"] == states
    assert DataCounts(TRADES, 0, TRADES, 0) == one.data.counts
    assert any("it is fed no more; `sigrack quarantine` tells more" in record.message for record in caplog.records)
    assert [(risky.name, f"{deaths} deaths in 60 s, the last: SIGSEGV")] == [
        (Path(entry.path).name, entry.reason) for entry in Quarantine.open().entries()
    ]
    with pytest.raises(QuarantinedError, match="sigrack quarantine clear"):
        replay(tmp_path, table(risky))


def test_without_a_budget_it_is_always_started_again(tmp_path: Path, risky: Path) -> None:
    """`crash_budget = 0`: each part of the data costs a child."""
    run = replay(tmp_path, table(risky, 'crash_budget = 0\nconfig = { data = "exit", poison = 1, every = 1 }'), records=4 * SLICE)
    one = engine_of(run)
    assert 0 == run.run()

    assert {"exit code 3": 4} == facts(one)["deaths"]


# Live


def test_live_kills_lose_no_count(tmp_path: Path, risky: Path) -> None:
    """A live engine that is killed again and again: each child begins anew, everything posted is accounted for, and another
    engine loses nothing."""
    tables = table(risky, "crash_budget = 0\nconfig = { ticks = 1000000 }", feed='"none"')
    tables += table(risky, "config = { ticks = 2000 }", name="calm", feed='"none"')
    run = live(tmp_path, tables)
    collector, one, calm = plugin(run), engine_of(run), engine_of(run, 1)
    killed: set[int] = set()

    def kill() -> bool:
        pid = facts(one)["pid"]
        if pid and pid not in killed and any(int(v[0]) == pid for _, _, v in heard(collector)):
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        return len(killed) > 3 and facts(one)["lives"] > 4 and calm.ring.delivered == 2000

    assert 0 == run_until(run, kill)
    counts = one.ring.counts

    assert settled(counts)
    assert {"SIGKILL": len(killed)} == facts(one)["deaths"]
    assert counts.delivered == len(heard(collector)) > 0
    assert list(range(2000)) == [tick for _, tick, _ in heard(collector, "calm")]
    assert PostCounts(2000, 2000, 0, 0, 0, 0) == calm.ring.counts


def test_live_audio_comes_through_kills(tmp_path: Path, cc: Compile) -> None:
    """Audio in real time goes to the child that lives: what waits meanwhile is not lost, a piece that dies with one is."""
    spectrum = cc((EXAMPLES / "signal_engine" / "spectrum.c").read_text(), "spectrum", "-O2", "-pthread")
    signals = f'[[signal]]\nname = "spectrum"\nlibrary = "{spectrum}"\nlane = "process"\nsymbols = ["ENERGY", "CROSSINGS"]\n'
    source = f'[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n{QUIET}'
    run = Session(load(write(tmp_path, f"{source}{COLLECTOR}{signals}config = {{ window_ms = 5 }}\n", noise(48_000))))
    one = engine_of(run)
    killed: list[int] = []

    def kill() -> bool:
        if len(killed) < 3 and one.ring.delivered > 100 * (len(killed) + 1) and (pid := facts(one)["pid"]) not in (None, *killed):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        return one.ring.delivered > 500

    assert 0 == run_until(run, kill)
    assert {"SIGKILL": 3} == facts(one)["deaths"]
    assert settled(one.ring.counts)
    assert one.fed > 0
    assert one.unfed <= 3 * 1024


def test_a_flood_drowns_nobody(tmp_path: Path, risky: Path) -> None:
    """An engine that posts without a pause loses most of it in its own ring, counted; another engine loses nothing."""
    tables = table(risky, "config = { flood = 1 }\nqueue = 1024", feed='"none"')
    tables += table(risky, "config = { ticks = 2000 }", name="calm", feed='"none"')
    run = live(tmp_path, tables)
    one, calm = engine_of(run), engine_of(run, 1)
    assert 0 == run_until(run, lambda: one.ring.counts.dropped > 100_000 and calm.ring.delivered == 2000)

    assert settled(one.ring.counts)
    assert one.ring.counts.delivered > 1000
    assert PostCounts(2000, 2000, 0, 0, 0, 0) == calm.ring.counts


def test_who_posts_much_while_it_is_made_keeps_nobody(tmp_path: Path, risky: Path) -> None:
    """An engine may fill its ring before its registration returns, when nobody takes records yet."""
    run = live(tmp_path, table(risky, "config = { flood = 1, eager = 100000 }\nqueue = 16", feed='"none"'))
    one = engine_of(run)
    assert 0 == run_until(run, lambda: one.ring.delivered > 1000)

    assert settled(one.ring.counts)
    assert one.ring.counts.dropped > 90_000


def test_a_hook_that_hangs_kills_no_child(tmp_path: Path, risky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the main loop takes no records nothing is heard of the child: that is no reason to end it."""
    monkeypatch.setattr(engine, "PING_S", 0.05)
    monkeypatch.setattr(engine, "PONG_S", 0.2)
    run = live(tmp_path, table(risky, "config = { flood = 1 }\nqueue = 16", feed='"none"'))
    collector, one = plugin(run), engine_of(run)
    slept: list[float] = []

    def stall(batch: Any) -> None:
        if not slept:
            time.sleep(1.0)
            slept.append(1.0)

    collector.on_factors = stall
    assert 0 == run_until(run, lambda: slept and one.ring.delivered > 1000)

    assert {} == facts(one)["deaths"]
    assert settled(one.ring.counts)


def test_what_was_sent_before_a_death_arrives(tmp_path: Path, risky: Path) -> None:
    """A child is killed while the main loop takes nothing: what it had sent is delivered, what was in its ring is lost."""
    run = live(tmp_path, table(risky, "queue = 16\ncrash_budget = 1\nconfig = { ticks = 500 }", feed='"none"'))
    collector, one = plugin(run), engine_of(run)
    killed: list[int] = []

    def kill(batch: Any) -> None:
        if not killed:
            wait_until(lambda: one.ring.counts.posted == 500)
            killed.append(facts(one)["pid"])
            os.kill(killed[0], signal.SIGKILL)
            wait_until(lambda: not Path(f"/proc/{killed[0]}").exists())

    collector.on_factors = kill
    assert 0 == run_until(run, lambda: facts(one)["state"] == "quarantined")
    counts = one.ring.counts

    assert settled(counts)
    assert 500 == counts.posted
    assert facts(one)["lost_records"] <= 16 + 8, "what was in its ring, and a message that it was about to send"


def test_a_child_that_does_not_hear_is_ended(tmp_path: Path, risky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the last: one that is stopped while the main loop turns is killed and begun again."""
    monkeypatch.setattr(engine, "PING_S", 0.05)
    monkeypatch.setattr(engine, "PONG_S", 0.2)
    run = live(tmp_path, table(risky, "config = { ticks = 1000000 }", feed='"none"'))
    one = engine_of(run)
    stopped: list[int] = []

    def stop() -> bool:
        if not stopped and (pid := facts(one)["pid"]):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        return bool(facts(one)["lives"] > 1)

    assert 0 == run_until(run, stop)
    assert {"no answer": 1} == facts(one)["deaths"]


def test_a_stop_while_it_hangs(tmp_path: Path, risky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live rack ends in order while the engine hangs in on_data: nobody waits for it, and what it was to get is counted."""
    monkeypatch.setattr(engine, "DATA_S", 600.0)
    monkeypatch.setattr(lives, "END_S", 0.5)
    feed = trades(tmp_path, 100_000, 100_000, "1.0")
    run = live(tmp_path, feed + table(risky, 'config = { data = "sleep", poison = 1000 }'))
    data = engine_of(run).data
    assert data
    assert 0 == run_until(run, lambda: data.counts.dropped > 0)

    assert [] == run.rack.left_behind
    assert data.counts.given == data.counts.fed + data.counts.dropped
    assert data.counts.fed < 1000


# Changes


def directed(folder: Path, tables: str) -> Session:
    """A render with a director; not yet run."""
    (folder / "director.py").write_text(DIRECTOR)
    director = '[[slot]]\nname = "director"\nplugin = "./director.py"\n'
    return freewheel(folder, director + COLLECTOR + tables, noise(96_000))


@pytest.mark.parametrize("what", ["unload", "swap"])
def test_it_leaves_as_others_do(tmp_path: Path, risky: Path, what: str) -> None:
    """Taken out or swapped while it posts, what it has posted is delivered; its child is gone, the new one is another."""
    run = directed(tmp_path, table(risky, "config = { ticks = 1000000 }", feed='"none"'))
    collector, one = plugin(run), engine_of(run)
    pid = facts(one)["pid"]
    plugin(run, "director").steps = {48_000: lambda ctx: getattr(ctx, what)("risky")}
    assert 0 == run.run()
    pids = [int(values[0]) for _, _, values in heard(collector)]

    assert settled(one.ring.counts)
    assert (one.ring.counts.delivered, 0) == (pids.count(pid), one.ring.counts.dropped)
    assert pid in pids
    assert what == "swap" or {pid} == set(pids)  # the heir may come too late to post before the end
    assert not Path(f"/proc/{pid}").exists()
    assert sorted(pids, key=lambda other: other != pid) == pids


def test_a_swap_to_one_that_dies_changes_nothing(tmp_path: Path, risky: Path) -> None:
    """A new instance that does not survive its creation is refused: the old one goes on."""
    run = directed(tmp_path, table(risky, "config = { ticks = 1000000 }", feed='"none"'))
    collector, one = plugin(run), engine_of(run)
    director = plugin(run, "director")
    director.steps = {48_000: lambda ctx: ctx.swap("risky", config={"create": "segv"})}
    assert 0 == run.run()

    assert "its child died in begin: SIGSEGV" in str(director.futures[0].exception())
    assert {facts(one)["lives"]} == {1}
    assert one.ring.counts.delivered == len(heard(collector))


def children() -> str:
    """The command lines of what this process has started and that still runs."""
    lines = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that ends
            for pid in (task / "children").read_text().split():
                lines.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    return "\n".join(lines)


def test_nothing_is_left_behind(tmp_path: Path, risky: Path) -> None:
    """After runs with deaths, forks and swaps: no process, no descriptor, no shared memory."""

    def once() -> None:
        for what in ("segv", "fork"):
            run = replay(tmp_path, table(risky, f'config = {{ data = "{what}", poison = 100 }}'))
            assert 0 == run.run()

    once()
    gc.collect()  # what other tests have left
    before = sorted(os.listdir("/proc/self/fd"))
    once()

    assert before == sorted(os.listdir("/proc/self/fd"))
    assert "sigrack_engine.keeper" not in children()
    assert "sigrack-books" not in Path("/proc/self/maps").read_text()


# Bad configuration


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('lane = "proces"', "lane"),
        ('lane = "process"\ncrash_budget = -1', "crash_budget"),
        ('lane = "process"\nmemory_mb = "much"', "memory_mb"),
    ],
)
def test_a_bad_key(tmp_path: Path, more: str, message: str) -> None:
    """Keys are checked before anything is started."""
    rack = f'[source]\ndriver = "none"\n[[signal]]\nname = "a"\nlibrary = "a.so"\nsymbols = ["A"]\n{more}\n'
    with pytest.raises(ConfigError) as info:
        load(write(tmp_path, rack))

    assert str(info.value).startswith(f"{tmp_path}/rack.toml:")
    assert message in str(info.value)


@pytest.mark.parametrize("lane", ["inline", "process"])
def test_what_is_refused_is_refused_alike(tmp_path: Path, cc: Compile, lane: str) -> None:
    """A file that is missing, no engine, or not for this feed: the same words from a child as in the host."""
    no_engine = cc("int nothing;", "nothing")
    no_audio = cc(
        RISKY + "int signal_data_size(int type) { return type == SIGNAL_TRADE ? 72 : 0; }",
        "trader",
        "-pthread",
        "-Wno-infinite-recursion",
    )
    for library, message in (
        (tmp_path / "none.so", "No such file or directory"),
        (no_engine, "not a signal engine: it exports no signal_create"),
        (no_audio, 'takes no audio; set feed = "none" for "risky"'),
    ):
        with pytest.raises(ConfigError) as info:
            live(tmp_path, table(library, lane=lane, feed='"audio"'))

        assert f"{tmp_path}/rack.toml:12: {library}: {message}" == str(info.value)


def test_an_unknown_symbol_is_named(tmp_path: Path, risky: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A symbol that the rack does not know is refused in the child, counted and named, as in the host."""
    run = replay(tmp_path, table(risky).replace('"PRICE"', '"PRICES"'))
    one = engine_of(run)
    assert 0 == run.run()

    assert PostCounts(TRADES, 0, 0, TRADES, 0, 0) == one.ring.counts
    assert 'risky: posted the unknown symbol "PRICE"; did you mean "PRICES"?' in [record.message for record in caplog.records]


@pytest.mark.parametrize(("posted", "dropped"), [(7, (1 << 64) - 1), ((1 << 64) - 1, 0)])
def test_books_that_lie(tmp_path: Path, risky: Path, monkeypatch: pytest.MonkeyPatch, posted: int, dropped: int) -> None:
    """A child may write anything into its books: the sums stay exact, and what came has come."""

    def lies(books: SharedBooks) -> Books:
        return Books(posted=posted, dropped=dropped, refused=3, too_long=1 << 63, unknown_state=2, unknown=b"\xff" * 64)

    monkeypatch.setattr(SharedBooks, "read", lies)
    run = replay(tmp_path, table(risky))
    collector, one = plugin(run), engine_of(run)
    assert msgspec.json.decode(msgspec.json.encode(stats(run)))["results"]["risky"]["posted"] > 0
    assert 0 == run.run()

    assert list(range(1, TRADES + 1)) == prices(heard(collector))
    assert settled(one.ring.counts)
    assert one.ring.too_long is None
