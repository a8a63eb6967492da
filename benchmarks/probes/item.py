"""Takes factors one by one."""

from typing import Any

from dispatch_jobs import Arrivals
from sigrack_plugins import Plugin


class ItemProbe(Plugin):
    """Counts, and nothing else: what it costs is dispatch."""

    arrivals: Arrivals
    """Set by the benchmark."""

    def on_factor(self, source: str, symbol: str, ts_ns: int, values: Any) -> None:
        """Count it."""
        self.arrivals.count += 1
