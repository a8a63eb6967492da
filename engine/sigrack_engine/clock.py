"""The real-time engine thread."""

from sigrack_engine.bell import Bell
from sigrack_engine.core import ClockSetup, ClockStats, CoreError, checked, lib
from sigrack_engine.engine import Engine
from sigrack_engine.sink import Sink
from sigrack_engine.source import Source

__all__ = ["Clock"]


class Clock:
    """Runs one block per period, from a source or of silence, into a sink or nowhere."""

    def __init__(
        self, engine: Engine, source: Source | None, sink: Sink | None, bell: Bell, *, rate_hz: int, frames: int, priority: int
    ) -> None:
        setup = ClockSetup(
            engine=engine.pointer,
            source=source.pointer if source else None,
            sink=sink.pointer if sink else None,
            bell=bell.pointer,
            rate_hz=rate_hz,
            frames=frames,
            priority=priority,
        )
        self.pointer = checked(lib.core_clock_new(setup), "the clock")
        self._patience_s = max(1.0, 2 * frames / rate_hz)

    def start(self) -> None:
        """Start the thread. Raises CoreError. [control]"""
        if error := lib.core_clock_start(self.pointer):
            raise CoreError(f"cannot start the engine thread: error {error}")

    def stop(self, limit_s: float | None = None) -> bool:
        """End the thread after its block: at most one period; False: it has not ended after `limit_s`, a plugin hangs. [control]

        The limit is the longer of 1 s and two periods unless given. A clock that has not ended must not be closed, nor what it
        uses: its engine, source, sink and bell.
        """
        lib.core_clock_stop(self.pointer)
        return bool(lib.core_clock_join(self.pointer, round(1000 * (self._patience_s if limit_s is None else limit_s))))

    @property
    def stats(self) -> ClockStats:
        """Counters. [any]"""
        stats = ClockStats()
        lib.core_clock_stats(self.pointer, stats)
        return stats

    def close(self) -> None:
        """Free it, after `stop` has returned True. [control]"""
        lib.core_clock_free(self.pointer)
