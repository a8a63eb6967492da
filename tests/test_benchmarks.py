"""The benchmarks run, and their last line is what they promise; their figures are not judged here."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHAIN = Path(__file__).parents[1] / "benchmarks" / "chain.py"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler called cc")
def test_chain_prints_its_figures() -> None:
    """`chain.py --quick --json` ends with one JSON object that has every figure as a finite number."""
    done = subprocess.run([sys.executable, CHAIN, "--quick", "--json"], capture_output=True, text=True, timeout=120, check=False)
    assert 0 == done.returncode, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    names = ("overhead_ratio", "overhead_ns_per_slot", "late_ratio", "late_ratio_python", "start_to_first_block_ms")

    for name in names:
        assert math.isfinite(report[name]), name
