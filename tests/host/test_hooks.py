"""Hooks: coroutine hooks in order, budgets counted, hooks that keep the main loop named and interrupted."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from racks import Host, answers, freewheel, noise, request, write
from sigrack.control.schema import CommandError
from sigrack.errors import ConfigError
from sigrack.hooks import MOST_WAITING, Hooked
from sigrack.session import Session
from sigrack.watch import HookWatch
from sigrack_plugins import Plugin
from waiting import wait_until

LIVE = '[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n'
SLOW = '[[slot]]\nname = "slow"\nplugin = "./slow.py"\n'
EARS = '[[slot]]\nname = "ears"\nplugin = "./collector.py"\n'
METER = '[[slot]]\nname = "meter"\nplugin = "level"\n'


def plugin(folder: Path, body: str) -> None:
    """Write slow.py: a plugin class with this body, indented by four."""
    (folder / "slow.py").write_text(
        f"import asyncio, threading, time\nfrom sigrack_plugins import SECOND, Plugin\nclass Slow(Plugin):\n{body}\n"
    )


def plugin_of(session: Session, name: str) -> Any:
    """Return the plugin object of a slot."""
    hooked = session.rack.slot(name).hooked
    assert hooked is not None
    return hooked.plugin


def hooks_of(name: str) -> Any:
    """Return what STATS says of a slot's hooks."""
    return next(slot for slot in request("STATS")["data"]["slots"] if slot["name"] == name)["hooks"]


def started(plugin: Plugin, *, watch: HookWatch | None = None, lossless: bool = False) -> Hooked:
    """Return a plugin's hooks as they are once on_start has returned."""
    hooked = Hooked("started", plugin, frozenset({"on_block"}), watch or HookWatch(), lossless=lossless)
    hooked.closed = False
    return hooked


# Coroutine hooks

COROUTINES = """
    def on_start(self):
        self.calls, self.running = [], 0
    async def on_block(self, block):
        await self.note(("block", block.frame))
    async def on_factor(self, source, symbol, ts_ns, values):
        await self.note(("factor", ts_ns))
    async def note(self, call):
        self.running += 1
        assert self.running == 1
        await asyncio.sleep(0.0005)
        self.calls.append((call, threading.get_ident()))
        self.running -= 1
    def on_stop(self):
        self.calls.append("stop")
"""


def test_coroutine_hooks_run_one_at_a_time_in_order(tmp_path: Path) -> None:
    """In freewheel every call of a coroutine hook is finished, in order, alone, on the main loop, before on_stop."""
    plugin(tmp_path, COROUTINES)
    session = freewheel(tmp_path, METER + SLOW, noise(48_000))
    slow = plugin_of(session, "slow")
    assert 0 == session.run()
    *calls, last = slow.calls
    blocks = [number for (kind, number), _ in calls if kind == "block"]

    assert "stop" == last
    assert {threading.get_ident()} == {thread for _, thread in calls}
    assert list(range(0, 48_000, 1024)) == blocks
    assert 20 == sum(kind == "factor" for (kind, _), _ in calls)
    assert [] == session.rack.left_behind


def test_what_a_coroutine_hook_raises_is_counted_and_the_next_has_its_turn(tmp_path: Path) -> None:
    """An exception before and after an await is caught, counted and named like that of a plain hook."""
    plugin(
        tmp_path,
        "    async def on_block(self, block):\n        if block.frame % 2048:\n            raise KeyError('odd')\n"
        "        await asyncio.sleep(0)\n        raise ValueError('even')",
    )
    session = freewheel(tmp_path, SLOW, noise(8192))
    hooked = session.rack.slot("slow").hooked
    assert hooked is not None
    assert 0 == session.run()

    assert (8, 8) == (hooked.calls, hooked.errors)
    assert "KeyError: 'odd'" in hooked.last_error
    assert "slow.py:6" in hooked.last_error


@pytest.mark.parametrize("hook", ["on_start(self)", "on_stop(self)", "on_state_save(self)"])
def test_hooks_that_must_be_plain_functions(tmp_path: Path, hook: str) -> None:
    """A coroutine where the host cannot wait is refused at load, with the hooks that may be one."""
    plugin(
        tmp_path,
        f"    async def {hook}:\n        pass\n    def on_block(self, block):\n        pass\n"
        "    def on_state_restore(self, state, version):\n        pass"
        + ("" if "save" in hook else "\n    def on_state_save(self):\n        pass"),
    )
    with pytest.raises(ConfigError, match="is a coroutine; only on_block, on_data, on_factor, on_factors may be one"):
        freewheel(tmp_path, SLOW, noise(64))


def test_live_calls_beyond_the_bound_are_dropped_and_counted() -> None:
    """When a coroutine hook hangs in a live rack, a bounded number of calls waits behind it and the others are counted."""

    class Hanging(Plugin):
        async def on_block(self, block: object) -> None:
            await asyncio.Event().wait()

    async def scenario() -> tuple[int, int, bool]:
        hooked = started(Hanging())
        for _ in range(MOST_WAITING + 1 + 10):
            hooked.hook("on_block", None)
            await asyncio.sleep(0)
        pins, dropped = hooked.pins, hooked.dropped
        hooked.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return pins, dropped, hooked.busy

    assert (1, 10, False) == asyncio.run(scenario())


def test_hooks_on_another_thread_are_refused() -> None:
    """A hook called on a thread that is not the main loop's is an error of the host's, not a call."""

    class Plain(Plugin):
        calls = 0

        def on_block(self, block: object) -> None:
            self.calls += 1

    hooked = started(Plain())
    errors: list[str] = []

    def attempt() -> None:
        try:
            hooked.hook("on_block", None)
        except AssertionError as error:
            errors.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    hooked.hook("on_block", None)

    assert 1 == len(errors)
    assert "not on the main loop" in errors[0]
    assert 1 == hooked.plugin.calls  # type: ignore[attr-defined]


# Budgets and limits


def test_calls_over_the_budget_are_counted(tmp_path: Path) -> None:
    """hook_budget_ms: slower calls are counted, faster ones are not."""
    plugin(tmp_path, "    def on_block(self, block):\n        time.sleep(0.05 if block.frame < 2048 else 0)")
    session = freewheel(tmp_path, SLOW, noise(8192), rack="hook_budget_ms = 40")
    hooked = session.rack.slot("slow").hooked
    assert hooked is not None
    session.run()

    assert (8, 2) == (hooked.calls, hooked.late)


HANGS = {
    "python": "while True:\n                pass",
    "sleep": "time.sleep(600)",
    "lock": "lock = threading.Lock()\n            lock.acquire()\n            lock.acquire()",
    "swallowed": "while True:\n                try:\n                    time.sleep(600)\n"
    "                except Exception:\n                    pass",
}


@pytest.mark.parametrize("name", HANGS)
def test_a_hook_over_the_hard_limit_is_interrupted_and_its_plugin_bypassed(tmp_path: Path, name: str) -> None:
    """A hook that computes, sleeps or waits for ever is named with its stack, interrupted, and called no more; others go on."""
    plugin(tmp_path, f"    def on_block(self, block):\n        if block.frame > 10_000:\n            {HANGS[name]}")
    rack = write(tmp_path, "[rack]\nhook_limit_ms = 500\n" + LIVE + SLOW + METER + EARS, noise(48_000))
    with Host(rack) as host:
        wait_until(answers)
        wait_until(lambda: hooks_of("slow")["resting"], 20)
        calls, heard = hooks_of("slow")["calls"], hooks_of("ears")["calls"]
        wait_until(lambda: hooks_of("ears")["calls"] > heard + 20)
        after = hooks_of("slow")
        stats = request("STATS")["data"]

        assert calls == after["calls"]
        assert "on_block did not return within 0.5 s" in after["resting"]
        assert "slow.py" in after["blocked_at"]
        assert "slow: on_block keeps the main loop for more than 200 ms" in host.log
        assert "in on_block" in host.log
        assert "the plugin is bypassed until it is reloaded" in host.log
        assert 0 == stats["driver"]["source_underrun_frames"]


@pytest.mark.soak
@pytest.mark.parametrize("name", HANGS)
def test_fifty_hangs(tmp_path: Path, name: str) -> None:
    """Reloaded each time, it hangs fifty times: each time it is interrupted, counted and bypassed, and the music plays."""
    plugin(tmp_path, f"    def on_block(self, block):\n        if block.frame > 10_000:\n            {HANGS[name]}")
    rack = write(tmp_path, "[rack]\nhook_limit_ms = 100\n" + LIVE + SLOW + METER + EARS, noise(48_000))
    with Host(rack) as host:
        wait_until(answers)
        for turn in range(50):
            if turn:
                request("RELOAD", name="slow")
            wait_until(lambda: hooks_of("slow")["resting"], 20)
        heard = hooks_of("ears")["calls"]
        wait_until(lambda: hooks_of("ears")["calls"] > heard + 20)

        assert 50 == hooks_of("slow")["errors"]
        assert 50 == host.log.count("on_block did not return within 0.1 s")
        assert 0 == request("STATS")["data"]["driver"]["source_underrun_frames"]


def test_on_start_that_hangs_in_a_running_rack_fails_the_load(tmp_path: Path) -> None:
    """LOAD of a plugin whose on_start does not return is answered after the limit, and nothing was changed."""
    plugin(tmp_path, "    def on_start(self):\n        time.sleep(600)\n    def on_block(self, block):\n        pass")
    rack = write(tmp_path, "[rack]\nhook_limit_ms = 300\n" + LIVE + EARS, noise(48_000))
    with Host(rack) as host:
        wait_until(answers)
        with pytest.raises(CommandError, match=r"HookTimeout: over the limit of 0\.3 s \(.*slow\.py:5\); nothing was changed"):
            request("LOAD", name="slow", plugin=str(tmp_path / "slow.py"))

        assert ["ears"] == [slot["name"] for slot in request("GET_STATUS")["data"]["slots"]], host.log


def test_the_limit_is_one_calls_not_a_batchs(tmp_path: Path) -> None:
    """Factors that are handed over one by one may together take longer than the limit."""
    plugin(
        tmp_path,
        "    factors = {'x': ''}\n    def on_block(self, block):\n"
        "        if block.frame == 0:\n            self.ctx.post_many('x', [[1.0]] * 40, range(40))\n"
        "    def on_factor(self, source, symbol, ts_ns, values):\n        time.sleep(0.02)",
    )
    rack = write(tmp_path, "[rack]\nhook_limit_ms = 300\n" + LIVE + SLOW, noise(48_000))
    with Host(rack):
        wait_until(answers)
        wait_until(lambda: hooks_of("slow")["calls"] > 45)

        assert "" == hooks_of("slow")["resting"]


def test_a_plugin_that_was_interrupted_comes_back_by_reload(tmp_path: Path) -> None:
    """RELOAD with the slot's name, after its file was mended, gives a fresh instance whose hooks are called."""
    plugin(tmp_path, "    def on_block(self, block):\n        time.sleep(600)")
    rack = write(tmp_path, "[rack]\nhook_limit_ms = 300\n" + LIVE + SLOW, noise(48_000))
    with Host(rack) as host:
        wait_until(answers)
        wait_until(lambda: hooks_of("slow")["resting"], 20)
        plugin(tmp_path, "    def on_block(self, block):\n        pass")
        reply = request("RELOAD", name="slow")
        wait_until(lambda: hooks_of("slow")["calls"] > 5)

        assert "reloaded slow" == reply["message"]
        assert "" == hooks_of("slow")["resting"], host.log


def test_without_a_limit_nothing_is_interrupted(tmp_path: Path) -> None:
    """hook_limit_ms = 0: a hook of half a second is named and completes. (Shows that the limit is what interrupts.)"""
    plugin(
        tmp_path,
        "    def on_block(self, block):\n        if block.frame == 0:\n            time.sleep(0.8)\n"
        "            self.ctx.log('slept')",
    )
    rack = write(tmp_path, "[rack]\nhook_limit_ms = 0\n" + LIVE + SLOW, noise(48_000))
    with Host(rack) as host:
        wait_until(answers)
        wait_until(lambda: "slept" in host.log)

        assert "keeps the main loop" in host.log
        assert "" == hooks_of("slow")["resting"]


def test_freewheel_names_and_does_not_interrupt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A render waits for a slow hook however long it takes: nothing else waits for it."""
    plugin(tmp_path, "    def on_block(self, block):\n        time.sleep(0.5)\n        self.done = True")
    session = freewheel(tmp_path, SLOW, noise(512), rack="hook_limit_ms = 100")
    slow = plugin_of(session, "slow")
    session.run()

    assert slow.done
    assert "slow: on_block keeps the main loop" in caplog.text


def test_the_watch_interrupts_only_the_call_that_was_condemned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes when the hook has returned, or is another call's, raises nothing; a thousand times."""
    monkeypatch.setattr("sigrack.watch.LOOK_S", 0.0003)
    watch = HookWatch(limit_ms=1)

    class Quick(Plugin):
        def on_block(self, block: object) -> None:
            time.sleep(0.001)  # about the limit: some calls are interrupted, others end just before

    hooked = started(Quick(), watch=watch, lossless=True)
    watch.start(interrupting=True)
    try:
        for _ in range(1000):
            hooked.hook("on_block", None)
            hooked.resting = ""
    finally:
        watch.stop()

    assert watch.current is None
    assert not hooked.inside
    assert 0 < hooked.errors < 1000
