"""The command line. Each command imports what it needs when it runs."""

import argparse
import logging
import os
import sys
from importlib import import_module
from typing import NoReturn

from sigrack.errors import FORCED, ConfigError, EngineError, RackError, nearest
from sigrack.leftovers import limit_end
from sigrack_engine.errors import CoreError

__all__ = ["main"]

_COMMANDS = {
    "run": "run a rack until it ends or is told to stop",
    "render": "send files through a rack into new files",
    "check": "check a rack's file and everything it names, without running it",
    "list": "list the plugins that a rack can name, and the libraries that a running host has loaded",
    "info": "describe a plugin or a rack",
    "scan": "try plugins in processes of their own, and put those that do harm into quarantine",
    "quarantine": "list the plugins that no rack may load, or let them out",
    "ctl": "send one command to a running rack",
    "save": "write what control has changed into the rack's file",
    "top": "show a running rack: slots, load, levels, drops",
    "design": "design a filter for upsampling, or measure one",
    "soak": "load, swap and unload plugins at random for long, and account for everything",
    "doctor": "tell what this machine can and cannot do",
    "up": "run a rack under supervisord and show it; Ctrl-C ends all of it",
    "ps": "show what runs under supervisord: state, restarts and why, memory, blocks a second",
    "logs": "show the end of a log of what runs under supervisord, or follow it",
    "restart": "restart the host under supervisord",
    "watch": "watch the host for supervisord: count restarts, tell why, end it when it hangs",
}


class _Parser(argparse.ArgumentParser):
    """Ends as everything else does that the user can put right: one line, exit code 101."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    from sigrack import __version__

    parser = _Parser(prog="sigrack", description="A rack for signal plugins that never goes silent.")
    parser.add_argument("--version", action="version", version=f"sigrack {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    if wanted is not None and wanted not in _COMMANDS:
        raise ConfigError(f'unknown command "{wanted}"{nearest(wanted, list(_COMMANDS))}')
    for name, sentence in _COMMANDS.items():
        sub = commands.add_parser(name, help=sentence, description=sentence[0].upper() + sentence[1:] + ".")
        if name == wanted:  # the other commands' modules are not needed to parse this one
            import_module(f"sigrack.cli.{name}").arguments(sub)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 clean, 101 bad input, 102 engine or resource error, 103 forced."""
    if argv is not None:
        sys.argv[1:] = argv
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO, stream=sys.stderr)
    try:
        arguments = _parser().parse_args()
        return int(import_module(f"sigrack.cli.{arguments.command}").run(arguments))
    except RackError as error:
        return _end(error, error.exit_code)
    except CoreError as error:
        return _end(error, EngineError.exit_code)
    except KeyboardInterrupt:
        return FORCED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        if argv is None:
            limit_end()


def _end(error: Exception, code: int) -> int:
    """Print an error as one line, whatever a plugin has put into it."""
    print("sigrack:", " ".join(str(error).split("\n")), file=sys.stderr)
    return code
