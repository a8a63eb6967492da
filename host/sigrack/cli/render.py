"""sigrack render"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from sigrack.errors import CLEAN, ConfigError, RackError
from sigrack.leftovers import end_with_host
from sigrack.rendering import RenderResult, render, render_files

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [options] RACK.toml IN OUT\n       %(prog)s [options] RACK.toml FILE... -o FOLDER"
    parser.add_argument("rack", type=Path, metavar="RACK.toml")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="IN and OUT; or, with -o, files to render")
    parser.add_argument(
        "-o", "--into", type=Path, metavar="FOLDER", help="where FILE... go, each under its name; made if need be"
    )
    parser.add_argument("--type", choices=["wav", "flac", "w64", "aiff"], help="what they become there; default: wav")
    parser.add_argument("--samples", choices=["float32", "int16", "int24", "int32"], help="default: float32 (FLAC: int24)")
    parser.add_argument("--backend", choices=["cpu", "cuda", "auto"], help="where filters run; default: as the rack says")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


class _Bar:
    """A progress bar with the real-time factor and the time that is left."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, seconds: float, total: float) -> None:
        from tqdm import tqdm

        if self._bar is None:
            layout = "{percentage:3.0f}% |{bar}| {desc}, {remaining} left"
            self._bar = tqdm(total=total, bar_format=layout, leave=False, dynamic_ncols=True, file=sys.stderr)
        self._bar.update(seconds)
        elapsed = self._bar.format_dict["elapsed"] or 1e-9
        self._bar.set_description_str(f"{self._bar.n / elapsed:.1f}x real time", refresh=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def run(options: argparse.Namespace) -> int:
    """Render a file, or many into a folder."""
    if options.into is None and len(options.files) != 2:
        raise ConfigError("give IN and OUT, or FILE... and -o FOLDER; see `sigrack render --help`")
    if options.into is None and options.type:
        raise ConfigError("--type is for -o FOLDER: OUT's extension tells its type")
    end_with_host()
    bar = None if options.quiet or not sys.stderr.isatty() else _Bar()
    try:
        return _one(options, bar) if options.into is None else _many(options, bar)
    finally:
        if bar:
            bar.close()


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("overwrite", "samples", "backend")}


def _one(options: argparse.Namespace, bar: _Bar | None) -> int:
    source, target = options.files
    progress = (lambda frames, total, rate_hz: bar(frames / rate_hz, total / rate_hz)) if bar else None
    result = render(options.rack, source, target, **_chosen(options), progress=progress)
    if bar:
        bar.close()
    if options.json:
        print(json.dumps(_facts(target, result)))
    elif not options.quiet:
        _tell(str(target), result.frames / result.rate_hz, result.elapsed_s)
    return CLEAN


def _many(options: argparse.Namespace, bar: _Bar | None) -> int:
    folder: Path = options.into
    try:
        folder.mkdir(exist_ok=True)
    except OSError as why:
        raise ConfigError(f"{folder}: {why.strerror}") from None
    targets = [folder / f"{source.stem}.{options.type or 'wav'}" for source in options.files]
    begun = time.perf_counter()
    results = render_files(options.rack, list(zip(options.files, targets, strict=True)), **_chosen(options), progress=bar)
    elapsed_s = time.perf_counter() - begun
    if bar:
        bar.close()
    errors = [result for result in results if isinstance(result, RackError)]
    seconds = sum(result.frames / result.rate_hz for result in results if isinstance(result, RenderResult))
    if options.json:
        told = [
            {"input": str(source)} | ({"error": str(result)} if isinstance(result, RackError) else _facts(target, result))
            for source, target, result in zip(options.files, targets, results, strict=True)
        ]
        print(json.dumps({"files": told, "elapsed_s": elapsed_s, "real_time_factor": seconds / elapsed_s}))
    elif not options.quiet:
        made = len(results) - len(errors)
        _tell(f"{folder}: {made} {'file' if made == 1 else 'files'}", seconds, elapsed_s)
    for failed in errors:
        print("sigrack:", " ".join(str(failed).split("\n")), file=sys.stderr)
    return max((failed.exit_code for failed in errors), default=CLEAN)


def _facts(target: Path, result: RenderResult) -> dict[str, Any]:
    return {
        "output": str(target),
        "frames": result.frames,
        "rate_hz": result.rate_hz,
        "elapsed_s": result.elapsed_s,
        "real_time_factor": result.real_time_factor,
    }


def _tell(what: str, seconds: float, elapsed_s: float) -> None:
    print(f"{what}: {seconds:.2f} s of sound in {elapsed_s:.2f} s ({seconds / elapsed_s:.0f}x real time)")
