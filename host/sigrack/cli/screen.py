"""The terminal: text that is redrawn in place, and a key to end it."""

import os
import select
import shutil
import sys
import termios
import time
import tty
from contextlib import suppress
from typing import Any

__all__ = ["Screen", "is_terminal"]

ENTER = "\x1b[?1049h\x1b[?25l"
"""A second screen, so that the first comes back as it was; and no cursor."""
LEAVE = "\x1b[?25h\x1b[?1049l"


def is_terminal() -> bool:
    """Whether standard output can be redrawn: a job in the background must leave the terminal alone. [any]"""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except OSError:
        return True  # a terminal, but not the controlling one


class Screen:
    """Owns the terminal while it is entered."""

    def __init__(self) -> None:
        self._saved: list[Any] | None = None
        self._gone = False

    def __enter__(self) -> "Screen":
        if sys.stdin.isatty():
            self._saved = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin, termios.TCSANOW)
            modes = termios.tcgetattr(sys.stdin)
            modes[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave the shell with our screen and without a cursor
            termios.tcsetattr(sys.stdin, termios.TCSANOW, modes)
        self._write(ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        self._write(LEAVE)
        if self._saved is not None:
            with suppress(termios.error, OSError):  # the terminal may be gone
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)

    @property
    def width(self) -> int:
        """Columns at this moment."""
        return shutil.get_terminal_size().columns

    def show(self, lines: list[str], foot: str) -> None:
        """Draw the lines, as many as fit above the foot; none may be wider than `width`."""
        lines = [*lines[: shutil.get_terminal_size().lines - 1], foot]
        self._write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")

    def wait(self, seconds: float) -> bool:
        """Wait for so long; True at once if q was typed or the terminal has gone."""
        until = time.monotonic() + seconds
        while self._saved is not None and (left := until - time.monotonic()) > 0:
            if not select.select([sys.stdin], [], [], left)[0]:
                return False
            try:
                typed = os.read(sys.stdin.fileno(), 64)
            except OSError:
                typed = b""
            if typed in (b"q", b"Q", b""):  # empty: hung up
                return True
        time.sleep(max(0.0, until - time.monotonic()))
        return self._gone

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except UnicodeEncodeError:
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
            self._write(text)
        except OSError:
            self._gone = True
