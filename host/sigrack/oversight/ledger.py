"""What is remembered about the host under one supervisord: how often it was started again, and why."""

import msgspec

__all__ = ["LEDGER", "Ledger", "Reason"]

LEDGER = "watch.json"
"""Its file, in the run folder."""
MOST_REASONS = 20


class Reason(msgspec.Struct, frozen=True):
    """Why the host ended."""

    unix_s: float
    pid: int
    """0: not known."""
    text: str
    suspect: str
    """The slot or signal engine that is blamed; empty: nobody."""
    log: list[str]
    """The last lines that it wrote."""


class Ledger(msgspec.Struct):
    """Written by `sigrack watch` only."""

    supervisor: str = ""
    """Which supervisord it is about: its process id, and when that began."""
    rack: str = ""
    program: str = ""
    restarts: int = 0
    """How often the host was started again, by whomever but a person."""
    reasons: list[Reason] = []
    """The last ones."""
    streak: int = 0
    """Ends in a row without a long life in between."""
    pause_until_unix_s: float = 0.0
    """The host is kept down until then; 0: it is not."""
    ready_pid: int = 0
    """The last host that was ready."""
    ready_s: float = 0.0
    """How long that took it."""
    beats: str = ""
    """Why its progress cannot be watched; empty: it is."""

    @property
    def last(self) -> Reason | None:
        """The newest reason."""
        return self.reasons[-1] if self.reasons else None

    def note(self, reason: Reason) -> None:
        """Add a reason."""
        self.reasons = [*self.reasons, reason][-MOST_REASONS:]
