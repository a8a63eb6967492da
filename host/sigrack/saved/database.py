"""The rack's database: SQLite, read once at the start, then written by a thread of its own.

It survives the death of the process at any instant: what was committed is the system's (WAL, synchronous=NORMAL). A power cut
can cost the last commits, never the file.
"""

import hashlib
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sigrack.config import Document
from sigrack.places import state_folder

__all__ = ["Database", "Statement", "Unusable", "database_path"]

log = logging.getLogger("sigrack")

Statement = tuple[str, tuple[Any, ...]]

VERSION = 1
APPLICATION = 0x51677231
"""Marks a file of ours."""
BUSY_S = 5.0
"""How long another program that reads the file may keep us waiting."""
END_S = 2.0
"""How long the end waits for the last commit."""
SCHEMA = """
create table overlay (path text primary key, value text not null, base text not null) without rowid;
create table requests (n integer primary key, id text not null unique, digest blob not null, reply blob not null);
create table steps (n integer primary key, undone integer not null, body text not null);
create table presets (name text primary key, settings text not null, saved real not null) without rowid;
create table states (
    slot text not null, plugin text not null, version text not null, setup text not null, refused integer not null,
    tries integer not null, sum blob not null, data blob not null, saved real not null,
    primary key (slot, plugin, version, setup, refused)
);
"""
DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR", "SQLITE_SCHEMA")
"""Errors that another try does not help against: SQLITE_ERROR is a table that is not there."""


class Unusable(Exception):  # noqa: N818
    """A database that cannot be read: damaged, or of a newer version."""


def database_path(document: Document) -> Path:
    """Return where the state of a rack is kept: by its name, or by its file where it has none. [any]"""
    if name := document.config.rack.name:
        return state_folder() / f"{name}.db"
    path = str(document.path.absolute())
    return state_folder() / f"{document.name}-{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}.db"


@dataclass(frozen=True, slots=True)
class _Job:
    statements: Sequence[Statement]
    whole: bool
    done: "Future[str]" = field(default_factory=Future)


class Database:
    """One rack's. Reads on the thread that makes it; afterwards only its own thread touches the file."""

    def __init__(self, path: Path) -> None:
        """Open it, or make a new one. Where that fails the reason is in `failure`, and nothing is kept. [main]"""
        self.path = path
        self.failure = ""
        """Why nothing is kept; empty: all is. [any]"""
        self._connection: sqlite3.Connection | None = None
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = _open(path)
        except Unusable as error:
            self.put_aside(str(error))
        except (OSError, sqlite3.Error) as error:
            self._fail(error)
            with suppress(sqlite3.Error, Unusable):  # what was kept before still holds
                self._connection = _connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)

    def _fail(self, error: Exception) -> None:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if not self.failure:
            log.warning("%s: %s: changes made now are not kept", self.path, why)
        self.failure = why

    def put_aside(self, why: str) -> None:
        """Rename a file that cannot be used, and begin a new one. [main, before the first submit]"""
        if self._connection:
            self._connection.close()
            self._connection = None
        aside = self.path.with_name(f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}")
        log.warning("%s: %s: it is kept as %s, and the rack starts as its file says", self.path, why, aside.name)
        try:
            for ending in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{ending}").rename(f"{aside}{ending}")
            self._connection = _open(self.path)
        except (OSError, sqlite3.Error, Unusable) as error:
            self._fail(error if isinstance(error, OSError | sqlite3.Error) else OSError(str(error)))

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        """Return rows. Raises Unusable. [main, before the first submit]"""
        if self._connection is None:
            return []
        try:
            return self._connection.execute(sql).fetchall()
        except sqlite3.Error as error:
            raise Unusable(str(error)) from None

    def submit(self, statements: Sequence[Statement], *, whole: bool = False) -> "Future[str]":
        """Write something in one transaction, after all that was submitted before; return why it is not kept, or "". [any]

        After a failure nothing is written but the `whole` of what there is, which makes up for what is missing.
        """
        job = _Job(statements, whole)
        if self._connection is None:
            job.done.set_result(self.failure)
            return job.done
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, args=(self._connection,), name="sigrack-saved", daemon=True)
                self._thread.start()
        self._jobs.put(job)
        return job.done

    def _serve(self, connection: sqlite3.Connection) -> None:
        """Write what waits, all of it in one transaction. [worker]"""
        last = False
        while not last:
            jobs = [self._jobs.get()]
            with suppress(queue.Empty):
                while jobs[-1] is not None:
                    jobs.append(self._jobs.get_nowait())
            last = jobs[-1] is None
            batch = [job for job in jobs if job is not None]
            wholes = (place for place, job in enumerate(batch) if job.whole)
            first = max(wholes, default=len(batch) if self.failure else 0)  # what comes before the last whole is in it
            if batch[first:]:
                self._write(connection, [statement for job in batch[first:] for statement in job.statements])
            for job in batch:
                job.done.set_result(self.failure)
        with suppress(sqlite3.Error):
            connection.close()

    def _write(self, connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
        try:
            connection.execute("begin immediate")
            for sql, arguments in statements:
                connection.execute(sql, arguments)
            connection.execute("commit")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                connection.execute("rollback")
            self._fail(error)
        else:
            if self.failure:
                log.info("%s: changes are kept again", self.path)
            self.failure = ""

    def close(self) -> None:
        """Write what waits, and close the file. [main]"""
        if self._thread:
            self._jobs.put(None)
            self._thread.join(END_S)
        elif self._connection:
            self._connection.close()
        self._connection = None


def _open(path: Path) -> sqlite3.Connection:
    """Open or make a database that can be written. Raises sqlite3.Error, Unusable."""
    connection = _connect(path)
    try:
        if connection.execute("pragma user_version").fetchone() == (0,):
            connection.executescript(
                f"begin immediate; {SCHEMA} pragma application_id = {APPLICATION}; pragma user_version = {VERSION}; commit"
            )
        connection.execute("begin immediate")  # whether it can be written
        connection.execute("rollback")
        path.chmod(0o600)
    except sqlite3.Error as error:
        connection.close()
        if error.sqlite_errorname in DAMAGED:
            raise Unusable(f"damaged ({error})") from None
        raise
    return connection


def _connect(path: "Path | str", *, uri: bool = False) -> sqlite3.Connection:
    """Open a file and look whether it is one of ours. Raises sqlite3.Error, Unusable."""
    connection = sqlite3.connect(path, uri=uri, isolation_level=None, timeout=BUSY_S, check_same_thread=False)
    try:
        if not uri:
            connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        ((application,),) = connection.execute("pragma application_id").fetchall()
        ((version,),) = connection.execute("pragma user_version").fetchall()
        if version > VERSION:
            raise Unusable(f"made by a newer sigrack (version {version}, this one reads {VERSION})")
        if version and application != APPLICATION:
            raise Unusable("not a database of sigrack")
        if connection.execute("pragma quick_check(1)").fetchall() != [("ok",)]:
            raise Unusable("damaged")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.DatabaseError) and error.sqlite_errorname in DAMAGED:
            raise Unusable(f"damaged ({error})") from None
        raise
    return connection
