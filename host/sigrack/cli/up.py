"""sigrack up"""

import argparse
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sigrack.cli.find import find_endpoint, running
from sigrack.cli.run import add_input
from sigrack.cli.top import Feed, watch
from sigrack.config import Document, load
from sigrack.drivers import built
from sigrack.errors import CLEAN, ConfigError, EngineError
from sigrack.oversight.ledger import Ledger
from sigrack.places import RackLock, events_endpoint
from sigrack.supervision import Supervisor

__all__ = ["arguments", "run"]

FINAL = (CLEAN, ConfigError.exit_code)
"""Exit codes after which supervisord does not start the host again (exitcodes in supervisord.conf)."""
LAST_LINES = 10
"""Of the host's log, when it has ended by itself."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml")
    add_input(parser)
    parser.add_argument("--conf", type=Path, metavar="FILE", help="another supervisord.conf than sigrack's own")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", default=Path("run"), help="for logs and sockets (default: run)")


def run(options: argparse.Namespace) -> int:
    """Run a rack under supervisord and show it; return the host's exit code, or 0 when told to stop."""
    conf = options.conf or _conf()
    if not conf.is_file():
        raise ConfigError(f"{conf}: no such file")
    document = load(options.rack, options.input)
    _check(document)
    with _stop_signals() as stopped, Supervisor(conf, options.folder) as supervisor:
        supervisor.start(options.rack, options.input)
        try:
            with Feed(find_endpoint(options.rack, None)) as feed:
                return _Attendance(supervisor, feed, stopped).run(_hint(document, options.rack))
        finally:
            supervisor.stop()
            _sweep(document, find_endpoint(options.rack, None))


def _conf() -> Path:
    """Return sigrack's supervisord.conf: in a wheel it lies in the package, in a checkout at the top."""
    package = Path(__file__).parents[1]
    inside = package / "supervisord.conf"
    return inside if inside.exists() else package.parents[1] / "supervisord.conf"


def _check(document: Document) -> None:
    """Build the rack once and let it go: what would end the host at once is told before anything runs."""
    if not document.config.control.enabled:
        document.fail(("control", "enabled"), "`sigrack up` needs the control socket")
    RackLock(document.name).close()
    with built(document):
        pass


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect the signals that ask for an end: Ctrl-C, SIGTERM, the terminal's closing."""
    seen: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        seen.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    saved = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield seen
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)


class _Attendance:
    """Watches over the host until its end."""

    def __init__(self, supervisor: Supervisor, feed: Feed, stopped: list[int]) -> None:
        self._supervisor, self._feed, self._stopped = supervisor, feed, stopped
        self._ended_itself = False

    def run(self, hint: str) -> int:
        """Wait for the host, print the hint, show the host; return the exit code. [main]"""
        while (code := self._ended()) is None:
            if self._feed.poll():
                print(hint, flush=True)
                end = f"{hint}   (q or Ctrl-C ends all of it)"
                code = watch(self._feed, self._ended, end, lambda: _restarts(self._supervisor.ledger()))
                break
        if self._ended_itself:
            self._print_log()
        return code

    def _ended(self) -> int | None:
        """Return the exit code when it is over: told to stop, or the host has ended for good. Raises EngineError."""
        if self._stopped:
            return CLEAN
        try:
            program = self._supervisor.program()
        except EngineError:
            self._print_log()
            raise
        if program is None:
            return None
        if program.state == "FATAL":
            self._print_log()
            last = self._supervisor.ledger().last
            why = last.text.removeprefix("given up: ") if last else program.reason or "it ends again and again"
            raise EngineError(f"the host cannot be kept running: {why}")
        if program.state == "EXITED" and program.code in FINAL:
            self._ended_itself = True
            return program.code
        return None

    def _print_log(self) -> None:
        for line in self._supervisor.log.tail(LAST_LINES):
            print(line, file=sys.stderr)


def _restarts(ledger: Ledger) -> str:
    """Return how often the host was started again, and the last reason; empty: it was not."""
    if not ledger.restarts:
        return ""
    times = "once" if ledger.restarts == 1 else f"{ledger.restarts} times"
    return f"restarted {times}, last: {ledger.last.text if ledger.last else 'not known'}"


def _sweep(document: Document, endpoint: str) -> None:
    """Remove the sockets of a host that was killed; one that runs still keeps its own."""
    try:
        lock = RackLock(document.name)
    except EngineError:
        return
    for name in (endpoint, events_endpoint(endpoint)):
        if name.startswith("ipc://"):
            Path(name.removeprefix("ipc://")).unlink(missing_ok=True)
    lock.close()


def _hint(document: Document, rack: Path) -> str:
    """Return what to type in another terminal, with all that is needed there to reach this host."""
    crossfeed = any(table.plugin == "crossfeed" for table in document.config.slot)
    words = [*_settings(), _program(), "ctl", "CROSSFEED_DISABLE" if crossfeed else "GET_STATUS"]
    if endpoint := document.config.control.endpoint:
        words += ["--endpoint", shlex.quote(endpoint)]
    elif len(running()) > 1:
        words += ["--rack", shlex.quote(str(rack))]
    return f"try: {' '.join(words)}"


def _settings() -> list[str]:
    folder = os.environ.get("SIGRACK_RUNTIME")
    return [f"SIGRACK_RUNTIME={shlex.quote(folder)}"] if folder else []


def _program() -> str:
    """Return how this program is called from here."""
    own = Path(sys.executable).parent / "sigrack"
    found = shutil.which("sigrack")
    if not own.exists() or (found and Path(found).samefile(own)):
        return "sigrack"
    return shlex.quote(str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own))
