"""Records of market-like data: the C structs byte for byte, and what columns must be like."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sigrack_engine.data import KINDS, DataError, Kind, Symbols, from_columns, normalised
from sigrack_plugins import include

HEADER_NAMES = {"depth": "SIGNAL_DEPTH", "ticker": "SIGNAL_TICKER", "trade": "SIGNAL_TRADE", "index_price": "SIGNAL_INDEX_PRICE"}


def c_layout(kind: Kind, folder: Path) -> list[int]:
    """Number, size, and place and length of each field, as a C compiler has them."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang, or set CC")
    names = kind.dtype.names or ()
    places = "".join(f'printf("%zu %zu\\n", offsetof(struct {kind.struct}, {name}), sizeof one.{name});' for name in names)
    source = (
        '#include <stddef.h>\n#include <stdio.h>\n#include "sigrack_signal.h"\n'
        f"int main(void) {{ struct {kind.struct} one; (void)one;\n"
        f'printf("%d %zu\\n", {HEADER_NAMES[kind.name]}, sizeof(struct {kind.struct}));\n{places} }}\n'
    )
    program = folder / kind.name
    subprocess.run([compiler, "-std=c11", f"-I{include()}", "-o", program, "-x", "c", "-"], input=source, text=True, check=True)
    return list(map(int, subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()))


def numpy_layout(kind: Kind) -> list[int]:
    """The same as NumPy has them."""
    assert kind.dtype.fields
    fields = [(kind.dtype.fields[name][1], kind.dtype.fields[name][0].itemsize) for name in kind.dtype.names or ()]
    return [kind.number, kind.dtype.itemsize, *itertools.chain.from_iterable(fields)]


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_record_is_the_c_struct(kind: Kind, tmp_path: Path) -> None:
    """Number, size and every field's place and length are those of the header."""
    assert c_layout(kind, tmp_path) == numpy_layout(kind)


def test_the_comparison_sees_a_moved_field(tmp_path: Path) -> None:
    """Negative control: two fields that have changed places are not the same struct."""
    trade = KINDS["trade"]
    other = np.dtype([(name, trade.dtype[name]) for name in ("size", "side", "symbol", "ts_ns", "price", "quantity", "trade_id")])

    assert c_layout(trade, tmp_path) != numpy_layout(Kind("trade", 103, other))


@pytest.mark.parametrize("name", ["btc_usdt", "BTC-USDT", "BTC/USDT", "BTC USDT", "BTCUSDT", "Btc-_/ Usdt"])
def test_a_symbol_has_one_form(name: str) -> None:
    """However a source writes it, a symbol is upper case without separators."""
    assert normalised(name) == "BTCUSDT"


@pytest.mark.parametrize("name", ["", "-_/ ", "é", "ß", "ﬁ", "A\n", "A\0B", "A" * 32, '"A"', "'A'"])
def test_what_is_no_symbol(name: str) -> None:
    """Nothing, what is not printable ASCII (though it be in upper case), quotes, and what does not fit are refused."""
    with pytest.raises(DataError, match="is not 1 to 31 printable ASCII characters without quotes"):
        normalised(name)


def test_an_unknown_symbol_names_the_known_ones() -> None:
    """Symbols outside the list are refused with their row and what would be right."""
    with pytest.raises(DataError) as caught:
        Symbols(["BTCUSDT", "ETHUSDT"]).field(["btc-usdt", "eth-usd"])

    assert (1, "ETHUSD", ("BTCUSDT", "ETHUSDT")) == (caught.value.row, caught.value.name, caught.value.valid)


def columns(**changed: object) -> dict[str, "np.ndarray"]:
    """Columns of two depth records with three levels."""
    ladder = np.arange(6.0).reshape(2, 3)
    good = {"ts_ns": np.array([1, 2]), "symbol": np.array([b"A", b"B"])}
    good |= dict.fromkeys(("bid_price", "bid_size", "ask_price", "ask_size"), ladder)
    return {name: np.asarray(column) for name, column in {**good, **changed}.items()}


def test_levels_beyond_are_zero() -> None:
    """`levels` says how many of the given levels count; what lies beyond is 0."""
    records = from_columns(KINDS["depth"], columns(levels=[3, 1]))

    assert [3, 1] == records["levels"].tolist()
    assert [[0, 1, 2] + 7 * [0], [3] + 9 * [0]] == records["ask_size"].tolist()
    assert not records.flags.writeable


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ts_ns": [1.5, 2.5]}, "ts_ns: expected integers, got float64"),
        ({"ts_ns": [-1, 2]}, "ts_ns: -1 is out of range"),
        ({"ts_ns": np.array([1, 1 << 63], np.uint64)}, "ts_ns: 9223372036854775808 is out of range"),
        ({"ts_ns": [1, 2, 3]}, "symbol has 2 values, ts_ns 3"),
        ({"symbol": [1, 2]}, "symbol: expected text, got int64"),
        ({"bid_price": [[1.0], [np.nan]]}, "bid_price: nan is not a finite number"),
        ({"bid_price": np.array([[1], ["1e4000"]], np.longdouble)}, "bid_price: inf is not a finite number"),
        ({"bid_price": np.ones((2, 11))}, r"bid_price: expected the shape \(records, 1 to 10\), got \(2, 11\)"),
        ({"bid_price": [1.0, 2.0]}, r"bid_price: expected the shape \(records, 1 to 10\), got \(2,\)"),
        ({"bid_price": np.ones((2, 2))}, "have different numbers of levels"),
        ({"bid_price": [["1"], ["2"]]}, "bid_price: expected numbers, got <U1"),
        ({"levels": [3, 4]}, "levels: 4 of 3"),
        ({"price": [1.0, 2.0]}, 'depth has no "price"'),
    ],
)
def test_columns_that_do_not_fit(changed: dict[str, object], message: str) -> None:
    """Types, shapes, lengths and ranges are checked."""
    with pytest.raises(DataError, match=message):
        from_columns(KINDS["depth"], columns(**changed))
