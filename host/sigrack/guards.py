"""What the guards of the slots have caught is told, once for each instance: the engine thread writes no log."""

import logging
from collections.abc import Iterable
from typing import Protocol

from sigrack_engine.slot import SlotCore

__all__ = ["tell_failures"]

log = logging.getLogger("sigrack")


class Guarded(Protocol):
    """A slot, a group of slots, or what has none."""

    @property
    def name(self) -> str:
        """Of the slot, or of all in the group."""

    @property
    def core(self) -> SlotCore | None:
        """Its processor."""


def tell_failures(things: Iterable[Guarded]) -> None:
    """Log what has failed and was not told yet. [main]"""
    for thing in things:
        if (core := thing.core) is None:
            continue
        meters = core.meters
        played = "silence was" if core.ratio > 1 else "what its channels held was" if core.moves else "its input was"
        if meters.nonfinite:
            _tell(core, f"{thing.name}: its output was NaN or infinite: {played} played for that block, and it was reset")
        if meters.faults:
            _tell(core, f"{thing.name}: it refused a block: {played} played for it")


def _tell(core: SlotCore, message: str) -> None:
    if message not in core.told:
        core.told.add(message)
        log.warning("%s; more are counted, not told", message)
