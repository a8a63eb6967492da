"""sigrack design"""

import argparse
import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Any

from sigrack.cli.table import table
from sigrack.designing import design
from sigrack.errors import ConfigError
from sigrack_engine.design import DesignError, Filter, misses, read, save
from sigrack_engine.design.picture import check_picture, draw
from sigrack_engine.design.specification import PHASES, RATIOS
from sigrack_engine.design.taps_file import check_target

__all__ = ["arguments", "run"]

log = logging.getLogger("sigrack")

_ASKED = ("input_rate_hz", "ratio", "phase", "taps", "pass_edge_hz", "stop_edge_hz", "attenuation_db", "ripple_db")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--rate", dest="input_rate_hz", type=int, metavar="HZ", help="input rate; default: 44100")
    parser.add_argument("--ratio", type=int, choices=RATIOS, help="default: 16")
    parser.add_argument("--phase", choices=PHASES, help="default: minimum")
    parser.add_argument("--taps", type=int, metavar="N", help="default: 40000 per phase, so 640000 at x16")
    pass_help = "flat up to here; default: as near to the stop band as the taps allow"
    parser.add_argument("--pass-edge", dest="pass_edge_hz", type=float, metavar="HZ", help=pass_help)
    stop_help = "attenuated from here; default: half the input rate"
    parser.add_argument("--stop-edge", dest="stop_edge_hz", type=float, metavar="HZ", help=stop_help)
    parser.add_argument("--attenuation", dest="attenuation_db", type=float, metavar="DB", help="default: 140")
    parser.add_argument("--ripple", dest="ripple_db", type=float, metavar="DB", help="default: 0.01")
    parser.add_argument("--check", type=Path, metavar="FILE", help="measure this file instead, against its own specification")
    output_help = ".wav, .npz or .bin (raw float32), with a .json beside it"
    parser.add_argument("--output", type=Path, metavar="FILE", help=output_help)
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw magnitude, impulse and group delay")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Design a filter or measure one; write what is asked for, and tell what it does."""
    asked = {name: value for name in _ASKED if (value := getattr(options, name)) is not None}
    try:
        _check(options, asked)
        begun, steps = time.perf_counter(), _Steps()
        made = read(options.check) if options.check else design(**asked, progress=steps)
        seconds = time.perf_counter() - begun
        if options.output:
            save(made, options.output, overwrite=options.overwrite)
        if options.picture:
            logging.getLogger("matplotlib").setLevel(logging.WARNING)
            draw(made, options.picture)
    except DesignError as error:
        raise ConfigError(str(error)) from None
    how = "measured" if options.check else "designed" if steps.taken else "from the cache"
    if options.json:
        print(json.dumps(_told(made) | {"how": how, "seconds": seconds}))
    else:
        print(f"{table(('', 'asked', 'measured'), _rows(made))}\n\n{how} in {seconds:.1f} s")
    if missed := misses(made.measured, made.specification):
        raise ConfigError(f"{options.check}: refused: {'; '.join(missed)}")
    return 0


class _Steps:
    """Tells what begins; a design may take half a minute."""

    taken = 0

    def __call__(self, step: str) -> None:
        self.taken += 1
        log.info("design: %s", step)


def _check(options: argparse.Namespace, asked: dict[str, Any]) -> None:
    """Find what would fail at the end. Raises ConfigError, DesignError."""
    if options.check and (asked or options.output):
        raise ConfigError("--check measures a file as it is: give --picture and --json with it, nothing else")
    if options.output:
        check_target(options.output, overwrite=options.overwrite)
    if options.picture:
        check_picture(options.picture, overwrite=options.overwrite)


def _told(made: Filter) -> dict[str, Any]:
    return {"specification": dataclasses.asdict(made.specification), "measured": dataclasses.asdict(made.measured)}


def _rows(made: Filter) -> list[tuple[str, str, str]]:
    asked, found = made.specification, made.measured
    peak_ms = 1000.0 * found.peak_index / asked.output_rate_hz
    stop = (
        f"-{asked.attenuation_db:g} dB from {asked.stop_edge_hz:.6g} Hz",
        f"{found.stop_db:.2f} dB at {found.stop_worst_hz:.2f} Hz",
    )
    return [
        ("rates", f"{asked.input_rate_hz} Hz x{asked.ratio}", f"{asked.output_rate_hz} Hz"),
        ("taps", f"{asked.taps}", f"{int((made.taps != 0.0).sum())} used"),
        ("stop band, worst", *(("nothing", "") if asked.passes_all else stop)),
        ("pass band, worst", f"{asked.ripple_db:g} dB to {asked.pass_edge_hz:.2f} Hz", f"{found.ripple_db:.2g} dB"),
        ("-6 dB point", "", f"{found.half_hz:.2f} Hz"),
        ("gain at 0 Hz", f"{asked.dc_gain:g}", f"{found.dc_gain:.7g}"),
        ("each phase's sum", f"{asked.gain:g}", f"within {found.branch_error:.1g}"),
        ("phase", asked.phase, f"{found.phase_error_db:.0f} dB away from it"),
        ("largest tap", "", f"{found.peak_index} ({peak_ms:.2f} ms)"),
    ]
