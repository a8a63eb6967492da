"""The threads of this process as the kernel lists them: also those that Python did not start."""

import os
import threading
import time
from pathlib import Path

__all__ = ["Tasks", "running", "strangers"]

Tasks = dict[tuple[int, int], str]
"""Names of threads by (thread id, start time): ids come again, the pair does not."""

FOLDER = Path("/proc/self/task")
EXITING = 0x4
"""PF_EXITING among the kernel's flags: the thread has left user code for good."""
TRIES = 8
PAUSE_S = 0.001


def running() -> Tasks:
    """Return the threads that may still run code. [any]"""
    found: Tasks = {}
    for _ in range(TRIES):  # a thread may start another and end while we look
        names = set(os.listdir(FOLDER))
        found |= dict(task for name in names if (task := _read(name)))
        if names == set(os.listdir(FOLDER)):
            break
    return found


def _read(task: str) -> tuple[tuple[int, int], str] | None:
    try:
        line = (FOLDER / task / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    flags, start = int(fields[6]), int(fields[19])
    return None if flags & EXITING else ((int(task), start), head.partition("(")[2])


def strangers(before: Tasks, patience_s: float = 0.0) -> Tasks:
    """Return the threads that have been started since `before` and not by Python.

    A Python thread that was joined is a stranger for a moment, until the kernel has ended it: hence the patience. [any]
    """
    deadline = time.monotonic() + patience_s
    while (found := _strangers(before)) and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
    return found


def _strangers(before: Tasks) -> Tasks:
    now = running()
    ours = {thread.native_id for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)}
    return {task: name for task, name in now.items() if task not in before and task[0] not in ours}
