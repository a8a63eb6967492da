"""Two heartbeats, blocks and turns of the main loop, are told by the host and can be read without it."""

import os
import signal
from pathlib import Path

from racks import Host, answers, noise, request, write
from sigrack.crash import CrashLog
from sigrack_engine.crash import DUE_BLOCKS, DUE_TURNS, READY, Beats, read, read_beats
from waiting import wait_until

LIVE = '[rack]\nname = "rack"\nhook_limit_ms = 0\n[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n'
HOLD = """
import ctypes
from pathlib import Path
from sigrack_plugins import Plugin

class Hold(Plugin):
    def on_block(self, block):
        if Path(__file__).with_name("hold").exists():
            ctypes.PyDLL(None).sleep(1000)  # and nobody else gets the interpreter
"""


def beats() -> Beats:
    """Read the heartbeats of the host as anybody may."""
    record = read(CrashLog.path_of("rack"))
    assert record
    found = read_beats(record)
    assert found
    return found


def test_both_rise_and_are_told(tmp_path: Path) -> None:
    """What the host tells and what others read are the same numbers, and they rise, also when no plugin has anything to do."""
    with Host(write(tmp_path, LIVE, noise(1000))) as host:
        wait_until(answers, 30)
        before = beats()
        told = request("GET_STATUS")["data"]["heartbeats"]
        wait_until(lambda: beats().turns > before.turns and beats().blocks > before.blocks, 30, "both to rise")
        after = beats()
        assert request("STATS")["data"]["heartbeats"]["turns"] >= after.turns
        host.process.terminate()
        host.process.wait(30)

    assert before.blocks <= told["blocks"] <= after.blocks
    assert before.turns <= told["turns"] <= after.turns
    assert READY | DUE_TURNS | DUE_BLOCKS == after.due


def test_a_loop_that_hangs_is_seen_from_outside(tmp_path: Path) -> None:
    """A hook that holds the interpreter stops the turns and nothing else; the record names it; SIGABRT then blames it."""
    (tmp_path / "hold.py").write_text(HOLD)
    with Host(write(tmp_path, LIVE + '[[slot]]\nname = "hold"\nplugin = "./hold.py"\n', noise(1000))) as host:
        wait_until(answers, 30)
        (tmp_path / "hold").touch()
        hung = wait_until(lambda: (record := read(CrashLog.path_of("rack"))) and record.hook, 30, "the hook")
        blocks = beats().blocks
        wait_until(lambda: beats().blocks > blocks + 50, 30, "the hook that was seen to be the one that hangs")
        turns, blocks = beats().turns, beats().blocks
        wait_until(lambda: beats().blocks > blocks + 300, 30, "a second of sound")
        still = beats().turns
        os.kill(host.process.pid, signal.SIGABRT)
        host.process.wait(30)
    record = read(CrashLog.path_of("rack"))

    assert turns == still
    assert record
    assert b"hold" == record.names[hung].value == record.where
    assert signal.SIGABRT == record.signal
    assert read_beats(record) is None
