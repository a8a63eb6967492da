"""The decisions of `sigrack watch`: what an end meant, when the host waits before it starts, when it is started anew."""

import contextlib
import ctypes
import logging
import os
import re
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from sigrack import kept
from sigrack.oversight.ledger import LEDGER, Ledger, Reason
from sigrack.oversight.processes import Facts, facts
from sigrack.oversight.pulse import Pulse, Stall, find_death
from sigrack.oversight.remote import Remote
from sigrack.supervision import Log

__all__ = ["Event", "Limits", "Watcher"]

log = logging.getLogger("sigrack")

LOOK_S = 1.0
STABLE_S = 60.0
"""A life that lasts so long ends a streak."""
FREE = 3
"""Ends in a row that are followed by a start at once: so many deaths lead to safe mode, which ends the others."""
STOP_S = 15.0
"""How long supervisord may take to stop the host; longer than stopwaitsecs."""
DIE_S = 3.0
"""How long a host that hangs may take to die of SIGABRT."""
LAST_LINES, STACK_LINES = 5, 15
"""Of the host's log, that go into a reason; of the stack that a crash has left there, which is longer."""
STACKS, STACK = "Fatal Python error", "Stack (most recent call first)"
"""How these begin, and the one of the thread that crashed."""
GIVEN_UP = "given up: "
"""Before the last reason, when supervisord starts the host no more."""
UP = ("STARTING", "RUNNING", "BACKOFF")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the host may do. 0: there is no limit."""

    memory_mb: float = 0.0
    progress_s: float = 15.0
    """How long each heartbeat may stand."""
    ready_s: float = 300.0
    """How long it may take to be ready."""
    backoff_s: float = 60.0
    """The longest pause before a start."""


@dataclass(frozen=True, slots=True)
class Event:
    """A change of the host's state, as supervisord tells it."""

    state: str
    """STARTING, RUNNING, BACKOFF, STOPPING, EXITED, STOPPED, FATAL."""
    before: str = ""
    """The state that it was in."""
    pid: int = 0
    expected: bool = True


class Watcher:
    """Watches one program of one supervisord. `events` come from the listener's thread, `look` is called by a timer."""

    def __init__(self, rack: str, program: str, folder: Path, remote: Remote, limits: Limits, supervisor: Facts) -> None:
        self._program, self._remote, self._limits = program, remote, limits
        self._path = folder / LEDGER
        self._host_log = Log(folder / "host.log")
        self._ledger = kept.load(self._path, Ledger)
        if self._ledger.supervisor != (which := f"{supervisor.pid} {supervisor.began}"):
            self._ledger = Ledger(which)
        self._ledger.rack, self._ledger.program = rack, program
        self._since_unix_s = time.time() - supervisor.uptime_s
        self._events: deque[Event] = deque()
        self.woken = threading.Event()
        """Set when there is something to do before the next look."""
        self._pulse: Pulse | None = None
        self._asked = ""
        """Why the host is being ended by the watch; empty: it is not."""
        self._memory_mb = 0.0
        """Of the host, at the last look."""
        self._writing = threading.Lock()
        self._save()

    def tell(self, event: Event) -> None:
        """Queue an event. [listener]"""
        self._events.append(event)
        self.woken.set()

    def run(self) -> None:
        """Look, for as long as the process lives. [timer]"""
        while True:
            try:
                self.look()
            except OSError as error:
                log.warning("supervisord does not answer: %s", error)
            except Exception:  # a fault of ours must not end the watching
                log.exception("a look failed")
            if self.woken.wait(LOOK_S):
                self.woken.clear()

    def close(self) -> None:
        """Write nothing any more: the process may end. [listener]"""
        self._writing.acquire()

    def look(self) -> None:
        """Do what is due: events first, then the host as it is. Raises OSError if supervisord does not answer. [timer]"""
        while self._events:
            self._take(self._events.popleft())
        info = self._remote.call("getProcessInfo", self._program)
        if self._ledger.pause_until_unix_s:
            self._pause(info["statename"])
        elif info["statename"] in ("STARTING", "RUNNING") and info["pid"]:
            self._examine(info["pid"], time.time() - info["start"])

    # Ends

    def _take(self, event: Event) -> None:
        if event.state == "STARTING" and event.before == "STOPPED" and self._ledger.pause_until_unix_s:
            log.info("somebody has started the host: the pause is over")
            self._end_pause()
        elif event.state in ("BACKOFF", "FATAL") or not event.expected or (event.state == "STOPPED" and self._asked):
            self._ended(event)
        elif event.state == "EXITED":
            self._ledger.streak = 0
            self._save()

    def _ended(self, event: Event) -> None:
        """Note why the host has ended, and how long it is to stay down."""
        if event.state == "FATAL":
            self._ledger.restarts -= 1  # the last failed start is followed by none
            why = self._ledger.last.text if self._ledger.last else "it ends right after each start"
            self._note(Reason(time.time(), 0, f"{GIVEN_UP}{why}", "", self._last_lines()))
            return
        self._note(self._reason(event.pid))
        self._ledger.restarts += 1
        self._ledger.streak += 1
        self._pulse, self._asked = None, ""
        if event.state != "BACKOFF":  # else supervisord waits by itself
            self._begin_pause()
        self._save()

    def _note(self, reason: Reason) -> None:
        self._ledger.note(reason)
        log.warning("the host ended: %s", reason.text)
        self._save()

    def _reason(self, pid: int) -> Reason:
        how = self._how(pid)
        known = {reason.pid for reason in self._ledger.reasons}
        death = find_death(self._ledger.rack, pid, known, self._since_unix_s)
        pid = death.pid if death else pid
        if death and (death.signal or death.suspect):
            how = death.how.removeprefix("by ")
        text = ": ".join(part for part in (self._asked, how) if part)
        if "SIGKILL" in how and self._memory_mb and not self._asked:
            text += f" (out of memory? it had {self._memory_mb:.0f} MB)"
        return Reason(time.time(), pid, text, death.suspect if death else "", self._last_lines())

    def _how(self, pid: int) -> str:
        """Return what supervisord has logged about the end: it tells no listener about codes and signals."""
        try:
            text = str(self._remote.call("readLog", -4096, 0))
        except OSError:
            return ""
        said = re.findall(
            rf"(?:exited|stopped): {re.escape(self._program)} \((.*?)(?:; (?:not )?expected)?\)$", text, re.MULTILINE
        )
        return said[-1] if said else ""

    def _last_lines(self) -> list[str]:
        """Return what the host has said last, since the end before."""
        lines = self._host_log.tail(1000)
        self._host_log.mark()
        begins = [number for number, line in enumerate(lines) if line.startswith((STACKS, STACK))]
        return lines[begins[-1] :][:STACK_LINES] if begins else lines[-LAST_LINES:]

    # Pauses

    def _begin_pause(self) -> None:
        """Let the host wait before it starts, twice as long each time."""
        over = self._ledger.streak - FREE
        if over > 0 and self._limits.backoff_s:
            pause_s = min(2.0 ** (over - 1), self._limits.backoff_s)
            self._ledger.pause_until_unix_s = time.time() + pause_s
            log.warning("the host has ended %d times in a row: it starts again in %g s", self._ledger.streak, pause_s)

    def _pause(self, state: str) -> None:
        """Keep the host down until the pause is over; supervisord starts it by itself."""
        if time.time() >= self._ledger.pause_until_unix_s:
            self._end_pause()
            if state not in UP:
                self._start()
        elif state in UP:
            self._stop()

    def _end_pause(self) -> None:
        self._ledger.pause_until_unix_s = 0.0
        self._save()

    def _start(self) -> None:
        self._remote.call("startProcess", self._program, False)

    def _stop(self) -> None:
        with contextlib.suppress(OSError):  # it has ended by itself
            self._remote.call("stopProcess", self._program, timeout_s=STOP_S)

    # The host as it is

    def _examine(self, pid: int, uptime_s: float) -> None:
        if not self._pulse or self._pulse.pid != pid:
            self._pulse = Pulse(self._ledger.rack, pid)
        record = self._pulse.look()
        self._memory_mb = found.memory_bytes / 2**20 if (found := facts(pid)) else 0.0
        self._account(uptime_s, unreadable=bool(record) and not self._pulse.readable)
        limits = self._limits
        if limits.memory_mb and self._memory_mb > limits.memory_mb:
            self._renew(f"{self._memory_mb:.0f} MB of memory, the limit is {limits.memory_mb:g}")
        elif limits.progress_s and (stall := self._pulse.stall(max(2, round(limits.progress_s / LOOK_S)))):
            self._break(f"{stall.what} for {limits.progress_s:g} s", stall)
        elif limits.ready_s and record and self._pulse.readable and not self._pulse.ready and uptime_s > limits.ready_s:
            self._break(f"not ready after {limits.ready_s:g} s", Stall("", pid))

    def _account(self, uptime_s: float, *, unreadable: bool) -> None:
        """Note readiness and a long life."""
        ledger, before = self._ledger, (self._ledger.ready_pid, self._ledger.streak, self._ledger.beats)
        assert self._pulse
        if self._pulse.ready and ledger.ready_pid != self._pulse.pid:
            ledger.ready_pid, ledger.ready_s = self._pulse.pid, uptime_s
            log.info("the host is ready: process %d, after %.1f s", self._pulse.pid, uptime_s)
        if uptime_s > STABLE_S:
            ledger.streak = 0
        ledger.beats = "its heartbeats cannot be read: progress is not watched" if unreadable else ""
        if ledger.beats and not before[2]:
            log.warning("the host: %s", ledger.beats)
        if before != (ledger.ready_pid, ledger.streak, ledger.beats):
            self._save()

    def _renew(self, why: str) -> None:
        """Stop the host in order and start it again."""
        log.warning("the host is started again: %s", why)
        self._asked = why
        self._ledger.pause_until_unix_s = time.time()  # should the watch die now, its successor starts the host
        self._save()
        self._stop()
        self.woken.set()

    def _break(self, why: str, stall: Stall) -> None:
        """End a host that hangs by a signal that lets it say where; supervisord starts it again. Else by force."""
        assert self._pulse
        log.warning("the host hangs: %s", why)
        self._asked, pid = why, self._pulse.pid
        with contextlib.suppress(OSError):
            _abort(pid, stall.thread)
        until = time.monotonic() + DIE_S
        while (found := facts(pid)) and not found.zombie and time.monotonic() < until:
            time.sleep(0.05)
        if found and not found.zombie:
            self._renew(why)

    def _save(self) -> None:
        with self._writing:
            kept.save(self._path, self._ledger)


def _abort(pid: int, thread: int) -> None:
    """Send SIGABRT to one thread of a process. Raises OSError. [any]"""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.tgkill(pid, thread, signal.SIGABRT):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
