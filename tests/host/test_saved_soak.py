"""Kill -9 at random instants: every acknowledged command is in force in the next host, once."""

import sys

import pytest

from sigrack.soak.restarts import soak

HASTY = """
import sys, time
from concurrent.futures import Future
from sigrack.saved.database import Database
submit = Database.submit

def hasty(self, statements, whole=False):
    done = Future()
    done.set_result("")
    submit(self, statements, whole=whole)
    return done

serve = Database._write

def late(self, connection, statements):
    time.sleep(0.2)
    serve(self, connection, statements)

Database.submit, Database._write = hasty, late
from sigrack.__main__ import main
sys.exit(main())
"""
"""A host that answers before it has written down what was asked."""
FORGETFUL = """
import sys
from sigrack.saved.records import Requests
Requests.find = lambda self, name: None
from sigrack.__main__ import main
sys.exit(main())
"""
"""A host that carries out what it has carried out before."""


def test_what_was_acknowledged_is_in_force() -> None:
    """Twenty kills: nothing lost, nothing done twice, every recording ends at its kill, nothing is left behind."""
    verdict = soak(20, seed=5)

    assert [] == verdict.faults
    assert (20, 0, 0) == (verdict.kills, verdict.lost, verdict.twice)
    assert verdict.acknowledged > 100
    assert verdict.recordings > 5
    assert verdict.restart_to_audio_ms["p50"] > 0


def test_a_host_that_supervisord_starts_again() -> None:
    """The same with the shipped configuration: five kills, each followed by a start that nobody has asked for."""
    verdict = soak(5, seed=3, supervised=True)

    assert [] == verdict.faults
    assert (5, 0, 0) == (verdict.kills, verdict.lost, verdict.twice)
    assert verdict.acknowledged > 10


def test_a_store_that_answers_too_early_is_caught() -> None:
    """A host that acknowledges before it commits loses something, and the verdict says so."""
    verdict = soak(20, seed=5, command=[sys.executable, "-c", HASTY])

    assert 1 == verdict.lost
    assert "not in force" in verdict.faults[0]


def test_a_store_that_forgets_ids_is_caught() -> None:
    """A host that does not know what it has answered does it again, and the verdict says so."""
    verdict = soak(20, seed=5, command=[sys.executable, "-c", FORGETFUL])

    assert verdict.faults
    assert 1 == verdict.twice or "sent again" in verdict.faults[0]


@pytest.mark.soak
def test_two_hundred_kills() -> None:
    """The same for long."""
    verdict = soak(200, seed=7)

    assert (200, []) == (verdict.kills, verdict.faults)
