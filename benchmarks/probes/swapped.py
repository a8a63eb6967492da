"""Listens to factors and audio, until it is replaced."""

from sigrack_plugins import Block, FactorBatch, Plugin


class Swapped(Plugin):
    """Counts what it gets."""

    def on_start(self) -> None:
        """Begin at none."""
        self.records, self.frames = 0, 0

    def on_factors(self, batch: FactorBatch) -> None:
        """Count the batch."""
        self.records += len(batch)

    def on_block(self, block: Block) -> None:
        """Count its frames."""
        self.frames += block.frames
