"""sigrack run"""

import argparse
import os
from pathlib import Path

__all__ = ["add_input", "arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml")
    add_input(parser)
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="start as the file says; what was changed before stays kept, what is changed now is not",
    )


def add_input(parser: argparse.ArgumentParser) -> None:
    """Declare --input."""
    # The environment is the way through supervisord, whose commands have no optional arguments.
    given = os.environ.get("SIGRACK_INPUT")
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        default=Path(given) if given else None,
        help="play this file instead of the rack's (default: $SIGRACK_INPUT)",
    )


def run(options: argparse.Namespace) -> int:
    """Run a rack in the foreground."""
    # Before NumPy comes: OpenBLAS's threads spin, at the start and after each product, on the cores that the engine needs.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from sigrack.session import run_rack

    return run_rack(options.rack, options.input, fresh=options.fresh)
