"""Writes the last factors of each symbol into the log."""

from sigrack_plugins import FactorBatch, Plugin


class Printer(Plugin):
    """Logs how often each symbol was reported, and its last values."""

    def on_start(self) -> None:
        self.counts: dict[str, int] = {}
        self.last: dict[str, list[float]] = {}

    def on_factors(self, batch: FactorBatch) -> None:
        for symbol, _, values in batch:
            self.counts[symbol] = self.counts.get(symbol, 0) + 1
            self.last[symbol] = values.tolist()

    def on_stop(self) -> None:
        for symbol, count in sorted(self.counts.items()):
            names = zip(("middle", "imbalance", "vwap"), self.last[symbol], strict=False)
            self.ctx.log(f"{symbol}: {count} records, {', '.join(f'{name} {value:.2f}' for name, value in names)}")
