"""Feeds through a whole rack: replay, beside a sound file, and in real time."""

import csv
import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from factories import Compile
from racks import noise, write
from sigrack.config import load
from sigrack.errors import ConfigError
from sigrack.rendering import render
from sigrack.session import Session
from sigrack_engine.feeds import DataCounts
from sigrack_engine.results import ResultRing

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
    return f'[[signal]]\nname = "{name}"\nlibrary = "{library}"\nsymbols = {symbols}\nfeed = {feeds}\n'


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
    table = f'[[feed]]\nname = "wire"\ndriver = "zmq"\nkind = "index_price"\nendpoint = "{endpoint}"\nsocket = "{socket}"\n'
    run = session(tmp_path, f'{NO_SOURCE}{table}bind = true\nsymbols = ["BTC-USDT"]\n' + slot("{ enough = 30 }"))
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


def test_a_slow_engine_loses_and_counts(tmp_path: Path, cc: Compile) -> None:
    """Live, an engine that does not keep up loses records, counted; nothing waits for it, and given == fed + dropped + queued."""
    slow = cc(
        '#include <time.h>\n#include "sigrack_signal.h"\nstatic int one;\n'
        "void *signal_create(const char *config) { (void)config; return &one; }\n"
        "void signal_on_data(void *h, int type, const void *data) { (void)h; (void)type; (void)data;\n"
        "    nanosleep(&(struct timespec){.tv_nsec = 1000000}, 0); }\n"
        "void signal_destroy(void *h) { (void)h; }\n",
        "slow",
        "-D_POSIX_C_SOURCE=200809L",
    )
    path = prices(tmp_path / "p.csv", [number // 100 for number in range(20_000)])
    tables = NO_SOURCE + feed("p", path, "index_price", "1.0") + engine(slow, '"p"', "slow", '["A"]')
    run = session(tmp_path, tables + slot("{ enough = 15_000 }"))
    stop_when_enough(run)
    signal = run.rack.signals[0]

    assert 0 == run.run()
    counts = signal.data.counts  # type: ignore[union-attr]
    assert counts.dropped > 5000
    assert counts.given == counts.fed + counts.dropped + counts.queued


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
