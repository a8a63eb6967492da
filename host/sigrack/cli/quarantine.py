"""sigrack quarantine"""

import argparse
import json
from typing import Any

import msgspec

from sigrack.cli.table import table
from sigrack.errors import ConfigError, nearest
from sigrack.quarantine import Entry, Quarantine

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="list|clear", required=True)
    shown = actions.add_parser("list", help="list what is in quarantine, and why")
    clear = actions.add_parser("clear", help="let plugins out: racks may load them again")
    clear.add_argument("names", metavar="NAME", nargs="*", help="a plugin's id, file, or the beginning of its sha256")
    clear.add_argument("--all", action="store_true", help="let all out")
    for action in (shown, clear):
        action.add_argument("--json", action="store_true", help="print the entries as JSON")


def run(options: argparse.Namespace) -> int:
    """List the quarantine, or let plugins out. No plugin is loaded."""
    quarantine = Quarantine.open()
    entries = list(quarantine.entries()) if options.action == "list" else _clear(quarantine, options)
    if options.json:
        print(json.dumps([_described(entry) for entry in entries]))
    elif options.action == "clear":
        print(f"let out: {', '.join(f'{entry.name} ({entry.path})' for entry in entries) or 'nothing was in quarantine'}")
    elif entries:
        head = ("plugin", "sha256", "since", "times", "reason", "path")
        print(table(head, [(e.name, e.sha256[:12], e.when, e.count, e.reason, e.path) for e in entries]))
        print("\n`sigrack quarantine clear NAME` lets one out.")
    else:
        print("nothing is in quarantine")
    return 0


def _clear(quarantine: Quarantine, options: argparse.Namespace) -> list[Entry]:
    """Raises ConfigError for a name that nothing has; then all stay in."""
    if options.all == bool(options.names):
        raise ConfigError("say which plugins to let out: NAME ..., or --all; see `sigrack quarantine list`")
    if options.all:
        return quarantine.release(None)
    entries = quarantine.entries()
    for name in options.names:
        if not any(entry.is_called(name) for entry in entries):
            raise ConfigError(f'"{name}" is not in quarantine{nearest(name, [entry.name for entry in entries])}')
    return [entry for name in options.names for entry in quarantine.release(name)]


def _described(entry: Entry) -> dict[str, Any]:
    return {"name": entry.name, **msgspec.to_builtins(entry)}
