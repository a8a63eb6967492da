"""CSV files, plain or gzip, read in pieces of bounded size."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from sigrack_engine.data import LEVELS, SIDES, DataError, Kind, Records, Symbols, from_columns
from sigrack_engine.feeds.errors import FeedError, check_regular

__all__ = ["CsvFile", "column_names"]

READ_BYTES = 1 << 20
"""What is read at once, and the longest line."""

Column = npt.NDArray[np.generic]
Fields = Sequence[bytes]

_COMMA, _NEWLINE = ord(","), ord("\n")
_DIGITS = b"0123456789"
_NUMBER = b"0123456789+-.eE"


def column_names(kind: Kind) -> tuple[str, ...]:
    """Return every column that a file of this kind may have. [any]"""
    return tuple(name for field in kind.fields for name in _columns_of(kind, field))


def _columns_of(kind: Kind, field: str) -> tuple[str, ...]:
    """Return the columns of a field: prices and sizes of depth have one for each level, from 1."""
    return tuple(f"{field}_{level}" for level in range(1, LEVELS + 1)) if kind.dtype[field].shape else (field,)


class CsvFile:
    """A CSV file of one kind of data. Its first line names the columns; there are no quotes and no empty lines."""

    def __init__(self, path: Path, kind: Kind, symbols: Symbols) -> None:
        """Open it and read the first line. Raises FeedError with file and line. [main, worker]"""
        self.path, self.kind = path, kind
        self._symbols = symbols
        self._line = 1
        self._last_ns = 0
        check_regular(path)
        try:
            self._file = cast("BinaryIO", gzip.open(path) if path.suffix == ".gz" else path.open("rb"))  # noqa: SIM115
        except OSError as error:
            raise FeedError(f"{path}: {error.strerror}") from None
        try:
            self._lines = self._pieces()
            self._columns = self._read_header()
        except FeedError:
            self.close()
            raise

    def _read_header(self) -> list[str]:
        header = next(self._lines, b"")
        line, _, self._rest = header.partition(b"\n")
        names = [name.strip() for name in line.removeprefix(b"\xef\xbb\xbf").decode("latin-1").split(",")]
        if names == [""]:
            raise FeedError(f"{self.path}:1: the first line must name the columns: {', '.join(self.kind.required)}")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise FeedError(f'{self.path}:1: the column "{twice}" is there twice')
        valid = column_names(self.kind)
        for name in names:
            if name not in valid:
                raise FeedError(f"{self.path}:1: {self.kind.name} has no column {name[:64]!a}", name=name[:64], valid=valid)
        for field in self.kind.required:
            if _columns_of(self.kind, field)[0] not in names:
                raise FeedError(f'{self.path}:1: the column "{_columns_of(self.kind, field)[0]}" is missing')
        self._check_ladders(names)
        return names

    def _check_ladders(self, names: list[str]) -> None:
        """Every price and size of depth must have the same levels, without a gap."""
        ladders = [_columns_of(self.kind, field) for field in self.kind.fields if self.kind.dtype[field].shape]
        deepest = max((level for ladder in ladders for level, name in enumerate(ladder, 1) if name in names), default=0)
        for ladder in ladders:
            if missing := next((name for name in ladder[:deepest] if name not in names), None):
                raise FeedError(f'{self.path}:1: the column "{missing}" is missing: there are {deepest} levels')

    def _pieces(self) -> Iterator[bytes]:
        """Yield runs of whole lines, each run ended by a newline."""
        kept = b""
        while piece := self._read():
            end = piece.rfind(b"\n") + 1
            if end:
                yield kept + piece[:end]
                kept = piece[end:]
            else:
                kept += piece
            if len(kept) > READ_BYTES:
                raise FeedError(f"{self.path}: not a CSV file: a line has more than {READ_BYTES} bytes")
        if kept:
            yield kept + b"\n"

    def _read(self) -> bytes:
        try:
            return self._file.read(READ_BYTES)
        except (EOFError, zlib.error):
            raise FeedError(f"{self.path}: truncated or damaged; copy it again") from None
        except OSError as error:  # also gzip's own
            raise FeedError(f"{self.path}: cannot be read: {error.strerror or error}") from None

    def __iter__(self) -> Iterator[Records]:
        """Yield records in order of time, read-only. Raises FeedError with file and line. [one thread at a time]"""
        if self._rest:
            yield self._parse(self._rest)
            self._rest = b""
        for piece in self._lines:
            yield self._parse(piece)

    def _parse(self, piece: bytes) -> Records:
        """Return the records of whole lines."""
        piece = piece.replace(b"\r\n", b"\n")
        self._check_shape(piece)
        fields = piece.replace(b"\n", b",").split(b",")
        fields.pop()
        width = len(self._columns)
        try:
            columns = self._convert({name: fields[index::width] for index, name in enumerate(self._columns)})
            records = from_columns(self.kind, columns)
            self._check_order(records["ts_ns"])
        except DataError as error:
            raise FeedError.at(f"{self.path}:{self._line + 1 + (error.row or 0)}", error) from None
        self._line += len(records)
        return records

    def _check_shape(self, piece: bytes) -> None:
        """Raise FeedError for the first line with too few or too many fields."""
        text = np.frombuffer(piece, np.uint8)
        commas = np.cumsum(text == _COMMA)[text == _NEWLINE]
        counts = np.diff(commas, prepend=0) + 1
        wrong = np.flatnonzero(counts != len(self._columns))
        if len(wrong):
            row, count = int(wrong[0]), int(counts[wrong[0]])
            raise FeedError(f"{self.path}:{self._line + 1 + row}: {count} fields, the first line has {len(self._columns)}")

    def _convert(self, texts: dict[str, Fields]) -> dict[str, Column]:
        columns: dict[str, Column] = {}
        for field in self.kind.fields:
            names = [name for name in _columns_of(self.kind, field) if name in texts]
            if self.kind.dtype[field].shape:
                columns[field] = np.stack([_numbers(name, texts[name]) for name in names], axis=1)
            elif names:
                columns[field] = self._column(field, texts[field])
        return columns

    def _column(self, field: str, texts: Fields) -> Column:
        if field == "symbol":
            return self._symbols.field(texts)
        if field == "side":
            return _sides(texts)
        if self.kind.dtype[field].kind == "f":
            return _numbers(field, texts)
        return _integers(field, texts)

    def _check_order(self, times: "npt.NDArray[np.int64]") -> None:
        """Raise DataError where the time goes back."""
        steps = np.diff(times, prepend=self._last_ns)
        back = np.flatnonzero(steps < 0)
        if len(back):
            row = int(back[0])
            raise DataError(f"ts_ns: {times[row]} is before the record above ({times[row] - steps[row]})", row)
        self._last_ns = int(times[-1])

    def close(self) -> None:
        """Close the file. [any]"""
        self._file.close()


def _converted(texts: Fields, allowed: bytes, convert: Callable[[bytes], object], fail: Callable[[bytes], str]) -> None:
    """Raise DataError for the first text that cannot be converted: `fail` says why."""
    for row, text in enumerate(texts):
        try:
            convert(text)
        except ValueError:
            raise DataError(fail(text), row) from None
        if text.translate(None, allowed):
            raise DataError(fail(text), row)


def _shown(text: bytes) -> str:
    return ascii(text[:64].decode("latin-1"))


def _numbers(name: str, texts: Fields) -> "npt.NDArray[np.float64]":
    """Return texts as numbers. Raises DataError."""
    try:
        if not b"".join(texts).translate(None, _NUMBER):
            return np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        pass
    _converted(texts, _NUMBER, float, lambda text: f"{name}: {_shown(text)} is not a number")
    raise AssertionError("a column failed of which no value does")


def _integers(name: str, texts: Fields) -> "npt.NDArray[np.uint64]":
    """Return texts as integers from 0. Raises DataError."""
    try:
        if not b"".join(texts).translate(None, _DIGITS):
            return np.fromiter(map(int, texts), np.uint64, len(texts))
    except (ValueError, OverflowError):
        pass
    _converted(texts, _DIGITS, _small, lambda text: f"{name}: {_shown(text)} is not an integer from 0 to 2^64 - 1")
    raise AssertionError("a column failed of which no value does")


def _small(text: bytes) -> None:
    if len(text) > 20 or int(text) >= 1 << 64:
        raise ValueError


def _sides(texts: Fields) -> "npt.NDArray[np.uint32]":
    """Return the words for sides as numbers. Raises DataError."""
    numbers = {word.encode(): number for word, number in SIDES.items()}
    try:
        return np.fromiter(map(numbers.__getitem__, texts), np.uint32, len(texts))
    except KeyError:
        row = next(row for row, text in enumerate(texts) if text not in numbers)
        word = texts[row][:64].decode("latin-1")
        raise DataError(f"side: {word!a} is not known", row, name=word, valid=tuple(SIDES)) from None
