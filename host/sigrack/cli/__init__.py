"""The command line. Each command imports what it needs when it runs."""

import argparse
import logging
import os
import sys
from importlib import import_module

from sigrack.errors import FORCED, RackError

__all__ = ["main"]

_COMMANDS = {
    "run": "run a rack until it ends or is told to stop",
    "render": "send a file through a rack into a new file",
    "check": "check a rack's file and everything it names, without running it",
    "list": "list the plugins that a rack can name",
    "info": "describe a plugin or a rack",
    "ctl": "send one command to a running rack",
    "top": "show a running rack: slots, load, levels, drops",
    "doctor": "tell what this machine can and cannot do",
    "up": "run a rack under supervisord and show it; Ctrl-C ends all of it",
}


def _parser() -> argparse.ArgumentParser:
    from sigrack import __version__

    parser = argparse.ArgumentParser(prog="sigrack", description="A rack for signal plugins that never goes silent.")
    parser.add_argument("--version", action="version", version=f"sigrack {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in sys.argv[1:] if word in _COMMANDS), None)
    for name, sentence in _COMMANDS.items():
        sub = commands.add_parser(name, help=sentence, description=sentence[0].upper() + sentence[1:] + ".")
        if name == wanted:  # the other commands' modules are not needed to parse this one
            import_module(f"sigrack.cli.{name}").arguments(sub)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 clean, 101 bad input, 102 engine or resource error, 103 forced."""
    if argv is not None:
        sys.argv[1:] = argv
    arguments = _parser().parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO, stream=sys.stderr)
    try:
        return int(import_module(f"sigrack.cli.{arguments.command}").run(arguments))
    except RackError as error:
        print(f"sigrack: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return FORCED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
