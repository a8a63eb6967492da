"""The hosts of the restart soak, one after the other, whoever starts them: the soak itself, or supervisord."""

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import zmq

from sigrack.errors import EngineError

__all__ = ["DiedError", "Direct", "Host", "Parent", "Supervised"]

START_S = 60.0
"""How long a start may take; a loaded machine is slow."""
LOOK_S = 0.005
"""How often it is looked for the next host."""


class DiedError(Exception):
    """The host ended before it answered."""


class Host:
    """One life of the host."""

    def __init__(self, folder: Path, name: str, pid: int, began_ns: int, log: Path, code: Callable[[], int | None]) -> None:
        """`began_ns`: when it began, by the monotonic clock; `code` returns the exit code, if it is known. Raises DiedError."""
        self.pid, self.began_ns, self.log, self._code = pid, began_ns, log, code
        self._deaths = folder / "run" / f"{name}.deaths"
        try:
            self._process = os.pidfd_open(pid)
        except ProcessLookupError:
            raise DiedError from None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.reconnect_ivl = 5
        self._socket.connect(f"ipc://{folder / 'run' / name}.sock")
        self.killed_ns = 0
        self.killed_unix_s = 0.0
        self._killer: threading.Timer | None = None

    def kill_in(self, seconds: float) -> None:
        """Send it SIGKILL after a while, whatever it does then."""
        self._killer = threading.Timer(seconds, self.kill)
        self._killer.start()

    def kill(self) -> None:
        """Send it SIGKILL; nobody is to be blamed for that."""
        self._deaths.unlink(missing_ok=True)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
            self.killed_ns, self.killed_unix_s = time.monotonic_ns(), time.time()

    @property
    def ended(self) -> bool:
        """Whether the process has."""
        return self._ends(0)

    def _ends(self, limit_ms: int | None) -> bool:
        """Wait for its end; False: it has not come in time."""
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        return bool(poll.poll(limit_ms))

    def ask(self, request: bytes) -> dict[str, Any]:
        """Return the whole reply. Raises DiedError if the host ends before."""
        self._socket.send(request)
        until = time.monotonic() + START_S
        while not self._socket.poll(10):
            if self.ended and not self._socket.poll(0):
                raise DiedError
            if time.monotonic() > until:
                raise EngineError(f"the host has not answered {request[:100]!r} within {START_S:g} s")
        reply: dict[str, Any] = json.loads(self._socket.recv())
        return reply

    def data(self, cmd: str) -> dict[str, Any]:
        """Return what a command tells."""
        found: dict[str, Any] = self.ask(json.dumps({"cmd": cmd}).encode())["data"]
        return found

    def children(self) -> list[int]:
        """Return the processes that it has started."""
        return _children(self.pid)

    def close(self) -> int | None:
        """Wait for its end and let go of it; return the exit code, if it is known."""
        if self._killer:
            self._killer.join()
        self._ends(None)
        os.close(self._process)
        self._context.destroy(linger=0)
        return self._code()


class Parent(Protocol):
    """Starts hosts."""

    longest_life_s: float
    """When a kill comes at the latest."""

    def next(self) -> Host:
        """Return the next host, as soon as there is its process. Raises EngineError."""

    def end(self, host: Host) -> int:
        """End the last one in order, and who starts them; return the exit code."""

    def close(self) -> None:
        """Let no host begin any more, if there was no end in order."""


class Direct:
    """Starts each by itself, when it is asked for."""

    longest_life_s = 1.5

    def __init__(self, folder: Path, name: str, command: Sequence[str]) -> None:
        """`command` is the program whose `run` is the host."""
        self._folder, self._name, self._command = folder, name, command

    def next(self) -> Host:
        """Start one."""
        log = self._folder / "host.log"
        began_ns = time.monotonic_ns()
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*self._command, "run", str(self._folder / "rack.toml")],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=_environment(self._folder),
            )
        return Host(self._folder, self._name, process.pid, began_ns, log, process.wait)

    def end(self, host: Host) -> int:
        """Send it SIGTERM."""
        os.kill(host.pid, signal.SIGTERM)
        code = host.close()
        assert code is not None
        return code

    def close(self) -> None:
        """Nothing: it starts none by itself."""


class Supervised:
    """supervisord starts them, with the configuration that sigrack comes with."""

    FOLDER = "service"
    longest_life_s = 8.0  # a life below startsecs (3 s) is a failed start for it: after 20 of them in a row it would give up

    def __init__(self, folder: Path, name: str, command: Sequence[str]) -> None:
        """Start it. `command` is the program whose `up` starts supervisord."""
        self._folder, self._name = folder, name
        self._last = 0
        self._up = subprocess.Popen(
            [*command, "up", str(folder / "rack.toml"), "--folder", str(folder / self.FOLDER)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(folder) | {"SIGRACK_WATCH_BACKOFF_S": "0"},  # it ends again and again, and is to come back at once
        )

    def next(self) -> Host:
        """Wait until supervisord has started one."""
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._up.poll() is None:
            if (pid := self._find()) != self._last and pid:
                self._last = pid
                with contextlib.suppress(DiedError, OSError):
                    log = self._folder / self.FOLDER / "host.log"
                    return Host(self._folder, self._name, pid, _began_ns(pid), log, lambda: None)
            time.sleep(LOOK_S)
        raise EngineError(f"supervisord has started no host within {START_S:g} s")

    def _find(self) -> int:
        """Return the process of the host; 0: there is none."""
        with contextlib.suppress(OSError, ValueError):
            supervisord = int((self._folder / self.FOLDER / "supervisord.pid").read_text())
            for pid in _children(supervisord):
                if b"run" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    return pid
        return 0

    def end(self, host: Host) -> int:
        """Tell `sigrack up` to stop."""
        self._up.send_signal(signal.SIGTERM)
        host.close()
        return self._up.wait()

    def close(self) -> None:
        """Tell `sigrack up` to stop."""
        self._up.terminate()
        self._up.wait()


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {"SIGRACK_RUNTIME": str(folder / "run"), "SIGRACK_STATE": str(folder / "state")}


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        threads = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    return []


def _began_ns(pid: int) -> int:
    """Return when a process began, by the monotonic clock, to 10 ms. Raises OSError."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK") - suspended_ns
