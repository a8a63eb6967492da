"""Which running host a command means."""

import re
import socket
from pathlib import Path

from sigrack.config import load
from sigrack.errors import ConfigError, EngineError
from sigrack.places import default_endpoint, runtime_folder

__all__ = ["find_endpoint", "running"]


def find_endpoint(rack: Path | None, endpoint: str | None) -> str:
    """Return the control endpoint: the given one, that of a rack's file, else that of the only host that runs.

    Raises ConfigError, EngineError. [any]
    """
    if endpoint:
        if not re.match(r"^(ipc:///.+|tcp://.+:\d+)$", endpoint):
            raise ConfigError(f'--endpoint "{endpoint}": must be ipc:///PATH or tcp://HOST:PORT')
        return endpoint
    if rack:
        document = load(rack)
        return document.config.control.endpoint or default_endpoint(document.name)
    return _only_one()


def _only_one() -> str:
    found = running()
    if not found:
        raise EngineError(f"no rack runs here (nobody answers in {runtime_folder()}); start one with `sigrack up RACK.toml`")
    if len(found) > 1:
        names = ", ".join(path.stem for path in found)
        raise ConfigError(f"several racks run ({names}): say which, by its RACK.toml or --endpoint ipc://{found[0]}")
    return f"ipc://{found[0]}"


def running() -> list[Path]:
    """Return the default control sockets that somebody listens to; a killed host leaves one behind. [any]"""
    return sorted(path for path in runtime_folder().glob("*.sock") if path.is_socket() and _answers(path))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
