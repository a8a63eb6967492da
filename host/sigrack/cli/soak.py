"""sigrack soak"""

import argparse
import json
import logging
import random

from sigrack.cli.table import table
from sigrack.soak.lifetimes import Verdict, soak

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--kind", choices=["lifetimes"], default="lifetimes", help="what to try (default: lifetimes)")
    parser.add_argument("--ops", type=int, default=100_000, metavar="N", help="how many operations (default: 100000)")
    parser.add_argument("--seed", type=int, help="which ones; by default another each time")
    parser.add_argument("--no-bury", action="store_true", help="give memory back at once (for AddressSanitizer)")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")


def run(options: argparse.Namespace) -> int:
    """Run a soak; the exit code is 0 only if nothing was wrong, else 1."""
    from tqdm import tqdm

    seed = random.randrange(2**31) if options.seed is None else options.seed
    logging.getLogger("sigrack").setLevel(logging.ERROR)
    with tqdm(total=options.ops, unit="op", disable=None) as bar:
        verdict = soak(options.ops, seed, bury=not options.no_bury, progress=bar.update)
    _show(verdict)
    if options.json:
        print(json.dumps(verdict.as_dict()))
    return 1 if verdict.faults else 0


def _show(verdict: Verdict) -> None:
    rows = [(name, str(value)) for name, value in verdict.as_dict().items() if name != "faults"]
    print(table(("lifetimes", ""), rows))
    print("\n" + ("; ".join(verdict.faults) if verdict.faults else "nothing was wrong"))
