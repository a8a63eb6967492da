"""sigrack ps"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from sigrack.cli.table import table
from sigrack.custody import Book, book_path
from sigrack.kept import peek
from sigrack.oversight.ledger import LEDGER, Ledger
from sigrack.oversight.processes import Facts, descendants, facts
from sigrack.oversight.pulse import record_of
from sigrack.oversight.remote import find_remote
from sigrack_engine.crash import READY, Beats, read_beats

__all__ = ["add_folder", "arguments", "run"]

BETWEEN_S = 0.5
"""Between the two looks that processor time and blocks a second come from."""
HEAD = ("name", "pid", "state", "restarts", "uptime", "cpu %", "memory MB", "blocks/s", "last reason")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_folder(parser)
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Declare --folder."""
    parser.add_argument(
        "--folder", type=Path, metavar="FOLDER", default=Path("run"), help="what `sigrack up` uses (default: run)"
    )


def run(options: argparse.Namespace) -> int:
    """Print what runs."""
    rows = _rows(options.folder)
    if options.json:
        print(json.dumps(rows))
    else:
        cells = [line for row in rows for line in (_cells(row), *(_cells(child, "  ") for child in row["children"]))]
        print(table(HEAD, cells))
    return 0


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each program of supervisord's, each followed by its children. Raises EngineError."""
    programs = find_remote(folder).call("getAllProcessInfo")
    ledger = peek(folder / LEDGER, Ledger)
    before = {
        pid: (found, _beats(ledger, pid)) for program in programs for pid in _family(program["pid"]) if (found := facts(pid))
    }
    time.sleep(BETWEEN_S)
    rows = []
    for program in programs:
        row = _row(program["pid"], program["name"], before, ledger) | {"state": program["statename"].lower()}
        if program["name"] == ledger.program:
            row |= _host(program, ledger)
        row["children"] = [_row(pid, None, before, ledger) for pid in _family(program["pid"])[1:]]
        rows.append(row)
    return rows


def _family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in descendants(pid))] if pid else []


def _beats(ledger: Ledger, pid: int) -> Beats | None:
    record = record_of(ledger.rack, pid) if ledger.rack else None
    return read_beats(record) if record else None


def _row(pid: int, name: str | None, before: dict[int, tuple[Facts, Beats | None]], ledger: Ledger) -> dict[str, Any]:
    """Return what is known of one process, `name` or its command. What has not lived for two looks has no rates."""
    row: dict[str, Any] = dict.fromkeys(("restarts", "uptime_s", "cpu_percent", "memory_mb", "blocks_per_s", "reason"))
    now = facts(pid) if pid else None
    row |= {"name": name or (now.name if now else "?"), "pid": pid or None, "state": ""}
    if now is None or pid not in before:
        return row
    first, first_beats = before[pid]
    spent_s = now.uptime_s - first.uptime_s
    row |= {
        "uptime_s": round(now.uptime_s, 1),
        "cpu_percent": round(100 * (now.cpu_s - first.cpu_s) / spent_s, 1) if spent_s > 0 else None,
        "memory_mb": round(now.memory_bytes / 2**20, 1),
    }
    if first_beats and (beats := _beats(ledger, pid)) and spent_s > 0:
        row["blocks_per_s"] = round((beats.blocks - first_beats.blocks) / spent_s, 1)
    return row


def _host(program: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """Return what only the watch knows, and whether the host is ready."""
    facts_of: dict[str, Any] = {"restarts": ledger.restarts, "reason": ledger.last.text if ledger.last else None}
    beats = _beats(ledger, program["pid"])
    if beats:  # supervisord only knows for how long the process lives
        facts_of["state"] = f"running{_custody(ledger.rack)}" if beats.due & READY else "loading"
    if ledger.pause_until_unix_s > time.time():
        facts_of["state"] = f"waiting {ledger.pause_until_unix_s - time.time():.0f} s"
    return facts_of


def _custody(rack: str) -> str:
    """Return what to add to the state of a host that does not run everything."""
    book = peek(book_path(rack), Book)
    if book.safe_mode:
        return ", safe mode"
    return f", holds back {', '.join(book.held)}" if book.held else ""


def _cells(row: dict[str, Any], indent: str = "") -> list[str]:
    uptime = _clock(row["uptime_s"]) if row["uptime_s"] is not None else "-"
    cells = [row["pid"], row["state"], row["restarts"], uptime, row["cpu_percent"], row["memory_mb"], row["blocks_per_s"]]
    return [indent + row["name"], *("-" if cell is None else str(cell) for cell in cells), row["reason"] or ""]


def _clock(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{whole:02}"
