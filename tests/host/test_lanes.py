"""Processors in processes of their own: heard as if they were in the host, as long as they behave."""

import asyncio
import json
import logging
import os
import select
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from children import python as in_a_process
from factories import Compile
from laned import BLOCK, FADE, PLUGINS, Samples, conduct, conductor_of, covered, lane_of, living, risky, run
from racks import Host, answers, noise, request, write
from sigrack.cli import main
from sigrack.config import load
from sigrack.errors import ConfigError
from sigrack.lanes import lane, lives, plugin_lane
from sigrack.lanes.messages import Channel, packed
from sigrack.lanes.policy import MOST_S, WINDOW_S, Policy
from sigrack.session import Session
from sigrack.soak.faulty import number_of
from sigrack.status import status
from sigrack_plugins import bundled
from waiting import wait_until

FRAMES = 200 * BLOCK
GAIN = np.float32(-0.75)
BOTH = pytest.mark.parametrize("language", ["native", "python"])
Beside = Callable[[Session], Awaitable[None]]


def python(folder: Path, body: str, head: str = "", rest: str = "") -> str:
    """Write own.py: a processor that passes its input on, with this body in its class; return the table of a slot `risky`."""
    (folder / "own.py").write_text(
        f"import os, time\nimport numpy as np\nfrom sigrack_plugins import Param, Plugin\n{head}\n"
        f"class Own(Plugin):\n    def process(self, block):\n        block.output[:] = block.input\n{body}\n"
    )
    return f'[[slot]]\nname = "risky"\nplugin = "./own.py"\nlane = "process"\n{rest}\n'


def live(folder: Path, slots: str, sound: Samples, beside: Beside) -> Session:
    """Play `sound` again and again by the clock, until `beside` has returned; return the session."""
    head = (
        f'[rack]\nblock_frames = {BLOCK}\n[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n[control]\nenabled = false\n'
    )
    session = Session(load(write(folder, head + slots, sound)))
    assert 0 == session.run(lambda: beside(session))  # type: ignore[arg-type,return-value]
    return session


async def become(condition: Callable[[], Any], what: str) -> None:
    """Wait on the loop until it is true."""
    for _ in range(4000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"waited in vain for {what}")


# Who has one

ENGINE = """
#include "sigrack_signal.h"
void *signal_create(const char *config) { return (void *)config; }
int signal_register_callback(void *handle, signal_callback callback, void *user) { return 0; }
void signal_on_data(void *handle, int type, const void *data) {}
int signal_poll_callbacks(void *handle) { return 0; }
void signal_destroy(void *handle) {}
"""


def test_only_what_came_with_the_host_is_trusted(tmp_path: Path, cc: Compile, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a word a bundled plugin runs inline, and any other library in a process; a word decides."""
    native, engine, own = PLUGINS["native"], cc(ENGINE, "engine"), bundled()["gain"]
    slots = {"named": ("gain", ""), "bundled": (own, ""), "another": (native, ""), "trusted": (native, "inline")}
    slots |= {"apart": ("gain", "process"), "python": (PLUGINS["python"], "")}
    lines = {lane: f'lane = "{lane}"\n' if lane else "" for lane in ("", "inline", "process")}
    tables = [f'[[slot]]\nname = "{name}"\nplugin = "{plugin}"\n{lines[lane]}' for name, (plugin, lane) in slots.items()]
    tables += [f'[[signal]]\nname = "s{lane}"\nlibrary = "{engine}"\nsymbols = ["A"]\n{lines[lane]}' for lane in lines]
    session = conduct(tmp_path, "".join(tables), noise(BLOCK))
    told, latency_frames = status(session), session.rack.latency_frames
    assert 0 == session.run()
    assert 0 == main(["info", str(tmp_path / "rack.toml"), "--json"])
    info = json.loads(capsys.readouterr().out)
    lanes = ["inline", "inline", "process", "inline", "process", "process"]

    assert lanes == [slot["lane"] for slot in told["slots"][1:]]
    assert ["main loop", *lanes] == [slot["runs"].replace("engine", "inline") for slot in info["slots"]]
    assert (
        ["process", "inline", "process"] == [one["lane"] for one in told["signals"]] == [one["runs"] for one in info["signals"]]
    )
    assert 3 * BLOCK == latency_frames


# What is heard


def changes(session: Session) -> dict[int, Callable[[Any], Any]]:
    """Return changes of a parameter in the middle of blocks, and of the bypass."""
    slot = session.rack.slot("risky")
    return {
        10 * BLOCK: lambda ctx: slot.set_param("gain", 0.5, 20 * BLOCK + 37) and None,
        30 * BLOCK: lambda ctx: slot.set_param("gain", 1.25, 50 * BLOCK + 255) and None,
        80 * BLOCK: lambda ctx: slot.set_bypass(True),
        120 * BLOCK: lambda ctx: slot.set_bypass(False),
    }


def wet_of(sound: Samples, block: int = 1) -> Samples:
    """Return what those changes of the parameter make of `sound`, if it takes changes at multiples of `block` frames."""
    wet = GAIN * sound
    for frame, gain in ((20 * BLOCK + 37, 0.5), (50 * BLOCK + 255, 1.25)):
        wet[frame // block * block :] = np.float32(gain) * sound[frame // block * block :]
    return wet


@pytest.mark.parametrize(("language", "block"), [("native", 1), ("python", BLOCK)])
def test_a_render_is_the_formula(language: str, block: int, tmp_path: Path) -> None:
    """The file is as long as the source and aligned with it; parameters come at their frames (in Python: with their block); the
    bypass fades to the input and back, and the processor runs on meanwhile."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, risky(language), sound)
    latency_frames = session.rack.latency_frames
    heard, wet = run(tmp_path, session, changes(session)), wet_of(sound, block)
    there = np.clip((np.arange(FRAMES) - 80 * BLOCK + 1) / FADE, 0, 1) - np.clip(
        (np.arange(FRAMES) - 120 * BLOCK + 1) / FADE, 0, 1
    )
    faded = there != 0

    assert sound.shape == heard.shape
    np.testing.assert_array_equal(heard[~faded], wet[~faded])
    np.testing.assert_allclose(heard, wet + there[:, None] * (sound - wet), atol=2e-6)
    assert BLOCK == latency_frames


def test_a_render_is_the_inline_one(tmp_path: Path) -> None:
    """Bit for bit, but for the fades of a bypass, whose gain moves in other blocks."""
    sound = noise(FRAMES)
    heard = []
    for where in ("process", "inline"):
        session = conduct(tmp_path, risky("native").replace('"process"', f'"{where}"'), sound)
        steps = changes(session)
        heard.append(run(tmp_path, session, {frame: steps[frame] for frame in (10 * BLOCK, 30 * BLOCK)}))

    np.testing.assert_array_equal(heard[0], heard[1])
    np.testing.assert_array_equal(heard[0], wet_of(sound))


@pytest.mark.parametrize("block", [64, 100, 1000])
@pytest.mark.parametrize("blocks", [1, 3])
def test_blocks_of_any_length(block: int, blocks: int, tmp_path: Path) -> None:
    """Whatever the block and the number of blocks that the child may take, the file is exact."""
    sound = noise(10_000)
    session = conduct(tmp_path, risky("native", rest=f"lane_blocks = {blocks}"), sound)
    (tmp_path / "rack.toml").write_text(
        (tmp_path / "rack.toml").read_text().replace(f"block_frames = {BLOCK}", f"block_frames = {block}")
    )
    session.rack.close()
    session = Session(load(tmp_path / "rack.toml"))

    np.testing.assert_array_equal(run(tmp_path, session, {}), GAIN * sound)


def test_several_lanes_beside_and_behind_each_other(tmp_path: Path) -> None:
    """Latencies add up where slots follow each other, and other channels wait as long."""
    sound = noise(FRAMES, 3)
    slots = risky("native", "a", channels='["1"]') + risky("python", "b", channels='["1", "2"]') + risky("native", "c")
    session = conduct(tmp_path, slots, sound)

    wet = GAIN * sound
    wet[:, :2] *= GAIN
    wet[:, 0] *= GAIN
    np.testing.assert_array_equal(run(tmp_path, session, {}), wet)


# What it posts, keeps and hands over


@BOTH
def test_each_result_arrives_once(language: str, tmp_path: Path) -> None:
    """One record for each block, in order, with its frame, also the last ones."""
    session = conduct(tmp_path, risky(language), noise(FRAMES))
    conductor, lane = conductor_of(session), lane_of(session)
    run(tmp_path, session, {})
    records = [(frame, values[0]) for source, frame, values in conductor.records if source == "risky"]

    assert [(BLOCK * n, n + 1.0) for n in range(FRAMES // BLOCK + 1)] == records
    assert 0 == lane.lost_records


@BOTH
def test_a_swap_hands_the_state_and_parameters_over(language: str, tmp_path: Path) -> None:
    """The successor goes on with what its predecessor was told and had counted; its child is another one, and is heard."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, risky(language), sound)
    slot, conductor, pids = session.rack.slot("risky"), conductor_of(session), []
    heard = run(
        tmp_path,
        session,
        {
            0: lambda ctx: ctx.set_param("risky", "gain", 0.5) and None,
            BLOCK: lambda ctx: ctx.set_param("risky", "strike", number_of("mark")) and None,
            40 * BLOCK: lambda ctx: pids.append(lane_of(session).pid),
            60 * BLOCK: lambda ctx: ctx.swap("risky"),
            80 * BLOCK: lambda ctx: lambda: session.rack.slot("risky") is not slot,
            190 * BLOCK: lambda ctx: pids.append(lane_of(session).pid),
        },
    )
    *_, last = [values for source, _, values in conductor.records if source == "risky"]

    assert 1 == last[1]
    assert pids[0] != pids[1]
    np.testing.assert_array_equal(heard[-20 * BLOCK :], np.float32(0.5) * sound[-20 * BLOCK :])


def test_a_reload_takes_the_new_text(tmp_path: Path) -> None:
    """A processor whose file was changed is another one after a swap."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, python(tmp_path, ""), sound)
    slot = session.rack.slot("risky")

    def change(ctx: Any) -> Any:
        (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text().replace("= block.input", "= -block.input"))
        return ctx.swap("risky")

    steps = {60 * BLOCK: change, 80 * BLOCK: lambda ctx: lambda: session.rack.slot("risky") is not slot}
    heard = run(tmp_path, session, steps)

    np.testing.assert_array_equal(heard[: 60 * BLOCK], sound[: 60 * BLOCK])
    np.testing.assert_array_equal(heard[-20 * BLOCK :], -sound[-20 * BLOCK :])


@BOTH
def test_slots_come_and_go_while_music_plays(language: str, tmp_path: Path, heirs: str) -> None:
    """Loaded, swapped and unloaded again, ten times: the children go with their slots."""

    async def beside(session: Session) -> None:
        changes = session.rack.changes
        for _ in range(10):
            await changes.swap("risky")
        await become(lambda: 2 == len(living(heirs)), "keeper and child to be alone")
        await changes.unload("risky")
        await become(lambda: 1 == len(living(heirs)), "the keeper to be alone")

    live(tmp_path, risky(language), noise(48_000), beside)

    assert [] == living(heirs)


# What is left behind


LEFT = """
import os, sys, threading
from pathlib import Path
from laned import BLOCK, conduct, risky, run
from racks import noise

def resources():
    links = sorted(os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists())
    maps = Path("/proc/self/maps").read_text().count("memfd:sigrack")
    return [link for link in links if "anon" in link or "memfd" in link or "socket" in link], maps, threading.active_count()

folder, language = Path(sys.argv[1]), sys.argv[2]
found = []
for slots in (risky(language), risky(language) + risky(language, "other")):
    run(folder, conduct(folder, slots, noise(200 * BLOCK)), {})
    found.append(resources())
assert found[0] == found[1], found
assert found[1][1] == 0, found
"""
"""In a process of its own: what other tests leave would be counted, too."""


@BOTH
def test_nothing_is_left_behind(language: str, tmp_path: Path, heirs: str) -> None:
    """After a run there is no child, no keeper, no memory, no descriptor and no thread."""
    done = in_a_process(LEFT, tmp_path, language)

    assert 0 == done.returncode, done.stderr
    assert [] == living(heirs)


def test_a_rack_that_fails_to_begin_leaves_nothing(tmp_path: Path, heirs: str) -> None:
    """When the second slot cannot be built, the first one's child goes as well."""
    with pytest.raises(ConfigError, match="no parameter"):
        conduct(tmp_path, risky("native") + risky("python", "other", rest="params = { gian = 1.0 }"), noise(FRAMES))

    assert [] == living(heirs)


@BOTH
def test_a_killed_host_leaves_no_child(language: str, tmp_path: Path, heirs: str) -> None:
    """SIGKILL for the host: the keeper sees it, and all end, also what a child has forked."""
    head = '[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n'
    with Host(write(tmp_path, head + risky(language), noise(48_000))) as host:
        wait_until(answers)
        request("PARAM_SET", slot="risky", param="strike", value=number_of("fork"))
        wait_until(lambda: len(living(heirs)) == 4, what="host, keeper, child and what it has forked")
        host.process.kill()
        host.process.wait()

        wait_until(lambda: not living(heirs), what="the end of all")


def test_a_killed_keeper_is_replaced(tmp_path: Path) -> None:
    """All children die with it, are covered for, and begin again."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, risky("native"), sound)
    lane = lane_of(session)

    def kill(_: Any) -> Callable[[], bool]:
        pid = session.rack.minder.keeper_pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        return lambda: lane.deaths == {"the keeper died": 1} and lane.state == "running"

    at = 40 * BLOCK
    heard = run(tmp_path, session, {at: kill})
    end = covered(heard, sound, GAIN * sound, at + BLOCK, at + FADE + 4 * BLOCK, early=BLOCK)

    np.testing.assert_array_equal(heard[end:], GAIN * sound[end:])


@BOTH
def test_a_child_that_does_not_end_is_ended(
    language: str, tmp_path: Path, heirs: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A native `destroy` that never returns, and a saving of state that does not: the lane ends all the same, and tells."""
    monkeypatch.setattr(lives, "END_S", 0.3)
    monkeypatch.setattr(plugin_lane, "SAVE_S", 0.03)
    monkeypatch.setattr(lane, "SNAPSHOT_S", 0.0)
    session = conduct(tmp_path, risky(language), noise(FRAMES))
    lane_ = lane_of(session)
    steps = {BLOCK: lambda ctx: ctx.set_param("risky", "strike", number_of("deadlock")) and None}
    if language == "python":
        steps[100 * BLOCK] = lambda ctx: lambda: lane_.deaths
    run(tmp_path, session, steps)

    assert [] == living(heirs)
    said = caplog.text
    assert ("end did not return within 0.3 s" if language == "native" else "save did not return within 0.3 s") in said


# What goes wrong


def test_policy() -> None:
    """Back-off doubles from 50 ms to 5 s for lives that were short, and begins anew after a good one; five deaths within a minute
    are too many, however long the lives between them were; without a budget there are never too many."""
    free = Policy(0)
    delays = [free.died(now_s=n, lived_s=0.1) for n in range(12)]
    assert [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2] == pytest.approx(delays[:7])
    assert {MOST_S} == set(delays[7:])
    assert 0.0 == free.died(12.0, lived_s=1.0)
    assert 0.05 == free.died(13.0, lived_s=0.9)

    patient = Policy(0, long_s=60.0, most_s=60.0)
    assert [0.05 * 2**n for n in range(11)] == pytest.approx([patient.died(now_s=n, lived_s=59.0) for n in range(11)])
    assert 60.0 == patient.died(11.0, lived_s=59.0)
    assert 0.0 == patient.died(12.0, lived_s=60.0)

    tight = Policy(5)
    assert [0.0, 0.0, 0.0, 0.0, None] == [tight.died(n * 10.0, lived_s=9.0) for n in range(5)]
    assert 5 == tight.recent

    slow = Policy(5)
    assert None not in [slow.died(n * (WINDOW_S / 4 + 0.1), lived_s=15.0) for n in range(1000)]

    incident = Policy(5)  # 18 crashes a minute
    times = [n * 60 / 18 for n in range(18)]
    assert [False] * 4 + [True] == [incident.died(at, lived_s=3.2) is None for at in times[:5]]
    assert times[4] < 20


@BOTH
def test_too_many_deaths_end_in_quarantine(language: str, tmp_path: Path, heirs: str) -> None:
    """After `crash_budget` deaths the input is played from then on; the child is gone, the slot and its latency stay."""
    sound = noise(2 * FRAMES)
    session = conduct(tmp_path, risky(language, rest="crash_budget = 2"), sound)
    lane = lane_of(session)
    strike = number_of("abort")
    heard = run(
        tmp_path,
        session,
        {
            10 * BLOCK: lambda ctx: ctx.set_param("risky", "strike", strike) and None,
            30 * BLOCK: lambda ctx: lambda: lane.deaths and lane.state == "running",
            60 * BLOCK: lambda ctx: ctx.set_param("risky", "strike", strike + 100) and None,
            80 * BLOCK: lambda ctx: lambda: lane.state == "quarantined",
            90 * BLOCK: lambda ctx: lambda: len(living(heirs)) == 1,
        },
    )
    end = covered(heard, sound, GAIN * sound, 11 * BLOCK, 40 * BLOCK)
    np.testing.assert_array_equal(heard[end : 61 * BLOCK], GAIN * sound[end : 61 * BLOCK])
    np.testing.assert_array_equal(heard[61 * BLOCK + FADE :], sound[61 * BLOCK + FADE :])
    assert lane.deaths == {"SIGABRT": 2}
    assert lane.facts["last_death"]["cause"] == "SIGABRT"
    assert any("process" in line for line in lane.facts["last_death"]["stack"]) or language == "native"


@pytest.mark.parametrize("place", ["process", "on_state_save"])
def test_the_stack_is_that_of_the_thread_that_hangs(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the audio thread or of the one that does what the host asks, whatever threads the plugin has: it says where."""
    if place == "process":
        monkeypatch.setattr(lane, "QUANTUM_CPU_S", 0.02)
    else:
        monkeypatch.setattr(lane, "SNAPSHOT_S", 0.0)
        monkeypatch.setattr(plugin_lane, "SAVE_S", 0.2)
    mark = tmp_path / "hang"
    spin = f"        while os.path.exists({str(mark)!r}):\n            pass\n"
    begin = "    def activate(self, setup):\n        import threading\n        for _ in range(4):\n"
    begin += "            threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    body = "    def on_state_restore(self, state, version):\n        pass\n    def on_state_save(self):\n"
    body = f"{spin}{body}        return 1\n" if place == "process" else f"{body}{spin}        return 1\n"
    session = conduct(tmp_path, python(tmp_path, body + begin), noise(FRAMES))
    own = lane_of(session)

    def back() -> bool:
        if own.deaths:
            mark.unlink(missing_ok=True)
        return bool(own.deaths) and own.state == "running"

    run(tmp_path, session, {20 * BLOCK: lambda ctx: mark.touch(), 60 * BLOCK: lambda ctx: back})

    assert own.deaths in ({"hang": 1}, {"no answer": 1} if place == "on_state_save" else {})  # process waits for a save
    assert any("own.py" in line and f" in {place}" in line for line in own.facts["last_death"]["stack"])


def test_a_file_that_has_changed_is_not_taken_for_the_old_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new life that finds another plugin ends; the input is played, nobody is blamed, and it is told what to do."""
    sound = noise(FRAMES)
    session = conduct(tmp_path, python(tmp_path, ""), sound)
    lane = lane_of(session)

    def change(_: Any) -> Callable[[], bool]:
        python(tmp_path, "    params = (Param('new', 0, 1, 0),)")
        os.kill(lane.pid or 0, signal.SIGKILL)
        return lambda: lane.state == "changed"

    heard = run(tmp_path, session, {40 * BLOCK: change})

    np.testing.assert_array_equal(heard, sound)
    assert {"SIGKILL": 1} == lane.deaths
    assert "own.py has changed: swap or reload risky" in caplog.text


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("        self.ctx._channel._channel._end.sendall(b'\\xff' * 100)", "garbage"),
        ("        self.ctx._channel._channel._end.sendall(b'\\x01\\x00\\x00\\x00\\x05')", "garbage"),
        (
            "        self.ctx._channel.note('results', records=[('a', 'b', 'c')], lost=0)",
            "garbage",
        ),
        (
            "        self.ctx._channel.note('results', records=[(77, 0, [0.0])], lost=0)",
            None,
        ),
        ("        self.ctx._channel._channel.send({'note': 'nothing of the kind'})", None),
        ("        self.ctx._channel._channel.send({'id': 12345, 'data': None})", None),
        ("        self.ctx._channel._channel.send({'neither': 0})", "garbage"),
        ("        os.close(self.ctx._channel._channel.descriptor)", "exit code 71"),
        ("        raise SystemExit('a text')", "exit code 1"),
        ("        raise KeyboardInterrupt", "exit code 1"),
        ("        os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
def test_what_a_child_says_harms_nobody(body: str, cause: str | None, tmp_path: Path) -> None:
    """Garbage, false answers and closed channels end the child at most; it is begun anew."""
    sound = noise(FRAMES)
    text = (
        "    factors = {'a': ''}\n    def process(self, block):\n        block.output[:] = block.input\n"
        f"        if block.frame != {20 * BLOCK}:\n            return\n{body}"
    )
    session = conduct(tmp_path, python(tmp_path, text), sound)
    lane = lane_of(session)
    steps = {100 * BLOCK: lambda ctx: lambda: sum(lane.deaths.values()) == bool(cause) and lane.state == "running"}
    heard = run(tmp_path, session, steps)

    assert ({cause: 1} if cause else {}) == lane.deaths
    np.testing.assert_allclose(heard, sound, atol=1e-6)


def test_a_flood_of_results_and_lines_holds_nobody_up(tmp_path: Path) -> None:
    """A processor that posts and logs far more than anybody can take is slowed down; each record is delivered or counted."""
    body = (
        "    factors = {'a': ''}\n    def process(self, block):\n        block.output[:] = block.input\n"
        "        for _ in range(200):\n            self.ctx.post('a', [1.0])\n            self.ctx.log('again')"
    )
    sound = noise(FRAMES)
    session = conduct(tmp_path, python(tmp_path, body), sound)
    logging.getLogger("sigrack").setLevel(logging.WARNING)
    heard = run(tmp_path, session, {})
    counts = session.rack.accounts.past["risky"]

    np.testing.assert_array_equal(heard, sound)
    assert 200 * (FRAMES // BLOCK + 1) == counts.posted + counts.dropped + counts.refused - counts.dropped
    assert counts.posted == counts.delivered + counts.dropped + counts.refused + counts.stale


@pytest.mark.parametrize("memory_mb", [0, 512])
def test_memory_that_is_allowed(memory_mb: int, tmp_path: Path) -> None:
    """A processor may have a lot of memory, and as much as there is with a limit of 0."""
    body = "    def activate(self, setup):\n        self.much = np.ones(30_000_000)"
    sound = noise(FRAMES)
    session = conduct(tmp_path, python(tmp_path, body, rest=f"memory_mb = {memory_mb}"), sound)
    lane = lane_of(session)

    np.testing.assert_array_equal(run(tmp_path, session, {}), sound)
    assert {} == lane.deaths


@pytest.mark.parametrize(
    ("slot", "said"),
    [
        ('plugin = "{native}"\nlane = "fast"', "slot.lane must be inline, process, or process:NAME"),
        ('plugin = "{native}"\nlane = "process"\nmemory_mb = -1', "memory_mb"),
        ('plugin = "{native}"\nlane = "process"\ncrash_budget = 1.5', "crash_budget"),
        ('plugin = "{native}"\nlane = "process"\nlane_blocks = 0', "lane_blocks"),
        ('plugin = "{native}"\nlane = "process"\nin = ["1"]\nout = ["1", "2"]', "as many channels"),
        ('plugin = "{python}"\nlane = "inline"', "runs in a process of its own: take lane away"),
        ('plugin = "monitor"\nlane = "process"', "has no process"),
        ('plugin = "./absent.so"\nlane = "process"', "absent.so"),
        ('plugin = "./in.wav"\nlane = "process"', "in.wav"),
    ],
)
def test_bad_configuration(slot: str, said: str, tmp_path: Path, heirs: str) -> None:
    """One line that names what is wrong; no child is left."""
    table = '[[slot]]\nname = "risky"\n' + slot.format(**PLUGINS) + "\n"
    with pytest.raises(ConfigError) as caught:
        conduct(tmp_path, table, noise(BLOCK))

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [] == living(heirs)


@pytest.mark.parametrize(
    ("head", "body", "said"),
    [
        ("os._exit(3)", "", "its child died in load: exit code 3"),
        ("os.abort()", "", "its child died in load: SIGABRT"),
        ("raise ValueError('at import')", "", "at import"),
        ("time.sleep(60)", "", "load did not return within 0.5 s"),
        ("", "    def on_block(self, block):\n        pass", "make two plugins of it"),
        ("", "    def activate(self, setup):\n        raise ValueError('not here')", "activate: not here"),
        ("", "    def activate(self, setup):\n        os._exit(4)", "its child died in begin: exit code 4"),
        ("", "    def latency_frames(self, setup):\n        return -1", "latency_frames gave -1"),
        ("", "    def latency_frames(self, setup):\n        return 10**12", "latency_frames gave"),
        ("", "    params = (Param('a', 0, 1, 2),)", "a"),
    ],
)
def test_processors_that_cannot_begin(
    head: str, body: str, said: str, tmp_path: Path, heirs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What dies, hangs or refuses when it is loaded is an error with its reason."""
    if "sleep" in head:
        monkeypatch.setattr(lives, "LOAD_S", 0.5)
    with pytest.raises(ConfigError) as caught:
        conduct(tmp_path, python(tmp_path, body, head), noise(BLOCK))

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [] == living(heirs)


# By the clock


@BOTH
@pytest.mark.parametrize("kind", ["null write", "exit", "loop", "NaN flood"])
def test_live_a_fault_leaves_no_gap(language: str, kind: str, tmp_path: Path) -> None:
    """While music plays by the clock, a death is counted by its cause and the child is replaced; what was recorded meanwhile is
    never silent, and has as many frames as the engine has played."""
    causes = {"null write": {"SIGSEGV"}, "exit": {"exit code 7"}, "loop": {"hang", "late"}, "NaN flood": {"bad samples"}}[kind]
    level = np.full((48_000, 2), 0.5, np.float32)

    async def beside(session: Session) -> None:
        lane = lane_of(session)
        await become(lambda: lane.facts["lives"] == 1, "the first life")
        session.rack.slot("risky").set_param("strike", number_of(kind))
        await become(lambda: causes & set(lane.deaths), f"one of {causes}")
        await become(lambda: lane.facts["lives"] >= 2 and lane.state == "running", "the next life")
        await asyncio.sleep(0.2)
        found.append(lane.facts)

    sink = '[sink]\ndriver = "file"\npath = "heard.wav"\noverwrite = true\n'
    found: list[dict[str, Any]] = []
    live(tmp_path, risky(language, rest="params = { gain = 0.5 }") + sink, level, beside)
    heard = soundfile.read(tmp_path / "heard.wav", dtype="float32")[0]
    played = np.abs(heard[int(np.argmax(np.abs(heard[:, 0]) > 0.2)) :])
    played = played[: len(played) - 2 * FADE]  # the rack fades out at the end

    assert sum(found[0]["deaths"].values()) == found[0]["lives"] - 1
    assert len(played) > BLOCK
    assert 0.2 < played.min()
    assert played.max() < 0.6


@BOTH
def test_control_tells_of_it(language: str, tmp_path: Path) -> None:
    """GET_STATUS shows the lane, STATS its lives, deaths and what was played instead."""
    head = '[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n'
    with Host(write(tmp_path, head + risky(language), noise(48_000))):
        wait_until(answers)
        first = request("STATS")["data"]["slots"][0]["lane"]
        os.kill(first["pid"], signal.SIGTERM)
        wait_until(lambda: request("STATS")["data"]["slots"][0]["lane"]["lives"] == 2)
        second = request("STATS")["data"]["slots"][0]["lane"]

        assert "process" == request("GET_STATUS")["data"]["slots"][0]["lane"]
        assert ("running", {}, None) == (first["state"], first["deaths"], first["last_death"])
        assert {"SIGTERM": 1} == second["deaths"]
        assert first["pid"] == second["last_death"]["pid"] != second["pid"]
        assert second["dry_frames"] > 0


def test_orders_that_come_together_are_heard_one_by_one() -> None:
    """What a child has read of its channel is one order: the next still wakes it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(packed({"do": "save", "id": 1}) + packed({"do": "flush", "id": 2}))
        channel = Channel(theirs)
        poll = select.poll()
        poll.register(channel.descriptor, select.POLLIN)
        for number in (1, 2):
            assert poll.poll(0)
            assert number == (channel.receive() or {})["id"]
        assert not poll.poll(0)
