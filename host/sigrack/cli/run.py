"""sigrack run"""

import argparse
from pathlib import Path

from sigrack.session import run_rack

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml")


def run(options: argparse.Namespace) -> int:
    """Run a rack in the foreground."""
    return run_rack(options.rack)
