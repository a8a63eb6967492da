"""sigrack list"""

import argparse
import json
from pathlib import Path
from typing import Any

from sigrack.cli.find import find_endpoint, running
from sigrack.cli.table import table
from sigrack.control.client import Client
from sigrack.loading import load_plugin
from sigrack.quarantine import QuarantinedError
from sigrack_plugins import bundled

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--rack", type=Path, metavar="RACK.toml", help="whose libraries to list; by default those of every host")
    parser.add_argument("--endpoint", help="its control endpoint, if it is not the default one")
    parser.add_argument("--json", action="store_true", help="print the lists as JSON")


def run(options: argparse.Namespace) -> int:
    """List the bundled plugins, and the libraries in the hosts that run."""
    plugins = [_plugin(name, path) for name, path in bundled().items()]
    libraries = [row for endpoint in _endpoints(options) for row in _libraries(endpoint)]
    if options.json:
        print(json.dumps({"plugins": plugins, "libraries": libraries}))
        return 0
    head = ("plugin", "kind", "description")
    print(table(head, [[p["quarantined"] or p[name] if name == "description" else p[name] for name in head] for p in plugins]))
    print("\nA rack may also name a .so or .py file by its path. `sigrack info PLUGIN` tells more.")
    if libraries:
        columns = ("host", "library", "sha256", "users", "state", "why")
        print("\n" + table(columns, [[row[name] for name in ("host", "path", *columns[2:])] for row in libraries]))
    return 0


def _plugin(name: str, path: Path) -> dict[str, Any]:
    """Describe a plugin; one in quarantine without loading it."""
    try:
        plugin = load_plugin(path)
    except QuarantinedError as error:
        kind = "native" if path.suffix == ".so" else "python"
        said = f"in quarantine: {error.entry.reason}; {error.entry.way_out}"
        return {"plugin": name, "kind": kind, "version": "", "description": "", "quarantined": said}
    named = {"plugin": plugin.id, "kind": plugin.kind, "version": plugin.version}
    return {**named, "description": plugin.description, "quarantined": ""}


def _endpoints(options: argparse.Namespace) -> list[str]:
    if options.rack or options.endpoint:
        return [find_endpoint(options.rack, options.endpoint)]
    return [f"ipc://{path}" for path in running()]


def _libraries(endpoint: str) -> list[dict[str, Any]]:
    with Client(endpoint) as client:
        rows = client.request("LIST")["data"]["libraries"]
    return [{"host": endpoint, **row} for row in rows]
