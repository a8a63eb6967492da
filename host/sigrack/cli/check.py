"""sigrack check"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sigrack.backends import uncovered
from sigrack.cli.levels import clipping, levels, levels_words
from sigrack.config import load
from sigrack.drivers import built
from sigrack.ends import check_sink
from sigrack.errors import RackError
from sigrack.places import check_socket_path, default_endpoint, events_endpoint
from sigrack.wording import bus, rates

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml", nargs="+")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Load and build everything that the racks name; no audio runs. The code is that of the first rack that is wrong.

    That a rack may clip, or be silent when a GPU fails, is a warning.
    """
    results = [_check(path) for path in options.rack]
    if options.json:
        print(json.dumps(results))
    else:
        for result in results:
            if "error" in result:
                print(f"sigrack: {result['error']}", file=sys.stderr)
            else:
                shown = rates(result["rate_hz"], result["out_rate_hz"])
                print(
                    "{file}: fine: {slots} slots, {signals} signal engines, {shown}, ".format(**result, shown=shown)
                    + bus(**result["bus"])
                )
                print(f"{result['file']}: level: {levels_words(result)}")
                for warning in result["warnings"]:
                    print(f"sigrack: warning: {result['file']}: {warning}", file=sys.stderr)
    return next((result["code"] for result in results if "error" in result), 0)


def _check(path: Path) -> dict[str, Any]:
    try:
        document = load(path)
        check_sink(document)
        if document.config.control.enabled:
            endpoint = document.config.control.endpoint or default_endpoint(document.name)
            check_socket_path(events_endpoint(endpoint))
        with built(document) as rack:
            described = levels(rack)
            return {
                "file": str(path),
                "slots": len(rack.slots),
                "signals": len(rack.signals),
                "rate_hz": rack.setup.rate_hz,
                "out_rate_hz": rack.out_setup.rate_hz,
                "channels": len(rack.bus.channels),
                "bus": {"channels": rack.bus.channels, "out": rack.bus.out},
                "latency_frames": rack.latency_frames,
                **described,
                "warnings": [*clipping(described), *uncovered(rack)],
            }
    except RackError as error:
        return {"file": str(path), "error": " ".join(str(error).split("\n")), "code": error.exit_code}
