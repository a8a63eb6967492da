"""sigrack check"""

import argparse
import json
from pathlib import Path

from sigrack.config import load
from sigrack.drivers import built

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml", nargs="+")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Load and build everything that the racks name; no audio runs."""
    checked = []
    for path in options.rack:
        with built(load(path)) as rack:
            checked.append(
                {
                    "file": str(path),
                    "slots": len(rack.slots),
                    "signals": len(rack.signals),
                    "rate_hz": rack.setup.rate_hz,
                    "channels": rack.setup.channels,
                    "latency_frames": rack.latency_frames,
                }
            )
    if options.json:
        print(json.dumps(checked))
    else:
        for result in checked:
            print("{file}: fine: {slots} slots, {signals} signal engines, {rate_hz} Hz, {channels} channels".format(**result))
    return 0
