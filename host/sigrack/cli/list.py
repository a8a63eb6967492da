"""sigrack list"""

import argparse
import json

from sigrack.cli.table import table
from sigrack.loading import load_plugin
from sigrack_plugins import bundled

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run(options: argparse.Namespace) -> int:
    """List the bundled plugins."""
    plugins = [load_plugin(path) for path in bundled().values()]
    if options.json:
        rows = [{"plugin": p.id, "kind": p.kind, "version": p.version, "description": p.description} for p in plugins]
        print(json.dumps(rows))
        return 0
    print(table(("plugin", "kind", "description"), [(p.id, p.kind, p.description) for p in plugins]))
    print("\nA rack may also name a .so or .py file by its path. `sigrack info PLUGIN` tells more.")
    return 0
