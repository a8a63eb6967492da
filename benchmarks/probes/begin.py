"""Begins a scenario."""

from collections.abc import Callable

from sigrack_plugins import Block, Plugin


class Begin(Plugin):
    """Calls back once the main loop runs."""

    begin: Callable[[], None]
    """Set by the benchmark."""

    def on_start(self) -> None:
        """Begin at rack time 0."""
        self.ctx.at(0, self.begin)

    def on_block(self, block: Block) -> None:
        """Do nothing: a plugin must have a hook, and this one comes rarely."""
