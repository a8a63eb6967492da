"""Sees hooks that keep the main loop: names them with their stack, and interrupts those over the hard limit."""

import logging
import signal
import sys
import threading
import time
import traceback
from types import FrameType
from typing import TYPE_CHECKING, Any

from sigrack.crash import Notes, Unrecorded

if TYPE_CHECKING:
    from sigrack.hooks import Hooked

__all__ = ["HookTimeout", "HookWatch"]

log = logging.getLogger("sigrack")

LOOK_S = 0.05
"""How often the watch looks."""
NAME_NS = 200_000_000
"""A hook that has run for so long is named, while it runs, with its stack."""
SIGNAL = signal.SIGVTALRM
"""Wakes the main thread out of a sleep or a read; its handler raises HookTimeout."""


class HookTimeout(BaseException):
    """Raised inside a hook over the hard limit; not an Exception, so that plugins do not catch it by accident."""


class HookWatch:
    """A thread that looks at the hook that runs. Between looks it costs a hook one store before it and one after."""

    def __init__(self, budget_ms: float = 10.0, limit_ms: float = 2000.0, notes: Notes | None = None) -> None:
        """Hooks may take `budget_ms`, and must not take `limit_ms` (0: no limit). `notes`: of the crash record. [main]"""
        self.notes = notes or Unrecorded()
        self.mark = self.notes.mark
        self.thread = threading.get_ident()
        """The main loop's."""
        self.budget_ns = int(budget_ms * 1e6)
        self.limit_s = limit_ms * 1e-3
        self.current: tuple[Hooked, str, int] | None = None
        """The hook that runs: whose, its name, when it began (time.perf_counter_ns)."""
        self._named = 0
        self._condemned = 0
        """When the hook began that was named, or interrupted, last: nothing here holds a plugin."""
        self._ending = threading.Event()
        self._looker: threading.Thread | None = None
        self._handler: Any = None
        self._interrupting = False

    def start(self, *, interrupting: bool) -> None:
        """Begin to look. `interrupting`: hooks over the limit are; works on the process's main thread only. [main]"""
        self._interrupting = interrupting and self.limit_s > 0
        if self._interrupting:
            self._handler = signal.signal(SIGNAL, self._interrupt)
        self._looker = threading.Thread(target=self._look, name="sigrack-watch", daemon=True)
        self._looker.start()

    def stop(self) -> None:
        """Look no more. [main]"""
        self._ending.set()
        if self._looker:
            self._looker.join()
            self._looker = None
        if self._interrupting:
            signal.signal(SIGNAL, self._handler or signal.SIG_DFL)
            self._interrupting = False

    def _look(self) -> None:
        while not self._ending.wait(LOOK_S):
            if (current := self.current) is not None:
                self._look_at(current)

    def _look_at(self, current: "tuple[Hooked, str, int]") -> None:
        begun = current[2]
        age = time.perf_counter_ns() - begun
        if age > NAME_NS and self._named != begun:
            self._named = begun
            self._name(current)
        if self._interrupting and age > self.limit_s * 1e9:
            self._condemned = begun
            signal.pthread_kill(self.thread, SIGNAL)

    def _name(self, current: "tuple[Hooked, str, int]") -> None:
        hooked, name, _ = current
        stack = _stack_of(self.thread)
        if self.current is not current or not stack:  # it has returned meanwhile: the stack is somebody else's
            return
        hooked.blocked_at = f"{name}: {stack[-1].filename}:{stack[-1].lineno}"
        lines = "".join(traceback.format_list(stack)).rstrip()
        log.warning("%s: %s keeps the main loop for more than %d ms:\n%s", hooked.name, name, NAME_NS // 1_000_000, lines)

    def _interrupt(self, *_: object) -> None:
        """Answer the signal, on the main thread: only inside the very call that was condemned."""
        current = self.current
        if current is not None and current[2] == self._condemned and current[0].inside:
            raise HookTimeout(f"over the limit of {self.limit_s:g} s")


def _stack_of(thread: int) -> list[traceback.FrameSummary]:
    """Return what a thread does now, from the hook's own frame on."""
    frame: FrameType | None = sys._current_frames().get(thread)
    if frame is None:
        return []
    frames = traceback.extract_stack(frame)
    inner = [index for index, summary in enumerate(frames) if summary.filename.endswith("sigrack/hooks.py")]
    return frames[inner[-1] + 1 :] if inner else list(frames)
