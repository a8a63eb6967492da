"""sigrack check"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sigrack.config import load
from sigrack.drivers import built
from sigrack.ends import check_sink
from sigrack.errors import RackError
from sigrack.headroom import Stage, level, measured
from sigrack.places import check_socket_path, default_endpoint, events_endpoint
from sigrack.wording import rates

__all__ = ["arguments", "run"]


AUDIBLE_DB = 0.1
"""A rack that raises the level by less gets no warning: the ripple of a filter is no gain."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml", nargs="+")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Load and build everything that the racks name; no audio runs. The code is that of the first rack that is wrong.

    That a rack may clip is a warning.
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
                    "{file}: fine: {slots} slots, {signals} signal engines, {shown}, {channels} channels".format(
                        **result, shown=shown
                    )
                )
                print("{file}: level: {levels}".format(**result))
                if result["warning"]:
                    print("sigrack: warning: {file}: {warning}".format(**result), file=sys.stderr)
    return next((result["code"] for result in results if "error" in result), 0)


def _check(path: Path) -> dict[str, Any]:
    try:
        document = load(path)
        check_sink(document)
        if document.config.control.enabled:
            endpoint = document.config.control.endpoint or default_endpoint(document.name)
            check_socket_path(events_endpoint(endpoint))
        with built(document) as rack:
            stages = measured(rack)
            return {
                "file": str(path),
                "slots": len(rack.slots),
                "signals": len(rack.signals),
                "rate_hz": rack.setup.rate_hz,
                "out_rate_hz": rack.out_setup.rate_hz,
                "channels": rack.setup.channels,
                "latency_frames": rack.latency_frames,
                "levels": _levels(stages),
                "level": level(stages)._asdict(),
                "warning": _warning(level(stages).tone_db),
            }
    except RackError as error:
        return {"file": str(path), "error": " ".join(str(error).split("\n")), "code": error.exit_code}


def _levels(stages: list[Stage]) -> str:
    parts = [f"{stage.name} {stage.gains.tone_db:+.1f} dB" for stage in stages]
    found = level(stages)
    return ", ".join([*parts, f"in all {found.tone_db:+.1f} dB for tones, {found.worst_db:+.1f} dB for any sound"])


def _warning(level_db: float) -> str | None:
    """Return what is to be said of a rack that raises full scale so far."""
    if level_db <= AUDIBLE_DB:
        return None
    return f'full scale may come out {level_db:.1f} dB louder, and clip: set limiter = true or headroom = "auto" in [rack]'
