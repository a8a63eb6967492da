"""The command line as a user meets it: a child process, its exit code, its one line."""

import json
import re
import resource
import subprocess
import sys
from typing import Any

from warm import warm_sigrack

__all__ = ["answer", "refused", "sigrack"]

_LOG = re.compile(r"\d\d:\d\d:\d\d ")


def sigrack(*arguments: object, file_bytes: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `sigrack ARGUMENTS` to its end; it writes no file longer than `file_bytes`."""
    command = [sys.executable, "-m", "sigrack", *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        if file_bytes is not None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        out, err = process.communicate(timeout=30.0)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def refused(code: int, *arguments: object, file_bytes: int | None = None, warm: bool = False) -> str:
    """Run a command that must end with `code`; return its one line, without the beginning `sigrack: `.

    `warm`: in a forked child, for what does not depend on how the process starts.
    """
    done = warm_sigrack(*arguments) if warm else sigrack(*arguments, file_bytes=file_bytes)
    lines = [line for line in done.stderr.splitlines() if not _LOG.match(line)]

    assert (code, 1) == (done.returncode, len(lines)), done.stderr
    assert lines[0].startswith("sigrack: ")
    assert "Traceback" not in done.stderr

    return lines[0].removeprefix("sigrack: ")


def answer(*arguments: object) -> Any:
    """Run a command that must succeed and write nothing but JSON; return what it says."""
    done = sigrack(*arguments, "--json")

    assert (0, "") == (done.returncode, "".join(line for line in done.stderr.splitlines() if not _LOG.match(line)))

    return json.loads(done.stdout)
