"""Destroy an engine that calls on, free its ring, and count what comes: ENGINE."""

import json
import os
from dataclasses import asdict

from incident.library import Engine
from sigrack_engine.bell import Bell
from sigrack_engine.core import lib
from sigrack_engine.results import CALLBACK_ADDRESS, ResultRing

engine, ring = Engine(stops=0), ResultRing(Bell(), ["FACTOR"], None)
late = lib.core_handle_late()
engine.register(CALLBACK_ADDRESS, ring.cookie)
engine.wait_for_calls(10)
engine.destroy()
assert ring.close()
at_destroy = asdict(ring.counts)
engine.wait_for_calls(1000)
before, calls, after = lib.core_handle_late() - late, engine.calls, lib.core_handle_late() - late
print(json.dumps({"at_destroy": at_destroy, "at_end": asdict(ring.counts), "calls": calls, "late": [before, after]}))
os._exit(0)
