"""What Linux says about processes, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Facts", "descendants", "facts"]

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Facts:
    """One process at one moment."""

    pid: int
    parent: int
    name: str
    """Its command, without arguments."""
    began: int
    """In clock ticks since the system started: with `pid` it tells one process from all others."""
    uptime_s: float
    cpu_s: float
    """Time that all its threads have had, in user code and in the kernel."""
    memory_bytes: int
    """Resident, shared pages included."""
    zombie: bool


def facts(pid: int) -> Facts | None:
    """Return what is known about a process; None if there is none. [any]"""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        since_boot_s = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):
        return None
    name, _, rest = line.partition("(")[2].rpartition(")")  # a name may hold blanks and brackets
    words = rest.split()
    return Facts(
        pid=pid,
        parent=int(words[1]),
        name=name,
        began=int(words[19]),
        uptime_s=since_boot_s - int(words[19]) * TICK_S,
        cpu_s=(int(words[11]) + int(words[12])) * TICK_S,
        memory_bytes=int(words[21]) * PAGE,
        zombie=words[0] == "Z",
    )


def descendants(pid: int) -> list[Facts]:
    """Return the children of a process and theirs, each behind its parent. [any]"""
    everybody = [found for entry in os.listdir("/proc") if entry.isdecimal() and (found := facts(int(entry)))]

    def below(parent: int) -> list[Facts]:
        children = sorted((found for found in everybody if found.parent == parent), key=lambda found: found.pid)
        return [one for child in children for one in (child, *below(child.pid))]

    return below(pid)
