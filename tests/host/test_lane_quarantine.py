"""What dies too often in a process of its own is given up, put into quarantine, and does not stop the next start."""

from pathlib import Path
from typing import Any

import pytest

from racks import Host, answers, noise, request, write
from sigrack.control.schema import CommandError
from sigrack.quarantine import Quarantine
from waiting import wait_until

HEAD = '[rack]\nname = "rack"\n[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n'
SLOT = '[[slot]]\nname = "villain"\nplugin = "./villain.py"\ncrash_budget = 3\n'
VILLAIN = """
import os
from sigrack_plugins import AudioBlock, Plugin

class Villain(Plugin):
    def process(self, block: AudioBlock) -> None:
        block.output[:] = block.input
        if os.path.exists("@evil"):
            os._exit(3)
"""


def lane() -> Any:
    return request("STATS")["data"]["slots"][0]["lane"]


def test_a_plugin_that_dies_too_often_is_kept_out_until_it_is_let_out(tmp_path: Path) -> None:
    """Given up by its budget, held back at the next start, refused by RELEASE, loaded by it when it was let out."""
    evil = tmp_path / "evil"
    (tmp_path / "villain.py").write_text(VILLAIN.replace("@evil", str(evil)))
    rack = write(tmp_path, HEAD + SLOT, noise(5000))
    evil.touch()
    with Host(rack) as host:
        wait_until(answers)
        wait_until(lambda: lane()["state"] == "quarantined")
        assert {"exit code 3": 3} == lane()["deaths"]
        blocks = request("STATS")["data"]["blocks"]
        wait_until(lambda: request("STATS")["data"]["blocks"] > blocks)
        host.process.terminate()
        assert 0 == host.process.wait(20)
    evil.unlink()

    with Host(rack) as host:
        wait_until(answers)
        held = request("GET_STATUS")["data"]["held"]
        assert ["villain"] == list(held)
        assert "3 deaths in 60 s, the last: exit code 3" in held["villain"]["why"]
        assert "quarantine clear villain" in host.log
        with pytest.raises(CommandError, match="has been in quarantine since"):
            request("RELEASE", name="villain")
        assert 1 == len(Quarantine.open().release("villain"))
        assert "ok" == request("RELEASE", name="villain")["status"]
        assert {} == request("GET_STATUS")["data"]["held"]
        assert "running" == lane()["state"]
        assert {} == lane()["deaths"]


def test_control_loads_slots_into_lanes(tmp_path: Path) -> None:
    """LOAD has the keys of a table; a wrong one is told."""
    with Host(write(tmp_path, HEAD, noise(5000))):
        wait_until(answers)
        request("LOAD", name="volume", plugin="gain", lane="process", params={"gain_db": -6})
        assert "running" == lane()["state"]
        assert -6.0 == request("GET_STATUS")["data"]["slots"][0]["params"]["gain_db"]
        with pytest.raises(CommandError, match="lane"):
            request("LOAD", name="other", plugin="gain", lane="prozess")
