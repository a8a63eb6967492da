"""The soak of lifetimes: clean on the host as it is, and it finds each fault that is put in."""

import json
from pathlib import Path

import pytest

from children import python

SCRIPT = """
import json, logging, sys
from sigrack.soak.lifetimes import soak
logging.disable(logging.ERROR)
{fault}
print(json.dumps(soak(int(sys.argv[1]), int(sys.argv[2])).as_dict()))
"""

AT_ONCE = """
from sigrack.rack import Rack
publish = Rack.publish
def hasty(self, prepared):
    for thing in prepared.gone:
        if instance := getattr(thing, "_instance", None):
            thing._instance = None
            self.control.call("destroy", instance.destroy)
            before = self.engine.stats.blocks
            while self.engine.stats.blocks < before + 2:  # the engine still runs it
                pass
    return publish(self, prepared)
Rack.publish = hasty
"""
LATE_HOOKS = """
from sigrack.hooks import Hooked
Hooked.closed = property(lambda self: False, lambda self, value: None)
"""
UNCOUNTED = """
from sigrack_engine.results import ResultRing
discard = ResultRing.discard
def forgetful(self):
    stale = self.stale
    discard(self)
    self.stale = stale
ResultRing.discard = forgetful
"""
LEAKED = """
from sigrack.slot import Slot
destroy = Slot.destroy
def careless(self):
    if self.name.endswith("7"):
        self._instance = None
    destroy(self)
Slot.destroy = careless
"""


def verdict(ops: int, seed: int, fault: str = "") -> dict[str, int | list[str]]:
    """Run the soak in a process of its own, with a fault put into the host."""
    child = python(SCRIPT.format(fault=fault), ops, seed, folder=Path(__file__).parents[1])
    assert 0 == child.returncode, child.stderr
    found: dict[str, int | list[str]] = json.loads(child.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_everything_is_accounted_for(seed: int) -> None:
    """After two thousand random operations no instance was called after its end, and every record is where it is said to be."""
    found = verdict(2000, seed)

    assert [] == found["faults"]
    assert found["ops"] >= 2000  # type: ignore[operator]
    assert found["delivered"] > 1000  # type: ignore[operator]
    assert found["refused"] > 100  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 8))
def test_everything_is_accounted_for_in_long_runs(seed: int) -> None:
    """The same over 20,000 operations."""
    assert [] == verdict(20_000, seed)["faults"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (AT_ONCE, "calls into instances that were gone"),
        (LATE_HOOKS, "calls into instances that were gone"),
        (UNCOUNTED, "are accounted for"),
        (LEAKED, "were not destroyed exactly once"),
    ],
    ids=["destroyed while the engine runs it", "hooks after on_stop", "records thrown away", "an instance forgotten"],
)
def test_negative_controls(fault: str, said: str) -> None:
    """The soak finds a host that destroys too early, calls too late, loses count, or forgets an instance."""
    faults = verdict(2000, 1, fault)["faults"]

    assert any(said in text for text in faults), faults  # type: ignore[union-attr]
