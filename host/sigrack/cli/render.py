"""sigrack render"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sigrack.rendering import render

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml")
    parser.add_argument("input", type=Path, metavar="IN", help="any file that libsndfile reads")
    parser.add_argument("output", type=Path, metavar="OUT", help=".wav, .flac, .w64, .aiff, ...")
    parser.add_argument("--samples", choices=["float32", "int16", "int24", "int32"], help="default: float32 (FLAC: int24)")
    parser.add_argument("--backend", choices=["cpu", "cuda", "auto"], help="where filters run; default: as the rack says")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


class _Bar:
    """A progress bar with the real-time factor and the time that is left."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, frames: int, total: int, rate_hz: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            layout = "{percentage:3.0f}% |{bar}| {desc}, {remaining} left"
            self._bar = tqdm(total=total, bar_format=layout, leave=False, dynamic_ncols=True, file=sys.stderr)
        self._bar.update(frames)
        elapsed = self._bar.format_dict["elapsed"] or 1e-9
        self._bar.set_description_str(f"{self._bar.n / rate_hz / elapsed:.1f}x real time", refresh=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def run(options: argparse.Namespace) -> int:
    """Render a file."""
    bar = None if options.quiet or not sys.stderr.isatty() else _Bar()
    try:
        result = render(
            options.rack,
            options.input,
            options.output,
            overwrite=options.overwrite,
            samples=options.samples,
            backend=options.backend,
            progress=bar,
        )
    finally:
        if bar:
            bar.close()
    seconds = result.frames / result.rate_hz
    if options.json:
        print(
            json.dumps(
                {
                    "output": str(options.output),
                    "frames": result.frames,
                    "rate_hz": result.rate_hz,
                    "elapsed_s": result.elapsed_s,
                    "real_time_factor": result.real_time_factor,
                }
            )
        )
    elif not options.quiet:
        print(
            f"{options.output}: {seconds:.2f} s of sound in {result.elapsed_s:.2f} s ({result.real_time_factor:.0f}x real time)"
        )
    return 0
