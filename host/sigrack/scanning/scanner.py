"""Tries plugins one after the other, and puts those that do harm into quarantine."""

import contextlib
import json
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sigrack import __version__
from sigrack.errors import ConfigError, EngineError
from sigrack.places import state_folder
from sigrack.quarantine import Quarantine, content_hash
from sigrack.rowfile import RowFile
from sigrack.scanning.targets import Target
from sigrack.wording import printable
from sigrack_engine.keeping import Death, Keeper, KeeperError

__all__ = ["Result", "Scanner"]

PROBE = "sigrack.scanning.probe"
CLOSED = 113  # probe.CLOSED, which is not imported here: it brings numpy
CHUNK = 1 << 16
MOST_REPORT, MOST_PRINTED = 1 << 20, 4000
LINES = 5
"""Of what a plugin printed last."""
MOST_KEPT = 5000
"""Verdicts that are kept."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was found of one file."""

    path: str
    sha256: str
    verdict: str
    """good, no plugin, failed (it is of no use, but does no harm), quarantined."""
    reason: str = ""
    plugin: str = ""
    """Its id, if it told."""
    kind: str = ""
    version: str = ""
    printed: list[str] = field(default_factory=list)
    """The last lines that it printed."""
    cached: bool = False
    """Nothing was loaded: it is known from before."""


class Kept(msgspec.Struct, frozen=True):
    """A verdict on a content that does not change by itself."""

    sha256: str
    host: str
    verdict: str
    reason: str
    plugin: str
    kind: str
    version: str


class _Pipe:
    """The reading end of a pipe from the child; of much, what came last."""

    def __init__(self, most: int) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)
        self.content = b""
        self._most = most

    def take(self) -> bool:
        """Append what is there; False: that is all."""
        try:
            part = os.read(self.read, CHUNK)
        except BlockingIOError:
            return False
        self.content = (self.content + part)[-self._most :]
        return bool(part)


class Scanner:
    """Use it as a context manager: at its end nothing that plugins have started runs on."""

    def __init__(self, limit_s: float = 10.0, memory_mb: int = 2048, *, again: bool = False) -> None:
        """`limit_s`, `memory_mb`: of each plugin; `again`: try also what is known. [any]"""
        self._limit_s, self._memory_mb, self._again = limit_s, memory_mb, again
        self._quarantine = Quarantine.open()
        self._kept = RowFile(state_folder() / "scans.json", Kept)
        self._keeper: Keeper | None = None
        self._begun_s: float | None = None
        self._death: Death | None = None

    def __enter__(self) -> "Scanner":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_keeper()

    def scan(self, targets: list[Target]) -> Iterator[Result]:
        """Give a result for each. Raises EngineError. [worker]"""
        for target in targets:
            try:
                sha256 = content_hash(target.file)
                known = self._known(target, sha256)
                yield known or self._try(target, sha256)
            except ConfigError as error:
                yield Result(printable(str(target.file)), "", "failed", printable(str(error)))

    def _known(self, target: Target, sha256: str) -> Result | None:
        """Return what needs no loading."""
        path = printable(str(target.file))
        if not target.may_be_plugin():
            return Result(path, sha256, "no plugin")
        if self._again:
            return None
        if entry := self._quarantine.find(sha256):
            return Result(path, sha256, "quarantined", entry.reason, entry.plugin, cached=True)
        for row in self._kept.rows():
            if (row.sha256, row.host) == (sha256, __version__):
                return Result(path, sha256, row.verdict, row.reason, row.plugin, row.kind, row.version, cached=True)
        return None

    def _try(self, target: Target, sha256: str) -> Result:
        found = self._run(target)
        if content_hash(target.file) != sha256:
            raise ConfigError(f"{target.file}: was changed while it was tried; scan it again")
        verdict, reason = _judge(found)
        plugin, kind, version = (str(found.get(key, "")) for key in ("plugin", "kind", "version"))
        if verdict == "quarantined":
            reason = self._quarantine.add(target.file, plugin, f"{reason}, in a scan", sha256).reason
        elif entry := self._quarantine.find(sha256):
            verdict, reason = "quarantined", f"{entry.reason}; this time it is {verdict}: {entry.way_out}"
        elif verdict != "failed":  # what it lacks may come
            self._keep(Kept(sha256, __version__, verdict, reason, plugin, kind, version))
        path = printable(str(target.file))
        return Result(path, sha256, verdict, reason, plugin, kind, version, printed=found["printed"])

    def _keep(self, row: Kept) -> None:
        with self._kept.changing() as rows:
            rows[:] = [*(old for old in rows if old.sha256 != row.sha256), row][-MOST_KEPT:]

    def _run(self, target: Target) -> dict[str, Any]:
        """Try a plugin in a child; return what it reported, with `cause`: the harm that it did, and what it printed."""
        report, prints = _Pipe(MOST_REPORT), _Pipe(MOST_PRINTED)
        try:
            death = self._watch(target, report, prints)
        finally:
            for pipe in (report, prints):
                while pipe.take():
                    pass
                os.close(pipe.read)
        lines = [printable(line) for line in prints.content.decode(errors="replace").splitlines()[-LINES:]]
        found: dict[str, Any] = {"phase": "load"}
        try:
            for line in report.content.splitlines():
                found |= {key: printable(value) if isinstance(value, str) else value for key, value in json.loads(line).items()}
        except (ValueError, AttributeError):
            return found | {"cause": f"wrote into its report in {found['phase']}", "printed": lines}
        return found | {"cause": _cause(found, death), "printed": lines}

    def _watch(self, target: Target, report: _Pipe, prints: _Pipe) -> Death:
        """Start the child and read what it says until it has ended. Raises EngineError."""
        self._begun_s = self._death = None
        try:
            keeper = self._started()
            keeper.start(1, f"{PROBE}:main", target.module or str(target.file), (report.write, prints.write), self._memory_mb)
        except KeeperError as error:
            raise EngineError(str(error)) from None
        finally:
            os.close(report.write)
            os.close(prints.write)
        poll = select.poll()
        for descriptor in (keeper.descriptor, report.read, prints.read):
            poll.register(descriptor, select.POLLIN)
        hurried = False
        while not self._death:
            left_s = None if self._begun_s is None or hurried else self._begun_s + self._limit_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                hurried = True
                with contextlib.suppress(KeeperError):  # it takes the child along
                    keeper.kill(1, f"no end within {self._limit_s:g} s")
                continue
            ready = [descriptor for descriptor, _ in poll.poll(None if left_s is None else left_s * 1000)]
            for pipe in (report, prints):
                if pipe.read in ready and not pipe.take():
                    poll.unregister(pipe.read)
            if keeper.descriptor in ready and not keeper.read():
                self._end_keeper()
                if self._begun_s is None:
                    raise EngineError("the keeper of the plugins' processes died at its start; its messages are above")
                self._death = Death(why="ended the process that watched it")
        return self._death

    def _started(self) -> Keeper:
        if self._keeper is None:
            self._keeper = Keeper([PROBE], self._begun, self._ended)
        return self._keeper

    def _begun(self, number: int, pid: int) -> None:
        self._begun_s = time.monotonic()

    def _ended(self, number: int, death: Death) -> None:
        self._death = death

    def _end_keeper(self) -> None:
        if self._keeper:
            self._keeper.close()
            self._keeper = None


def _cause(found: dict[str, Any], death: Death) -> str:
    """Return the harm that was done, or nothing."""
    if death.code == CLOSED:
        return f"closed its report in {found['phase']}"
    if death.text != "exit code 0" or found["phase"] != "exit":
        return f"{death.text} in {found['phase']}"
    return str(found.get("harm") or ("left a process behind" if found.get("left") else ""))


def _judge(found: dict[str, Any]) -> tuple[str, str]:
    """Return verdict and reason."""
    for verdict, key in (("quarantined", "cause"), ("no plugin", "none"), ("failed", "failed")):
        if found.get(key):
            return verdict, str(found[key])
    return "good", str(found.get("note", ""))
