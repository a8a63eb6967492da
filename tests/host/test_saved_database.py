"""The database itself: damaged, newer, full, read-only; what was written comes back, what was not is said."""

import logging
import os
import sqlite3
from pathlib import Path

import pytest

from sigrack.config import load
from sigrack.control.schema import Reply, Request
from sigrack.saved.database import VERSION, Database, database_path
from sigrack.saved.desired import Call, Desired
from sigrack.saved.settings import with_bypass

RACK = '[source]\ndriver = "none"\n[[slot]]\nname = "volume"\nplugin = "gain"\n'


@pytest.fixture
def rack(tmp_path: Path) -> Path:
    """A rack's file."""
    path = tmp_path / "rack.toml"
    path.write_text(RACK)
    return path


def opened(rack: Path) -> Desired:
    """Open what was kept of a rack."""
    document = load(rack)
    return Desired(document, Database(database_path(document)))


def bypass(desired: Desired, *, on: bool, name: str | None = None) -> str:
    """Put down a bypass; return why it is not kept."""
    call = Call(Request("BYPASS", {"slot": "volume", "on": on}, name), Reply("done"))
    desired.put(with_bypass(desired.settings, slot="volume", bypass=on), "it", call)
    assert call.saved is not None
    return call.saved.result(10)


def test_what_is_put_down_comes_back(rack: Path) -> None:
    """Settings, steps and answered requests are there again; the files are the user's alone."""
    first = opened(rack)
    assert "" == bypass(first, on=True, name="a")
    first.close()
    second = opened(rack)
    second.close()

    assert second.settings.slots[0].bypass
    assert "it" == second.facts["undo"]
    assert second.requests.find("a") is not None
    assert 0o600 == database_path(load(rack)).stat().st_mode & 0o777


def test_racks_of_the_same_name_elsewhere_have_their_own(rack: Path, tmp_path: Path) -> None:
    """Two files called rack.toml do not share what was set, unless both say the same [rack] name."""
    other = tmp_path / "other" / "rack.toml"
    other.parent.mkdir()
    other.write_text(RACK)
    named = '[rack]\nname = "one"\n' + RACK

    assert database_path(load(rack)) != database_path(load(other))
    rack.write_text(named)
    other.write_text(named)
    assert database_path(load(rack)) == database_path(load(other))


def damage_bytes(path: Path) -> None:
    """Overwrite the middle."""
    content = bytearray(path.read_bytes())
    content[1024:-1024] = os.urandom(len(content) - 2048)
    path.write_bytes(content)


def damage_head(path: Path) -> None:
    """Make it no database."""
    path.write_bytes(b"hello" * 1000)


def damage_text(path: Path) -> None:
    """Write what is no JSON into a row."""
    with sqlite3.connect(path) as connection:
        connection.execute("update overlay set value = '{'")
    connection.close()


def lose_table(path: Path) -> None:
    """Drop a table."""
    with sqlite3.connect(path) as connection:
        connection.execute("drop table steps")
    connection.close()


def make_newer(path: Path) -> None:
    """Let it be of the next version."""
    with sqlite3.connect(path) as connection:
        connection.execute(f"pragma user_version = {VERSION + 1}")
    connection.close()


def make_foreign(path: Path) -> None:
    """Let it be another program's."""
    with sqlite3.connect(path) as connection:
        connection.execute("pragma application_id = 5")
    connection.close()


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (damage_bytes, "damaged"),
        (damage_head, "damaged"),
        (damage_text, "damaged"),
        (lose_table, "damaged"),
        (make_newer, "made by a newer sigrack"),
        (make_foreign, "not a database of sigrack"),
    ],
)
def test_what_cannot_be_read_is_kept_aside(rack: Path, caplog: pytest.LogCaptureFixture, damage: object, word: str) -> None:
    """It is renamed, named in one line, and the rack starts as its file says; what is set then is kept."""
    first = opened(rack)
    bypass(first, on=True)
    first.close()
    path = database_path(load(rack))
    damage(path)  # type: ignore[operator]
    content = path.read_bytes()
    second = opened(rack)
    aside = [other for other in path.parent.glob(f"{path.name}.2*") if other.suffix not in ("-wal", "-shm")]

    assert not second.settings.slots[0].bypass
    assert 1 == len(caplog.records)
    assert word in caplog.text
    assert aside[0].name in caplog.text
    assert content == aside[0].read_bytes()
    assert "" == bypass(second, on=True)
    second.close()
    assert opened(rack).settings.slots[0].bypass


def test_a_folder_that_cannot_be_written_is_said(rack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands where the folder should be: the rack starts, and each change says that it is not kept."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIGRACK_STATE", str(tmp_path / "file" / "state"))
    desired = opened(rack)

    assert "Not a directory" in bypass(desired, on=True)
    assert not desired.facts["kept"]


def test_a_full_disk_is_said_and_made_up_for(rack: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the database cannot grow nothing is kept, which is said once; with room again all is written that was not."""
    desired = opened(rack)
    bypass(desired, on=True)
    assert desired.database is not None
    connection = desired.database._connection
    assert connection is not None
    (pages,) = connection.execute("pragma page_count").fetchone()
    connection.execute(f"pragma max_page_count = {pages}")
    full = [statement for n in range(200) for statement in desired.presets.save(f"{n} " + "x" * 60, desired.settings)]
    calls = [Call() for _ in range(3)]
    for call, statements in zip(calls, (full, full[:1], full[1:2]), strict=True):
        desired.submit(statements, call)
        assert call.saved is not None
        assert "full" in call.saved.result(10)
    connection.execute("pragma max_page_count = 1000000")
    assert "" == bypass(desired, on=False)
    desired.close()
    again = opened(rack)

    assert 200 == len(again.presets.listing)
    assert not again.settings.slots[0].bypass
    assert ["WARNING"] == [record.levelname for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_missing_is_made_up_for_before_anything_else(rack: Path) -> None:
    """After a failure a single change is not written, though it could be: only the whole, with what had failed."""
    database = Database(database_path(load(rack)))
    connection = database._connection
    assert connection is not None
    preset = "insert into presets values (?, ?, 0)"
    (pages,) = connection.execute("pragma page_count").fetchone()
    connection.execute(f"pragma max_page_count = {pages}")
    assert "full" in database.submit([(preset, ("long", "x" * 100_000))]).result(10)
    connection.execute("pragma max_page_count = 1000000")
    assert "full" in database.submit([(preset, ("one", ""))]).result(10)
    assert "" == database.submit([(preset, ("long", "")), (preset, ("one", ""))], whole=True).result(10)
    assert "" == database.submit([(preset, ("two", ""))]).result(10)
    database.close()

    assert ["long", "one", "two"] == [row[0] for row in Database(database_path(load(rack))).read("select name from presets")]


def test_many_requests_are_forgotten_in_order(rack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store of answered requests is bounded, in memory and on disk: the oldest go."""
    monkeypatch.setattr("sigrack.saved.records.MOST_REQUESTS", 5)
    desired = opened(rack)
    for number in range(12):
        bypass(desired, on=bool(number % 2), name=str(number))
    desired.close()
    again = opened(rack)

    assert ["7", "8", "9", "10", "11"] == [str(n) for n in range(12) if again.requests.find(str(n))]
