"""sigrack doctor"""

import argparse
import ctypes.util
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sigrack.errors import RackError
from sigrack.places import runtime_folder
from sigrack_engine.core import lib

__all__ = ["arguments", "run"]

PRIORITY = 70


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    found: str
    remedy: str = ""
    needed: bool = False
    """Whether the host cannot do its work without it."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    """Look at this machine; exit code 102 if something is missing that every rack needs."""
    findings = list(_examine())
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            mark = "yes" if finding.good else "NO " if finding.needed else "no "
            remedy = f"\n{'':26}{finding.remedy}" if finding.remedy and not finding.good else ""
            print(f"{mark}  {finding.what:<20} {finding.found}{remedy}")
    return 102 if any(finding.needed and not finding.good for finding in findings) else 0


def _examine() -> Iterator[Finding]:
    yield _processor()
    yield _real_time()
    yield _memory_lock()
    yield _runtime()
    yield _gpu()
    yield _library("JACK", "jack", "not needed by the drivers of this version")
    yield _library("PortAudio", "portaudio", "not needed by the drivers of this version")
    yield from _tools()
    yield _versions()


def _processor() -> Finding:
    count = len(os.sched_getaffinity(0))
    return Finding("processor", True, f"{platform.machine()}, {count} usable, kernels for {lib.core_level().decode()}")


def _in_thread(probe: Callable[[], str]) -> str:
    """Run `probe` on a thread of its own, whose scheduling may then change."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(probe()))
    thread.start()
    thread.join()
    return found[0]


def _try_fifo() -> str:
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        return error.strerror or "refused"
    return ""


def _real_time() -> Finding:
    refused = _in_thread(_try_fifo)
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    remedy = f"as root: echo '{os.environ.get('USER', 'YOU')} - rtprio 90' > /etc/security/limits.d/audio.conf, then log in again"
    found = f"SCHED_FIFO {PRIORITY} {'refused: ' + refused if refused else 'granted'}, limit {limit}"
    return Finding("real-time priority", not refused, found, remedy)


def _memory_lock() -> Finding:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    text = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit // 1024} KiB"
    return Finding("lockable memory", True, text)


def _runtime() -> Finding:
    try:
        return Finding("runtime folder", True, str(runtime_folder()), needed=True)
    except RackError as error:
        return Finding("runtime folder", False, str(error), needed=True)


def _gpu() -> Finding:
    if importlib.util.find_spec("cupy") is None:
        return Finding("GPU", False, "CuPy is not installed", "pip install 'sigrack[gpu]' on a machine with an NVIDIA GPU")
    probe = "import cupy; print(cupy.cuda.runtime.getDeviceProperties(0)['name'].decode())"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    if done.returncode:
        return Finding("GPU", False, (done.stderr.strip().splitlines() or ["CuPy finds no device"])[-1])
    return Finding("GPU", True, done.stdout.strip())


def _library(what: str, name: str, remedy: str) -> Finding:
    found = ctypes.util.find_library(name)
    return Finding(what, bool(found), found or "no library found", remedy)


def _tools() -> Iterator[Finding]:
    for tool, use in (
        ("cc", "to build native plugins"),
        ("supervisord", "to run as a service"),
        ("ffmpeg", "for comparison only"),
    ):
        path = shutil.which(tool, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))))
        yield Finding(tool, bool(path), path or "not found", use)


def _versions() -> Finding:
    names = ("sigrack", "numpy", "pyzmq", "janus", "soundfile", "supervisor")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return Finding("versions", True, f"Python {platform.python_version()}, {versions}")
