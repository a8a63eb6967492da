"""sigrack restart"""

import argparse
import contextlib
import time
from pathlib import Path

from sigrack.cli.ps import add_folder
from sigrack.errors import EngineError
from sigrack.kept import peek
from sigrack.oversight.ledger import LEDGER, Ledger
from sigrack.oversight.remote import Remote, find_remote

__all__ = ["arguments", "run"]

STOP_S = 15.0
"""How long supervisord may take to stop the host; longer than stopwaitsecs."""
READY_S = 60.0
LOOK_S = 0.1
ENDED = ("EXITED", "FATAL", "STOPPED")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_folder(parser)
    parser.add_argument("--program", default="sigrack", help="what supervisord calls the host (default: sigrack)")


def run(options: argparse.Namespace) -> int:
    """Stop the host in order, start it, and wait until it is ready."""
    remote = find_remote(options.folder)
    try:
        with contextlib.suppress(OSError):  # it does not run
            remote.call("stopProcess", options.program, timeout_s=STOP_S)
        remote.call("startProcess", options.program, False)
    except OSError as error:
        raise EngineError(f'supervisord cannot start "{options.program}": {error}') from None
    print(f"{options.program} is ready: process {_wait(remote, options.program, options.folder)}")
    return 0


def _wait(remote: Remote, program: str, folder: Path) -> int:
    """Return the process id of the host, once it is ready. Raises EngineError."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            info = remote.call("getProcessInfo", program)
            if info["statename"] in ENDED:
                raise EngineError(f"{program} has ended; `sigrack logs --folder {folder}` tells why")
            if info["pid"] and peek(folder / LEDGER, Ledger).ready_pid == info["pid"]:
                return int(info["pid"])
        time.sleep(LOOK_S)
    raise EngineError(f"{program} is not ready after {READY_S:g} s; `sigrack ps` and `sigrack logs` tell more")
