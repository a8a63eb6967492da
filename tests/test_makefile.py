"""The Makefile hands names on as they were typed."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
@pytest.mark.parametrize("name", ["", "song.flac", "a b.flac", "it's.flac", "a b$x.flac"])
def test_input_reaches_the_command_unchanged(name: str) -> None:
    """INPUT is what was typed, spaces, quotes and dollars included, and empty when nothing was."""
    show = "show:\n\t@printf '<%s>' \"$$INPUT\""
    words = [f"INPUT={name}"] if name else []
    done = subprocess.run(["make", "-s", "--eval", show, "show", *words], cwd=ROOT, capture_output=True, text=True, check=True)

    assert f"<{name}>" == done.stdout
