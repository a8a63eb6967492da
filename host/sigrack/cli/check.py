"""sigrack check"""

import argparse
import json
from pathlib import Path

from sigrack.config import load
from sigrack.drivers import open_source
from sigrack.rack import Rack
from sigrack_plugins import Setup

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml", nargs="+")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Load and build everything that the racks name, run nothing, write nothing."""
    checked = []
    for path in options.rack:
        document = load(path)
        reader = open_source(document)
        try:
            rack = Rack(document, Setup(reader.rate_hz, reader.channels))
            checked.append(
                {
                    "file": str(path),
                    "slots": len(rack.slots),
                    "signals": len(rack.signals),
                    "rate_hz": reader.rate_hz,
                    "channels": reader.channels,
                    "latency_frames": rack.latency_frames,
                }
            )
            rack.close()
        finally:
            reader.close()
    if options.json:
        print(json.dumps(checked))
    else:
        for result in checked:
            print("{file}: fine: {slots} slots, {signals} signal engines, {rate_hz} Hz, {channels} channels".format(**result))
    return 0
