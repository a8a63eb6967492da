"""Python programs in processes of their own: for what may crash."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["python"]


def python(script: Path | str, *arguments: object, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a file, or the text of a program, to its end; it imports what this process can import, and what is in `folder`."""
    start = [str(script)] if isinstance(script, Path) else ["-c", script]
    command = [sys.executable, *start, *map(str, arguments)]
    path = os.pathsep.join([*sys.path, str(folder)] if folder else sys.path)
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120)
