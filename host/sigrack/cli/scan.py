"""sigrack scan"""

import argparse
import json
from collections import Counter
from dataclasses import asdict

from sigrack.errors import ConfigError
from sigrack.scanning import Result, Scanner, find_targets

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="*", help="plugins, or folders with plugins; by default the bundled ones")
    parser.add_argument("--limit", type=float, default=10.0, metavar="S", help="how long one plugin may take (10 s)")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="how much memory one plugin may take (2048 MiB)")
    parser.add_argument("--again", action="store_true", help="try also what is known from an earlier scan, or is in quarantine")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(options: argparse.Namespace) -> int:
    """Try plugins; exit code 1 if one failed or is in quarantine."""
    if not options.limit > 0 or options.memory < 1:
        raise ConfigError("--limit and --memory must be above 0")
    results = []
    with Scanner(options.limit, options.memory, again=options.again) as scanner:
        for result in scanner.scan(find_targets(options.paths)):
            results.append(result)
            if not options.json:
                _show(result)
    if options.json:
        print(json.dumps([asdict(result) for result in results]))
    else:
        counts = Counter(result.verdict for result in results)
        print(f"\n{len(results)} scanned: {', '.join(f'{count} {verdict}' for verdict, count in counts.items()) or 'no plugins'}")
    return 1 if any(result.verdict in ("failed", "quarantined") for result in results) else 0


def _show(result: Result) -> None:
    name = f"{result.plugin} {result.version}".strip()
    reason = f": {result.reason}" if result.reason else ""
    known = " (known)" if result.cached else ""
    print(f"{result.verdict:<11}  {name:<18}  {result.path}{reason}{known}", flush=True)
    for line in result.printed if result.verdict in ("failed", "quarantined") else ():
        print(f"{'':13}| {line}", flush=True)
