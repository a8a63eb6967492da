"""What parses meets rubbish: every outcome is a result or the one error that stands for it."""

import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sigrack.config import parse
from sigrack.control.schema import CommandError
from sigrack.control.server import decode
from sigrack.errors import ConfigError
from sigrack.locate import line_of

RACK = re.findall(r"```toml\n(.*?)```", (Path(__file__).parents[2] / "docs" / "racks.md").read_text(), re.DOTALL)[0]
REQUEST = '{"cmd": "PARAM_SET", "params": {"slot": "volume", "param": "gain_db", "value": -6.5}}'
SPICE = [
    "",
    " ",
    "\n",
    "=",
    "[",
    "]]",
    "{",
    "}",
    '"',
    "'''",
    "#",
    ".",
    "-",
    "1e999",
    "nan",
    "true",
    "\x00",
    "é",
    "\ud7ff",
    "\U0001f600",
    "[[slot]]",
]


def mutations(text: str, count: int, seed: int) -> list[str]:
    """Return copies of `text` with a few characters cut, doubled, swapped or replaced."""
    chance = random.Random(seed)
    results = []
    for _ in range(count):
        mutant = text
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(mutant) + 1)
            end = min(len(mutant), start + chance.randint(0, 12))
            mutant = mutant[:start] + chance.choice([*SPICE, mutant[start:end] * 2]) + mutant[end:]
        results.append(mutant)
    return results


def refusal(call: Callable[[], object]) -> ConfigError | CommandError | None:
    """Return the error that stands for rubbish, or None; any other error passes through and fails the test."""
    try:
        call()
    except (ConfigError, CommandError) as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(4))
def test_configurations(seed: int) -> None:
    """A mutated rack file either parses or is a ConfigError of one line that begins with file and line."""
    texts = mutations(RACK, 500, seed)
    refusals = [refusal(partial(parse, Path("rack.toml"), text)) for text in texts]
    lines = [str(error) for error in refusals if error]

    assert 100 < len(lines) < 500
    for line in lines:
        assert re.fullmatch(r"rack\.toml:\d+: \S.*", line)


@pytest.mark.parametrize("seed", range(4))
def test_requests(seed: int) -> None:
    """A mutated request either decodes or is a CommandError with a code and a message."""
    requests = [text.encode("utf-8", "surrogatepass") for text in mutations(REQUEST, 500, seed)]
    errors = [error for request in requests if (error := refusal(partial(decode, request)))]

    assert len(errors) > 100
    for error in errors:
        assert isinstance(error, CommandError)
        assert error.code.startswith("IPC_")
        assert error.message


def test_lines_of_anything() -> None:
    """line_of names a line of the text whatever the text and the path are."""
    for text in mutations(RACK, 300, 9):
        for path in ((), ("slot", 0, "params", "gain_db"), ("nowhere",), ("slot", 7, "name")):
            assert 1 <= line_of(text, path) <= max(1, len(text.splitlines()))
