"""Slots that share a lane: one process, one exchange; each with its own parameters, bypass, state and results."""

import asyncio
import gc
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laned import BLOCK, FADE, PLUGINS, Samples, conduct, conductor_of, covered, lane_of, run
from racks import noise
from sigrack.config import load
from sigrack.errors import ConfigError
from sigrack.session import Session
from sigrack.soak.faulty import number_of
from sigrack.status import stats, status
from sigrack.tables import SlotTable

FRAMES = 40_000
GAIN = np.float32(-0.75)
LATE = '''
import numpy as np
from sigrack_plugins import Param, Plugin

class Late(Plugin):
    """Half as loud, and 100 frames late."""
    params = (Param("gain", 0.0, 2.0, 0.5),)
    def activate(self, setup):
        self.kept = np.zeros((100, setup.channels), np.float32)
    def latency_frames(self, setup):
        return 100
    def process(self, block):
        whole = np.concatenate([self.kept, block.input])
        block.output[:] = np.float32(block.values["gain"]) * whole[:-100]
        self.kept = whole[-100:].copy()
'''


def member(name: str, language: str = "native", lane: str = "process:fx", rest: str = "") -> str:
    """Return the table of a slot with a faulty processor in a shared lane."""
    return f'[[slot]]\nname = "{name}"\nplugin = "{PLUGINS[language]}"\nlane = "{lane}"\n{rest}\n'


MIXED = member("a") + member("b", "python") + member("c")


def power(sound: Samples, count: int) -> Samples:
    """Return `sound` as so many members leave it."""
    for _ in range(count):
        sound = GAIN * sound
    return sound


def pids(session: Session, names: str = "abc") -> set[int | None]:
    """Return the processes of these slots."""
    return {lane_of(session, name).pid for name in names}


# What is heard


def test_a_render_is_that_of_lanes_of_their_own(tmp_path: Path) -> None:
    """Bit for bit, native members and Python ones in one process, and only one block late instead of three."""
    sound, heard, late, processes = noise(FRAMES), [], [], []
    for lane in ("process:fx", "process"):
        session = conduct(tmp_path, MIXED.replace("process:fx", lane), sound)
        late.append(session.rack.latency_frames)
        processes.append(len(pids(session)))
        heard.append(run(tmp_path, session, {}))

    assert [BLOCK, 3 * BLOCK] == late
    assert [1, 3] == processes
    np.testing.assert_array_equal(heard[0], heard[1])
    np.testing.assert_array_equal(heard[0], power(sound, 3))


def test_each_member_has_its_parameters_and_bypass(tmp_path: Path) -> None:
    """A parameter comes at its frame and to its member only; a bypass fades over what came in before that member."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, member("a") + member("b") + member("c"), sound)
    b, c = session.rack.slot("b"), session.rack.slot("c")
    steps: dict[int, Any] = {
        10 * BLOCK: lambda ctx: b.set_param("gain", 0.5, 20 * BLOCK + 37) and None,
        60 * BLOCK: lambda ctx: c.set_bypass(True),
        100 * BLOCK: lambda ctx: c.set_bypass(False),
    }
    heard = run(tmp_path, session, steps)
    before = GAIN * (GAIN * sound)
    before[20 * BLOCK + 37 :] = np.float32(0.5) * (GAIN * sound)[20 * BLOCK + 37 :]
    wet = GAIN * before
    start = int(np.argmax((heard != wet).any(axis=1)))
    end = start + int(np.argmax((heard[start + FADE :] != before[start + FADE :]).any(axis=1))) + FADE

    assert 60 * BLOCK <= start <= 64 * BLOCK
    assert 100 * BLOCK <= end <= 104 * BLOCK
    np.testing.assert_array_equal(heard[:start], wet[:start])
    fade = np.arange(1, FADE + 1)[:, None] / FADE  # its first frame is the input still
    np.testing.assert_allclose(
        heard[start : start + FADE], (1 - fade) * wet[start:][:FADE] + fade * before[start:][:FADE], atol=1e-5
    )
    np.testing.assert_array_equal(heard[start + FADE : end], before[start + FADE : end])
    np.testing.assert_array_equal(heard[end + FADE :], wet[end + FADE :])


def test_latencies_of_members_add_up(tmp_path: Path) -> None:
    """The file stays aligned, also with the late one bypassed from the start."""
    (tmp_path / "late.py").write_text(LATE)
    sound = noise(FRAMES)
    for bypass in ("", "bypass = true"):
        late = f'[[slot]]\nname = "late"\nplugin = "./late.py"\nlane = "process:fx"\n{bypass}\n'
        session = conduct(tmp_path, member("a") + late + member("c"), sound)
        assert BLOCK + 100 == session.rack.latency_frames
        heard = run(tmp_path, session, {})
        np.testing.assert_array_equal(heard, GAIN * ((1 if bypass else np.float32(0.5)) * (GAIN * sound)))


def test_other_channels_wait(tmp_path: Path) -> None:
    """Those that the lane does not write are as late as it is."""
    sound = noise(FRAMES, 3)
    wired = 'in = ["2", "1"]'
    wet = sound.copy()
    wet[:, :2] = power(wet[:, :2], 2)

    slots = member("a", rest=wired) + member("b", rest=wired)
    np.testing.assert_array_equal(run(tmp_path, conduct(tmp_path, slots, sound), {}), wet)


def test_each_result_arrives_once_and_under_its_own_name(tmp_path: Path) -> None:
    """One record for each block of each member, in order, with its frame."""
    session = conduct(tmp_path, MIXED, noise(FRAMES))
    conductor = conductor_of(session)
    run(tmp_path, session, {})

    for name in "abc":
        records = [(frame, values[0]) for source, frame, values in conductor.records if source == name]
        assert [(BLOCK * n, n + 1.0) for n in range(FRAMES // BLOCK + 1)] == records


# Faults


@pytest.mark.parametrize("who", ["a", "b", "c"])
def test_a_death_takes_all_of_them_and_is_blamed_on_one(who: str, tmp_path: Path) -> None:
    """The input of the first stands for all; then all are back, each with its parameter and its bypass as they were."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, MIXED, sound)
    fault, lane = 80 * BLOCK, lane_of(session, "a")
    steps: dict[int, Any] = {
        BLOCK: lambda ctx: ctx.set_param("a", "gain", 0.5),
        2 * BLOCK: lambda ctx: session.rack.slot("c").set_bypass(True),
        fault - BLOCK: lambda ctx: ctx.set_param(who, "strike", number_of("abort")),
        fault + 4 * BLOCK: lambda ctx: lambda: sum(lane.deaths.values()) == 1 and lane.state == "running",
    }
    heard = run(tmp_path, session, steps)
    wet = GAIN * (np.float32(0.5) * sound)

    back = covered(heard[20 * BLOCK :], sound[20 * BLOCK :], wet[20 * BLOCK :], fault - 20 * BLOCK, 120 * BLOCK, late=2 * BLOCK)
    np.testing.assert_array_equal(heard[20 * BLOCK + back :], wet[20 * BLOCK + back :])
    assert lane.last_death
    assert f"in {who}" == lane.last_death["detail"]
    assert {"SIGABRT": 1} == lane.deaths


def test_what_is_no_sound_is_caught_behind_its_member(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A flood of NaN: that member's input is played for it, it is told once by its name, and nobody dies."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, MIXED, sound)
    lane = lane_of(session, "a")
    with caplog.at_level(logging.WARNING, "sigrack"):
        heard = run(tmp_path, session, {20 * BLOCK: lambda ctx: ctx.set_param("b", "strike", number_of("NaN flood"))})
    start = int(np.argmax((heard != power(sound, 3)).any(axis=1)))

    assert 20 * BLOCK <= start <= 24 * BLOCK
    np.testing.assert_array_equal(heard[start:], power(sound, 2)[start:])
    assert {} == lane.deaths
    assert 1 == caplog.text.count("b: its output was NaN")


# Changes


@pytest.mark.parametrize("who", ["a", "b", "c"])
def test_a_swap_takes_the_others_along(who: str, tmp_path: Path) -> None:
    """All play in a new process, with their parameters and states; the old one ends."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, MIXED, sound)
    before = pids(session)
    seen: list[set[int | None]] = []
    steps: dict[int, Any] = {
        BLOCK: lambda ctx: ctx.set_param("c", "gain", 0.5),
        2 * BLOCK: lambda ctx: ctx.set_param("a", "strike", number_of("mark")),
        20 * BLOCK: lambda ctx: ctx.swap(who),
        120 * BLOCK: lambda ctx: seen.append(pids(session)),
    }
    conductor = conductor_of(session)
    heard = run(tmp_path, session, steps)
    marks = [values[1] for source, _, values in conductor.records if source == "a" and len(values) > 1]

    np.testing.assert_array_equal(heard[100 * BLOCK :], (np.float32(0.5) * power(sound, 2))[100 * BLOCK :])
    assert [1] == [len(found) for found in seen]
    assert not before & seen[0]
    assert 1 == marks[-1], "the state came along"


def test_what_is_set_while_others_change_stays(tmp_path: Path) -> None:
    """What was set since the file was read, also while a lane is built anew, is in the sound and in the tables."""
    sound = noise(FRAMES)
    slots = member("a", rest="params = { gain = 0.25 }") + member("b", "python") + member("c", rest="bypass = true")
    session = conduct(tmp_path, slots, sound)
    a, c = session.rack.slot("a"), session.rack.slot("c")
    tables: list[SlotTable] = []

    def swap(ctx: Any) -> Any:
        future = ctx.swap("b")
        a.want_param("gain", 0.125)
        c.want_bypass(False)
        return future

    steps: dict[int, Any] = {
        BLOCK: lambda ctx: ctx.set_param("a", "gain", 0.5),
        10 * BLOCK: swap,
    }
    heard = run(tmp_path, session, steps | {100 * BLOCK: lambda ctx: tables.extend(slot.table for slot in session.rack.slots)})
    left = {table.name: table for table in tables}

    np.testing.assert_array_equal(heard[100 * BLOCK :], power(np.float32(0.125) * sound, 2)[100 * BLOCK :])
    assert {"gain": 0.125} == left["a"].params
    assert not left["c"].bypass


def test_a_switch_that_finds_no_room_is_refused(tmp_path: Path) -> None:
    """Too many changes at once: the bypass is not taken for done."""
    session = conduct(tmp_path, MIXED, noise(100))
    a, c = session.rack.slot("a"), session.rack.slot("c")
    for _ in range(1024):
        a.set_param("gain", 0.5)
    with pytest.raises(ValueError, match="too many changes"):
        c.set_bypass(True)
    bypassed = c.bypass
    session.rack.close()

    assert not bypassed


def test_a_refusal_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A native member that refuses its blocks: once in the log, by its name; its input is played."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, MIXED, sound)
    with caplog.at_level(logging.WARNING, "sigrack"):
        heard = run(tmp_path, session, {20 * BLOCK: lambda ctx: ctx.set_param("c", "strike", number_of("refusal flood"))})

    np.testing.assert_array_equal(heard[30 * BLOCK :], power(sound, 2)[30 * BLOCK :])
    assert 1 == caplog.text.count("c: it refused a block")


def test_what_a_failed_change_has_begun_is_nobodys(tmp_path: Path) -> None:
    """Refused with other limits, the same slot is taken at once with the right ones."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, MIXED, sound)
    plugin, said = str(PLUGINS["native"]), list[str]()
    changes = session.rack.changes

    async def both() -> None:
        for memory_mb in (100, 2048):
            table = SlotTable(name="d", plugin=plugin, lane="process:fx", memory_mb=memory_mb)
            try:
                await changes.load(table, "a")
            except ConfigError as error:
                said.append(str(error))

    heard = run(tmp_path, session, {10 * BLOCK: lambda ctx: asyncio.ensure_future(both()).done})

    assert 1 == len(said)
    assert "say the same" in said[0]
    np.testing.assert_array_equal(heard[100 * BLOCK :], power(sound, 4)[100 * BLOCK :])


def test_a_first_life_that_dies_is_let_go(tmp_path: Path) -> None:
    """A plugin that ends the child in which another one is loaded: the rack is refused, and no descriptor is left."""
    (tmp_path / "bad.py").write_text(
        LATE.replace("def activate(self, setup):", "def activate(self, setup):\n        __import__('os')._exit(3)")
    )
    bad = '[[slot]]\nname = "bad"\nplugin = "./bad.py"\nlane = "process:fx"\n'
    for _ in range(2):
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(ConfigError, match="its child died in begin"):
            conduct(tmp_path, member("a") + bad, noise(100))
        gc.collect()
        after = len(list(Path("/proc/self/fd").iterdir()))

    assert before == after


def test_members_come_and_go(tmp_path: Path) -> None:
    """One is taken out, another put in: the lane stays one process and one block late."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, MIXED, sound)
    plugin = str(PLUGINS["native"])
    seen: list[tuple[int, int]] = []

    def look(ctx: Any) -> None:
        names = [slot.name for slot in session.rack.slots if slot.place]
        seen.append((len(names), len({lane_of(session, name).pid for name in names})))

    steps: dict[int, Any] = {
        10 * BLOCK: lambda ctx: ctx.unload("b"),
        50 * BLOCK: look,
        51 * BLOCK: lambda ctx: ctx.load("d", plugin, lane="process:fx", before="a"),
        100 * BLOCK: look,
    }
    heard = run(tmp_path, session, steps)

    assert [(2, 1), (3, 1)] == seen
    np.testing.assert_array_equal(heard[40 * BLOCK : 50 * BLOCK], power(sound, 2)[40 * BLOCK : 50 * BLOCK])
    np.testing.assert_array_equal(heard[100 * BLOCK :], power(sound, 3)[100 * BLOCK :])


def test_a_change_that_fails_leaves_the_lane_as_it_was(tmp_path: Path) -> None:
    """A plugin that refuses its configuration, or one between two members, is not put in; nothing is heard of it."""
    sound = noise(FRAMES)
    (tmp_path / "bad.py").write_text(LATE.replace("def activate(self, setup):", "def activate(self, setup):\n        1 / 0"))
    session = conduct(tmp_path, MIXED, sound)
    before, after = pids(session), list[set[int | None]]()
    said: list[str] = []

    def refused(ctx: Any, *arguments: Any, **options: Any) -> Any:
        future = ctx.load(*arguments, **options)
        future.add_done_callback(lambda done: said.append(str(done.exception())))
        return future.done

    steps: dict[int, Any] = {
        10 * BLOCK: lambda ctx: refused(ctx, "bad", str(tmp_path / "bad.py"), lane="process:fx"),
        20 * BLOCK: lambda ctx: refused(ctx, "gain", "gain", before="b"),
        30 * BLOCK: lambda ctx: after.append(pids(session)),
    }
    heard = run(tmp_path, session, steps)

    assert "division by zero" in said[0]
    assert 'share lane "process:fx" and must stand side by side: "gain" stands between them' in said[1]
    assert [before] == after
    np.testing.assert_array_equal(heard, power(sound, 3))


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        (member("a") + '[[slot]]\nname = "g"\nplugin = "gain"\n' + member("b"), '"a" and "b" share lane "process:fx" and must'),
        (
            member("a") + member("b", rest="memory_mb = 100"),
            'b: memory_mb = 100, but 2048 in "a", which shares process:fx: say the same',
        ),
        (member("a") + member("b", rest='in = ["1"]'), 'b: it hears or writes other channels than "a", which shares process:fx'),
        (member("a", lane="process:"), "lane"),
        (member("a") + '[[slot]]\nname = "eq"\nplugin = "equalizer"\nlane = "process:fx"\n', "has no process"),
    ],
    ids=["between", "memory", "channels", "no name", "filter"],
)
def test_what_cannot_be_shared_is_refused(slots: str, message: str, tmp_path: Path) -> None:
    """One line says what and where."""
    with pytest.raises(ConfigError) as error:
        conduct(tmp_path, slots, noise(100))

    assert message in str(error.value)
    assert "rack.toml" in str(error.value)


def test_two_lanes_side_by_side(tmp_path: Path) -> None:
    """Each name is a process of its own."""
    sound = noise(FRAMES)
    slots = member("a", lane="process:x") + member("b", lane="process:x") + member("c", lane="process:y")
    session = conduct(tmp_path, slots, sound)

    assert 2 == len(pids(session))
    assert 2 * BLOCK == session.rack.latency_frames
    np.testing.assert_array_equal(run(tmp_path, session, {}), power(sound, 3))


def test_a_file_that_changes_the_lane_is_followed(tmp_path: Path) -> None:
    """Other limits and another order: all members play in a new process, in that order, with what was set meanwhile."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, MIXED, sound)
    toml = tmp_path / "rack.toml"
    seen: list[tuple[set[int | None], list[str]]] = []

    def apply(change: Any) -> Any:
        def begin(ctx: Any) -> Any:
            toml.write_text(change(toml.read_text()))
            return asyncio.ensure_future(session.rack.changes.apply(load(toml))).done

        return begin

    def look(ctx: Any) -> None:
        seen.append((pids(session), lane_of(session, "a").facts["slots"]))

    head, a, b, c = toml.read_text().rpartition("[[slot]]")[0], member("a"), member("b", "python"), member("c")
    head = head[: head.index(a)]
    before = pids(session)
    steps: dict[int, Any] = {
        BLOCK: lambda ctx: ctx.set_param("b", "gain", 0.5),
        10 * BLOCK: apply(lambda text: head + c + a + b),
        50 * BLOCK: look,
        51 * BLOCK: apply(lambda text: text.replace('lane = "process:fx"', 'lane = "process:fx"\nmemory_mb = 500')),
        100 * BLOCK: look,
    }
    heard = run(tmp_path, session, steps)

    processes = [before, *(found for found, _ in seen)]
    assert [1, 1, 1] == [len(found) for found in processes]
    assert 3 == len(set.union(*processes))
    assert [["c", "a", "b"]] * 2 == [names for _, names in seen]
    np.testing.assert_array_equal(heard[100 * BLOCK :], (np.float32(0.5) * power(sound, 2))[100 * BLOCK :])


def test_status_and_stats_tell_who_shares(tmp_path: Path) -> None:
    """Each slot shows its lane by its name, and the process with all who are in it."""
    session = conduct(tmp_path, MIXED, noise(100))
    shown = [(slot["name"], slot["lane"]) for slot in status(session)["slots"] if slot["lane"]]
    lanes = [slot["lane"] for slot in stats(session)["slots"] if slot["name"] in "abc"]
    session.rack.close()

    assert [("a", "process:fx"), ("b", "process:fx"), ("c", "process:fx")] == shown
    assert [("fx", ["a", "b", "c"])] * 3 == [(lane["name"], lane["slots"]) for lane in lanes]
