"""sigrack logs"""

import argparse
import os
import sys
import time
from pathlib import Path

from sigrack.cli.ps import add_folder
from sigrack.errors import ConfigError, EngineError

__all__ = ["arguments", "run"]

LOGS = {"host": "host.log", "watch": "watch.log", "supervisord": "supervisord.log"}
LOOK_S = 0.2
CHUNK = 65_536


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("log", nargs="?", default="host", help=f"which one: {', '.join(LOGS)} (default: host)")
    add_folder(parser)
    parser.add_argument("-n", "--lines", default="20", metavar="N", help="how many of the last lines (default: 20)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on, until Ctrl-C")


def run(options: argparse.Namespace) -> int:
    """Print the end of a log."""
    if options.log not in LOGS:
        raise ConfigError(f'there is no log "{options.log}"; valid: {", ".join(LOGS)}')
    if not options.lines.isdecimal():
        raise ConfigError(f'--lines "{options.lines}": give a number from 0 on')
    path = options.folder / LOGS[options.log]
    try:
        position = _print_end(path, int(options.lines))
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}; is this the --folder of `sigrack up`?") from None
    try:
        while options.follow:
            time.sleep(LOOK_S)
            position = _print_new(path, position)
    except KeyboardInterrupt:
        pass
    return 0


def _print_end(path: Path, lines: int) -> tuple[int, int]:
    """Print the last lines; return which file that was, and how far it was read. Raises OSError."""
    with path.open("rb") as file:
        end = start = file.seek(0, os.SEEK_END)
        text = b""
        while start and text.count(b"\n") <= lines:
            start = max(0, start - CHUNK)
            file.seek(start)
            text = file.read(end - start)
        _write(b"".join(text.splitlines(keepends=True)[-lines:] if lines else []))
        return os.fstat(file.fileno()).st_ino, end


def _print_new(path: Path, position: tuple[int, int]) -> tuple[int, int]:
    """Print what is new; after a rotation the new file from its beginning."""
    inode, read = position
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            file.seek(read if status.st_ino == inode and status.st_size >= read else 0)
            _write(file.read())
            return status.st_ino, file.tell()
    except FileNotFoundError:  # in the middle of a rotation
        return position


def _write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
