"""The soak of faults: clean on the host as it is, and it finds what is put into it."""

import json
from pathlib import Path

import pytest

from children import python

SCRIPT = """
import json, logging, sys
from sigrack.soak import faults
logging.disable(logging.CRITICAL)
{fault}
print(json.dumps(faults.{call}.as_dict()))
"""

MISCOUNTED = """
from sigrack.lanes.lives import Lives
note = Lives._note
Lives._note = lambda self, cause, *rest, **named: note(self, "bad luck", *rest, **named)
"""
LEFT = """
from sigrack.lanes.minder import Minder
Minder.close = lambda self: None
faults.DEATH_S = 3.0
"""
DIPS = "faults.DIP_FRAMES = 0"
SILENCE = (
    "faults.LISTENER = faults.LISTENER.replace('np.abs(block.samples)', 'np.abs(block.samples) * (block.frame // 25600 % 2)')"
)
GAPS = "faults.LISTENER = faults.LISTENER.replace('self.next = block.frame', 'self.next = 1 + block.frame')"


def verdict(call: str, fault: str = "") -> dict[str, object]:
    """Run the soak in a process of its own, with a fault put into the host, or into what is heard."""
    child = python(SCRIPT.format(fault=fault, call=call), folder=Path(__file__).parents[1])
    assert 0 == child.returncode, child.stderr
    found: dict[str, object] = json.loads(child.stdout.splitlines()[-1])
    return found


def test_whatever_processors_do_nothing_is_missing() -> None:
    """Fifteen random faults, changes and swaps: the music plays on, each death has its cause, nothing is left."""
    found = verdict("soak(15, 1)")

    assert [] == found["faults"]
    assert 15 == found["struck"]
    assert found["deaths"]
    assert found["blocks"]


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 6))
def test_for_long(seed: int) -> None:
    """The same for half a minute each."""
    assert [] == verdict(f"soak(None, {seed}, 30.0)")["faults"]


@pytest.mark.soak
def test_the_incident() -> None:
    """18 crashes a minute: given up within 20 s with the default budget, without one begun anew each time; never a gap."""
    found = verdict("incident(18)")

    assert [] == found["faults"]
    assert {"SIGSEGV": 5 + 18} == found["deaths"]
    assert 0.0 < found["given_up_s"] <= 20.0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (MISCOUNTED, "was counted as bad luck"),
        (LEFT, "processes are left"),
        (DIPS, "blocks were silent"),
        (SILENCE, "blocks were silent"),
        (GAPS, "frames are missing"),
    ],
    ids=["a cause that is none", "children that are left", "dips that nobody has asked for", "silence", "gaps"],
)
def test_negative_controls(fault: str, said: str) -> None:
    """The soak finds deaths of a wrong name, processes that are left, silence and gaps."""
    faults = verdict("soak(12, 3)", fault)["faults"]

    assert any(said in text for text in faults), faults  # type: ignore[attr-defined]
