"""The keeper: a small process without threads that forks children in milliseconds, limits them, and tells how they ended.

It is started with the number of a socket and the modules that its children need, which it imports once. It ends when the socket
closes, and no child outlives it. Messages are JSON, one per packet:

    {"start": number, "entry": "module:function", "argument": ..., "memory_mb": 0}, with descriptors
    {"kill": number, "why": text, "signal": 9, "thread": 0}
    {"started": number, "pid": pid}
    {"ended": number, "signal": 11, "code": null, "core": false, "why": text, "rss_kb": ..., "cpu_s": ...}
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sigrack_engine.naming import name_process

__all__ = ["CHILD_FAILED", "MESSAGE_BYTES"]

MESSAGE_BYTES = 1 << 16
CHILD_FAILED = 70
"""Exit code of a child whose entry has raised."""
LOOK_MS = 100
"""How often the memory of limited children is looked at."""
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

_libc = ctypes.CDLL(None)


@dataclass(slots=True)
class _Child:
    number: int
    memory_kb: int
    why: str = ""
    """Why it was killed."""
    by: set[int] = field(default_factory=set)
    """The signals that were sent to it."""


class _Keeper:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pid = os.getpid()
        self._children: dict[int, _Child] = {}
        self._bell, bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # what children leave behind comes here

    def serve(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._bell, select.POLLIN)
        while True:
            limited = any(child.memory_kb for child in self._children.values())
            ready = dict(poll.poll(LOOK_MS if limited else None))
            if self._bell in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._bell, 4096)
            self._reap()
            if self._control.fileno() in ready and not self._answer():
                return
            self._look_at_memory()

    def _answer(self) -> bool:
        """Carry out one message; False: nobody is there any more."""
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, MESSAGE_BYTES, 8)
        except ConnectionError:  # it has closed without reading all
            return False
        if not packet:
            return False
        message = json.loads(packet)
        if "start" in message:
            self._start(message, descriptors)
        else:
            self._kill(message["kill"], message["why"], message["signal"], message["thread"])
        return True

    def _start(self, message: dict[str, Any], descriptors: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            pid = -1
            self._tell({"ended": message["start"], "why": f"cannot fork: {error.strerror}"})
        if not pid:
            self._be_child(message, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid < 0:
            return
        self._children[pid] = _Child(message["start"], message["memory_mb"] * 1024)
        self._tell({"started": message["start"], "pid": pid})

    def _be_child(self, message: dict[str, Any], descriptors: list[int]) -> None:
        code = CHILD_FAILED
        try:
            _become_child(self._pid, descriptors, message["memory_mb"])
            module, _, function = message["entry"].partition(":")
            getattr(importlib.import_module(module), function)(descriptors, message["argument"])
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code & 0xFF)

    def _kill(self, number: int, why: str, by: int = signal.SIGKILL, thread: int = 0) -> None:
        for pid, child in self._children.items():
            if child.number == number:
                child.why = child.why or why
                child.by.add(by)
                if thread <= 0 or _libc.tgkill(pid, thread, by):  # it has no such thread
                    os.kill(pid, by)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._children.pop(pid, None)
            if child:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            self._end_orphans()  # the death of one may bring others
            if child:
                self._tell(_ended(child, status, usage))

    def _end_orphans(self) -> None:
        """Kill what children have left behind and is in no living child's session."""
        for orphan in _own_children():
            if orphan not in self._children:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    if os.getsid(orphan) not in self._children:
                        os.kill(orphan, signal.SIGKILL)

    def end(self) -> None:
        """Kill all children and what they leave behind, which comes here as its parents die."""
        while children := _own_children():
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            os.wait()

    def _look_at_memory(self) -> None:
        for pid, child in self._children.items():
            if child.memory_kb and _private_kb(pid) > child.memory_kb:
                self._kill(child.number, f"memory limit of {child.memory_kb >> 10} MiB")

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # nobody is there any more: the next poll sees it
            self._control.send(json.dumps(message).encode())


def _ended(child: _Child, status: int, usage: resource.struct_rusage) -> dict[str, Any]:
    killed = os.WIFSIGNALED(status)
    return {
        "ended": child.number,
        "signal": os.WTERMSIG(status) if killed else None,
        "code": None if killed else os.WEXITSTATUS(status),
        "core": os.WCOREDUMP(status),
        "why": child.why if killed and os.WTERMSIG(status) in child.by else "",  # else it was faster
        "rss_kb": usage.ru_maxrss,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def _become_child(keeper: int, descriptors: list[int], memory_mb: int) -> None:
    os.setsid()
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(CHILD_FAILED)  # it died before the prctl
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _close_all_but({0, 1, 2, *descriptors})
    if memory_mb:  # what grows faster than the keeper looks ends here
        held = _status_kb("VmData") << 10
        resource.setrlimit(resource.RLIMIT_DATA, (held + (memory_mb << 21),) * 2)


def _close_all_but(kept: set[int]) -> None:
    first = 0
    for descriptor in (*sorted(kept), resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
        if first < descriptor:  # an empty range closes everything (Python 3.11)
            os.closerange(first, descriptor)
        first = descriptor + 1


def _own_children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:  # this kernel does not tell
        return []


def _status_kb(key: str, pid: int | str = "self") -> int:
    """Return a line of /proc/PID/status; 0 if there is none: a process that ends has no memory."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
    return 0


def _private_kb(pid: int) -> int:
    return _status_kb("RssAnon", pid)


def _main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    name_process("sigrack-keeper")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the host's affair
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # children share these pages as long as nobody writes to them
    keeper = _Keeper(control)
    keeper.serve()
    keeper.end()


if __name__ == "__main__":
    _main()
