"""Takes audio and keeps none of it."""

from sigrack_plugins import Block, Plugin


class Blocks(Plugin):
    """Counts blocks and reads each."""

    def on_start(self) -> None:
        """Begin at none."""
        self.count, self.peak = 0, 0.0

    def on_block(self, block: Block) -> None:
        """Look at the block."""
        self.count += 1
        self.peak = max(self.peak, float(block.samples.max()))
