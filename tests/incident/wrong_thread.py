"""Register a Python callback as a naive host does; print on how many threads it ran, and whether on this one: ENGINE THREADS."""

import json
import sys
import threading

from incident.library import CALLBACK, Engine

found: set[int] = set()
callback = CALLBACK(lambda *_: found.add(threading.get_native_id()))
engine = Engine(threads=int(sys.argv[2]), pause_us=100)
engine.register(callback, None)
while len(found) < int(sys.argv[2]):
    engine.wait_for_calls(1)
engine.destroy()
print(json.dumps({"threads": len(found), "main": threading.get_native_id() in found}))
