"""What the guards of the slots have caught is told, once for each instance: the engine thread writes no log."""

import logging
from collections.abc import Iterable

from sigrack_engine.slot import SlotCore

__all__ = ["tell_failures"]

log = logging.getLogger("sigrack")


def tell_failures(cores: Iterable[tuple[str, SlotCore]]) -> None:
    """Log what has failed and was not told yet; each core comes with the names of the slots that it stands for. [main]"""
    for name, core in cores:
        meters = core.meters
        played = "silence was" if core.ratio > 1 else "its input was"
        if meters.nonfinite:
            _tell(core, f"{name}: its output was NaN or infinite: {played} played for that block, and it was reset")
        if meters.faults:
            _tell(core, f"{name}: it refused a block: {played} played for it")


def _tell(core: SlotCore, message: str) -> None:
    if message not in core.told:
        core.told.add(message)
        log.warning("%s; more are counted, not told", message)
