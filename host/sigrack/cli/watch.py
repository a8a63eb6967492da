"""sigrack watch"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from sigrack.config import load
from sigrack.errors import ConfigError
from sigrack.oversight.listener import listen
from sigrack.oversight.processes import facts
from sigrack.oversight.remote import Remote
from sigrack.oversight.watcher import Limits, Watcher

__all__ = ["arguments", "run"]

OPTIONS = {
    "memory_mb": "restart the host when it holds more memory, in MiB",
    "progress_s": "restart it when blocks or main-loop turns stand for so long",
    "ready_s": "restart it when it is not ready after so long",
    "backoff_s": "the longest pause before it starts again, when it ends again and again",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = "supervisord starts it as an event listener; see docs/service.md"
    parser.add_argument("rack", type=Path, metavar="RACK.toml", help="the rack of the host that is watched")
    parser.add_argument("--program", default="sigrack", help="what supervisord calls the host (default: sigrack)")
    parser.add_argument("--folder", type=Path, default=Path("run"), help="of the host's log and the counts (default: run)")
    for name, sentence in OPTIONS.items():
        variable, default = f"SIGRACK_WATCH_{name.upper()}", getattr(Limits(), name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="N",
            default=os.environ.get(variable) or default,
            help=f"{sentence}; 0: never (default: ${variable}, else {default:g})",
        )


def _number(options: argparse.Namespace, name: str) -> float:
    text = getattr(options, name)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise ConfigError(f'--{name.replace("_", "-")} or SIGRACK_WATCH_{name.upper()} is "{text}": give a number from 0 on')
    return number


def run(options: argparse.Namespace) -> int:
    """Watch the host until supervisord ends."""
    limits = Limits(**{name: _number(options, name) for name in OPTIONS})
    supervisor = facts(os.getppid())
    if not (url := os.environ.get("SUPERVISOR_SERVER_URL")) or supervisor is None:
        raise ConfigError("`sigrack watch` is for supervisord, which starts it as an event listener: see supervisord.conf")
    watcher = Watcher(_name(options.rack), options.program, options.folder, Remote(url), limits, supervisor)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        threading.Thread(target=watcher.run, name="sigrack-watch", daemon=True).start()
        listen(options.program, watcher.tell, sys.stdin.buffer, sys.stdout.buffer)
    finally:
        watcher.close()
    return 0


def _name(rack: Path) -> str:
    """Return the rack's name; of a file that is wrong just now, the one that it would have without `[rack] name`."""
    try:
        return load(rack).name
    except ConfigError:
        return rack.stem
