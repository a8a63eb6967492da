"""sigrack list"""

import argparse
import json
from pathlib import Path
from typing import Any

from sigrack.cli.find import find_endpoint, running
from sigrack.cli.table import table
from sigrack.control.client import Client
from sigrack.loading import load_plugin
from sigrack_plugins import bundled

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--rack", type=Path, metavar="RACK.toml", help="whose libraries to list; by default those of every host")
    parser.add_argument("--endpoint", help="its control endpoint, if it is not the default one")
    parser.add_argument("--json", action="store_true", help="print the lists as JSON")


def run(options: argparse.Namespace) -> int:
    """List the bundled plugins, and the libraries in the hosts that run."""
    plugins = [load_plugin(path) for path in bundled().values()]
    libraries = [row for endpoint in _endpoints(options) for row in _libraries(endpoint)]
    if options.json:
        rows = [{"plugin": p.id, "kind": p.kind, "version": p.version, "description": p.description} for p in plugins]
        print(json.dumps({"plugins": rows, "libraries": libraries}))
        return 0
    print(table(("plugin", "kind", "description"), [(p.id, p.kind, p.description) for p in plugins]))
    print("\nA rack may also name a .so or .py file by its path. `sigrack info PLUGIN` tells more.")
    if libraries:
        head = ("host", "library", "sha256", "users", "state", "why")
        print("\n" + table(head, [[row[name] for name in ("host", "path", *head[2:])] for row in libraries]))
    return 0


def _endpoints(options: argparse.Namespace) -> list[str]:
    if options.rack or options.endpoint:
        return [find_endpoint(options.rack, options.endpoint)]
    return [f"ipc://{path}" for path in running()]


def _libraries(endpoint: str) -> list[dict[str, Any]]:
    with Client(endpoint) as client:
        rows = client.request("LIST")["data"]["libraries"]
    return [{"host": endpoint, **row} for row in rows]
