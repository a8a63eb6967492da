"""End the interpreter while an engine that nobody stops is calling: ENGINE naive|open|closed|rack."""

import asyncio  # noqa: F401 - what a host has imported makes the exit longer
import sys
import tempfile
import time
from pathlib import Path

import janus  # noqa: F401

from incident.library import CALLBACK, Engine
from sigrack_engine.bell import Bell
from sigrack_engine.core import lib
from sigrack_engine.results import CALLBACK_ADDRESS, ResultRing

TABLE = """
[[signal]]
name = "engine"
library = "{}"
lane = "inline"
symbols = ["FACTOR"]
feed = "none"
config = {{ stops = 0, pause_us = 10 }}
"""

python_callback = CALLBACK(lambda *_: None)


def naive() -> None:
    """The engine calls Python."""
    engine = Engine(stops=0)
    engine.register(python_callback, None)
    engine.wait_for_calls(10)


def opened() -> ResultRing:
    """The engine posts into a ring that nobody closes."""
    engine, ring = Engine(stops=0), ResultRing(Bell(), ["FACTOR"], None)
    engine.register(CALLBACK_ADDRESS, ring.cookie)
    engine.wait_for_calls(10)
    return ring


def closed() -> None:
    """The engine posts into a ring that is closed and freed."""
    assert opened().close()
    wait_for_late_calls()


def rack() -> None:
    """The engine belongs to a rack that has run to its end and closed everything."""
    from racks import freewheel, noise

    with tempfile.TemporaryDirectory() as folder:
        freewheel(Path(folder), TABLE.format(sys.argv[1]), noise(4800)).run()
    wait_for_late_calls()


def wait_for_late_calls() -> None:
    """Wait until the engine has called in vain."""
    end = lib.core_handle_late() + 10
    while lib.core_handle_late() < end:
        time.sleep(0.001)


{"naive": naive, "open": opened, "closed": closed, "rack": rack}[sys.argv[2]]()
print("calling")
