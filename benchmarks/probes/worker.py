"""Keeps the main loop busy with audio."""

from dispatch_jobs import spin
from sigrack_plugins import Block, Plugin


class Worker(Plugin):
    """A millisecond of pure Python per block."""

    def on_block(self, block: Block) -> None:
        """Work."""
        spin(0.001)
