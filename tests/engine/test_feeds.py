"""Feeds: what files and messages become, and what is said about the wrong ones."""

import csv
import gzip
import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sigrack_engine.data import KINDS, DataError, Records, Symbols
from sigrack_engine.feeds import (
    CsvFile,
    DataCounts,
    DataQueue,
    Decoder,
    EndpointInUseError,
    FeedError,
    Merge,
    NpzFile,
    Track,
    ZmqSocket,
)
from sigrack_engine.feeds import csv_file as module
from sigrack_plugins import DataBatch
from waiting import wait_until

TRADES = "ts_ns,symbol,price,quantity,side,trade_id\n"
"""The first line of a file of trades."""


def read(path: Path, kind: str = "trade", known: tuple[str, ...] = ()) -> Records:
    """Everything in a CSV file."""
    file = CsvFile(path, KINDS[kind], Symbols(known))
    try:
        return np.concatenate([KINDS[kind].empty(0), *file])
    finally:
        file.close()


def complaint(folder: Path, text: str | bytes, kind: str = "trade", known: tuple[str, ...] = ()) -> str:
    """What is said about a file, without the folder."""
    path = folder / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(FeedError) as caught:
        read(path, kind, known)
    return str(caught.value).replace(f"{folder}/", "")


def random_trades(count: int, seed: int, step_ns: int = 1000) -> list[list[str]]:
    """Rows of a file of trades."""
    chance, time, rows = random.Random(seed), 1_700_000_000_000_000_000, []
    for number in range(count):
        time += chance.randrange(step_ns)
        name, side = chance.choice(["BTC_USDT", "eth-usdt"]), chance.choice(["buy", "sell", "unknown"])
        rows.append([str(time), name, repr(chance.uniform(1, 1e5)), repr(chance.expovariate(1)), side, str(number)])
    return rows


def write(path: Path, rows: list[list[str]]) -> Path:
    """Write rows of trades."""
    text = TRADES + "".join(",".join(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


# CSV


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("piece", [64, 1000, 1 << 20])
def test_every_value_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, piece: int) -> None:
    """Every record of a file arrives with Python's own value for each text, however the file is cut into pieces."""
    monkeypatch.setattr(module, "READ_BYTES", max(piece, 128))
    rows = random_trades(500, 3)
    records = read(write(tmp_path / name, rows))
    sides, plain = {"unknown": 0, "buy": 1, "sell": 2}, str.maketrans("", "", "-_")

    assert [
        (72, sides[side], int(time), name.upper().translate(plain).encode(), float(price), float(quantity), int(number))
        for time, name, price, quantity, side, number in csv.reader([",".join(row) for row in rows])
    ] == records.tolist()


def test_columns_stand_in_any_order(tmp_path: Path) -> None:
    """The first line says which column is which; what may be left out is 0; line ends may be CRLF, the last one missing."""
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbfprice,symbol,quantity,ts_ns\r\n1.5,a,2,7\r\n2.5,b,3,7")

    assert [(72, 0, 7, b"A", 1.5, 2.0, 0), (72, 0, 7, b"B", 2.5, 3.0, 0)] == read(path).tolist()


def test_depth_has_a_column_for_each_level(tmp_path: Path) -> None:
    """Columns of depth are numbered from 1; there are as many levels as columns, or as `levels` says."""
    names = [f"{side}_{what}_{level}" for side in ("bid", "ask") for what in ("price", "size") for level in (1, 2)]
    path = tmp_path / "t.csv"
    path.write_text(f"ts_ns,symbol,levels,{','.join(names)}\n1,A,2,1,2,3,4,5,6,7,8\n2,A,1,1,0,3,0,5,0,7,0\n")
    records = read(path, "depth")

    assert [2, 1] == records["levels"].tolist()
    assert [[1, 2], [3, 4], [5, 6], [7, 8]] == [records[0][name][:2].tolist() for name in KINDS["depth"].dtype.names[4:]]  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t.csv:1: the first line must name the columns: ts_ns, symbol, price, quantity"),
        ("ts_ns,symbol,price\n", 't.csv:1: the column "quantity" is missing'),
        ("ts_ns,symbol,prize,quantity\n", "t.csv:1: trade has no column 'prize'"),
        ("ts_ns,symbol,price,price,quantity\n", 't.csv:1: the column "price" is there twice'),
        (TRADES + "1,A,1,1,buy,0\n2,A,1,1,buy\n", "t.csv:3: 5 fields, the first line has 6"),
        (TRADES + "1,A,1,1,buy,0\n\n", "t.csv:3: 1 fields, the first line has 6"),
        (TRADES + "1,A,1,1,buy,0\n2,A,x,1,buy,0\n", "t.csv:3: price: 'x' is not a number"),
        (TRADES + "1,A,nan,1,buy,0\n", "t.csv:2: price: 'nan' is not a number"),
        (TRADES + "1,A,1e999,1,buy,0\n", "t.csv:2: price: inf is not a finite number"),
        (TRADES + "1,A,1_0,1,buy,0\n", "t.csv:2: price: '1_0' is not a number"),
        (TRADES + "1.0,A,1,1,buy,0\n", "t.csv:2: ts_ns: '1.0' is not an integer from 0 to 2^64 - 1"),
        (TRADES + "-1,A,1,1,buy,0\n", "t.csv:2: ts_ns: '-1' is not an integer from 0 to 2^64 - 1"),
        (TRADES + "9223372036854775808,A,1,1,buy,0\n", "t.csv:2: ts_ns: 9223372036854775808 is out of range"),
        (TRADES + "1,A,1,1,buy,99999999999999999999\n", "is not an integer from 0 to 2^64 - 1"),
        (TRADES + "1,A,1,1,by,0\n", "t.csv:2: side: 'by' is not known"),
        (TRADES + "1,,1,1,buy,0\n", "t.csv:2: the symbol '' is not 1 to 31 printable ASCII characters"),
        (TRADES + '1,"A",1,1,buy,0\n', "t.csv:2: the symbol '\"A\"' is not 1 to 31 printable ASCII characters without quotes"),
        (TRADES + "1,C,1,1,buy,0\n", 't.csv:2: the symbol "C" is not in the feed\'s list'),
        ("x" * 500 + "\n", f"t.csv:1: trade has no column '{64 * 'x'}'"),
        (TRADES + "5,A,1,1,buy,0\n4,A,1,1,buy,0\n", "t.csv:3: ts_ns: 4 is before the record above (5)"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong is named with file and line."""
    assert said in complaint(tmp_path, text, known=("A", "B"))


def test_a_wrong_line_far_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is counted from the file's beginning also when it lies in a later piece."""
    monkeypatch.setattr(module, "READ_BYTES", 256)
    rows = random_trades(300, 5)
    rows[250][2] = "?"

    assert "t.csv:252: price: '?' is not a number" == complaint(tmp_path, write(tmp_path / "x", rows).read_bytes())


def test_time_may_not_go_back_between_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is checked across the place where the file was cut."""
    monkeypatch.setattr(module, "READ_BYTES", 16)

    assert "t.csv:3: ts_ns: 1 is before" in complaint(tmp_path, "ts_ns,symbol,price,quantity\n2,A,1,1\n1,A,1,1\n")


def test_a_file_without_lines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that does not end is an error before it fills the memory."""
    monkeypatch.setattr(module, "READ_BYTES", 1000)

    assert "not a CSV file: a line has more than 1000 bytes" in complaint(tmp_path, b"\0" * 3000)


def test_a_damaged_archive(tmp_path: Path) -> None:
    """A gzip file that ends early, or is none, is named."""
    path = write(tmp_path / "t.csv.gz", random_trades(1000, 1))
    whole = path.read_bytes()

    for damaged in (whole[: len(whole) // 2], b"ts_ns,symbol\n", whole[:500] + b"\0\0\0\0" + whole[504:]):
        path.write_bytes(damaged)
        with pytest.raises(FeedError, match=r"t\.csv\.gz"):
            read(path)


@pytest.mark.parametrize("reader", [CsvFile, NpzFile])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "is not a regular file; write what it brings into one"),
        (os.mkdir, "is a folder; name the file in it"),
        (lambda path: None, "No such file or directory"),
    ],
)
def test_what_is_no_file(tmp_path: Path, reader: type[CsvFile | NpzFile], make: Callable[[Path], object], said: str) -> None:
    """A named pipe, which could keep who opens it waiting, a folder and nothing at all are refused at once."""
    make(tmp_path / "t")

    with pytest.raises(FeedError, match=f"{tmp_path}/t: {said}"):
        reader(tmp_path / "t", KINDS["trade"], Symbols())


# NPZ


def save(folder: Path, **arrays: object) -> Path:
    """Write an archive."""
    np.savez(folder / "t.npz", **arrays)  # type: ignore[arg-type]
    return folder / "t.npz"


def test_an_archive_of_columns(tmp_path: Path) -> None:
    """An array for each field makes the records."""
    path = save(tmp_path, ts_ns=[1, 2], symbol=["a-b", "c"], price=[1, 2], quantity=[3.5, 4], side=np.array([1, 2], np.uint8))
    (chunk,) = NpzFile(path, KINDS["trade"], Symbols())

    assert [(72, 1, 1, b"AB", 1.0, 3.5, 0), (72, 2, 2, b"C", 2.0, 4.0, 0)] == chunk.tolist()


def test_an_archive_of_records(tmp_path: Path) -> None:
    """What was kept of a batch can be read again."""
    path = save(tmp_path, ts_ns=[1, 2], symbol=["a", "b"], price=[1, 2])
    (first,) = NpzFile(path, KINDS["index_price"], Symbols())
    (again,) = NpzFile(save(tmp_path, records=first), KINDS["index_price"], Symbols())

    assert first.tolist() == again.tolist()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"ts_ns": [1], "symbol": ["a"]}, '"price" is missing'),
        ({"ts_ns": [1], "symbol": ["a"], "price": [1], "prize": [1]}, 'index_price has no "prize"'),
        ({"ts_ns": [1.0], "symbol": ["a"], "price": [1]}, "ts_ns: expected integers, got float64"),
        ({"ts_ns": [2, 1], "symbol": ["a", "a"], "price": [1, 2]}, "record 1: ts_ns goes back"),
        ({"ts_ns": [1, 1], "symbol": ["a", "é"], "price": [1, 2]}, "record 1: the symbol"),
        ({"ts_ns": [1, 2], "symbol": ["a"], "price": [1, 2]}, "symbol has 1 values, ts_ns 2"),
        ({"ts_ns": 1, "symbol": "a", "price": 2}, "ts_ns: expected one value per record, got a single one"),
        ({"ts_ns": [1], "symbol": [5], "price": [2]}, "symbol: expected text, got int64"),
        ({"ts_ns": [1], "symbol": np.array(["a"], object), "price": [2]}, "not an NPZ file that can be read"),
        ({"records": [1, 2]}, '"records" must be a structured array of one dimension, and alone'),
    ],
)
def test_a_wrong_archive(tmp_path: Path, arrays: dict[str, object], said: str) -> None:
    """Names, types, lengths and order are checked; pickled objects are never loaded."""
    with pytest.raises(FeedError) as caught:
        NpzFile(save(tmp_path, **arrays), KINDS["index_price"], Symbols())

    assert str(caught.value).startswith(f"{tmp_path}/t.npz: ")
    assert said in str(caught.value)


# Messages


DEPTH = {"ts_ns": 5, "symbol": "a/b", "bid_price": [3, 2], "bid_size": [1, 1], "ask_price": [4, 5], "ask_size": [1, 2.5]}


def decode(message: object, kind: str) -> Records:
    """The records of one message."""
    return Decoder(KINDS[kind], Symbols()).decode(json.dumps(message).encode())


def test_messages_become_records() -> None:
    """A message is an object or an array of objects; lists of depth may have different lengths from one to the next."""
    shallow = DEPTH | {name: [9.0] for name in ("bid_price", "bid_size", "ask_price", "ask_size")}
    records = decode([DEPTH, shallow], "depth")

    assert [2, 1] == records["levels"].tolist()
    assert [[4, 5] + 8 * [0], [9] + 9 * [0]] == records["ask_price"].tolist()
    assert [(72, 2, 1, b"A", 2.0, 3.0, 4)] == decode(
        {"ts_ns": 1, "symbol": "a", "price": 2, "quantity": 3, "side": "sell", "trade_id": 4}, "trade"
    ).tolist()
    assert [(72, 0, 1, b"A", 2.0, 3.0, 0)] == decode({"ts_ns": 1, "symbol": "a", "price": 2, "quantity": 3}, "trade").tolist()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ([], "an empty array"),
        (5, "Expected object | array, got int"),
        (DEPTH | {"x": 1}, "unknown field x"),
        (DEPTH | {"ts_ns": -1}, "ts_ns is out of range"),
        (DEPTH | {"ts_ns": 1 << 63}, "ts_ns is out of range"),
        (DEPTH | {"ts_ns": "1"}, "Expected int, got str"),
        (DEPTH | {"bid_price": [1]}, "must have the same length, 1 to 10"),
        (DEPTH | {name: [1.0] * 11 for name in ("bid_price", "bid_size", "ask_price", "ask_size")}, "same length, 1 to 10"),
        (DEPTH | {"symbol": ""}, "the symbol '' is not"),
        ({name: DEPTH[name] for name in DEPTH if name != "symbol"}, "missing required field symbol"),
    ],
)
def test_a_wrong_message(message: object, said: str) -> None:
    """What does not fit the schema is refused with the reason."""
    with pytest.raises(DataError) as caught:
        decode(message, "depth")

    assert said in str(caught.value)


def test_a_socket_gives_payloads(tmp_path: Path) -> None:
    """SUB takes the payload of [topic, payload] and of single frames, and refuses more frames."""
    import zmq

    endpoint = f"ipc://{tmp_path}/s"
    feed = ZmqSocket(endpoint, bind=True)
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.connect(endpoint)
        wait_until(lambda: publisher.send(b"hello") or feed.receive(10))
        while feed.receive(50):
            pass
        publisher.send_multipart([b"topic", b"payload"])
        publisher.send_multipart([b"1", b"2", b"3"])

        assert b"payload" == feed.receive(10_000)
        with pytest.raises(DataError, match="a message of 3 frames; 1 or 2 expected"):
            feed.receive(10_000)
    feed.close()


def test_an_endpoint_that_is_taken() -> None:
    """An endpoint that cannot be bound is named; that it is in use is an error of its own, for that may pass."""
    with pytest.raises(FeedError, match="ipc:///nowhere/at/all: No such file or directory; choose another endpoint") as caught:
        ZmqSocket("ipc:///nowhere/at/all", pull=True, bind=True)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(EndpointInUseError, match="Address already in use"):
        ZmqSocket(f"tcp://127.0.0.1:{server.getsockname()[1]}", bind=True)

    assert not isinstance(caught.value, EndpointInUseError)


# Rubbish


def mutants(seed: int, count: int, text: bytes, spice: list[bytes]) -> list[bytes]:
    """Copies of `text` with pieces cut, doubled or replaced, and plain noise."""
    chance, results = random.Random(seed), []
    for _ in range(count):
        mutant = text
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(mutant) + 1)
            end = min(len(mutant), start + chance.randint(0, 8))
            mutant = mutant[:start] + chance.choice([*spice, mutant[start:end] * 2, chance.randbytes(3)]) + mutant[end:]
        results.append(mutant)
    return [*results, *(chance.randbytes(chance.randint(0, 200)) for _ in range(count // 4))]


SPICE = [
    b"",
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"-",
    b"1e999",
    b"nan",
    b"inf",
    b"99999999999999999999",
    b"\xff",
    b'"',
    b"_",
    b"[",
    b"{",
    b"null",
]


def refusals(call: Callable[[bytes], object], texts: list[bytes], expected: type[Exception]) -> int:
    """How many texts are refused; another error than the expected one passes through and fails the test."""
    said = []
    for text in texts:
        try:
            call(text)
        except expected as error:
            said.append(str(error))
    assert "\n" not in "".join(said)
    return len(said)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files(tmp_path: Path, seed: int) -> None:
    """A mutated CSV file or archive is read, or is a FeedError of one line."""
    rows = (TRADES + "".join(",".join(row) + "\n" for row in random_trades(5, seed))).encode()
    path = tmp_path / "t.csv"
    archive = save(tmp_path, ts_ns=[1, 2], symbol=["a", "b"], price=[1, 2])
    whole = archive.read_bytes()

    def as_csv(text: bytes) -> None:
        path.write_bytes(text)
        read(path)

    def as_archive(text: bytes) -> None:
        archive.write_bytes(text)
        NpzFile(archive, KINDS["index_price"], Symbols())

    assert refusals(as_csv, mutants(seed, 300, rows, SPICE), FeedError) > 100
    assert refusals(as_archive, mutants(seed, 200, whole, SPICE), FeedError) > 50


@pytest.mark.parametrize("seed", range(3))
def test_mutated_messages(seed: int) -> None:
    """A mutated message is decoded, or is a DataError."""
    decoder = Decoder(KINDS["depth"], Symbols())

    assert refusals(decoder.decode, mutants(seed, 500, json.dumps(DEPTH).encode(), SPICE), DataError) > 100


# Order


def chunks(times: list[int], size: int) -> list[Records]:
    """Index prices at `times` whose price is their number, in chunks."""
    records = KINDS["index_price"].empty(len(times))
    records["ts_ns"], records["price"] = times, range(len(times))
    return [records[start : start + size] for start in range(0, len(times), size)]


def merged(merge: Merge, limit: int = 512) -> list[tuple[int, int, float]]:
    """All that a merge gives: (time, track, number)."""
    found = []
    while taken := merge.take(None, limit):
        track, records = taken
        assert 0 < len(records) <= limit
        found += [(time, track, price) for time, price in zip(records["ts_ns"].tolist(), records["price"].tolist(), strict=True)]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_feeds_are_merged_by_time_then_by_place(seed: int) -> None:
    """Records come in order of time, of equal times those of the earlier feed first, however the files are cut."""
    chance = random.Random(seed)
    times = [sorted(chance.randrange(50) for _ in range(chance.randrange(60))) for _ in range(chance.randint(1, 4))]
    tracks = [Track(chunks(mine, chance.randint(1, 9))) for mine in times]
    wanted = sorted((time, track, number) for track, mine in enumerate(times) for number, time in enumerate(mine))

    assert wanted == merged(Merge(tracks), chance.choice([1, 3, 512]))


def test_the_comparison_sees_a_wrong_order() -> None:
    """Negative control: feeds one after the other are not merged."""
    one, two = chunks([1, 3], 2), chunks([2, 4], 2)
    wanted = [(1, 0, 0.0), (2, 1, 0.0), (3, 0, 1.0), (4, 1, 1.0)]

    assert wanted == merged(Merge([Track(one), Track(two)]))
    assert wanted != [(t, i, p) for i, part in enumerate((one, two)) for t, p in part[0][["ts_ns", "price"]].tolist()]


def test_nothing_is_taken_before_its_time() -> None:
    """`take` stops before the given rack time, which counts from the first record of all."""
    merge = Merge([Track(chunks([1000, 1010, 1020], 3)), Track(chunks([1005, 1015], 1))])

    assert (1000, 0) == (merge.epoch_ns, merge.next_ns)
    assert [1000] == merge.take(15, 9)[1]["ts_ns"].tolist()  # type: ignore[index]
    assert [1005] == merge.take(15, 9)[1]["ts_ns"].tolist()  # type: ignore[index]
    assert [1010] == merge.take(15, 9)[1]["ts_ns"].tolist()  # type: ignore[index]
    assert merge.take(15, 9) is None
    assert 15 == merge.next_ns


def test_speed_is_of_the_clock() -> None:
    """At speed 2 a feed's records come at half their distance; two feeds of different speed meet in rack time."""
    merge = Merge([Track(chunks([0, 100], 2), 2.0), Track(chunks([0, 60], 2))])

    assert [(0, 0, 0.0), (0, 1, 0.0), (100, 0, 1.0), (60, 1, 1.0)] == merged(merge)


def test_what_was_read_before_an_error_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that turns out to be wrong is told after the records of the pieces before."""
    monkeypatch.setattr(module, "READ_BYTES", 64)
    path = tmp_path / "t.csv"
    path.write_text("ts_ns,symbol,price\n" + "".join(f"{n},A,1\n" for n in range(50)) + "x,A,1\n")
    file = CsvFile(path, KINDS["index_price"], Symbols())
    merge, count = Merge([Track(file)]), 0

    with pytest.raises(FeedError, match=r"t\.csv:52: ts_ns"):  # noqa: PT012
        while taken := merge.take(None, 7):
            count += len(taken[1])
    file.close()

    assert count > 30


# The queue of an engine


def batch(count: int) -> DataBatch:
    """A batch of index prices."""
    return DataBatch("feed", "index_price", KINDS["index_price"].empty(count), 0)


def test_a_full_queue_drops_and_counts() -> None:
    """What finds no room is dropped whole; given == fed + dropped + queued at every moment; what has ended takes nothing."""
    queue = DataQueue(10)
    answers = [queue.give([batch(4)]) for _ in range(3)]
    taken = queue.take(0)

    assert [True, True, True] == answers
    assert queue.overran
    assert DataCounts(12, 0, 4, 8) == queue.counts
    assert 2 == queue.room
    queue.done(taken, 7)
    assert DataCounts(12, 7, 5, 0) == queue.counts
    assert queue.give([batch(3)])
    queue.end()
    assert not queue.give([batch(2)])
    assert DataCounts(15, 7, 8, 0) == queue.counts
    assert [] == queue.take(None)
