"""sigrack top"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sigrack.cli.find import find_endpoint
from sigrack.cli.live import render, summary
from sigrack.cli.screen import Screen, is_terminal
from sigrack.control.client import Client
from sigrack.control.schema import CommandError
from sigrack.errors import EngineError

__all__ = ["Feed", "arguments", "run", "watch"]

REDRAW_S = 0.5
LINE_S = 5.0
"""How often a line is written where nothing can be redrawn."""
LOOK_S = 0.25
ANSWER_S = 1.0
"""How long the host may take to answer."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml", nargs="?", help="which host, if several run")
    parser.add_argument("--endpoint", help="its control endpoint, if it is not the default one")
    parser.add_argument("--once", action="store_true", help="show it once and end")
    parser.add_argument("--json", action="store_true", help='print {"status", "stats"} as JSON, an object a line')


def run(options: argparse.Namespace) -> int:
    """Show a running rack until q or Ctrl-C."""
    endpoint = find_endpoint(options.rack, options.endpoint)
    with Feed(endpoint) as feed:
        try:
            if options.once or options.json:
                return _print(feed, once=options.once, as_json=options.json)
            return watch(feed, lambda: None, "q or Ctrl-C ends this view, not the host")
        except KeyboardInterrupt:
            return 0


class Feed:
    """What a host answers, now and the time before. Goes on when the host is started anew. Use it as a context manager."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.status: dict[str, Any] = {}
        self.stats: dict[str, Any] = {}
        self.before: dict[str, Any] | None = None
        self._client: Client | None = None

    def poll(self) -> bool:
        """Ask the host; False if it does not answer. [main]"""
        self._client = self._client or Client(self.endpoint, ANSWER_S)
        try:
            status, stats = self._client.request("GET_STATUS")["data"], self._client.request("STATS")["data"]
        except (EngineError, CommandError):
            self.close()  # and what waits in its socket
            return False
        self.before = self.stats if self.status.get("pid") == status["pid"] else None
        self.status, self.stats = status, stats
        return True

    def lines(self, width: int, *, color: bool) -> list[str]:
        """Return the last answer as a table."""
        return render(self.status, self.stats, self.before, width, color=color)

    def close(self) -> None:
        """Let go of the host."""
        if self._client:
            self._client.__exit__()
            self._client = None

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _print(feed: Feed, *, once: bool, as_json: bool) -> int:
    while True:
        if not feed.poll():
            raise EngineError(f"no host answers at {feed.endpoint}; is it running? (`sigrack up RACK.toml`)")
        if as_json:
            print(json.dumps({"status": feed.status, "stats": feed.stats}), flush=True)
        else:
            print("\n".join(feed.lines(os.get_terminal_size().columns if is_terminal() else 120, color=_color())))
        if once:
            return 0
        time.sleep(REDRAW_S)


def _color() -> bool:
    return is_terminal() and not os.environ.get("NO_COLOR")


def watch(feed: Feed, ended: Callable[[], int | None], hint: str, note: Callable[[], str] = str) -> int:
    """Show the host until `ended` gives an exit code or q is typed; `ended` is asked a few times a second. [main]

    `hint`: what to do, in the last line, unless `note` has something to tell.
    """
    return _watch_screen(feed, ended, hint, note) if is_terminal() else _watch_lines(feed, ended, note)


def _watch_screen(feed: Feed, ended: Callable[[], int | None], hint: str, note: Callable[[], str]) -> int:
    color = _color()
    with Screen() as screen:
        while (code := ended()) is None:
            answers = feed.poll()
            width = screen.width
            lines = feed.lines(width, color=color and answers) if feed.stats else []
            if not answers:
                lines = [f"waiting for the host at {feed.endpoint} ..."[:width], *lines[1:]]
            screen.show([*lines, ""], (note() or hint)[:width])
            if screen.wait(REDRAW_S):
                return 0
        return code


def _watch_lines(feed: Feed, ended: Callable[[], int | None], note: Callable[[], str]) -> int:
    due, waiting = time.monotonic(), False
    while (code := ended()) is None:
        if time.monotonic() >= due:
            if feed.poll():
                line = summary(feed.status, feed.stats, feed.before)
                print(f"{line}  {told}" if (told := note()) else line, flush=True)
                due, waiting = time.monotonic() + LINE_S, False
            elif not waiting:
                print("waiting for the host ...", flush=True)
                waiting = True
        time.sleep(LOOK_S)
    return code
