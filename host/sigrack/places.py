"""Where the host keeps its sockets, locks and databases, and who runs a rack."""

import contextlib
import fcntl
import os
import socket
import stat
from ipaddress import IPv4Address
from pathlib import Path

from sigrack.errors import ConfigError, EngineError

__all__ = [
    "RackLock",
    "check_endpoint",
    "check_socket_free",
    "check_socket_path",
    "default_endpoint",
    "events_endpoint",
    "runtime_folder",
    "state_folder",
]

LONGEST_SOCKET_PATH = 107
"""Bytes that the system can hold, of 108 with the zero at the end."""


def runtime_folder() -> Path:
    """Return the folder for sockets and locks, mode 0700: $SIGRACK_RUNTIME, else under $XDG_RUNTIME_DIR, else under /tmp.

    Raises ConfigError if it cannot be made or belongs to somebody else. [any]
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(os.environ.get("SIGRACK_RUNTIME") or (Path(base, "sigrack") if base else f"/tmp/sigrack-{os.getuid()}"))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}; set SIGRACK_RUNTIME to a folder of your own") from None
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(f"{folder}: must be yours alone (mode 0700); set SIGRACK_RUNTIME to a folder of your own")
    return folder


def state_folder() -> Path:
    """Return the folder for what survives the host: $SIGRACK_STATE, else under $XDG_STATE_HOME, else ~/.local/state. [any]"""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(os.environ.get("SIGRACK_STATE") or Path(base, "sigrack"))


def default_endpoint(name: str) -> str:
    """Return the control endpoint of the rack `name`. [any]"""
    return f"ipc://{runtime_folder() / name}.sock"


def events_endpoint(endpoint: str) -> str:
    """Return where events are published, for a control endpoint. [any]"""
    if endpoint.startswith("ipc://"):
        return f"{endpoint}.pub"
    host, _, port = endpoint.rpartition(":")
    return f"{host}:{int(port) + 1}"


def _shown(table: str) -> str:
    return "[[feed]]" if table == "feed" else f"[{table}]"


def check_socket_path(endpoint: str, table: str = "control") -> None:
    """Raise ConfigError if the path of an ipc endpoint is longer than the system takes; `table` has the endpoint. [any]"""
    path = endpoint.removeprefix("ipc://")
    if path != endpoint and len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        remedy = "set SIGRACK_RUNTIME or [control]" if table == "control" else f"set {_shown(table)}"
        raise ConfigError(f"{path}: a socket's path has {LONGEST_SOCKET_PATH} bytes at most; {remedy} endpoint shorter")


def check_endpoint(endpoint: str, table: str, *, bind: bool = True) -> None:
    """Look whether an endpoint could be bound, or connected to; open nothing. [any]

    Raises ConfigError, EngineError if something else is at its path; `table` has the endpoint.
    """
    if endpoint.startswith("tcp://"):
        if bind:
            _check_interface(endpoint, table)
        return
    check_socket_path(endpoint, table)
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        if bind and not stat.S_ISDIR(path.parent.stat().st_mode):
            raise NotADirectoryError
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise EngineError(f"{path} is in the way of the {table} socket and is not a socket: move it")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"there is no folder {path.parent}: make it, or choose another {_shown(table)} endpoint") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; choose another {_shown(table)} endpoint") from None


def _check_interface(endpoint: str, table: str) -> None:
    """Raise ConfigError unless the host of a tcp endpoint is what ZeroMQ can bind: it asks no name server."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    if host == "*" or host in (name for _, name in socket.if_nameindex()):
        return
    try:
        IPv4Address(host)
    except ValueError:
        remedy = f"give {_shown(table)} endpoint an address of this machine, as 127.0.0.1, or * for all"
        raise ConfigError(f'{endpoint}: "{host}" cannot be bound; {remedy}') from None


def check_socket_free(endpoint: str, table: str = "control") -> None:
    """Raise EngineError if another process answers at an ipc endpoint: binding would silently take it over.

    `table` has the endpoint. Raises ConfigError, EngineError as `check_endpoint`. [main]
    """
    check_endpoint(endpoint, table)
    path = Path(endpoint.removeprefix("ipc://"))
    if not endpoint.startswith("ipc://") or not path.exists():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # left over from a dead host
        except OSError:  # a socket of another kind, of another user, or with a long queue: alive
            pass
    raise EngineError(f"the {table} socket {path} is in use by another process; set another {_shown(table)} endpoint")


class RackLock:
    """One host per rack: a locked file with the host's pid, released by the kernel whatever the host dies of.

    The lock is the process's own: what it forks does not hold it.
    """

    def __init__(self, name: str) -> None:
        """Take the lock. Raises EngineError if another host has it. [main]"""
        self._path = runtime_folder() / f"{name}.lock"
        self._file = self._open()
        while not self._locked(name):  # the last holder has just removed the file that we had opened
            os.close(self._file)
            self._file = self._open()
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EngineError(f"{self._path}: cannot be locked: {error.strerror}") from None

    def _locked(self, name: str) -> bool:
        """Lock the open file; False if it is no longer the one that others would find."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._file, 32).decode().strip() or "unknown"
            os.close(self._file)
            raise EngineError(
                f'the rack "{name}" is already run by process {holder}: stop it, or give this one another [rack] name'
            ) from None
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let the next host in. [main]"""
        self._path.unlink(missing_ok=True)  # while it is still locked
        os.close(self._file)
