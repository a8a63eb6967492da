"""Takes factors in batches."""

from dispatch_jobs import Arrivals
from sigrack_plugins import FactorBatch, Plugin


class BatchProbe(Plugin):
    """Notes when each factor was posted and when it came."""

    arrivals: Arrivals
    """Set by the benchmark."""

    def on_factors(self, batch: FactorBatch) -> None:
        """Note the batch."""
        self.arrivals.many(batch.posted_ns)
