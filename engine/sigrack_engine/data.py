"""Market-like data: the structs of `sigrack_signal.h` as numpy types, and columns turned into records of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["KINDS", "LEVELS", "SIDES", "DataError", "Kind", "Records", "Symbols", "from_columns", "normalised"]

LEVELS = 10  # SIGNAL_LEVELS
SYMBOL_BYTES = 32  # SIGNAL_SYMBOL_SIZE
SIDES = {"unknown": 0, "buy": 1, "sell": 2}
"""Of trades, by the word for each."""

Records = npt.NDArray[np.void]

_LADDER = ("bid_price", "bid_size", "ask_price", "ask_size")
_QUOTE = (*_LADDER, "last_price")


class DataError(ValueError):
    """What a source delivered is wrong.

    `row`: which record of those handed over, if it is one. `name` was not among `valid`, if that is what is wrong.
    """

    def __init__(self, message: str, row: int | None = None, *, name: str = "", valid: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.row, self.name, self.valid = row, name, valid


def _type(second: str, fields: list[tuple[str, str] | tuple[str, str, tuple[int]]]) -> np.dtype[np.void]:
    head = [("size", "u4"), (second, "u4"), ("ts_ns", "i8"), ("symbol", f"S{SYMBOL_BYTES}")]
    return np.dtype([*head, *fields], align=True)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of data."""

    name: str
    number: int
    """SIGNAL_..."""
    dtype: "np.dtype[np.void]"
    """The C struct."""
    optional: tuple[str, ...] = ()
    """Fields that a source may leave out."""

    @property
    def struct(self) -> str:
        """Name of the C struct."""
        return f"signal_{self.name}"

    @property
    def fields(self) -> tuple[str, ...]:
        """What a source may deliver: the struct's fields without its size and without flags, which nobody sets."""
        return tuple(name for name in self.dtype.names or () if name not in ("size", "flags"))

    @property
    def required(self) -> tuple[str, ...]:
        """What a source must deliver."""
        return tuple(name for name in self.fields if name not in self.optional)

    def check_columns(self, names: Sequence[str]) -> None:
        """Raise DataError unless the fields `names` are what a source may and must deliver. [any]"""
        for name in names:
            if name not in self.fields:
                raise DataError(f'{self.name} has no "{name}"', name=name, valid=self.fields)
        for name in self.required:
            if name not in names:
                raise DataError(f'"{name}" is missing')

    def empty(self, count: int) -> Records:
        """Return `count` records that hold nothing but their size. [any]"""
        records: Records = np.zeros(count, self.dtype)
        records["size"] = self.dtype.itemsize
        return records


KINDS = {
    kind.name: kind
    for kind in (
        Kind("depth", 101, _type("levels", [(name, "f8", (LEVELS,)) for name in _LADDER]), ("levels",)),
        Kind("ticker", 102, _type("flags", [(name, "f8") for name in _QUOTE])),
        Kind("trade", 103, _type("side", [("price", "f8"), ("quantity", "f8"), ("trade_id", "u8")]), ("side", "trade_id")),
        Kind("index_price", 104, _type("flags", [("price", "f8")])),
    )
}
"""Every kind of market-like data, by name."""

_SEPARATORS = str.maketrans("", "", "-_/ ")
_PRINTABLE = re.compile(r"[!#-&(-~]+")
_MOST_NAMES = 65_536


def normalised(symbol: str) -> str:
    """Return the one form of a symbol: upper case, without - _ / and spaces. Raises DataError if that is no symbol. [any]"""
    form = symbol.upper().translate(_SEPARATORS)
    if not symbol.isascii() or not _PRINTABLE.fullmatch(form) or len(form) >= SYMBOL_BYTES:
        most = SYMBOL_BYTES - 1
        raise DataError(f"the symbol {symbol[:64]!a} is not 1 to {most} printable ASCII characters without quotes")
    return form


class Symbols:
    """Turns symbols as a source writes them into their one form; remembers those it has seen."""

    def __init__(self, known: Sequence[str] = ()) -> None:
        """`known`: the forms that may come; empty: all."""
        self.known = tuple(known)
        self._forms: dict[str | bytes, bytes] = {}

    def field(self, names: Sequence[str | bytes]) -> "npt.NDArray[np.bytes_]":
        """Return the field `symbol` of records. Raises DataError for what is no symbol, or not known. [any]"""
        if len(self._forms) > _MOST_NAMES:
            self._forms.clear()
        for name in set(names).difference(self._forms):
            self._forms[name] = self._form(name, names)
        return np.array(list(map(self._forms.__getitem__, names)), f"S{SYMBOL_BYTES}")

    def _form(self, name: str | bytes, names: Sequence[str | bytes]) -> bytes:
        row = names.index(name)
        try:
            form = normalised(name.decode("latin-1") if isinstance(name, bytes) else name)
        except DataError as error:
            raise DataError(str(error), row) from None
        if self.known and form not in self.known:
            raise DataError(f'the symbol "{form}" is not in the feed\'s list', row, name=form, valid=self.known)
        return form.encode()


def from_columns(kind: Kind, columns: "Mapping[str, npt.NDArray[np.generic]]") -> Records:
    """Return read-only records of one array per field, `symbol` as `Symbols` gives it. [any]

    Prices and sizes of depth have the shape (records, levels). Raises DataError: an unknown or missing field, unequal lengths, a
    wrong type, a number that is not finite or does not fit.
    """
    kind.check_columns(list(columns))
    count = len(columns["ts_ns"])
    records = kind.empty(count)
    for name, column in columns.items():
        field = kind.dtype[name]
        if len(column) != count:
            raise DataError(f"{name} has {len(column)} values, ts_ns {count}")
        _check_column(name, column, field)
        if field.shape:
            records[name][:, : column.shape[1]] = column
        else:
            records[name] = column
    if kind.name == "trade":
        _check_sides(records)
    if kind.name == "depth":
        _set_levels(records, columns)
    records.flags.writeable = False
    return records


def _check_column(name: str, column: "npt.NDArray[np.generic]", field: "np.dtype[np.generic]") -> None:
    """Raise DataError unless `column` fits the field."""
    wanted, kinds = {"f": ("numbers", "fiu"), "S": ("text", "S")}.get(field.base.kind, ("integers", "iu"))
    if column.dtype.kind not in kinds:
        raise DataError(f"{name}: expected {wanted}, got {column.dtype}")
    if field.shape and not (column.ndim == 2 and 1 <= column.shape[1] <= LEVELS):
        raise DataError(f"{name}: expected the shape (records, 1 to {LEVELS}), got {column.shape}")
    if not field.shape and column.ndim != 1:
        raise DataError(f"{name}: expected one value per record, got the shape {column.shape}")
    if column.dtype.kind == "f":
        with np.errstate(over="ignore"):  # a longer type may hold what float64 does not
            finite = np.isfinite(column.astype(field.base, copy=False))
        _refuse(name, column, ~finite, "is not a finite number")
    elif field.base.kind in "iu":
        numbers = column.view(np.ndarray)
        _refuse(name, column, (numbers < 0) | (numbers > np.iinfo(field.base).max), "is out of range")


def _refuse(name: str, column: "npt.NDArray[np.generic]", bad: "npt.NDArray[np.bool_]", what: str) -> None:
    """Raise DataError for the first value that is bad."""
    if bad.any():
        place = tuple(np.argwhere(bad)[0].tolist())
        raise DataError(f"{name}: {column[place]} {what}", place[0])


def _check_sides(records: Records) -> None:
    wrong = np.flatnonzero(records["side"] > max(SIDES.values()))
    if len(wrong):
        raise DataError(f"side: {records['side'][wrong[0]]} is not 0 (unknown), 1 (buy) or 2 (sell)", int(wrong[0]))


def _set_levels(records: Records, columns: "Mapping[str, npt.NDArray[np.generic]]") -> None:
    """Say how many levels there are, and clear those beyond."""
    widths = {columns[name].shape[1] for name in _LADDER}
    if len(widths) > 1:
        raise DataError(f"{', '.join(_LADDER)} have different numbers of levels")
    width = widths.pop()
    if "levels" not in columns:
        records["levels"] = width
        return
    wrong = np.flatnonzero(records["levels"] > width)
    if len(wrong):
        raise DataError(f"levels: {records['levels'][wrong[0]]} of {width}", int(wrong[0]))
    beyond = np.arange(LEVELS) >= records["levels"][:, np.newaxis]
    for name in _LADDER:
        records[name][beyond] = 0.0
