"""Changes where something is slow, hangs or is refused: nobody waits for ever, nothing is half done or freed too early."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from factories import Compile
from plugin_source import plugin_source
from racks import freewheel, noise, write
from sigrack.config import load, slot_table
from sigrack.errors import ConfigError, EngineError
from sigrack.lifecycle import AbandonedError
from sigrack.session import Session
from sigrack.tables import SlotTable

LIMIT_S = 20.0
QUIET = '[source]\ndriver = "none"\n[control]\nenabled = false\n'
EARS = '[[slot]]\nname = "ears"\nplugin = "./collector.py"\n'


def live(folder: Path, tables: str = "", rack: str = "") -> Session:
    """Return a live session over silence, not yet run."""
    return Session(load(write(folder, f"[rack]\n{rack}\n{QUIET}{tables}")))


def plugin(folder: Path, name: str, body: str) -> SlotTable:
    """Write NAME.py, a plugin with this body, indented by four; return its slot."""
    (folder / f"{name}.py").write_text(f"import asyncio, time\nfrom sigrack_plugins import Plugin\nclass It(Plugin):\n{body}\n")
    return slot_table({"name": name, "plugin": f"./{name}.py"})


def plugin_of(session: Session, name: str) -> Any:
    """Return the plugin object of a slot."""
    hooked = session.rack.slot(name).hooked
    assert hooked is not None
    return hooked.plugin


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    stop = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < stop, "it never came to hold"
        await asyncio.sleep(0.005)


def beside(session: Session, work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run `work` on the session's loop; what it raises passes."""
    return session.run(beside=work)


def test_a_swap_does_not_wait_for_a_slow_hook(tmp_path: Path) -> None:
    """A plugin whose hook takes longer than its audio can be swapped; its successor gets the blocks that wait."""
    plugin(tmp_path, "slow", "    def on_block(self, block):\n        time.sleep(0.03)")
    session = live(tmp_path, '[[slot]]\nname = "slow"\nplugin = "./slow.py"\n', "block_frames = 64\nhook_frames = 64")
    hooked = session.rack.slot("slow").hooked
    assert hooked is not None

    async def work() -> None:
        await until(lambda: hooked.calls > 3)
        plugin(tmp_path, "slow", "    n = 0\n    def on_block(self, block):\n        self.n += 1")
        await asyncio.wait_for(session.rack.changes.swap("slow"), LIMIT_S)
        await until(lambda: plugin_of(session, "slow").n > 100)

    assert 0 == beside(session, work)


def test_a_turn_ends_between_two_plugins(tmp_path: Path) -> None:
    """When each of eight hooks takes longer than a turn may, a turn calls one of them; all have their turn."""
    body = "    n = 0\n    def on_block(self, block):\n        self.n += 1\n        time.sleep(0.003)"
    names = [f"p{number}" for number in range(8)]
    for name in names:
        plugin(tmp_path, name, body)
    tables = "".join(f'[[slot]]\nname = "{name}"\nplugin = "./{name}.py"\n' for name in names)
    session = live(tmp_path, tables, "block_frames = 64\nhook_frames = 64")
    dispatcher = session.rack.dispatcher

    async def work() -> None:
        await until(lambda: dispatcher.blocks > 80)
        counts = [plugin_of(session, name).n for name in names]
        assert dispatcher.blocks <= dispatcher.turns
        assert max(counts) - min(counts) <= 2

    beside(session, work)


TICKS = "    n = 0\n    def on_data(self, batch):\n        pass\n    def tick(self):\n        self.n += 1\n"


def test_timers_of_a_loaded_plugin_fire_where_nothing_else_happens(tmp_path: Path) -> None:
    """In a rack without audio and factors nobody but the timer itself wakes the loop."""
    session = live(tmp_path)
    table = plugin(tmp_path, "timed", TICKS + "    def on_start(self):\n        self.ctx.every(20_000_000, self.tick)")

    async def work() -> None:
        await session.rack.changes.load(table)
        await until(lambda: plugin_of(session, "timed").n >= 5)

    beside(session, work)


def test_a_timer_set_by_a_coroutine_fires(tmp_path: Path) -> None:
    """A call at a time sooner than all others sets the alarm."""
    body = "    async def later(self):\n        await asyncio.sleep(0.01)\n        self.ctx.at(self.ctx.now() + 1, self.tick)\n"
    session = live(tmp_path)
    table = plugin(tmp_path, "timed", TICKS + body + "    def on_start(self):\n        self.ctx.at(0, self.later)")

    async def work() -> None:
        await session.rack.changes.load(table)
        await until(lambda: plugin_of(session, "timed").n == 1)

    beside(session, work)


SLOW_STATE = """
static _Atomic int inside;
static uint32_t state_save(void *self, void *data, uint32_t size) {
    (void)self, (void)data, (void)size;
    inside++;
    for (int i = 0; i < 100; i++)
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    inside--;
    return 0;
}
static int state_load(void *self, const char *version, const void *data, uint32_t size, char *error, uint32_t error_size) {
    (void)self, (void)version, (void)data, (void)size, (void)error, (void)error_size;
    return 0;
}
static void careful(void *self) {
    if (inside)
        abort();
    free(self);
}
"""


def test_what_an_abandoned_call_is_in_is_held(tmp_path: Path, cc: Compile) -> None:
    """A state_save that takes too long fails the swap; the instance is destroyed only when that call has returned after all."""
    library = cc(_with_slow_state(plugin_source()), "slow", "-D_POSIX_C_SOURCE=200809L")
    session = live(tmp_path, f'[[slot]]\nname = "slow"\nplugin = "{library}"\nlane = "inline"\n')
    session.rack.control.limit_s = 0.2

    async def work() -> None:
        rack = session.rack
        with pytest.raises(AbandonedError, match=r"slow: state_save did not return within 0\.2 s"):
            await rack.changes.swap("slow")
        with pytest.raises(ConfigError, match="an earlier state_save has not returned"):
            await rack.changes.swap("slow")
        rack.control.limit_s = 10.0
        await rack.changes.unload("slow")
        await until(lambda: rack.reaper.lingering == {"slow"})
        await rack.reaper.idle()
        assert not rack.reaper.lingering

    assert 0 == beside(session, work)


def _with_slow_state(source: str) -> str:
    """Return a plugin's source with a state that takes a second to save, and a destroy that aborts while it is being saved."""
    first = "static void *create("
    assert first in source
    assert ".destroy = free" in source
    source = source.replace(first, f"#include <time.h>\n{SLOW_STATE}\n{first}")
    return source.replace(".destroy = free", ".destroy = careful, .state_save = state_save, .state_load = state_load")


ASKS = """    def on_block(self, block):
        pass
    def on_start(self):
        self.ctx.set_param("volume", "gain_db", -40.0)
        self.asked = [self.ctx.load("ghost", "level"), self.ctx.unload("volume")]
        ASKED.append(self.asked)
        {end}
"""


def test_what_a_refused_plugin_has_asked_for_is_not_done(tmp_path: Path) -> None:
    """on_start sets a parameter, loads and unloads, then raises: the rack stays as it was, and the requests say why."""
    session = live(tmp_path, '[[slot]]\nname = "volume"\nplugin = "gain"\n')
    table = plugin(tmp_path, "asks", ASKS.format(end="raise OSError('no')"))
    (tmp_path / "asks.py").write_text("ASKED = []\n" + (tmp_path / "asks.py").read_text())

    async def work() -> None:
        with pytest.raises(ConfigError, match="on_start: no"):
            await session.rack.changes.load(table)
        await asyncio.sleep(0)
        await session.rack.changes.load(slot_table({"name": "after", "plugin": "level"}))
        assert ["volume", "after"] == [slot.name for slot in session.rack.slots]
        assert 0.0 == session.rack.slot("volume").values["gain_db"]

    beside(session, work)


def test_what_a_plugin_asks_for_in_on_start_is_done_once_it_is_there(tmp_path: Path) -> None:
    """The same without the failure."""
    session = live(tmp_path, '[[slot]]\nname = "volume"\nplugin = "gain"\n')
    table = plugin(tmp_path, "asks", ASKS.format(end="pass"))
    (tmp_path / "asks.py").write_text("ASKED = []\n" + (tmp_path / "asks.py").read_text())

    async def work() -> None:
        volume = session.rack.slot("volume")
        await session.rack.changes.load(table)
        assert -40.0 == volume.values["gain_db"]
        await until(lambda: ["asks", "ghost"] == [slot.name for slot in session.rack.slots])

    beside(session, work)


def test_what_comes_together_may_name_each_other(tmp_path: Path) -> None:
    """A reload adds a meter, a volume, and a plugin that subscribes to the one and sets the other in on_start."""
    body = "    def on_factors(self, batch):\n        pass\n    def on_start(self):\n"
    body += '        self.ctx.subscribe("meter", "peak_db")\n'
    plugin(tmp_path, "new", body + '        self.ctx.set_param("volume", "gain_db", -3.0)')
    session = live(tmp_path, EARS)
    tables = '[[slot]]\nname = "volume"\nplugin = "gain"\n[[slot]]\nname = "meter"\nplugin = "level"\n'
    path = write(tmp_path, f'[rack]\n\n{QUIET}{EARS}[[slot]]\nname = "new"\nplugin = "./new.py"\n{tables}')

    async def work() -> None:
        await session.rack.changes.apply(load(path))
        assert -3.0 == session.rack.slot("volume").values["gain_db"]

    beside(session, work)


def test_a_thread_that_cannot_be_started_fails_the_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A swap whose worker the system refuses leaves the old one at work, and the rack ends cleanly."""
    plugin(tmp_path, "worker", "    def work(self, tap):\n        for _ in tap:\n            pass")
    session = live(tmp_path, '[[slot]]\nname = "worker"\nplugin = "./worker.py"\n')
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "sigrack-worker":
            raise RuntimeError("can't start new thread")
        start(thread)

    async def work() -> None:
        before = session.rack.slot("worker")
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(EngineError, match="worker: can't start new thread"):
            await session.rack.changes.swap("worker")
        monkeypatch.setattr(threading.Thread, "start", start)
        assert before is session.rack.slot("worker")
        await session.rack.changes.swap("worker")
        assert before is not session.rack.slot("worker")

    assert 0 == beside(session, work)


def test_a_build_that_does_not_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A module that hangs while it is imported: the load fails, others have their turn, and what comes late is let go."""
    monkeypatch.setattr("sigrack.beside.SLOW_S", 0.05)
    monkeypatch.setattr("sigrack.beside.BUILD_S", 0.3)
    gate = threading.Event()
    monkeypatch.setattr(threading, "sigrack_test_gate", gate, raising=False)
    table = plugin(
        tmp_path, "hangs", "    def on_block(self, block):\n        pass\nimport threading\nthreading.sigrack_test_gate.wait()"
    )
    session = live(tmp_path)

    async def work() -> None:
        rack = session.rack
        with pytest.raises(ConfigError, match=r"hangs was not built within 0\.3 s; it was abandoned"):
            await rack.changes.load(table)
        monkeypatch.setattr("sigrack.beside.BUILD_S", LIMIT_S)
        await rack.changes.load(slot_table({"name": "meter", "plugin": "level"}))
        gate.set()
        await until(lambda: len(rack.reaper) or not any(t.name == "sigrack-build" for t in threading.enumerate()))
        await rack.reaper.idle()
        assert ["meter"] == [slot.name for slot in rack.slots]
        assert 1 == rack.changes.beside.abandoned

    assert 0 == beside(session, work)
    assert "hangs is still being built after 0.05 s" in caplog.text


def test_a_constructor_that_hangs_is_interrupted(tmp_path: Path) -> None:
    """__init__ runs on the main loop under the same limit as hooks."""
    table = plugin(
        tmp_path,
        "hangs",
        "    def __init__(self):\n        while True:\n            pass\n    def on_block(self, block):\n        pass",
    )
    session = live(tmp_path, EARS, "hook_limit_ms = 300")

    async def work() -> None:
        with pytest.raises(ConfigError, match=r"hangs.*over the limit of 0\.3 s"):
            await session.rack.changes.load(table)

    assert 0 == beside(session, work)


def test_a_plugin_that_posts_too_much_in_freewheel_is_named(
    tmp_path: Path, cc: Compile, caplog: pytest.LogCaptureFixture
) -> None:
    """A record for each frame of a long block is more than its ring takes: what was dropped is told at the end."""
    posts = "for (uint32_t i = 0; i < block->frames; i++) scale->host.post(scale->host.cookie, 0, block->frame + i, &first, 1);"
    call = "scale->host.post(scale->host.cookie, 0, block->frame, &first, 1);"
    source = plugin_source()
    assert call in source
    library = cc(source.replace(call, posts), "noisy")
    session = freewheel(
        tmp_path, f'[[slot]]\nname = "noisy"\nplugin = "{library}"\nlane = "inline"\n', noise(48_000), rack="block_frames = 8192"
    )
    session.run()
    counts = session.rack.accounts.posts()["noisy"]

    assert 48_000 == counts.posted == counts.delivered + counts.dropped
    assert f"noisy: posted too much at once: {counts.dropped} of its 48000 records were dropped" in caplog.text
