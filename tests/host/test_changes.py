"""Load, unload, swap and reload while music plays: nothing is lost, nothing is called that is gone, a failure changes nothing."""

import asyncio
import gc
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from director import DIRECTOR
from factories import Compile
from plugin_source import STATEFUL, plugin_source
from racks import freewheel, noise, write
from sigrack.config import Document, load
from sigrack.errors import ConfigError, RackError
from sigrack.loading.libraries import listing
from sigrack.loading.native import NativeInstance
from sigrack.session import Session
from sigrack_engine.core import lib

WAITER = '''
import asyncio
from sigrack_plugins import Plugin

class Waiter(Plugin):
    """Lets the file wait at some frames until a condition holds."""

    steps = {}

    async def on_block(self, block):
        for frame in sorted(self.steps):
            if frame <= block.frame:
                condition = self.steps.pop(frame)
                while not condition():
                    await asyncio.sleep(0.001)
'''
COUNTER = '''
from sigrack_plugins import Plugin

LOG = []

class Counter(Plugin):
    """Counts frames, and hands its count to its successor."""

    version = "1"

    def on_start(self):
        self.frames, self.next = 0, None
        LOG.append(f"start {self.version}")

    def on_block(self, block):
        assert self.next in (None, block.frame), (self.next, block.frame)
        self.frames, self.next = self.frames + block.frames, block.frame + block.frames
        LOG.append(f"block {self.version}")

    def on_stop(self):
        LOG.append(f"stop {self.version}")

    def on_state_save(self):
        return {"frames": self.frames, "next": self.next}

    def on_state_restore(self, state, version):
        self.frames, self.next = state["frames"], state["next"]
        LOG.append(f"restored from {version}")
'''
DIRECT = '[[slot]]\nname = "director"\nplugin = "./director.py"\n'
WAIT = '[[slot]]\nname = "waiter"\nplugin = "./waiter.py"\n'
COUNT = '[[slot]]\nname = "counter"\nplugin = "./counter.py"\n'
EARS = '[[slot]]\nname = "ears"\nplugin = "./collector.py"\n'
FRAMES = 96_000

Steps = dict[int, Callable[[Any], Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds the plugins of these tests."""
    (tmp_path / "director.py").write_text(DIRECTOR)
    (tmp_path / "waiter.py").write_text(WAITER)
    (tmp_path / "counter.py").write_text(COUNTER)
    return tmp_path


def play(session: Session, steps: Steps) -> list[Any]:
    """Run the session; at each frame of `steps` call its function with the director's context. Return what changes said."""
    director: Any = session.rack.slot("director").hooked.plugin  # type: ignore[union-attr]
    director.steps = dict(steps)
    assert 0 == session.run()
    assert not director.steps
    return [future.exception() for future in director.futures]


async def until(condition: Callable[[], bool]) -> None:
    """Wait on the loop until `condition` holds."""
    while not condition():
        await asyncio.sleep(0.001)


def plugin_of(session: Session, name: str) -> Any:
    """Return the plugin object of a slot."""
    hooked = session.rack.slot(name).hooked
    assert hooked is not None
    return hooked.plugin


def users_of(library: Path) -> list[int]:
    """Return how many use the mapping of a library's content."""
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    return [entry["users"] for entry in listing() if digest.startswith(entry["sha256"])]


def test_a_swap_hands_the_state_over_and_loses_no_frame(folder: Path) -> None:
    """Ten swaps in the middle of a file: the last instance has counted each frame exactly once, in order."""
    session = freewheel(folder, DIRECT + COUNT, noise(FRAMES))
    found: list[Any] = []
    steps: Steps = {8192 * (i + 1): lambda ctx: ctx.swap("counter") for i in range(10)}
    session.rack.on_event = lambda kind, **_: found.append((kind, plugin_of(session, "counter")))
    said = play(session, steps)
    last = found[-1][1]

    assert [None] * 10 == said
    assert ["swapped"] * 10 == [kind for kind, _ in found]
    assert 10 == len({id(plugin) for _, plugin in found})
    assert FRAMES == last.frames


def test_swaps_that_follow_each_other_at_once_lose_no_frame(folder: Path) -> None:
    """Three swaps asked for in one hook, while their predecessors still have audio to deliver: each frame is counted once."""
    session = freewheel(folder, DIRECT + COUNT, noise(FRAMES))
    found: list[Any] = []
    session.rack.on_event = lambda kind, **_: found.append(plugin_of(session, "counter"))
    said = play(session, {8192 * i: lambda ctx: [ctx.swap("counter") for _ in range(3)][2] for i in (1, 2, 3)})

    assert [None] * 3 == said
    assert 9 == len(found)
    assert FRAMES == found[-1].frames


def test_a_reload_takes_the_file_as_it_is_now(folder: Path) -> None:
    """After an edit of the plugin's file a swap runs the new code, which is told the version that saved the state."""
    session = freewheel(folder, DIRECT + COUNT, noise(FRAMES))
    edited = COUNTER.replace('version = "1"', 'version = "2"').replace("+ block.frames, block", "+ 1000 * block.frames, block")
    modules: list[Any] = []

    def edit(ctx: Any) -> Any:
        (folder / "counter.py").write_text(edited)
        return ctx.swap("counter")

    session.rack.on_event = lambda kind, **_: modules.append(plugin_of(session, "counter"))
    said = play(session, {48 * 1024: edit})
    swap_frame = (modules[0].frames - 1000 * FRAMES) / (1 - 1000)
    log = sys.modules[type(modules[0]).__module__].LOG

    assert [None] == said
    assert swap_frame % 1024 == 0
    assert 48 * 1024 <= swap_frame < FRAMES
    assert ["start 2", "restored from 1"] == log[:2]
    assert "stop 2" == log[-1]


BROKEN = {
    "syntax": ("def on_block", "def on block", "SyntaxError"),
    "no plugin": ("(Plugin)", "", "exactly one subclass"),
    "on_start": ("self.frames, self.next = 0, None", "raise OSError('the device is gone')", "on_start: the device is gone"),
    "restore": (
        'self.frames, self.next = state["frames"], state["next"]',
        "raise ValueError('too old')",
        "on_state_restore: too old",
    ),
    "restore bug": (
        'self.frames, self.next = state["frames"], state["next"]',
        "1 / 0",
        "on_state_restore: ZeroDivisionError: division by zero ({folder}/counter.py:27)",
    ),
    "save only": ("def on_state_restore", "def restore", "state needs both"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_failed_reload_leaves_the_old_one_running_and_says_why(folder: Path, name: str) -> None:
    """Whatever is wrong with the new file, the old instance hears every frame, and the reason is told."""
    old, new, message = BROKEN[name]
    session = freewheel(folder, DIRECT + COUNT, noise(FRAMES))
    counter = plugin_of(session, "counter")

    def spoil(ctx: Any) -> Any:
        assert old in COUNTER
        (folder / "counter.py").write_text(COUNTER.replace(old, new))
        return ctx.swap("counter")

    (said,) = play(session, {20_000: spoil})

    assert isinstance(said, ConfigError)
    assert message.format(folder=folder) in str(said)
    assert FRAMES == counter.frames


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return object()", "counter: on_state_save gave what cannot be stored"),
        ("1 / 0", "counter: on_state_save: ZeroDivisionError: division by zero ({folder}/counter.py:24)"),
    ],
)
def test_a_state_that_cannot_be_stored_fails_the_swap(folder: Path, body: str, message: str) -> None:
    """on_state_save that gives an object or raises refuses the swap by name, and the old one plays on."""
    (folder / "counter.py").write_text(COUNTER.replace('return {"frames": self.frames, "next": self.next}', body))
    session = freewheel(folder, DIRECT + COUNT, noise(FRAMES))
    counter = plugin_of(session, "counter")
    (said,) = play(session, {20_000: lambda ctx: ctx.swap("counter")})

    assert message.format(folder=folder) in str(said)
    assert FRAMES == counter.frames


def test_a_hook_may_load_and_unload_even_itself(folder: Path) -> None:
    """From inside a hook a slot is added before another one and taken out again; at last the asking plugin unloads itself."""
    session = freewheel(folder, DIRECT + EARS, noise(FRAMES))
    ears = plugin_of(session, "ears")
    events: list[tuple[str, str, list[str]]] = []
    session.rack.on_event = lambda kind, name: events.append((kind, name, [slot.name for slot in session.rack.slots]))
    said = play(
        session,
        {
            8192: lambda ctx: ctx.load("boost", "gain", params={"gain_db": 6.0, "smooth_ms": 0.0}, before="ears"),
            32_768: lambda ctx: ctx.unload("boost"),
            65_536: lambda ctx: ctx.unload("director"),
        },
    )
    heard = np.concatenate([block.samples for block in ears.blocks])
    sound = noise(FRAMES)

    assert [None] * 3 == said
    assert [
        ("loaded", "boost", ["director", "boost", "ears"]),
        ("unloaded", "boost", ["director", "ears"]),
        ("unloaded", "director", ["ears"]),
    ] == events
    assert np.array_equal(sound[:8192], heard[:8192])
    assert np.allclose(10 ** (6 / 20) * sound[20_000:30_000], heard[20_000:30_000])
    assert np.array_equal(sound[-20_000:], heard[-20_000:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ctx: ctx.unload("eers"), 'did you mean "ears"'),
        (lambda ctx: ctx.swap("eers"), 'did you mean "ears"'),
        (lambda ctx: ctx.load("ears", "gain"), 'the name "ears" is taken'),
        (lambda ctx: ctx.load("new", "gian"), 'did you mean "gain"'),
        (lambda ctx: ctx.load("new", "gain", params={"gain": 1}), 'did you mean "gain_db"'),
        (lambda ctx: ctx.load("new", "gain", before="eers"), 'did you mean "ears"'),
        (lambda ctx: ctx.swap("ears", params={"x": 1}), "has no parameters"),
    ],
)
def test_a_wrong_request_changes_nothing_and_names_the_nearest(folder: Path, change: Callable[[Any], Any], message: str) -> None:
    """What does not exist or is taken is refused in one line; the rack stays as it was."""
    session = freewheel(folder, DIRECT + EARS, noise(FRAMES))
    ears = plugin_of(session, "ears")
    names: list[list[str]] = []
    (said,) = play(session, {8192: change, 90_000: lambda ctx: names.append([slot.name for slot in session.rack.slots])})

    assert message in str(said)
    assert [["director", "ears"]] == names
    assert np.array_equal(noise(FRAMES), np.concatenate([block.samples for block in ears.blocks]))


def test_a_bad_table_is_refused_where_it_is_given(folder: Path) -> None:
    """A slot name with a space is refused in the hook that gives it."""
    session = freewheel(folder, DIRECT + EARS, noise(FRAMES))
    errors: list[str] = []

    def attempt(ctx: Any) -> None:
        try:
            ctx.load("a b", "gain")
        except RackError as error:
            errors.append(str(error))

    play(session, {8192: attempt})

    assert 1 == len(errors)
    assert "must be letters, digits" in errors[0]


def test_a_swap_keeps_parameters_and_bypass(folder: Path) -> None:
    """What control has set on a native plugin stays over a swap; what the swap itself gives wins."""
    session = freewheel(
        folder, DIRECT + '[[slot]]\nname = "volume"\nplugin = "gain"\nparams = { gain_db = -6.0 }\n', noise(FRAMES)
    )
    seen: list[Any] = []

    def look(ctx: Any) -> None:
        volume = session.rack.slot("volume")
        seen.append((dict(volume.values), volume.bypass))

    def set_it(ctx: Any) -> None:
        volume = session.rack.slot("volume")
        volume.set_param("gain_db", -20.0)
        volume.set_bypass(True)

    play(
        session,
        {
            1024: set_it,
            2048: lambda ctx: ctx.swap("volume"),
            16_384: look,
            20_480: lambda ctx: ctx.swap("volume", params={"gain_db": -3.0}),
            40_960: look,
        },
    )

    assert [-20.0, -3.0] == [values["gain_db"] for values, _ in seen]
    assert [True, True] == [bypass for _, bypass in seen]


def test_native_state_travels(folder: Path, cc: Compile) -> None:
    """A native plugin's state_save is handed to its successor's state_load, with the version that saved it."""
    library = cc(STATEFUL, "stateful")
    session = freewheel(folder, DIRECT + f'[[slot]]\nname = "box"\nplugin = "{library}"\nlane = "inline"\n' + EARS, noise(FRAMES))
    ears = plugin_of(session, "ears")
    said = play(session, {8192 * i: lambda ctx: ctx.swap("box") for i in (2, 4, 6)})
    lives = [values[0] for batch in ears.batches for _, _, values in batch]

    assert [None] * 3 == said
    assert sorted(lives) == lives
    assert {0.0, 1.0, 2.0, 3.0} == set(lives)


WITNESS = '''
import threading
from sigrack_plugins import Plugin
LOG = []
class Witness(Plugin):
    """Tells on which thread it is made and ended."""
    def __init__(self):
        LOG.append(("made", threading.get_ident()))
    def on_block(self, block):
        pass
    def __del__(self):
        LOG.append(("ended", threading.get_ident()))
'''


def test_python_objects_are_made_and_ended_on_the_main_thread(folder: Path) -> None:
    """Each of twenty swapped instances is constructed and finalised once, by the thread of the main loop."""
    (folder / "witness.py").write_text(WITNESS)
    session = freewheel(folder, DIRECT + '[[slot]]\nname = "witness"\nplugin = "./witness.py"\n', noise(FRAMES))
    log = sys.modules[type(plugin_of(session, "witness")).__module__].LOG
    play(session, {4096 * (i + 1): lambda ctx: ctx.swap("witness") for i in range(20)})
    del session
    gc.collect()

    assert 21 == [what for what, _ in log].count("made") == [what for what, _ in log].count("ended")
    assert {threading.get_ident()} == {thread for _, thread in log}


def test_native_instances_are_destroyed_once_on_the_control_thread(
    folder: Path, cc: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """create, activate and destroy of each instance run on one thread that is neither the engine's nor the main loop's."""
    library = cc(plugin_source(), "plain")
    session = freewheel(folder, DIRECT + f'[[slot]]\nname = "plain"\nplugin = "{library}"\nlane = "inline"\n', noise(FRAMES))
    calls: list[tuple[str, str]] = []
    destroyed: list[NativeInstance] = []  # kept: no other has its identity
    destroy = NativeInstance.destroy

    def noted(instance: NativeInstance) -> None:
        destroyed.append(instance)
        destroy(instance)

    monkeypatch.setattr(NativeInstance, "destroy", noted)
    run = session.rack.control._submit

    def submit(what: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        def traced(*args: Any) -> Any:
            calls.append((what, threading.current_thread().name))
            return call(*args)

        return run(what, traced, arguments)

    session.rack.control._submit = submit  # type: ignore[method-assign]
    play(session, {8192 * (i + 1): lambda ctx: ctx.swap("plain") for i in range(5)})

    assert {"sigrack-control"} == {thread for _, thread in calls}
    assert 6 == len(destroyed) == len(set(map(id, destroyed)))


PINNED = '''
import asyncio
from sigrack_plugins import Plugin
class Pinned(Plugin):
    """Holds on for longer than its place in the rack."""
    gate = asyncio.Event()
    async def on_block(self, block):
        if block.frame == 0:
            self.task = asyncio.get_running_loop().create_task(self.hold())
    async def hold(self):
        with self.ctx.pinned():
            await self.gate.wait()
            self.seen = self.ctx.name
'''


def test_a_pin_keeps_an_instance_until_it_is_let_go(folder: Path) -> None:
    """An unloaded plugin that is pinned is named as lingering and is destroyed only when the pin is gone."""
    (folder / "pinned.py").write_text(PINNED)
    session = freewheel(folder, DIRECT + WAIT + '[[slot]]\nname = "pinned"\nplugin = "./pinned.py"\n', noise(FRAMES))
    pinned, waiter = plugin_of(session, "pinned"), plugin_of(session, "waiter")
    reaper = session.rack.reaper
    waiter.steps = {40_960: lambda: reaper.lingering == {"pinned"}, 61_440: lambda: not reaper.lingering}
    play(session, {8192: lambda ctx: ctx.unload("pinned"), 49_152: lambda ctx: pinned.gate.set()})

    assert "pinned" == pinned.seen
    assert not waiter.steps
    assert [] == session.rack.left_behind


def test_a_pin_that_is_never_let_go_is_named_at_the_end(folder: Path) -> None:
    """A rack that ends while a plugin is still pinned says whose pin it is."""
    (folder / "pinned.py").write_text(PINNED)
    session = freewheel(folder, DIRECT + EARS + '[[slot]]\nname = "pinned"\nplugin = "./pinned.py"\n', noise(FRAMES))
    pinned: Any = session.rack.slot("pinned").hooked
    pinned.pins += 1
    session.run()

    assert ["pinned, which somebody still holds"] == session.rack.left_behind


def test_requests_from_other_threads_are_carried_out(folder: Path) -> None:
    """A worker's thread asks for a swap and waits for it; the swap happens on the main loop."""
    (folder / "asker.py").write_text(
        "from sigrack_plugins import Plugin\nclass Asker(Plugin):\n    def work(self, tap):\n"
        "        self.said = self.ctx.swap('ears').result(20)\n"
        "        for _ in tap:\n            pass\n        self.done = True\n"
    )
    session = freewheel(folder, EARS + '[[slot]]\nname = "asker"\nplugin = "./asker.py"\n', noise(10 * FRAMES))
    asker = plugin_of(session, "asker")
    before = plugin_of(session, "ears")
    after: list[Any] = []
    session.rack.on_event = lambda kind, **_: after.append((kind, threading.get_ident(), plugin_of(session, "ears")))
    session.run()

    assert asker.done
    assert [("swapped", threading.get_ident())] == [(kind, thread) for kind, thread, _ in after]
    assert before is not after[0][2]
    assert 10 * FRAMES == sum(block.frames for block in [*before.blocks, *after[0][2].blocks])


POSTER = r"""
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include "sigrack_signal.h"
struct engine { pthread_t thread; atomic_bool stop; signal_callback callback; void *user; };
static void *work(void *argument) {
    struct engine *e = argument;
    for (long long n = 0; !atomic_load(&e->stop); n++) {
        double value = (double)n;
        e->callback("N", n, &value, 1, e->user);
        nanosleep(&(struct timespec){0, 20000}, NULL);
    }
    return NULL;
}
void *signal_create(const char *config) { (void)config; return calloc(1, sizeof(struct engine)); }
int signal_register_callback(void *handle, signal_callback callback, void *user) {
    struct engine *e = handle;
    e->callback = callback;
    e->user = user;
    return pthread_create(&e->thread, NULL, work, e);
}
void signal_on_data(void *handle, int type, const void *data) { (void)handle, (void)type, (void)data; }
void signal_destroy(void *handle) {
    struct engine *e = handle;
    atomic_store(&e->stop, 1);
    pthread_join(e->thread, NULL);
    free(e);
}
"""


@pytest.mark.parametrize("drain", [True, False])
def test_a_signal_engine_is_swapped_in_order(folder: Path, cc: Compile, drain: bool) -> None:
    """With drain every record of the old engine comes before the first of the new one and none is stale; without, the rest is
    stale; the sums are exact over all instances either way."""
    library = cc(POSTER, "poster", "-pthread")
    table = f'[[signal]]\nname = "poster"\nlibrary = "{library}"\nlane = "inline"\nsymbols = ["N"]\nfeed = "none"\n'
    session = freewheel(folder, DIRECT + WAIT + EARS + table, noise(FRAMES))
    ears = plugin_of(session, "ears")
    changes = session.rack.changes
    frames = [16_384 * (i + 1) for i in range(4)]
    plugin_of(session, "waiter").steps = {
        frame - 8192: lambda: session.rack.signals[0].ring.delivered > 100 for frame in [*frames, FRAMES]
    }
    said = play(
        session,
        {frame: lambda ctx: changes.requests.request(lambda: changes.swap("poster", drain=drain), "test") for frame in frames},
    )
    numbers = [int(ts) for batch in ears.batches for _, ts, _ in batch]
    counts = session.rack.accounts.posts()["poster"]
    runs = [int(edge) for edge in np.flatnonzero(np.diff(numbers) != 1)]

    assert [None] * 4 == said
    assert len(numbers) == counts.delivered > 0
    assert counts.posted == counts.delivered + counts.dropped + counts.refused + counts.stale + counts.queued
    assert 0 == counts.queued == counts.dropped == counts.refused
    if drain:
        assert 0 == counts.stale
        assert [0] * 4 == [numbers[edge + 1] for edge in runs]


def test_a_hook_may_load_a_signal_engine(folder: Path, cc: Compile) -> None:
    """ctx.load_signal adds an engine whose records are delivered; a table that is wrong is refused in the hook."""
    library = cc(POSTER, "poster", "-pthread")
    session = freewheel(folder, DIRECT + WAIT + EARS, noise(FRAMES))
    ears = plugin_of(session, "ears")
    errors: list[str] = []

    def attempt(ctx: Any) -> None:
        try:
            ctx.load_signal("a b", "poster.so", ["N"])
        except ConfigError as error:
            errors.append(str(error))

    plugin_of(session, "waiter").steps = {49_152: lambda: ears.batches}
    said = play(session, {8192: lambda ctx: ctx.load_signal("poster", str(library), ["N"], feed="none"), 16_384: attempt})

    assert [None] == said
    assert {"poster"} == {batch.source for batch in ears.batches}
    assert 1 == len(errors)
    assert "must be letters, digits" in errors[0]


def test_what_is_loaded_twice_in_a_row_runs(folder: Path) -> None:
    """Two native slots loaded one after the other both process blocks, though nothing has left the rack."""
    session = freewheel(folder, DIRECT + EARS, noise(FRAMES))
    ears = plugin_of(session, "ears")
    quarter = {"gain_db": -6.0, "smooth_ms": 0.0}
    play(
        session,
        {
            1024: lambda ctx: ctx.load("one", "gain", params=quarter, before="ears"),
            8192: lambda ctx: ctx.load("two", "gain", params=quarter, before="ears"),
        },
    )
    heard = np.concatenate([block.samples for block in ears.blocks])

    assert np.allclose(10 ** (-12 / 20) * noise(FRAMES)[20_000:], heard[20_000:], atol=1e-6)


TWO = COUNT + COUNT.replace('"counter"', '"second"')


@pytest.mark.parametrize("raised", ["OSError('no device')", "asyncio.CancelledError", "SystemExit(3)"])
def test_a_reload_that_fails_at_its_second_slot_leaves_both_as_they_were(folder: Path, raised: str) -> None:
    """The first of two swapped slots goes on with its audio and its timers when the second one's on_start raises."""
    ticking = COUNTER.replace('LOG.append(f"start {self.version}")', "self.ticks = 0; self.ctx.every(10_000_000, self.tick)")
    ticking += "\n    def tick(self):\n        self.ticks += 1\n"
    (folder / "counter.py").write_text(ticking)
    session = freewheel(folder, DIRECT + TWO, noise(FRAMES))
    first, second = plugin_of(session, "counter"), plugin_of(session, "second")

    def spoil(ctx: Any) -> Any:
        fails = f"if self.ctx.name == 'second': raise {raised}"
        (folder / "counter.py").write_text(
            ticking.replace("    def on_start(self):\n", f"    def on_start(self):\n        {fails}\n").replace(
                "from sigrack_plugins", "import asyncio\nfrom sigrack_plugins"
            )
        )
        path = session.document.path
        path.write_text(path.read_text().replace('"./counter.py"', '"./counter.py"\nconfig = {}').replace("config = {}", ""))
        changes = session.rack.changes

        async def both() -> None:
            document = session.document
            tables = [msgspec.structs.replace(t, config={} if t.name == "director" else t.config) for t in document.config.slot]
            for slot in session.rack.slots[1:]:
                slot.table = msgspec.structs.replace(slot.table, config={"changed": 1})
            await changes.apply(
                Document(document.path, document.text, msgspec.structs.replace(document.config, slot=tables), ("slot",))
            )

        return changes.requests.request(both, "test")

    (said,) = play(session, {20_000: spoil})

    assert isinstance(said, ConfigError)
    assert "second: on_start:" in str(said)
    assert (FRAMES, FRAMES) == (first.frames, second.frames)
    assert (200, 200) == (first.ticks, second.ticks)


def test_who_asks_may_go_away(folder: Path, cc: Compile) -> None:
    """A change whose caller is cancelled is carried out or taken back whole: no handle and no user of a library stays."""
    library = cc(plugin_source(), "plain")
    silence = '[source]\ndriver = "none"\n[control]\nenabled = false\n'
    session = Session(load(write(folder, silence + COUNT + f'[[slot]]\nname = "plain"\nplugin = "{library}"\nlane = "inline"\n')))
    before = lib.core_handle_count()
    counts: list[int] = []

    async def cancel() -> None:
        changes = session.rack.changes
        for number in range(20):
            task = asyncio.create_task(changes.swap("plain" if number % 2 else "counter"))
            await asyncio.sleep(0.0002 * (number % 5))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await changes.unload("counter")
        await session.rack.reaper.idle()
        counts.append(lib.core_handle_count())

    session.run(beside=cancel)

    assert [before] == counts
    assert before - 1 == lib.core_handle_count()
    assert [0] == users_of(library)


def test_a_swap_after_the_last_block_ends_with_the_file(folder: Path) -> None:
    """A worker's slot that is swapped when the file is through is given its end as all others are."""
    (folder / "worker.py").write_text(
        "import time\nfrom sigrack_plugins import Plugin\nclass Worker(Plugin):\n    def work(self, tap):\n"
        "        for _ in tap:\n            time.sleep(0.02)\n"
    )
    slots = "".join(f'[[slot]]\nname = "{name}"\nplugin = "./worker.py"\n' for name in ("one", "two"))
    session = freewheel(folder, DIRECT + slots, noise(10_000))
    said = play(session, {9216: lambda ctx: ctx.swap("one")})

    assert [None] == said
    assert [] == session.rack.left_behind


def test_the_latency_cannot_change_under_a_file(folder: Path, cc: Compile) -> None:
    """A plugin with a latency is not loaded while a file's output is aligned with its input."""
    late = plugin_source(activate="contract->latency_frames = 480;")
    session = freewheel(folder, DIRECT + EARS, noise(FRAMES))
    (said,) = play(session, {8192: lambda ctx: ctx.load("late", str(cc(late, "late")))})

    assert "the latency cannot change while a file source runs" in str(said)


def test_a_library_can_take_the_place_of_a_bundled_plugin_under_a_file(folder: Path, cc: Compile) -> None:
    """In the host's process, if it is trusted: one of its own takes latency, and the refusal tells the way out."""
    library = str(cc(plugin_source(), "own"))
    session = freewheel(folder, DIRECT + '[[slot]]\nname = "volume"\nplugin = "gain"\n', noise(FRAMES))
    lanes: list[Any] = []
    refused, wrong, done = play(
        session,
        {
            8192: lambda ctx: ctx.swap("volume", library),
            16_384: lambda ctx: ctx.swap("volume", library, lane="elsewhere"),
            24_576: lambda ctx: ctx.swap("volume", library, lane="inline"),
            40_960: lambda ctx: lanes.append(session.rack.slot("volume").table.lane),
        },
    )

    assert 'a process of its own takes a block of it, lane = "inline" does not' in str(refused)
    assert "lane must be inline, process, or process:NAME" in str(wrong)
    assert done is None
    assert ["inline"] == lanes


def test_a_hook_cannot_wait_for_a_change(folder: Path) -> None:
    """result() in a plain hook says why it would wait for ever; the change is made all the same."""
    session = freewheel(folder, DIRECT + COUNT, noise(FRAMES))
    events: list[str] = []
    session.rack.on_event = lambda kind, **_: events.append(kind)
    errors: list[str] = []

    def wait(ctx: Any) -> None:
        try:
            ctx.swap("counter").result()
        except RuntimeError as error:
            errors.append(str(error))

    play(session, {8192: wait})

    assert ["swapped"] == events
    assert 1 == len(errors)
    assert "a hook cannot wait for it" in errors[0]


def test_timers_end_with_the_plugin(folder: Path) -> None:
    """After the unload no timer fires, not one set in on_stop and not one that is a coroutine."""
    (folder / "ticker.py").write_text(
        "import asyncio\nfrom sigrack_plugins import Plugin\nclass Ticker(Plugin):\n"
        "    def on_start(self):\n        self.log, self.stopped = [], False\n"
        "        self.ctx.every(2_000_000, self.plain)\n        self.ctx.every(3_000_000, self.slow)\n"
        "    def on_block(self, block):\n        pass\n"
        "    def plain(self):\n        self.log.append(self.stopped)\n"
        "    async def slow(self):\n        await asyncio.sleep(0.001)\n        self.log.append(self.stopped)\n"
        "    def on_stop(self):\n        self.stopped = True\n        self.ctx.every(1_000_000, self.plain)\n"
    )
    session = freewheel(folder, DIRECT + '[[slot]]\nname = "ticker"\nplugin = "./ticker.py"\n', noise(FRAMES))
    slot = session.rack.slot("ticker")
    ticker = plugin_of(session, "ticker")
    play(session, {20_000: lambda ctx: ctx.unload("ticker")})

    assert slot.hooked is not None
    assert {False} == set(ticker.log)
    assert "is ending: it can have no more timers" in slot.hooked.last_error


@pytest.mark.parametrize("look_s", [0.0, 0.2])
def test_a_source_that_waits_for_its_predecessor_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, look_s: float
) -> None:
    """A fast meter is swapped in freewheel: all records of both come, although the new one's ring is small.

    `look_s`: how late it is noticed that the engine has left the old one.
    """
    monkeypatch.setattr("sigrack.reaper.LOOK_S", look_s)
    meter = '[[slot]]\nname = "meter"\nplugin = "level"\nparams = { interval_ms = 1 }\n'
    session = freewheel(folder, DIRECT + meter, noise(8 * FRAMES), rack="block_frames = 64")
    said = play(session, {FRAMES * i: lambda ctx: ctx.swap("meter") for i in range(1, 6)})
    counts = session.rack.accounts.posts()["meter"]

    assert [None] * 5 == said
    assert (0, 0, 0) == (counts.dropped, counts.stale, counts.queued)
    assert counts.posted == counts.delivered > 15_000


def test_what_control_sets_while_a_swap_is_built_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parameter and a bypass that were accepted between the asking and the commit hold for the new instance."""
    table = '[[slot]]\nname = "volume"\nplugin = "gain"\nparams = { gain_db = -12.0 }\n'
    session = freewheel(folder, DIRECT + table, noise(FRAMES))
    build = session.rack.builder.slot
    seen: list[Any] = []

    def slowly(*arguments: Any) -> Any:
        slot = build(*arguments)
        session.rack.on_main(session.rack.slot("volume").set_param, "gain_db", -6.0)
        session.rack.on_main(session.rack.slot("volume").set_bypass, True)
        return slot

    monkeypatch.setattr(session.rack.builder, "slot", slowly)
    session.rack.on_event = lambda kind, **_: seen.append(
        (session.rack.slot("volume").values["gain_db"], session.rack.slot("volume").bypass)
    )
    play(session, {8192: lambda ctx: ctx.swap("volume")})

    assert [(-6.0, True)] == seen


def test_an_on_start_that_fails_leaves_no_timer(folder: Path) -> None:
    """Timers that were set before on_start raised never fire."""
    (folder / "bad.py").write_text(
        "from sigrack_plugins import Plugin\nFIRED = []\nclass Bad(Plugin):\n    def on_block(self, block):\n        pass\n"
        "    def on_start(self):\n        self.ctx.every(1_000_000, lambda: FIRED.append(1))\n        raise OSError('no')\n"
    )
    session = freewheel(folder, DIRECT + EARS, noise(FRAMES))
    (said,) = play(session, {8192: lambda ctx: ctx.load("bad", "./bad.py")})
    modules = [module for name, module in sys.modules.items() if name.startswith("sigrack_plugin_bad_")]

    assert "bad: on_start: no" in str(said)
    assert [[]] == [module.FIRED for module in modules if str(folder) in str(module.__file__)]


EARLY = """
from sigrack_plugins import Plugin
FIRED = []
class Early(Plugin):
    def on_start(self):
        self.restored = False
        self.ctx.at(0, lambda: FIRED.append(self.restored))
    def on_block(self, block):
        pass
    def on_state_save(self):
        return 1
    def on_state_restore(self, state, version):
        self.restored = True
"""


@pytest.mark.parametrize("refuses", [False, True], ids=["taken", "refused"])
def test_timers_of_on_start_wait_until_the_plugin_is_in_the_rack(folder: Path, refuses: bool) -> None:
    """A timer that is due at once runs when the change is made, after on_state_restore; if that refuses, never."""
    (folder / "early.py").write_text(EARLY)
    session = freewheel(folder, DIRECT + '[[slot]]\nname = "early"\nplugin = "./early.py"\n', noise(FRAMES))
    before = set(sys.modules)

    def swap(ctx: Any) -> Any:
        (folder / "early.py").write_text(EARLY.replace("= True", "= 1 / 0") if refuses else EARLY + "\n")
        return ctx.swap("early")

    (said,) = play(session, {20_000: swap})
    (module,) = (sys.modules[name] for name in set(sys.modules) - before if name.startswith("sigrack_plugin_early_"))

    assert refuses == ("on_state_restore" in str(said))
    assert ([] if refuses else [True]) == module.FIRED


SLOWLY = """
import asyncio
from sigrack_plugins import Plugin
HEARD = []
class Slowly(Plugin):
    async def on_block(self, block):
        await asyncio.sleep(0.02)
        HEARD.append(block.frames)
"""


@pytest.mark.parametrize("change", ["unload", "swap"])
def test_calls_that_wait_have_their_turn(folder: Path, change: str) -> None:
    """Coroutine calls that wait when their plugin leaves a file's rack, or gives way to one without that hook, still run."""
    (folder / "slowly.py").write_text(SLOWLY)
    session = freewheel(
        folder, DIRECT + '[[slot]]\nname = "slowly"\nplugin = "./slowly.py"\n', noise(FRAMES), rack="block_frames = 8192"
    )
    heard = sys.modules[type(plugin_of(session, "slowly")).__module__].HEARD
    slot = session.rack.slot("slowly")
    changes: dict[str, Any] = {"unload": lambda ctx: ctx.unload("slowly"), "swap": lambda ctx: ctx.swap("slowly", "gain")}
    (said,) = play(session, {16_384: changes[change]})

    assert slot.hooked is not None
    assert said is None
    assert 0 == slot.hooked.dropped
    assert 24_576 <= sum(heard)
    assert len(heard) == slot.hooked.calls


def test_a_change_that_comes_too_late_is_not_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still being built when the rack has ended is never started; who asked is told, and the end is clean."""
    monkeypatch.setattr("sigrack.changes.LAST_S", 0.05)
    session = freewheel(folder, DIRECT + COUNT, noise(FRAMES))
    counter = plugin_of(session, "counter")
    build, begun, gate = session.rack.builder.slot, threading.Event(), threading.Event()

    def late(*arguments: Any) -> Any:
        begun.set()
        gate.wait(20)
        return build(*arguments)

    monkeypatch.setattr(session.rack.builder, "slot", late)
    asked: list[Any] = []

    async def ask() -> None:
        asked.append(session.rack.changes.requests.request(lambda: session.rack.changes.swap("counter"), "test"))
        await until(begun.is_set)

    end = session.rack.end

    async def ending() -> None:
        await end()
        gate.set()
        await until(asked[0].done)

    monkeypatch.setattr(session.rack, "end", ending)

    assert 0 == session.run(beside=ask)
    assert "the rack has stopped" in str(asked[0].exception())
    assert () == session.rack.things
    assert [] == session.rack.left_behind
    assert counter.frames <= FRAMES


def test_commits_are_measured(folder: Path) -> None:
    """Each commit notes the nanoseconds that it took of the main loop."""
    session = freewheel(folder, DIRECT + COUNT, noise(FRAMES))
    play(session, {8192 * (i + 1): lambda ctx: ctx.swap("counter") for i in range(3)})

    assert 3 == len(session.rack.changes.held_ns)
    assert all(ns > 0 for ns in session.rack.changes.held_ns)


def test_nothing_stays_mapped_or_open_after_many_swaps(folder: Path, cc: Compile) -> None:
    """Fifty swaps of a native plugin with one content leave one mapping of it and no more open descriptors than before."""
    library = cc(plugin_source(), "plain")
    session = freewheel(folder, DIRECT + f'[[slot]]\nname = "plain"\nplugin = "{library}"\nlane = "inline"\n', noise(4 * FRAMES))
    counts: list[int] = []

    def look(ctx: Any) -> None:
        counts.append(len(os.listdir("/proc/self/fd")))

    steps: Steps = {5120 * (i + 1): lambda ctx: ctx.swap("plain") for i in range(50)}
    play(session, {1024: look, **steps, 380_000: look})

    assert counts[0] == counts[1]
    assert [0] == users_of(library)
