"""Plugins that have done harm, and are loaded by no rack of this user until a person lets them out.

What is in quarantine is a content: the file may be renamed or copied, and one that was built anew is another plugin. Nothing here
loads or asks a plugin.
"""

import hashlib
import logging
import os
import shlex
import time
from pathlib import Path

import msgspec

from sigrack.errors import ConfigError, EngineError
from sigrack.places import state_folder
from sigrack.rowfile import RowFile
from sigrack.wording import printable

__all__ = ["Entry", "Quarantine", "QuarantinedError", "admit", "content_hash", "ignore"]

log = logging.getLogger("sigrack")

SHORTEST_HASH = 8
"""Digits of a hash that may stand for it."""
_hashes: dict[str, tuple[tuple[int, int, int], str]] = {}
"""Of files, as they were."""
_ignored = False


class Entry(msgspec.Struct, frozen=True):
    """One content, and what it has done."""

    sha256: str
    plugin: str
    """Its id; empty if it never came to tell."""
    path: str
    """Where it was last."""
    reason: str
    """As "SIGSEGV in process", "6 crashes in 60 s"."""
    when_unix_s: float
    """The last time."""
    count: int = 1
    """How often it came in without being let out."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.plugin or Path(self.path).stem

    @property
    def when(self) -> str:
        """The last time, in the zone of who reads it."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.when_unix_s))

    @property
    def way_out(self) -> str:
        """What to do about it, to end a message with."""
        return f"`sigrack quarantine clear {shlex.quote(self.name)}` lets it out"

    def is_called(self, text: str) -> bool:
        """Whether a person may mean it by `text`: its id, its file with or without ending, a path, the beginning of its hash."""
        path = Path(self.path)
        names = (self.plugin, path.stem, path.name, self.path)
        return text in names or os.path.abspath(text) == self.path or self._has_hash(text)

    def _has_hash(self, text: str) -> bool:
        return len(text) >= SHORTEST_HASH and self.sha256.startswith(text)


class QuarantinedError(ConfigError):
    """A plugin that is in quarantine was to be loaded."""

    def __init__(self, path: Path | str, entry: Entry, where: str = "") -> None:
        """`where`: file and line that name it."""
        text = f"{entry.name} has been in quarantine since {entry.when}: {entry.reason}; {entry.way_out}"
        super().__init__(f"{where}{path}: {text}")
        self.path, self.entry = path, entry

    def placed(self, where: str) -> "QuarantinedError":
        """Return the same with the place in front that names the plugin."""
        return QuarantinedError(self.path, self.entry, where)


class Quarantine:
    """The user's list. Several hosts may change it at once."""

    def __init__(self, path: Path) -> None:
        """`path` need not be there. [any]"""
        self._file = RowFile(path, Entry)

    @classmethod
    def open(cls) -> "Quarantine":
        """Return the one of this user. [any]"""
        return cls(state_folder() / "quarantine.json")

    def entries(self) -> tuple[Entry, ...]:
        """Return all, the oldest first. Raises EngineError. [worker]"""
        return self._file.rows()

    def find(self, sha256: str) -> Entry | None:
        """Return the entry of a content. Raises EngineError. [worker]"""
        return next((entry for entry in self.entries() if entry.sha256 == sha256), None)

    def reason(self, path: Path) -> Entry | None:
        """Return the entry of a file's content. Raises EngineError, ConfigError if it cannot be read. [worker]"""
        return self.find(content_hash(path)) if self.entries() else None

    def add(self, path: Path, plugin: str, reason: str, sha256: str = "") -> Entry:
        """Put a plugin in. Raises EngineError, ConfigError if the file cannot be read. [worker]

        `plugin`: its id, if known; `sha256`: of the content that did it, where the file may be another one by now.
        """
        sha256, plugin = sha256 or content_hash(path), printable(plugin)
        with self._file.changing() as rows:
            old = next((row for row in rows if (row.sha256, row.plugin) == (sha256, plugin)), None)
            if old:
                rows.remove(old)
            where, times = printable(os.path.abspath(path)), old.count + 1 if old else 1
            rows.append(Entry(sha256, plugin, where, printable(reason), time.time(), times))
        return rows[-1]

    def release(self, text: str | None) -> list[Entry]:
        """Let out all that `text` may mean (`Entry.is_called`), or all with None; return them. Raises EngineError. [worker]"""
        with self._file.changing() as rows:
            out = [row for row in rows if text is None or row.is_called(text)]
            rows[:] = [row for row in rows if row not in out]
        return out


def content_hash(path: Path) -> str:
    """Return the sha256 of a file; of one that has not changed, without reading it. Raises ConfigError. [worker]"""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            seen = (found.st_size, found.st_mtime_ns, found.st_ino)
            if _hashes.get(str(path), ((), ""))[0] != seen:
                _hashes[str(path)] = seen, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return _hashes[str(path)][1]


def admit(path: Path, sha256: str) -> None:
    """Raise QuarantinedError if the content that is about to be loaded is in quarantine. [control, worker, main]

    A list that cannot be read keeps nobody out: a rack must not fall silent for it.
    """
    if _ignored:
        return
    try:
        entry = Quarantine.open().find(sha256)
    except EngineError as error:
        log.warning("%s: the quarantine is not heeded", error)
        return
    if entry:
        raise QuarantinedError(path, entry)


def ignore() -> None:
    """Load what is in quarantine, too: this process is there to be harmed. [any]"""
    global _ignored
    _ignored = True
