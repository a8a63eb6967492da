"""The overlay: what control wants, over a file that the user edits. Against an oracle that knows lists and dicts only."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sigrack.config import parse
from sigrack.saved.history import History
from sigrack.saved.overlay import Entry, Overlay, difference, lay
from sigrack.saved.records import read_entry
from sigrack.saved.settings import Settings, pack, unpack
from sigrack.saved.tomlfile import written
from sigrack.tables import SlotTable

NAMES = [f"s{i}" for i in range(9)]
PARAMS = ["a", "b", "c"]


def base_of(slots: list[tuple[str, str, dict[str, float], bool]], muted: list[str]) -> Settings:
    """Read a file with these slots: name, plugin, parameters, bypass."""
    tables = "".join(
        f'[[slot]]\nname = "{name}"\nplugin = "{plugin}"\nbypass = {str(bypass).lower()}\n'
        f"params = {{ {', '.join(f'{key} = {value!r}' for key, value in params.items())} }}\n"
        for name, plugin, params, bypass in slots
    )
    return Settings.of(parse(Path("rack.toml"), f'[bus]\nmute = {muted!r}\n[source]\ndriver = "none"\n{tables}'))


def some_file(rng: random.Random) -> "list[tuple[str, str, dict[str, float], bool]]":
    """Return the slots of a file at random."""
    names = rng.sample(NAMES, rng.randrange(6))
    return [(name, rng.choice("xy"), some_params(rng), rng.random() < 0.3) for name in names]


def some_params(rng: random.Random) -> dict[str, float]:
    """Return some parameters."""
    return {name: rng.randrange(4) / 2 for name in PARAMS if rng.random() < 0.5}


def walk(rng: random.Random, settings: Settings, steps: int) -> Settings:
    """Change settings as control does, at random."""
    for _ in range(steps):
        names = [table.name for table in settings.slots]
        action = rng.randrange(6)
        if action == 0 and len(names) < 8:
            name = rng.choice([name for name in NAMES if name not in names])
            followers = names[rng.randrange(len(names) + 1) :]
            settings = settings.with_slot(SlotTable(name=name, plugin=rng.choice("xyz"), params={"a": 1.0}), followers)
        elif action == 1 and names:
            settings = settings.without(rng.choice(names))
        elif action == 2:
            settings = settings.with_channel(rng.choice("LR"), {rng.choice(["mute", "solo"]): rng.random() < 0.5})
        elif names:
            table = settings.find(rng.choice(names))
            assert isinstance(table, SlotTable)
            given: list[dict[str, Any]] = [
                {"params": {**table.params, rng.choice(PARAMS): rng.randrange(4) / 2}},
                {"bypass": not table.bypass},
                {"plugin": rng.choice("xyz"), "config": {"k": rng.randrange(2)}},
                {"params": {}},
            ]
            settings = settings.replaced(msgspec.structs.replace(table, **rng.choice(given)))
    return settings


def stored(overlay: Overlay, rng: random.Random) -> Overlay:
    """Return an overlay as it comes out of the database, in any order."""
    items = rng.sample(list(overlay.items()), len(overlay))
    return {tuple(unpack(pack(list(path)))): read_entry(pack([e.value, e.base])) for path, e in items}


@pytest.mark.parametrize("seed", range(300))
def test_the_overlay_makes_of_the_file_what_control_wanted(seed: int) -> None:
    """For any file and any changes: file + overlay = what was wanted, in the same order; nothing changed means no overlay."""
    rng = random.Random(seed)
    base = base_of(some_file(rng), rng.sample(["L", "R"], rng.randrange(3)))
    wanted = walk(rng, base, rng.randrange(12))
    laid = lay(base, stored(difference(base, wanted), rng))

    assert wanted.slots == laid.settings.slots
    assert [] == laid.dropped
    for name in "LR":
        for key in ("mute", "solo"):
            assert wanted.channels.get(name, {}).get(key, False) == laid.settings.channels.get(name, {}).get(key, False)
    assert {} == difference(base, base)


def flat(settings: Settings) -> dict[tuple[str, ...], Any]:
    """Return the single values of slots."""
    values: dict[tuple[str, ...], Any] = {}
    for table in settings.slots:
        values[table.name, "plugin"] = table.plugin
        values[table.name, "bypass"] = table.bypass
        values |= {(table.name, "params", p): table.params.get(p) for p in PARAMS}
    return values


@pytest.mark.parametrize("seed", range(300))
def test_after_an_edit_each_value_is_whose_change_is_the_later(seed: int) -> None:
    """Values of slots that stay: the file's where the user has changed it since, else control's; what is dropped is named."""
    rng = random.Random(seed)
    base = base_of([(name, "x", some_params(rng), False) for name in NAMES[:4]], [])
    wanted = base
    for _ in range(rng.randrange(8)):
        table = wanted.slots[rng.randrange(4)]
        params = {**table.params, rng.choice(PARAMS): 2.0}
        given: dict[str, Any] = rng.choice([{"bypass": True}, {"plugin": "y"}, {"params": params}])
        wanted = wanted.replaced(msgspec.structs.replace(table, **given))
    edited = base_of(
        [(t.name, rng.choice("xz"), some_params(rng) if rng.random() < 0.5 else t.params, t.bypass) for t in base.slots], []
    )
    laid = lay(edited, stored(difference(base, wanted), rng))
    before, mine, now = flat(base), flat(wanted), flat(edited)
    expected = {key: mine[key] if now[key] == before[key] else now[key] for key in now}
    lost = {("slot", *key) for key in now if mine[key] != before[key] != now[key] and now[key] != mine[key]}

    assert expected == flat(laid.settings)
    assert lost == set(laid.dropped)


def test_what_is_not_in_the_file_waits_for_it() -> None:
    """Overrides of a slot that the file has lost are kept, and hold again when it is back as it was; not when it is another."""
    base = base_of([("s0", "x", {"a": 1.0}, False)], [])
    table = base.slots[0]
    overlay = difference(base, base.replaced(msgspec.structs.replace(table, params={"a": 2.0})))
    without = lay(base_of([], []), overlay)
    back = lay(base, without.overlay)
    other = lay(base_of([("s0", "x", {"a": 3.0}, False)], []), without.overlay)

    assert ['there is no slot "s0"'] == [entry.aside for entry in without.overlay.values()]
    assert {"a": 2.0} == back.settings.slots[0].params
    assert ({"a": 3.0}, {}) == (other.settings.slots[0].params, other.overlay)


def test_values_of_files_survive_the_database() -> None:
    """Times, nan and infinities of a plugin's config come out as they went in."""
    text = "[source]\ndriver = 'none'\n[[slot]]\nname = 's'\nplugin = 'x'\n[slot.config]\n"
    config = "d = 2026-01-02\ni = -inf\nm = 2026-01-02T03:04:05Z\nn = nan\nt = 07:30:00\n"
    settings = Settings.of(parse(Path("rack.toml"), text + config))
    read = Settings.read(settings.text())

    assert repr(settings.slots) == repr(read.slots)
    assert {} == difference(settings, read)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seed", range(100))
def test_steps_are_taken_back_and_made_again(seed: int) -> None:
    """A random walk of changes, undo and redo equals a list of snapshots; one parameter within half a second is one step."""
    rng, clock = random.Random(seed), Clock()
    history = History(clock)
    overlay: Overlay = {}
    past: list[Overlay] = [{}]
    future: list[Overlay] = []
    last = ("", -9.0)
    for _ in range(300):
        clock.now += rng.choice([0.1, 0.4, 0.6])
        action = rng.random()
        if action < 0.6:
            path, key = rng.choice([(("slot", "s", "params", p), f"s {p}") for p in "ab"] + [(("slot", "s", "bypass"), "")])
            after = {**overlay, path: Entry(rng.random(), 0)}
            history.add("it", key, overlay, after)
            together = key and not future and (key, True) == (last[0], clock.now - last[1] <= 0.5)
            past, future = [*(past[:-1] if together else past), after][-51:], []
            overlay, last = after, (key, clock.now)
        elif (step := history.undo if action < 0.85 else history.redo) is not None:
            back = action < 0.85
            overlay = step.onto(overlay, back=back)
            history.turn(step, undone=back)
            if back:
                future.append(past.pop())
            else:
                past.append(future.pop())
            last = ("", -9.0)
        else:
            assert len(past if action < 0.85 else future) == (1 if action < 0.85 else 0)
        assert past[-1] == overlay
        assert len(history.steps) <= 50


LAYOUTS = [
    '[[slot]]  # {name}\nname = "{name}"\nplugin = "{plugin}"\nbypass = {bypass}\nparams = {{ a = 1.0, b = 2.0 }} # {name}\n\n',
    '[[slot]] # {name}\nname = "{name}"\nplugin = "{plugin}"\nbypass = {bypass}\n[slot.params] # {name}\na = 1.0\nb = 2.0 # c\n',
    '[[slot]]  # {name}\nplugin = "{plugin}"\nname="{name}"\nbypass={bypass}\nparams.a = 1.0 # {name}\nparams.b = 2.0\n',
    '[[slot]]  # {name}\nname = "{name}"\nplugin = "{plugin}"\nbypass = {bypass}   # {name}\n',
]


@pytest.mark.parametrize("seed", range(200))
def test_any_overlay_can_be_written_into_any_file(seed: int) -> None:
    """The written file means what file and overlay meant together, but for what is left; comments of what stays stay."""
    rng = random.Random(seed)
    head = "# first\n[source] # source\ndriver = 'none'\n" + ("[bus]\nmute = ['L'] # bus\n" if rng.random() < 0.5 else "")
    tables = [
        rng.choice(LAYOUTS).format(name=name, plugin=rng.choice("xy"), bypass=rng.choice(["true", "false"]))
        for name in rng.sample(NAMES, rng.randrange(6))
    ]
    base = parse(Path("rack.toml"), head + "".join(tables))
    wanted = walk(rng, Settings.of(base), rng.randrange(10))
    overlay = difference(Settings.of(base), wanted)
    made, left = written(base, stored(overlay, rng), wanted)
    again = parse(Path("rack.toml"), made.text)

    assert wanted.slots == Settings.of(again).slots
    assert {path for path in overlay if path[2:] == ("solo",)} == set(left)
    assert all(f"# {word}" in made.text for word in ("first", "source"))
    for table in wanted.slots:
        if ("slot", table.name) not in overlay and table in base.config.slot:
            assert base.text.count(f"# {table.name}") == made.text.count(f"# {table.name}")
    assert base.text == written(base, {}, Settings.of(base))[0].text


def test_an_array_of_inline_tables_is_written_into() -> None:
    """Slots may stand in one array."""
    slots = "slot = [ # all\n    { name = 's0', plugin = 'x' }, # one\n    { name = 's1', plugin = 'x' },\n]\n"
    text = slots + "[source]\ndriver = 'none'\n"
    base = parse(Path("rack.toml"), text)
    one = Settings.of(base)
    wanted = one.without("s1").with_slot(SlotTable(name="s2", plugin="y"), ["s0"])
    wanted = wanted.replaced(msgspec.structs.replace(base.config.slot[0], bypass=True))
    made, _ = written(base, difference(one, wanted), wanted)

    assert wanted.slots == Settings.of(made).slots
    assert "# all" in made.text


def test_the_racks_own_slots_are_written_where_they_stand() -> None:
    """The limiter's ceiling and a fixed headroom are keys of [rack]; their other parameters are left."""
    base = parse(Path("rack.toml"), "[rack]\nheadroom = 3.0 # dB\nlimiter = true\n[source]\ndriver = 'none'\n")
    wanted = Settings.of(base)
    for name, given in (("limiter", {"ceiling_db": -2.0, "release_ms": 80.0}), ("headroom", {"gain_db": -5.0})):
        table = wanted.find(name)
        assert isinstance(table, SlotTable)
        wanted = wanted.replaced(msgspec.structs.replace(table, params={**table.params, **given}))
    made, left = written(base, difference(Settings.of(base), wanted), wanted)

    assert (5.0, -2.0) == (made.config.rack.headroom, made.config.rack.ceiling_db)
    assert [("slot", "limiter", "params", "release_ms")] == left
    assert "headroom = 5.0 # dB" in made.text
