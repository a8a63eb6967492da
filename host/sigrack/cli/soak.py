"""sigrack soak"""

import argparse
import json
import logging
import random
import time
from pathlib import Path
from typing import Any

from sigrack.cli.table import table
from sigrack.errors import ConfigError
from sigrack.soak.report import Chart, write

__all__ = ["arguments", "run"]

KILLS, FAULTS, CRASHES = 100, 100, 18
ROUND_S = 600.0
"""How long `all` lets one kind run before the next has its turn."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--kind",
        choices=["lifetimes", "faults", "incident", "restarts", "all"],
        default="lifetimes",
        help="lifetimes (default): plugins come and go; faults: processors do everything that is bad while music plays; "
        "incident: one crashes 18 times a minute; restarts: the host is killed while a client changes its rack; "
        "all: lifetimes, faults and restarts in turn",
    )
    parser.add_argument("--ops", type=int, default=100_000, metavar="N", help="lifetimes: how many operations (default: 100000)")
    parser.add_argument("--kills", type=int, metavar="N", help=f"restarts: how many (default: {KILLS})")
    parser.add_argument("--faults", type=int, metavar="N", help=f"faults, incident: how many (default: {FAULTS}, {CRASHES})")
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="faults, restarts, all: for how long, in place of how many or at most"
    )
    parser.add_argument("--supervised", action="store_true", help="restarts: let supervisord start the host again")
    parser.add_argument("--seed", type=int, help="which ones; by default another each time")
    parser.add_argument("--no-bury", action="store_true", help="lifetimes: give memory back at once (for AddressSanitizer)")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with plots")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")


def run(options: argparse.Namespace) -> int:
    """Run a soak; the exit code is 0 only if nothing was wrong, else 1."""
    for name in ("ops", "kills", "faults", "seconds"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise ConfigError(f"--{name} {value:g} is no number above 0")
    seed = random.randrange(2**31) if options.seed is None else options.seed
    logging.getLogger("sigrack").setLevel(logging.CRITICAL if options.kind in ("faults", "incident") else logging.ERROR)
    kinds = {"lifetimes": _lifetimes, "faults": _faults, "incident": _incident, "restarts": _restarts, "all": _all}
    verdict, charts = kinds[options.kind](options, seed)
    faults = verdict["faults"]
    rows = [(name, str(value)) for name, value in verdict.items() if name != "faults"]
    print(table((options.kind, f"seed {seed}"), rows))
    print("\n" + ("; ".join(faults) if faults else "nothing was wrong"))
    if options.report:
        write(options.report, f"sigrack soak --kind {options.kind}, seed {seed}", rows, faults, charts)
    if options.json:
        print(json.dumps(verdict))
    return 1 if faults else 0


def _count(count: int | None, seconds: float | None, default: int) -> int | None:
    """Return how many at most; None: as many as there is time for."""
    return default if count is None and seconds is None else count


def _lifetimes(options: argparse.Namespace, seed: int) -> tuple[dict[str, Any], list[Chart]]:
    from tqdm import tqdm

    from sigrack.soak.lifetimes import soak

    with tqdm(total=options.ops, unit="op", disable=None) as bar:
        return soak(options.ops, seed, bury=not options.no_bury, progress=bar.update).as_dict(), []


def _faults(options: argparse.Namespace, seed: int) -> tuple[dict[str, Any], list[Chart]]:
    from tqdm import tqdm

    from sigrack.soak.faults import soak

    faults = _count(options.faults, options.seconds, FAULTS)
    with tqdm(total=faults, unit="fault", disable=None) as bar:
        verdict = soak(faults, seed, options.seconds, bar.update)
    return verdict.as_dict(), verdict.charts


def _incident(options: argparse.Namespace, _: int) -> tuple[dict[str, Any], list[Chart]]:
    from tqdm import tqdm

    from sigrack.soak.faults import incident

    crashes = CRASHES if options.faults is None else options.faults
    with tqdm(unit="crash", disable=None) as bar:
        verdict = incident(crashes, bar.update)
    return verdict.as_dict(), verdict.charts


def _restarts(options: argparse.Namespace, seed: int) -> tuple[dict[str, Any], list[Chart]]:
    from tqdm import tqdm

    from sigrack.soak.restarts import soak

    kills = _count(options.kills, options.seconds, KILLS)
    with tqdm(total=kills, unit="kill", disable=None) as bar:
        verdict = soak(kills, seed, options.seconds, bar.update, supervised=options.supervised)
    return verdict.as_dict(), verdict.charts


def _all(options: argparse.Namespace, seed: int) -> tuple[dict[str, Any], list[Chart]]:
    """Run the kinds in turn until the time is over, once without a time; the first that is wrong ends it."""
    seconds = 0.0 if options.seconds is None else options.seconds
    until, rounds = time.monotonic() + seconds, 0
    last: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    charts: list[Chart] = []
    while not faults and (rounds == 0 or time.monotonic() < until):
        for kind, run_kind in (("lifetimes", _lifetimes), ("faults", _faults), ("restarts", _restarts)):
            own = argparse.Namespace(**vars(options) | {"seconds": min(ROUND_S, seconds / 2) if seconds else None})
            last[f"last_{kind}"], drawn = run_kind(own, seed + rounds)
            charts = [*(chart for chart in charts if chart.title not in {new.title for new in drawn}), *drawn]
            faults += [f"{kind}, seed {seed + rounds}: {fault}" for fault in last[f"last_{kind}"]["faults"]]
            if faults:
                break
        rounds += 1
    return {"rounds": rounds, **last, "faults": faults}, charts
