"""Drop all that Python holds of a callback while an engine is calling it: ENGINE naive|ours."""

import gc
import os
import sys

from incident.library import CALLBACK, Engine
from sigrack_engine.bell import Bell
from sigrack_engine.results import CALLBACK_ADDRESS, ResultRing


def naive(engine: Engine) -> None:
    """The callback is an object that is collected, and its memory used again."""
    engine.register(CALLBACK(lambda *_: None), None)
    gc.collect()
    others = [CALLBACK(lambda *_: None) for _ in range(200)]
    del others


def ours(engine: Engine) -> None:
    """The callback is a function of the core; what can be collected is the ring's object."""
    ring = ResultRing(Bell(), ["FACTOR"], None)
    engine.register(CALLBACK_ADDRESS, ring.cookie)
    engine.wait_for_calls(10)
    assert ring.close()


engine = Engine(stops=0)
{"naive": naive, "ours": ours}[sys.argv[2]](engine)
gc.collect()
garbage = [bytes(200) for _ in range(10_000)]
engine.wait_for_calls(1000)
print("survived", flush=True)
os._exit(0)
