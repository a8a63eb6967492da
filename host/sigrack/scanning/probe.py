"""What is done to a plugin in a process of its own: the calls that a rack would make. The keeper imports this and forks."""

import contextlib
import ctypes
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from sigrack.errors import ConfigError, NoPluginError, said
from sigrack.loading import PythonPlugin
from sigrack.quarantine import ignore
from sigrack.scanning.native import HarmError, try_library

__all__ = ["CLOSED", "main"]

CLOSED = 113
"""Exit code of a child that finds its report closed."""
GRACE_S = 2.0
"""How long what a plugin has started may outlive it."""
STACK = 64 << 20
REPORT_FROM = 200
"""The report's descriptor is above those that programs close by mistake."""
MOST_TEXT = 500
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)


class Report:
    """What the scanner is told, as it happens."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pid = os.getpid()
        self._file = os.fstat(descriptor)

    def tell(self, **facts: Any) -> None:
        """Send something. Does not return in a copy of this process, nor when the plugin has closed the report."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self._file, os.fstat(self._descriptor)):
                copied = os.getpid() != self._pid
                os.write(self._descriptor, json.dumps({"left": True} if copied else facts).encode() + b"\n")
                if not copied:
                    return
        os._exit(CLOSED)


def main(descriptors: list[int], target: str) -> None:
    """Load a plugin and do with it what a rack does; report what is wrong with it. `descriptors`: report, prints. [main]"""
    report = _settle(*descriptors)
    ignore()
    try:
        _try(target, report)
    except NoPluginError as error:
        report.tell(none=_cut(error))
    except HarmError as error:
        report.tell(harm=str(error))
    except BaseException as error:  # whatever a plugin raises
        report.tell(failed=_cut(error))
    if _outlived():
        report.tell(left=True)
    report.tell(phase="exit")
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    _libc.exit(0)  # not _exit: libraries have their ends, too


def _cut(error: BaseException) -> str:
    return said(error)[:MOST_TEXT]


def _settle(report: int, prints: int) -> Report:
    """Take the ends of the pipes, and the limits that the keeper does not set."""
    for number in (1, 2):
        os.dup2(prints, number)
    os.close(prints)
    high = os.dup2(report, REPORT_FROM, inheritable=False)
    os.close(report)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_STACK, (STACK, hard))
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the plugin's processes leave behind comes here, and is seen
    return Report(high)


def _outlived() -> bool:
    """Whether a process that the plugin has started runs on."""
    until = time.monotonic() + GRACE_S
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] or time.monotonic() < until:
            time.sleep(0.005)
        return True
    return False


def _try(target: str, report: Report) -> None:
    path = Path(target)
    if path.suffix == ".so":
        try_library(path, report.tell)
        return
    report.tell(phase="import")
    plugin = PythonPlugin(path if path.is_absolute() else target)
    report.tell(plugin=plugin.id, kind=plugin.kind, version=plugin.version, phase="construct")
    try:
        plugin.create({}, Path)
    except ConfigError as error:
        if error.__cause__:  # its own exception; without one it is a sentence about its configuration, of which we have none
            raise
        report.tell(note=f"no instance without a configuration: {_cut(error)}")
