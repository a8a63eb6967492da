"""NPZ files: NumPy's archives."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sigrack_engine.data import DataError, Kind, Records, Symbols, from_columns
from sigrack_engine.feeds.errors import FeedError, check_regular

__all__ = ["NpzFile"]

CHUNK = 16_384
"""Records that are handed out at once."""

Column = npt.NDArray[np.generic]


class NpzFile:
    """An NPZ file of one kind of data: an array for each field, or one structured array called `records`."""

    def __init__(self, path: Path, kind: Kind, symbols: Symbols) -> None:
        """Read it whole. Raises FeedError. [main, worker]"""
        self.path, self.kind = path, kind
        try:
            columns = _fields(_read(path))
            kind.check_columns(list(columns))
            if columns["symbol"].dtype.kind not in "SU" or columns["symbol"].ndim != 1:
                raise DataError(f"symbol: expected text, got {columns['symbol'].dtype}")
            columns["symbol"] = symbols.field(columns["symbol"].tolist())
            self._records = from_columns(kind, columns)
        except DataError as error:
            place = path if error.row is None else f"{path}: record {error.row}"
            raise FeedError.at(place, error) from None
        back = np.flatnonzero(np.diff(self._records["ts_ns"]) < 0)
        if len(back):
            raise FeedError(f"{path}: record {back[0] + 1}: ts_ns goes back")

    def __iter__(self) -> Iterator[Records]:
        """Yield records in order of time, read-only. [any]"""
        for start in range(0, len(self._records), CHUNK):
            yield self._records[start : start + CHUNK]

    def close(self) -> None:
        """Nothing is open."""


def _read(path: Path) -> dict[str, Column]:
    """Return every array of the archive. Raises FeedError."""
    check_regular(path)
    try:
        with path.open("rb") as file:  # np.load leaves a file open that it cannot read
            if not zipfile.is_zipfile(file):
                raise FeedError(f"{path}: not an NPZ file, or not all of one; write it with numpy.savez")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            return {name: archive[name] for name in archive.files}
    except FeedError:
        raise
    except OSError as error:
        raise FeedError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise FeedError(f"{path}: too large for the memory; split it") from None
    except Exception as error:  # of zipfile, zlib, ast and numpy: there is no list of them
        said = " ".join(str(error).split()) or type(error).__name__
        raise FeedError(f"{path}: not an NPZ file that can be read: {said}") from None


def _fields(arrays: dict[str, Column]) -> dict[str, Column]:
    """Return the fields that an archive holds, in one form or the other. Raises DataError."""
    records: npt.NDArray[Any] | None = arrays.get("records")
    if records is None:
        if scalar := next((name for name, array in arrays.items() if not array.ndim), None):
            raise DataError(f"{scalar}: expected one value per record, got a single one")
        return arrays
    names = records.dtype.names
    if len(arrays) > 1 or names is None or records.ndim != 1:
        raise DataError('"records" must be a structured array of one dimension, and alone')
    return {name: records[name] for name in names if name not in ("size", "flags")}
