"""The states of plugins survive the host; what cannot take one back begins without, and its state is kept."""

import signal
import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from factories import Compile
from plugin_source import STATEFUL
from racks import Host, answers, noise, request, write
from sigrack.config import load
from sigrack.saved.database import database_path
from waiting import wait_until

RACK = """
[source]
driver = "clock"
path = "in.wav"
loop = true
[[slot]]
name = "learner"
plugin = "./learner.py"
"""
LEARNER = '''
import os, pathlib
from sigrack_plugins import Plugin

class Learner(Plugin):
    """Learns a number."""
    version = "1"
    learned = 0

    def on_start(self):
        self.learned += 1

    def on_state_save(self):
        return {"learned": self.learned}

    def on_state_restore(self, state, version):
        pathlib.Path(__file__).with_name("told.txt").open("a").write(f"{version} {state['learned']}\\n")
        self.learned += state["learned"]

    def on_block(self, block):
        pass
'''


def rack_of(folder: Path, plugin: str = LEARNER) -> Path:
    """Write the rack of these tests."""
    (folder / "learner.py").write_text(plugin)
    return write(folder, RACK, noise(4800))


def rows(rack: Path) -> "list[tuple[Any, ...]]":
    """Return slot, version, whether refused, and number of what is kept."""
    path = database_path(load(rack))
    if not path.exists():
        return []
    with sqlite3.connect(path) as connection:
        found = connection.execute("select slot, version, refused, data from states order by saved").fetchall()
    connection.close()
    return [(*row[:3], msgspec.msgpack.decode(row[3])["learned"]) for row in found]


def lived(rack: Path, end: signal.Signals = signal.SIGTERM) -> str:
    """Let a host live until it has kept its states, and end it; return its log."""
    with Host(rack) as host:
        wait_until(lambda: answers() or host.process.poll() is not None, 20)
        if end == signal.SIGKILL:
            before = rows(rack)
            wait_until(lambda: rows(rack) != before, 20, "a state that is kept")
        host.process.send_signal(end)
        host.process.wait(20)
        return host.log


def told(rack: Path) -> list[str]:
    """Return version and state that instances were given back."""
    path = rack.with_name("told.txt")
    return path.read_text().splitlines() if path.exists() else []


def test_a_state_is_there_after_a_kill_and_after_an_end(tmp_path: Path) -> None:
    """What on_state_save gave within the last seconds, and at an orderly end, is given back once after on_start."""
    rack = rack_of(tmp_path)
    lived(rack, signal.SIGKILL)
    lived(rack)
    lived(rack)

    assert ["1 1", "1 2"] == told(rack)
    assert [("learner", "1", 0, 3)] == rows(rack)


def test_an_update_gets_the_old_state_and_spoils_it_not(tmp_path: Path) -> None:
    """A new version is given what the old one saved, with that version; both states are kept, and each finds its own again."""
    rack = rack_of(tmp_path)
    lived(rack)
    rack_of(tmp_path, LEARNER.replace('version = "1"', 'version = "2"'))
    lived(rack)
    rack_of(tmp_path)
    lived(rack)

    assert ["1 1", "1 1"] == told(rack)
    assert [("learner", "2", 0, 2), ("learner", "1", 0, 2)] == rows(rack)


def test_another_plugin_or_none_leaves_the_state(tmp_path: Path) -> None:
    """While the slot has another plugin, or is not there, its state stays for the day when it is back."""
    rack = rack_of(tmp_path)
    lived(rack)
    rack.write_text(RACK.replace('"./learner.py"', '"level"'))
    lived(rack)
    rack.write_text(RACK[: RACK.index("[[slot]]")])
    lived(rack)
    rack_of(tmp_path)
    lived(rack)

    assert ["1 1"] == told(rack)


def test_a_refused_state_is_kept_and_the_plugin_begins_anew(tmp_path: Path) -> None:
    """on_state_restore that raises costs one line; the state is put aside, and what comes later is kept beside it."""
    rack = rack_of(tmp_path)
    lived(rack)
    rack_of(tmp_path, LEARNER.replace("self.learned += state", "raise ValueError('too old')  # "))
    log = lived(rack)
    second = lived(rack)

    assert "learner: begins without its saved state, which is kept: learner: on_state_restore: too old" in log
    assert "begins without" in second
    assert {("learner", "1", 1, 1), ("learner", "1", 0, 1)} == set(rows(rack))


def test_a_restore_that_kills_the_host_is_not_tried_for_ever(tmp_path: Path) -> None:
    """Two hosts die while the state is given back, and the third holds the plugin back: when released it begins without."""
    rack = rack_of(tmp_path)
    lived(rack)
    rack_of(tmp_path, LEARNER.replace("self.learned += state", "os._exit(9)  # "))
    codes = []
    for _ in range(2):
        with Host(rack) as host:
            codes.append(host.process.wait(20))
    with Host(rack) as host:
        wait_until(answers, 20)
        assert "released: learner" == request("RELEASE")["message"]
        host.process.kill()

    assert [9, 9] == codes
    assert "begins without its saved state, which is kept: the host has died of it" in host.log


def test_a_state_that_cannot_be_had_is_named_once(tmp_path: Path) -> None:
    """A plugin whose on_state_save raises runs on; the log names it."""
    rack = rack_of(tmp_path, LEARNER.replace('return {"learned": self.learned}', "1 / 0"))
    log = lived(rack)

    assert "learner: its state is not kept until it is loaded again" in log
    assert [] == rows(rack)


def test_a_load_begins_anew(tmp_path: Path) -> None:
    """What is loaded under a name gets no state of an earlier slot; undo of an unload brings the state back."""
    rack = rack_of(tmp_path)
    lived(rack)
    with Host(rack) as host:
        wait_until(lambda: answers(), 20)
        request("UNLOAD", name="learner")
        request("UNDO")
        request("UNLOAD", name="learner")
        request("LOAD", name="learner", plugin="./learner.py")
        host.process.kill()

    assert 2 == len(told(rack))


def test_a_native_plugin_is_given_its_state_before_it_runs(tmp_path: Path, cc: Compile) -> None:
    """state_load gets what state_save gave in the host before; one of another version refuses it and begins without."""
    cc(STATEFUL, "box")
    rack = rack_of(tmp_path)
    rack.write_text(RACK.replace("learner.py", "box.so"))

    def lives() -> float:
        with Host(rack) as host:
            wait_until(lambda: answers() and request("STATS")["data"]["factors"], 20)
            found = request("STATS")["data"]["factors"]
            host.process.send_signal(signal.SIGTERM)
            host.process.wait(20)
            return float(next(iter(found.values()))["values"][0] if isinstance(found, dict) else found[0]["values"][0])

    first = [lives() for _ in range(3)]
    cc(STATEFUL.replace('"7"', '"8"'), "box")

    assert [0.0, 1.0, 2.0] == first
    assert 0.0 == lives()
