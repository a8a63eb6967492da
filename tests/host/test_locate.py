"""Lines of keys in TOML texts."""

import tomllib

import pytest

from sigrack.locate import Path, line_of

TEXT = """\
# a comment, with slot.name = "not a key"
[rack]
name = "a"

[[slot]]
name = "one"
params = { gain_db = -6.0 }

[[ slot ]]   # the second
name = "two"
  [slot.params]
  gain_db = 1.0
  "smooth_ms" = 2.0
[slot.config]
path = "x"
nested.deep = 3

[[slot]]
params.gain_db = 3.0
[control]
enabled = true
"""


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (2, ("rack",)),
        (3, ("rack", "name")),
        (5, ("slot", 0)),
        (6, ("slot", 0, "name")),
        (7, ("slot", 0, "params", "gain_db")),
        (9, ("slot", 1)),
        (10, ("slot", 1, "name")),
        (11, ("slot", 1, "params")),
        (12, ("slot", 1, "params", "gain_db")),
        (13, ("slot", 1, "params", "smooth_ms")),
        (14, ("slot", 1, "config")),
        (16, ("slot", 1, "config", "nested", "deep")),
        (18, ("slot", 2, "name")),
        (19, ("slot", 2, "params", "gain_db")),
        (21, ("control", "enabled")),
        (20, ("control", "endpoint")),
        (1, ("sink",)),
        (1, ()),
    ],
)
def test_line_of_a_key(line: int, path: Path) -> None:
    """A key's line is found; where it is missing, that of the table it would stand in; else the first."""
    assert line == line_of(TEXT, path)


def test_text_is_toml() -> None:
    """The text above means what the test takes it to mean."""
    slots = tomllib.loads(TEXT)["slot"]

    assert ["one", "two"] == [slot["name"] for slot in slots[:2]]
    assert {"gain_db": 1.0, "smooth_ms": 2.0} == slots[1]["params"]
    assert {"gain_db": 3.0} == slots[2]["params"]


@pytest.mark.parametrize(
    "text",
    [
        '[rack]\nname = """\n[[slot]]\nname = "quoted"\n"""\n[[slot]]\nname = "real"\n',
        '[rack]\nname = """\n[[slot]]\n"""\n\n[[slot]]\nname = "real"\n',
        "[rack]\nname = '''\nname = 1\n\n'''\n[[slot]]\nname = \"real\"\n",
        '[signal]\nsymbols = [\n  "a",\n\n]\n[[slot]]\nname = "real"\n',
    ],
)
def test_multiline_values_hold_no_keys(text: str) -> None:
    """What looks like a header or a key inside a text or a list of several lines is none."""
    assert {"name": "real"} == tomllib.loads(text)["slot"][0]
    assert 7 == line_of(text, ("slot", 0, "name"))


def test_inline_array_of_tables() -> None:
    """Slots that are written as one list are blamed on the line of the list."""
    text = 'slot = [{ name = "one" }, { name = "two" }]\n'

    assert 1 == line_of(text, ("slot", 1, "name"))
