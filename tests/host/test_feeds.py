"""Feeds through a whole rack: replay, beside a sound file, and in real time."""

import asyncio
import csv
import json
import os
import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from factories import Compile
from racks import noise, write
from sigrack.config import load
from sigrack.drivers import built
from sigrack.errors import ConfigError, EngineError, RackError
from sigrack.feeds import FileFeeds, LiveFeeds, PatientFeeds, SocketFeed
from sigrack.rendering import render
from sigrack.session import Session
from sigrack.status import stats
from sigrack.tables import SignalTable
from sigrack_engine.data import KINDS
from sigrack_engine.feeds import DataCounts, DataQueue
from sigrack_engine.results import PostCounts, ResultRing
from sigrack_plugins import DataBatch

EXAMPLE = Path(__file__).parents[2] / "examples" / "ticks"

LISTENER = '''
from dataclasses import dataclass

from sigrack_plugins import Plugin

@dataclass
class Options:
    period_ns: int = 0
    enough: int = 1 << 60

class Listener(Plugin):
    """Keeps what it is told, with the rack time at which it was told."""

    Config = Options

    def on_start(self):
        self.data, self.factors, self.ticks, self.order, self.blocks = [], [], [], [], 0
        if self.config.period_ns:
            self.ctx.every(self.config.period_ns, self.tick)

    def tick(self):
        self.ticks.append(self.ctx.now())
        self.order.append("tick")

    def on_data(self, batch):
        self.data.append((self.ctx.now(), batch))
        self.order += [(batch.source, ts_ns - batch.epoch_ns) for ts_ns in batch.records["ts_ns"].tolist()]
        if len(self.order) >= self.config.enough:
            self.enough()

    def on_factors(self, batch):
        self.factors += [(symbol, ts_ns, values.tolist()) for symbol, ts_ns, values in batch]

    def enough(self):
        pass
'''
BLOCKS = LISTENER + "\n    def on_block(self, block):\n        self.blocks += 1\n"
SLOW = """
#include <stdlib.h>
#include <time.h>
#include "sigrack_signal.h"
struct engine { signal_callback call; void *user; int records; };
void *signal_create(const char *config) { (void)config; return calloc(1, sizeof(struct engine)); }
int signal_register_callback(void *handle, signal_callback call, void *user) {
    struct engine *engine = handle;
    engine->call = call;
    engine->user = user;
    return 0;
}
void signal_on_data(void *handle, int type, const void *data) {
    struct engine *engine = handle;
    const struct signal_index_price *record = data;
    (void)type;
    if (++engine->records % EACH == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, 0);
    }
    engine->call(record->symbol, record->ts_ns, &record->price, 1, engine->user);
}
void signal_destroy(void *handle) { free(handle); }
"""
"""An engine that posts every price, and sleeps for a millisecond at each EACH records."""
NO_SOURCE = '[source]\ndriver = "none"\n'
FILE = '[source]\ndriver = "file"\npath = "in.wav"\n'

Record = tuple[str, int, list[float]]


def slot(config: str = "{}") -> str:
    """The table of the listener."""
    return f'[[slot]]\nname = "listener"\nplugin = "./listener.py"\nconfig = {config}\n[control]\nenabled = false\n'


def feed(name: str, path: Path | str, kind: str, speed: str = '"max"') -> str:
    """The table of a CSV feed."""
    return f'[[feed]]\nname = "{name}"\ndriver = "csv"\nkind = "{kind}"\npath = "{path}"\nspeed = {speed}\n'


def engine(library: Path, feeds: str = '["depth", "trades"]', name: str = "book", symbols: str = '["BTCUSDT", "ETHUSDT"]') -> str:
    """The table of a signal engine."""
    return f'[[signal]]\nname = "{name}"\nlibrary = "{library}"\nlane = "inline"\nsymbols = {symbols}\nfeed = {feeds}\n'


def session(folder: Path, toml: str, plugin: str = LISTENER, sound: Any = None) -> Session:
    """A session with a listener, not yet run."""
    (folder / "listener.py").write_text(plugin)
    return Session(load(write(folder, toml, sound)))


def listener(session: Session) -> Any:
    """The listener's plugin object."""
    hooked = session.rack.slot("listener").hooked
    assert hooked is not None
    return hooked.plugin


@pytest.fixture
def book(cc: Compile) -> Path:
    """The example's engine, built as its README says."""
    return cc((EXAMPLE / "book.c").read_text(), "book", "-O2")


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file by Python's own reader."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected(depth: Path, trades: Path) -> list[Record]:
    """What the example posts, computed from its files."""
    stream = [(int(row["ts_ns"]), kind, row) for kind, path in ((0, depth), (1, trades)) for row in rows(path)]
    value: dict[str, float] = {}
    quantity: dict[str, float] = {}
    records: list[Record] = []
    for time, kind, row in sorted(stream, key=lambda item: item[:2]):
        symbol = row["symbol"].replace("-", "")
        if kind:
            value[symbol] = value.get(symbol, 0.0) + float(row["price"]) * float(row["quantity"])
            quantity[symbol] = quantity.get(symbol, 0.0) + float(row["quantity"])
            continue
        bids, asks = (sum(float(row[f"{side}_size_{level}"]) for level in (1, 2, 3)) for side in ("bid", "ask"))
        middle = (float(row["bid_price_1"]) + float(row["ask_price_1"])) / 2
        vwap = [value[symbol] / quantity[symbol]] if symbol in quantity else []
        records.append((symbol, time, [middle, (bids - asks) / (bids + asks), *vwap]))
    return records


def same(wanted: list[Record], found: list[Record]) -> bool:
    """Equal but for rounding in the last digits."""
    return [(record[:2], len(record[2])) for record in wanted] == [(record[:2], len(record[2])) for record in found] and all(
        np.allclose(left[2], right[2], rtol=1e-12, atol=0) for left, right in zip(wanted, found, strict=True)
    )


EXAMPLES = feed("depth", EXAMPLE / "depth.csv", "depth") + feed("trades", EXAMPLE / "trades.csv", "trade")


# Replay


def test_the_example_posts_what_its_files_say(tmp_path: Path, book: Path) -> None:
    """Every factor of the example arrives, in order, with the values that its files give."""
    run = session(tmp_path, NO_SOURCE + EXAMPLES + engine(book) + slot())
    plugin, signal = listener(run), run.rack.signals[0]
    wanted = expected(EXAMPLE / "depth.csv", EXAMPLE / "trades.csv")

    assert 0 == run.run()
    assert same(wanted, plugin.factors)
    assert 160 == len(wanted)
    assert DataCounts(286, 286, 0, 0) == signal.data.counts  # type: ignore[union-attr]


def test_the_comparison_sees_what_is_wrong() -> None:
    """Negative control: a lost record, another order and another value are not the same."""
    records = expected(EXAMPLE / "depth.csv", EXAMPLE / "trades.csv")
    symbol, time, values = records[9]

    assert same(records, list(records))
    assert not same(records, records[:-1])
    assert not same(records, [*records[:9], records[10], records[9], *records[11:]])
    assert not same(records, [*records[:9], (symbol, time, [values[0] * (1 + 1e-9), *values[1:]]), *records[10:]])


def prices(path: Path, times: list[int], base: int = 1_700_000_000_000_000_000) -> Path:
    """A file of index prices whose price is their number."""
    lines = [f"{base + time},A,{number}\n" for number, time in enumerate(times)]
    path.write_text("ts_ns,symbol,price\n" + "".join(lines))
    return path


@pytest.mark.parametrize("plugin", [LISTENER, BLOCKS], ids=["nothing runs", "blocks run"])
def test_rack_time_follows_the_data(tmp_path: Path, plugin: str) -> None:
    """Rack time 0 is the first record; records are delivered at the time of the last of them, to a frame; timers run between."""
    path = prices(tmp_path / "p.csv", [0, 5_000_000, 25_000_000, 25_000_000, 61_000_000])
    run = session(tmp_path, NO_SOURCE + feed("p", path, "index_price") + slot("{ period_ns = 10_000_000 }"), plugin)
    heard = listener(run)
    run.run()
    frame_ns = 10**9 / 48_000

    times = {
        number: [("p", time) for time in part] for number, part in ((0, [0, 5_000_000]), (2, [25_000_000] * 2), (6, [61_000_000]))
    }
    wanted = [*times[0], "tick", "tick", *times[2], "tick", "tick", "tick", "tick", *times[6]]
    assert wanted == heard.order
    for now, batch in heard.data:
        assert 0 <= int(batch.records["ts_ns"][-1]) - batch.epoch_ns - now < frame_ns
    for number, now in enumerate(heard.ticks, 1):
        assert 0 <= now - number * 10_000_000 < frame_ns
    assert (heard.blocks > 0) == (plugin is BLOCKS)


def test_hooks_see_feeds_merged(tmp_path: Path) -> None:
    """Two feeds arrive in order of time; records are read-only, and may be kept."""
    one = prices(tmp_path / "1.csv", list(range(0, 3000, 3)))
    two = prices(tmp_path / "2.csv", list(range(0, 3000, 2)))
    run = session(tmp_path, NO_SOURCE + feed("one", one, "index_price") + feed("two", two, "index_price") + slot())
    heard = listener(run)
    run.run()
    kept = {name: [p for _, b in heard.data if b.source == name for p in b.records["price"].tolist()] for name in ("one", "two")}

    assert sorted(
        [*(("one", t) for t in range(0, 3000, 3)), *(("two", t) for t in range(0, 3000, 2))], key=lambda x: x[::-1]
    ) == (heard.order)
    assert {"one": list(range(1000)), "two": list(range(1500))} == kept
    assert not any(batch.records.flags.writeable for _, batch in heard.data)


def ticks(folder: Path, count: int, seed: int = 1) -> None:
    """Write t.csv with trades, and o.csv with depth of one level, `count` records in all."""
    chance, time = random.Random(seed), 1_700_000_000_000_000_000
    trades, depth = ["ts_ns,symbol,price,quantity"], ["ts_ns,symbol,bid_price_1,bid_size_1,ask_price_1,ask_size_1"]
    for number in range(count):
        time += chance.randrange(1_000_000)
        price = 100 + chance.random()
        if number % 10:
            trades.append(f"{time},BTC-USDT,{price:.4f},{chance.randrange(1, 9)}")
        else:
            depth.append(f"{time},BTC-USDT,{price:.4f},{chance.randrange(9)},{price + 1:.4f},{chance.randrange(1, 9)}")
    (folder / "t.csv").write_text("\n".join(trades) + "\n")
    (folder / "o.csv").write_text("\n".join(depth) + "\n")


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_nothing_is_lost_and_every_run_is_the_same(tmp_path: Path, book: Path, count: int) -> None:
    """A replay delivers and posts every record though the rings hold 16: zero dropped, the same factors in every run."""
    ticks(tmp_path, count)
    tables = NO_SOURCE + feed("depth", "o.csv", "depth") + feed("trades", "t.csv", "trade")
    tables += engine(book) + "queue = 16\n" + slot()
    results = []
    for _ in range(2):
        run = session(tmp_path, tables)
        heard, signal = listener(run), run.rack.signals[0]
        run.run()
        counts = signal.ring.counts
        results.append(heard.factors)

        assert DataCounts(count, count, 0, 0) == signal.data.counts  # type: ignore[union-attr]
        assert (count // 10, count // 10, 0, 0, 0) == (
            counts.posted,
            counts.delivered,
            counts.dropped,
            counts.refused,
            counts.stale,
        )
        assert count == sum(len(batch) for _, batch in heard.data)
    assert results[0] == results[1]


def test_without_patience_records_are_lost(tmp_path: Path, book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: where an engine does not wait for room, the same replay drops factors, and counts them."""
    monkeypatch.setattr(ResultRing, "set_patient", lambda ring, patient: None)
    ticks(tmp_path, 20_000)
    tables = NO_SOURCE + feed("depth", "o.csv", "depth") + feed("trades", "t.csv", "trade")
    run = session(tmp_path, tables + engine(book) + "queue = 16\n" + slot())
    heard, signal = listener(run), run.rack.signals[0]
    run.run()
    counts = signal.ring.counts

    assert counts.dropped > 0
    assert 2000 == counts.posted == counts.delivered + counts.dropped
    assert counts.delivered == len(heard.factors)


@pytest.fixture
def slow(cc: Compile) -> Path:
    """An engine that takes about 50,000 records per second."""
    return cc(SLOW, "slow", "-D_POSIX_C_SOURCE=200809L", "-DEACH=64")


def swapped_run(folder: Path, library: Path, pace: str, swaps: int = 5) -> tuple[Session, Any, list[dict[str, int]]]:
    """Run 20,000 prices into a slow engine that is swapped after each 4,000; return session, listener and STATS at each swap."""
    path = prices(folder / "p.csv", [40_000 * number for number in range(20_000)])
    tables = NO_SOURCE + feed("p", path, "index_price") if pace == "replay" else FILE + feed("p", path, "index_price", "1.0")
    if pace == "one block":  # all data comes before the only block, and the rings are short
        tables = "[rack]\nblock_frames = 65536\n" + tables
    run = session(
        folder,
        tables + engine(library, '"p"', "slow", '["A"]') + "queue = 16\n" + slot("{ enough = 0 }"),
        sound=noise(48_000),
    )
    heard, said = listener(run), []
    tasks: list[asyncio.Task[None]] = []

    def swap() -> None:
        if len(tasks) < swaps and len(heard.order) >= 4000 * (len(tasks) + 1):
            tasks.append(asyncio.get_running_loop().create_task(run.rack.changes.swap("slow")))
            said.append(stats(run)["signals"]["slow"]["data"])

    heard.enough = swap
    run.run()
    assert [None] * swaps == [task.result() for task in tasks]
    return run, heard, said


@pytest.mark.parametrize(("pace", "swaps"), [("replay", 5), ("freewheel", 5), ("one block", 5), ("one block", 1)])
def test_an_engine_that_is_swapped_loses_no_record(tmp_path: Path, slow: Path, pace: str, swaps: int) -> None:
    """While a feed waits for an engine, the engine may be swapped: each record is given once, to the one or the other, in order;
    STATS sums over both, exactly."""
    run, heard, said = swapped_run(tmp_path, slow, pace, swaps)

    assert DataCounts(20_000, 20_000, 0, 0) == run.rack.accounts.data()["slow"]
    assert PostCounts(20_000, 20_000, 0, 0, 0, 0) == run.rack.accounts.posts()["slow"]
    assert list(range(20_000)) == [int(values[0]) for _, _, values in heard.factors]
    assert all(data["given"] == data["fed"] + data["dropped"] + data["queued"] for data in said)
    assert sorted(data["given"] for data in said) == [data["given"] for data in said]
    assert said[-1]["given"] > 3000 * swaps


def test_who_holds_on_to_an_engine_loses_records(tmp_path: Path, slow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a feed that gives to the engine that it has seen before it waited loses what that does not take."""

    async def deliver(feeds: Any, batches: list[DataBatch]) -> None:
        for engine in feeds._rack.signals:
            await feeds._until(lambda engine=engine: engine.room >= sum(map(len, batches)))
            engine.give(batches)
        for batch in batches:
            feeds._rack.dispatcher.deliver_data(batch)

    monkeypatch.setattr(PatientFeeds, "deliver", deliver)
    run, heard, _ = swapped_run(tmp_path, slow, "replay")

    assert run.rack.accounts.data()["slow"].given < 20_000
    assert len(heard.factors) < 20_000


class Engine:
    """What a feed sees of a signal engine: its table and its queue."""

    def __init__(self, *, ended: bool) -> None:
        self.table = SignalTable(name="one", library="", symbols=["A"], feed="p")
        self.queue = DataQueue(100)
        self.give = self.queue.give
        if ended:
            self.queue.finish()


class Replacing:
    """A rack that replaces its engine each time that somebody has looked."""

    def __init__(self, *engines: Engine) -> None:
        self.engines = list(engines)

    def signal(self, name: str) -> Engine | None:
        """The engine that is there now; it is the next one's turn."""
        return self.engines.pop(0) if len(self.engines) > 1 else self.engines[0]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_live_data_goes_to_the_successor(tmp_path: Path, gone: int) -> None:
    """An engine that ends between the look and the gift gets nothing and counts nothing: its successor does."""
    engines = [Engine(ended=number < gone) for number in range(3)]
    feeds = LiveFeeds(load(write(tmp_path, NO_SOURCE)), Replacing(*engines))  # type: ignore[arg-type]
    feeds._hand_over("one", [DataBatch("p", "index_price", KINDS["index_price"].empty(7), 0)])

    assert [7 if number == gone else 0 for number in range(3)] == [engine.queue.counts.given for engine in engines]


def test_live_data_for_nobody(tmp_path: Path) -> None:
    """When the engine has ended and has no successor, nobody gets the data, and nobody waits."""
    engine = Engine(ended=True)
    feeds = LiveFeeds(load(write(tmp_path, NO_SOURCE)), Replacing(engine))  # type: ignore[arg-type]
    feeds._hand_over("one", [DataBatch("p", "index_price", KINDS["index_price"].empty(7), 0)])

    assert DataCounts(0, 0, 0, 0) == engine.queue.counts


SUBSCRIBER = LISTENER.replace(
    "        if self.config.period_ns:", "        self.ctx.subscribe(SOURCE, SYMBOL)\n        if self.config.period_ns:"
)


@pytest.mark.parametrize("symbols", ["", 'symbols = ["btc/usdt", "eth-usdt"]\n'])
@pytest.mark.parametrize("source", ["'p'", "None"])
@pytest.mark.parametrize("symbol", ["BTC-USDT", "btc_usdt", "BTCUSDT"])
def test_a_subscription_may_write_a_symbol_as_it_likes(tmp_path: Path, source: str, symbol: str, symbols: str) -> None:
    """A subscription to a feed matches however its symbol is written; what is cut out of a batch is as read-only as the batch."""
    path = tmp_path / "p.csv"
    path.write_text("ts_ns,symbol,price\n" + "".join(f"{n},{('btc_usdt', 'eth_usdt')[n % 2]},{n}\n" for n in range(10)))
    plugin = SUBSCRIBER.replace("SOURCE", source).replace("SYMBOL", repr(symbol))
    run = session(tmp_path, NO_SOURCE + feed("p", path, "index_price") + symbols + slot(), plugin)
    heard = listener(run)
    run.run()

    assert [0, 2, 4, 6, 8] == [ts for _, batch in heard.data for ts in batch.records["ts_ns"].tolist()]
    assert not any(batch.records.flags.writeable for _, batch in heard.data)


@pytest.mark.parametrize(
    ("source", "symbol", "message"),
    [
        ("'p'", "BTC-USD", '.*p does not post "BTC-USD"; did you mean "BTCUSDT"'),
        ("'p'", "é", ".*the symbol .* is not 1 to 31 printable"),
        ("None", "é", '.*no source does not post "é"'),
    ],
)
def test_a_subscription_to_what_no_feed_brings(tmp_path: Path, source: str, symbol: str, message: str) -> None:
    """A symbol that the feed's list lacks, or that is none, is refused."""
    plugin = SUBSCRIBER.replace("SOURCE", source).replace("SYMBOL", repr(symbol))
    table = feed("p", prices(tmp_path / "p.csv", [0]), "index_price") + 'symbols = ["BTC-USDT", "A"]\n'

    with pytest.raises(ConfigError, match=message):
        session(tmp_path, NO_SOURCE + table + slot(), plugin).run()


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_a_feed_without_records_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str) -> None:
    """A file without records is no error, but it is named in the log."""
    prices(tmp_path / "p.csv", [])
    np.savez(tmp_path / "p.npz", ts_ns=np.empty(0, int), symbol=np.empty(0, "S4"), price=np.empty(0))
    table = feed("p", f"p.{form}", "index_price").replace('"csv"', f'"{form}"')

    assert 0 == session(tmp_path, NO_SOURCE + table + slot()).run()
    assert [f"p: {tmp_path}/p.{form} holds no records"] == [r.message for r in caplog.records if "records" in r.message]


def test_a_bad_file_ends_the_replay_with_its_line(tmp_path: Path) -> None:
    """A file that turns out to be wrong ends the run in one line; one that is wrong from the start does so before it."""
    path = prices(tmp_path / "p.csv", list(range(100_000)))
    path.write_text(path.read_text() + "x,A,1\n")
    run = session(tmp_path, NO_SOURCE + feed("p", path, "index_price") + slot())

    with pytest.raises(ConfigError, match=r"p\.csv:100002: ts_ns: 'x' is not an integer"):
        run.run()
    path.write_text("ts_ns,symbol,prize\n")
    with pytest.raises(
        ConfigError, match=r"rack\.toml:7: .*p\.csv:1: index_price has no column 'prize'; did you mean \"price\"\?"
    ):
        session(tmp_path, NO_SOURCE + feed("p", path, "index_price") + slot())


# Beside sound


def test_beside_a_file_data_comes_with_its_block(tmp_path: Path) -> None:
    """While a sound file is rendered, each record comes before the block in which its rack time lies, scaled by the speed."""
    path = prices(tmp_path / "p.csv", [0, 10_000_000, 20_000_000, 199_000_000, 900_000_000])
    run = session(tmp_path, FILE + feed("p", path, "index_price", "2.0") + slot(), sound=noise(4800))
    heard = listener(run)
    run.run()
    block_ns = 256 * 10**9 // 48_000

    assert [0, 5_000_000, 10_000_000, 99_500_000] == [time // 2 for _, time in heard.order]
    for now, batch in heard.data:
        times = (batch.records["ts_ns"] - batch.epoch_ns) // 2
        assert now <= times[0] <= times[-1] < now + block_ns


# Real time


def stop_when_enough(run: Session) -> None:
    """Stop the session when the listener has enough."""
    listener(run).enough = run.stop


def test_live_files_keep_their_pace_and_end(tmp_path: Path, book: Path) -> None:
    """In real time no record comes before its rack time, and when all have come the run ends, complete."""
    depth = tmp_path / "o.csv"
    times = [1_700_000_000_000_000_000 + 2_000_000 * number for number in range(50)]
    lines = [f"{time},ETH-USDT,1,2,3,4" for time in times]
    depth.write_text("\n".join(["ts_ns,symbol,bid_price_1,bid_size_1,ask_price_1,ask_size_1", *lines]) + "\n")
    run = session(tmp_path, NO_SOURCE + feed("depth", depth, "depth", "1.0") + engine(book, '"depth"') + slot())
    heard, signal = listener(run), run.rack.signals[0]

    assert 0 == run.run()
    assert DataCounts(50, 50, 0, 0) == signal.data.counts  # type: ignore[union-attr]
    assert [("ETHUSDT", time, [2.0, (2 - 4) / 6]) for time in times] == heard.factors
    assert all(now >= batch.records["ts_ns"][-1] - batch.epoch_ns for now, batch in heard.data)


def test_files_that_fail_are_no_clean_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the thread of the files fails, the run that ends with them ends with 102; STATS and one line of the log say why."""

    def take(files: FileFeeds, before_ns: int | None) -> list[DataBatch]:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(FileFeeds, "take_slice", take)
    path = prices(tmp_path / "p.csv", [0, 1])
    run = session(tmp_path, NO_SOURCE + feed("p", path, "index_price", "1.0") + slot())

    with pytest.raises(EngineError, match="the feeds of files: ZeroDivisionError: by nothing") as caught:
        run.run()
    feeds: Any = run.driver.stats["feeds"]
    assert 102 == caught.value.exit_code
    assert {"records": 0, "failure": str(caught.value)} == feeds["p"]
    assert [f"{caught.value}; the feeds of files end here"] == [r.message for r in caplog.records if "by nothing" in r.message]
    assert not any(record.exc_info for record in caplog.records)


def test_a_socket_that_fails_is_told(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When a socket's thread fails, the rack runs on; STATS and one line of the log say why."""

    def receive(feed: SocketFeed, wait_ms: int) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(SocketFeed, "receive", receive)
    run = session(tmp_path, NO_SOURCE + wire(f"ipc://{runtime}/feed") + slot())
    feeds: Any = run.driver.stats["feeds"]

    async def failed() -> None:
        nonlocal feeds
        while not feeds["wire"]["failure"]:
            await asyncio.sleep(0.01)
            feeds = run.driver.stats["feeds"]

    assert 0 == run.run(failed)
    assert re.fullmatch(r"ZeroDivisionError: by nothing \(.*test_feeds\.py:\d+\)", feeds["wire"]["failure"])
    assert [f"wire: the feed ends here: {feeds['wire']['failure']}"] == [
        record.message for record in caplog.records if "by nothing" in record.message and not record.exc_info
    ]


async def at_once() -> None:
    """Return at once: a guest of a run that shall end when it has begun."""


def wire(endpoint: str, more: str = "bind = true\n") -> str:
    """The table of a zmq feed."""
    return f'[[feed]]\nname = "wire"\ndriver = "zmq"\nkind = "index_price"\nendpoint = "{endpoint}"\n{more}'


@contextmanager
def in_the_way(kind: str, path: Path) -> Iterator[None]:
    """Something where a socket is to be."""
    if kind == "file":
        path.write_text("precious")
        yield
    elif kind == "link":
        path.symlink_to(path.with_name("elsewhere"))
        yield
    else:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM) as place:
            place.bind(str(path))
            if kind == "listener":
                place.listen()
            yield


@pytest.mark.parametrize("kind", ["file", "link", "listener", "datagrams"])
def test_nothing_is_taken_over(tmp_path: Path, runtime: Path, kind: str) -> None:
    """A feed that binds refuses a path where a file, a link or another's socket is, and leaves it there."""
    path = runtime / "feed"
    said = "is in use by another process" if kind in ("listener", "datagrams") else "is not a socket"
    with in_the_way(kind, path):
        before = path.lstat().st_ino

        with pytest.raises(EngineError, match=said):
            session(tmp_path, NO_SOURCE + wire(f"ipc://{path}") + slot())
        assert before == path.lstat().st_ino


def test_what_a_dead_host_has_left_is_taken_over(tmp_path: Path, runtime: Path) -> None:
    """A socket at which nobody answers is in nobody's way."""
    with in_the_way("listener", runtime / "feed"):
        pass
    run = session(tmp_path, NO_SOURCE + wire(f"ipc://{runtime}/feed") + slot())

    assert 0 == run.run(at_once)


def test_a_port_in_use(tmp_path: Path) -> None:
    """A port that another has is no mistake in the file: trying again may help."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EngineError) as caught:
            session(tmp_path, NO_SOURCE + wire(f"tcp://127.0.0.1:{port}") + slot())

    assert f"[[feed]] wire: tcp://127.0.0.1:{port}: Address already in use; choose another endpoint" == str(caught.value)


POSTER = '[[slot]]\nname = "level"\nplugin = "level"\n'


def published(endpoint: str, factors: str = "level.*") -> str:
    """The table of what is published."""
    return f'{POSTER}[publish]\nendpoint = "{endpoint}"\nfactors = ["{factors}"]\n'


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (published("ipc:///tmp/x", "level.peek"), r"rack\.toml:\d+: no factor is called \"level.peek\""),
        (published("ipc:///nowhere/x"), "there is no folder /nowhere: make it, or choose another [publish] endpoint"),
        (published(f"ipc:///{'x' * 107}"), "a socket's path has 107 bytes at most; set [publish] endpoint shorter"),
        (published("ipc:///etc/passwd"), "/etc/passwd is in the way of the publish socket and is not a socket: move it"),
        (
            published("tcp://nobody.invalid:5999"),
            '"nobody.invalid" cannot be bound; give [publish] endpoint an address of this machine',
        ),
        (wire("ipc:///nowhere/x"), "there is no folder /nowhere: make it, or choose another [[feed]] endpoint"),
        (wire(f"ipc:///{'x' * 107}", ""), "a socket's path has 107 bytes at most; set [[feed]] endpoint shorter"),
        (wire("ipc:///etc/passwd"), "/etc/passwd is in the way of the feed socket and is not a socket: move it"),
        (wire("tcp://localhost:5999"), '"localhost" cannot be bound; give [[feed]] endpoint an address of this machine'),
        (wire("tcp://127.0.0.1:5999", 'symbols = ["é"]\n'), "is not 1 to 31 printable ASCII characters"),
    ],
)
def test_check_refuses_what_run_refuses(tmp_path: Path, tables: str, said: str) -> None:
    """What a run would not begin with for its sockets, factors and symbols, `check` refuses as well, with the same exit code."""
    path = write(tmp_path, NO_SOURCE + tables)
    codes = []
    for look in (lambda: built(load(path)).__enter__(), lambda: Session(load(path))):
        with pytest.raises(RackError) as caught:
            look()
        codes.append(caught.value.exit_code)

        assert said in str(caught.value) or re.search(said, str(caught.value))
    assert codes[0] == codes[1]


def test_check_binds_nothing(tmp_path: Path, runtime: Path) -> None:
    """A rack that runs can be checked: what it has bound is its own."""
    tables = wire(f"ipc://{runtime}/feed") + published(f"ipc://{runtime}/factors") + "[control]\nenabled = false\n"
    path = write(tmp_path, NO_SOURCE + tables)
    run = Session(load(path))
    before = sorted(os.listdir(runtime))
    with built(load(path)) as rack:
        slots = len(rack.slots)
    after = sorted(os.listdir(runtime))
    run.run(at_once)

    assert (1, ["factors", "feed"], before) == (slots, before, after)


@pytest.mark.parametrize("value", ["nan", "-inf", "[1.0, inf]"])
def test_numbers_that_json_does_not_have(tmp_path: Path, book: Path, value: str) -> None:
    """An engine's configuration goes to it as JSON: nan and inf are refused with their line."""
    table = engine(book, '"none"') + f"[signal.config]\nfine = 1\nodd = {value}\n"

    with pytest.raises(ConfigError, match=r"rack\.toml:11: config\.odd: nan and inf cannot be handed over; give a number"):
        session(tmp_path, NO_SOURCE + table + slot())


def sender(endpoint: str, messages: list[bytes], kind: int) -> Callable[[], None]:
    """Return a function that sends messages until it is called; it begins at once."""
    ending = threading.Event()

    def work() -> None:
        with zmq.Context() as context, context.socket(kind) as socket:
            socket.linger = 0
            socket.sndtimeo = 100
            socket.connect(endpoint)
            while not ending.is_set():
                for message in messages:
                    try:
                        socket.send_multipart([b"ticks", message] if kind == zmq.PUB else [message])
                    except zmq.Again:
                        continue
                ending.wait(0.005)

    thread = threading.Thread(target=work)
    thread.start()

    def end() -> None:
        ending.set()
        thread.join()

    return end


@pytest.mark.parametrize(("socket", "kind"), [("sub", zmq.PUB), ("pull", zmq.PUSH)])
def test_sockets_bring_data(tmp_path: Path, runtime: Path, caplog: pytest.LogCaptureFixture, socket: str, kind: int) -> None:
    """Messages reach hooks; what is no data, or not in the list, is refused, counted and named once, and the feed goes on."""
    good = {"ts_ns": 5, "symbol": "btc_usdt", "price": 2.0}
    messages = [json.dumps(m).encode() for m in (good, [good, good], good | {"symbol": "btc-usd"}, good | {"more": 1})] + [
        b"\xff"
    ]
    endpoint = f"ipc://{runtime}/feed"
    table = wire(endpoint, f'bind = true\nsocket = "{socket}"\nsymbols = ["BTC-USDT"]\n')
    run = session(tmp_path, NO_SOURCE + table + slot("{ enough = 30 }"))
    stop_when_enough(run)
    heard = listener(run)
    end = sender(endpoint, messages, kind)
    try:
        run.run()
    finally:
        end()
    stats: Any = run.driver.stats["feeds"]
    warnings = [record.message for record in caplog.records if "refused" in record.message]

    assert {(b"BTCUSDT", 5, 2.0)} == {tuple(r[["symbol", "ts_ns", "price"]].tolist()) for _, b in heard.data for r in b}
    assert stats["wire"]["records"] >= 30
    assert stats["wire"]["refused"] >= 3
    assert 1 == len(warnings)
    assert 'the symbol "BTCUSD" is not in the feed\'s list; did you mean "BTCUSDT"?' in warnings[0]


def test_a_slow_engine_loses_and_counts(tmp_path: Path, cc: Compile, caplog: pytest.LogCaptureFixture) -> None:
    """Live, an engine that does not keep up loses records, counted and told once; nothing waits for it, and
    given == fed + dropped + queued."""
    slow = cc(SLOW, "slow", "-D_POSIX_C_SOURCE=200809L", "-DEACH=1")
    path = prices(tmp_path / "p.csv", [number // 100 for number in range(20_000)])
    tables = NO_SOURCE + feed("p", path, "index_price", "1.0") + engine(slow, '"p"', "slow", '["A"]')
    run = session(tmp_path, tables + slot("{ enough = 15_000 }"))
    stop_when_enough(run)
    signal = run.rack.signals[0]

    assert 0 == run.run()
    counts = signal.data.counts  # type: ignore[union-attr]
    assert counts.dropped > 5000
    assert counts.given == counts.fed + counts.dropped + counts.queued
    assert 1 == len([record for record in caplog.records if "slow: too slow for its feeds: " in record.message])


# What does not fit


def test_a_replay_is_not_rendered(tmp_path: Path) -> None:
    """A rack whose feeds set the pace cannot render a file, which sets the pace itself."""
    path = prices(tmp_path / "p.csv", [0])
    rack = write(tmp_path, NO_SOURCE + feed("p", path, "index_price"), noise(100))

    with pytest.raises(ConfigError, match=r"rack\.toml:8: a file source sets the pace: give a speed"):
        render(rack, tmp_path / "in.wav", tmp_path / "out.wav")


def test_an_engine_that_does_not_take_a_kind(tmp_path: Path, book: Path) -> None:
    """A feed of a kind that the engine does not know is refused before anything runs."""
    path = prices(tmp_path / "p.csv", [0])

    with pytest.raises(ConfigError, match=r'takes no index_price; give "book" another feed'):
        session(tmp_path, NO_SOURCE + feed("p", path, "index_price") + engine(book, '"p"') + slot())


def test_an_engine_with_another_struct(tmp_path: Path, cc: Compile) -> None:
    """An engine that was built with another struct is refused with both sizes."""
    source = (EXAMPLE / "book.c").read_text().replace("sizeof(struct signal_depth)", "sizeof(struct signal_depth) + 8")

    with pytest.raises(ConfigError, match="its struct signal_depth has 376 bytes, this host's 368: rebuild it"):
        session(tmp_path, NO_SOURCE + EXAMPLES + engine(cc(source, "other")) + slot())
