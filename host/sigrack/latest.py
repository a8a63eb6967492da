"""The last record of every source and symbol."""

from typing import Any

import numpy as np

from sigrack_plugins import FactorBatch

__all__ = ["Latest"]

Values = tuple[int, list[float]]


class _Table:
    """A ring's: its symbols and the width of its records never change, so NumPy keeps the last of each."""

    def __init__(self, batch: FactorBatch) -> None:
        count, width = len(batch.symbols), batch.values.shape[1]
        self.symbols = batch.symbols
        self.ts_ns = np.zeros(count, np.int64)
        self.counts = np.zeros(count, np.uint32)
        self.values = np.zeros((count, width))
        self.seen = np.zeros(count, bool)

    def note(self, batch: FactorBatch) -> None:
        """Of equal symbols the last one stays, as NumPy assigns in order."""
        ids = batch.symbol_ids
        self.ts_ns[ids] = batch.ts_ns
        self.counts[ids] = batch.counts
        self.values[ids] = batch.values
        self.seen[ids] = True

    def read(self) -> dict[str, Values]:
        return {
            self.symbols[number]: (int(self.ts_ns[number]), self.values[number, : self.counts[number]].tolist())
            for number in np.flatnonzero(self.seen).tolist()
        }


class Latest:
    """Notes batches cheaply; what it holds is put into words when somebody asks."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._posted: dict[str, dict[str, Values]] = {}

    def note(self, batch: FactorBatch) -> None:
        """Note a ring's batch. [main]"""
        table = self._tables.get(batch.source)
        if table is None or table.symbols is not batch.symbols or table.values.shape[1] != batch.values.shape[1]:
            table = self._tables[batch.source] = _Table(batch)
        table.note(batch)

    def note_posts(self, batch: FactorBatch) -> None:
        """Note a batch whose symbols are only those that it holds. [main]"""
        posted = self._posted.setdefault(batch.source, {})
        for symbol, ts_ns, values in batch:
            posted[symbol] = ts_ns, values.tolist()

    def forget(self, source: str) -> None:
        """Forget a source that is gone. [main]"""
        self._tables.pop(source, None)
        self._posted.pop(source, None)

    def read(self) -> dict[str, Any]:
        """Return {"ts_ns", "values"} by "source.symbol". [main]"""
        tables = {source: table.read() for source, table in self._tables.items()}
        return {
            f"{source}.{symbol}": {"ts_ns": ts_ns, "values": values}
            for source, records in (*tables.items(), *self._posted.items())
            for symbol, (ts_ns, values) in records.items()
        }
