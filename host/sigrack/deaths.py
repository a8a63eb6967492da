"""How a host ended that did not end in order."""

import signal

import msgspec

from sigrack_engine.crash import THREADS, Record

__all__ = ["Death", "death_of"]

SECOND = 1_000_000_000


class Death(msgspec.Struct, frozen=True):
    """One end. An end in order leaves no record."""

    pid: int
    signal: str
    """Its name; empty: none that can be handled, as SIGKILL, or it called _exit."""
    thread: str
    """Where the signal came; empty without one."""
    where: str
    """The slot, the plugin with the hook, or the native call; empty: none is known."""
    suspect: str
    """The slot or signal engine that it counts against. Without a signal only one that was just loaded, else nobody."""
    began_unix_s: float
    unix_s: float
    """When it died; without a signal the latest that is known of it."""
    ran_s: float | None
    """None without a signal."""

    @property
    def counts(self) -> bool:
        """Whether a plugin is to blame, even if nobody knows which: a kill or an exit says nothing."""
        return bool(self.signal or self.suspect)

    @property
    def how(self) -> str:
        """What it died of, as the end of a sentence."""
        where = f", in {self.where}" if self.where else ""
        return f"by {self.signal} on {self.thread}{where}" if self.signal else f"killed or by _exit{where}"

    def __str__(self) -> str:
        """In one line."""
        where = f", in {self.where}" if self.where else ""
        if self.signal:
            return f"process {self.pid} died of {self.signal} on {self.thread}{where}, after {self.ran_s:.1f} s"
        return f"process {self.pid} was killed or called _exit{where}"


def death_of(record: Record) -> Death:
    """Return what a record tells of a process that has ended. [any]"""
    number, began = int(record.signal), record.began_ns / SECOND
    loading = _text(record.names[record.loading].value) if 0 < record.loading < len(record.names) else ""
    where = _text(record.where if number else record.call) or loading
    return Death(
        pid=record.pid,
        signal=signal.Signals(number).name if number else "",
        thread=THREADS[record.thread] if number and record.thread < len(THREADS) else "",
        where=where,
        suspect=where.partition(":")[0] if number else loading,
        began_unix_s=began,
        unix_s=(record.died_ns if number else record.loading_ns or record.began_ns) / SECOND,
        ran_s=(record.died_ns - record.began_ns) / SECOND if number else None,
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
