"""supervisord as a child of `sigrack up`, which ends all of it."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sigrack.errors import ConfigError, EngineError
from sigrack.kept import peek
from sigrack.oversight.ledger import LEDGER, Ledger
from sigrack.oversight.remote import SOCKET, Remote

__all__ = ["Program", "Supervisor"]

END_S = 15.0
"""supervisord gives the host stopwaitsecs before it kills it."""
SOCKET_BYTES = 107 - len(".4194304")
"""What a socket's path may have: supervisord binds it under another name first, with its pid at the end."""
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Program:
    """What supervisord says about the host."""

    state: str
    """STARTING, RUNNING, BACKOFF, EXITED, FATAL, ..."""
    code: int
    """Exit code, in the state EXITED."""
    reason: str
    """Why it could not be started, or nothing."""


class Supervisor:
    """supervisord as a child of this process; the host is its child. Use it as a context manager, from the main thread."""

    def __init__(self, conf: Path, folder: Path) -> None:
        """Take the run folder. Raises ConfigError if it cannot be used, EngineError if another supervisor uses it. [main]"""
        self._conf, self._folder = conf.absolute(), folder.absolute()
        socket = self._folder / SOCKET
        self._remote = Remote(f"unix://{socket}")
        self._process: subprocess.Popen[str] | None = None
        self.log = Log(self._folder / "host.log")
        if len(os.fsencode(socket)) > SOCKET_BYTES:
            raise ConfigError(f"{self._folder}: too long a path for a socket; give a shorter --folder")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"{self._folder}: {error.strerror}; give another --folder") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise EngineError(f"{self._folder}: another `sigrack up` uses it; give another --folder") from None

    def start(self, rack: Path, play: Path | None) -> None:
        """Start supervisord, which starts the host. [main]"""
        self._sweep()
        self.log.mark()
        environment = os.environ | {
            "SIGRACK_RACK": str(rack.absolute()),
            "SIGRACK_RUN": str(self._folder),
            "SIGRACK_INPUT": str(play.absolute()) if play else "",
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        }
        # A session of its own: a terminal's SIGHUP would make supervisord start anew, and its SIGINT would reach it beside ours.
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sigrack.supervision",
                str(os.getpid()),
                "--nodaemon",
                "--silent",
                "--configuration",
                self._conf,
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def program(self) -> Program | None:
        """Return how the host is, None while supervisord does not say. Raises EngineError when supervisord has ended. [main]"""
        assert self._process is not None
        if self._process.poll() is not None:
            assert self._process.stderr is not None
            said = self._process.stderr.read().strip().splitlines()
            raise EngineError(f"supervisord ended: {said[-1] if said else f'exit code {self._process.returncode}'}")
        with suppress(OSError):
            info = self._remote.call("getProcessInfo", "sigrack")
            return Program(info["statename"], info["exitstatus"], info["spawnerr"])
        return None

    def ledger(self) -> Ledger:
        """Return what the watch remembers of this supervisord's host; what an earlier one has left does not count. [main]"""
        assert self._process is not None
        ledger = peek(self._folder / LEDGER, Ledger)
        return ledger if ledger.supervisor.startswith(f"{self._process.pid} ") else Ledger()

    def stop(self) -> None:
        """End the host and supervisord, and wait for it. [main]"""
        if self._process is None:
            return
        self._process.terminate()
        until = time.monotonic() + END_S
        while self._process.poll() is None and time.monotonic() < until:
            with suppress(OSError):
                self._remote.call("getState")  # wakes it: by itself it looks for signals and for ended children once a second
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None

    def _sweep(self) -> None:
        """Remove what a killed supervisord has left; nobody else uses the folder."""
        for name in (SOCKET, "supervisord.pid"):
            (self._folder / name).unlink(missing_ok=True)

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._sweep()
        os.close(self._lock)


class Log:
    """The host's log file, from a moment on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._from = 0

    def mark(self) -> None:
        """Only what comes from now on counts."""
        with suppress(OSError):
            self._from = self.path.stat().st_size

    def tail(self, lines: int) -> list[str]:
        """Return the last lines since the mark; after a rotation, of the file."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._from if self._from <= size else 0, size - 65_536))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return text.splitlines()[-lines:]


def _be_supervisord() -> None:
    """Become supervisord, for as long as the starter lives: argv is its pid, then supervisord's arguments. [main]"""
    starter = int(sys.argv.pop(1))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != starter:
        return  # it died before the prctl
    from supervisor.supervisord import main

    main()


if __name__ == "__main__":
    _be_supervisord()
