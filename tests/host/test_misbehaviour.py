"""What plugins do wrong stays theirs: the host answers, others play on, nothing is freed under anybody."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import soundfile

from factories import Compile
from racks import Host, answers, freewheel, noise, request, write
from sigrack.control.schema import CommandError
from sigrack.errors import EngineError
from sigrack.rendering import render
from waiting import wait_until

LIVE = '[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n'
EARS = '[[slot]]\nname = "ears"\nplugin = "./collector.py"\n'
BAD = '[[slot]]\nname = "bad"\nplugin = "./bad.py"\n'


def plugin(folder: Path, body: str, head: str = "") -> None:
    """Write bad.py: a plugin class with this body, indented by four."""
    (folder / "bad.py").write_text(
        f"import time\nfrom sigrack_plugins import SECOND, Plugin\n{head}\nclass Bad(Plugin):\n{body}\n"
    )


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A folder with sound in it."""
    write(tmp_path, "", noise(48_000))
    return tmp_path


def test_hooks_that_take_longer_than_their_audio(live: Path) -> None:
    """When hooks cannot keep up, blocks are lost to them and counted, and the control still answers every time."""
    plugin(live, "    def on_block(self, block):\n        time.sleep(0.2)")
    (live / "rack.toml").write_text(LIVE + BAD)
    with Host(live / "rack.toml"):
        wait_until(answers)
        wait_until(lambda: request("STATS")["data"]["slots"][0]["lost_frames"] > 0, 20)
        replies = [request("PING")["message"] for _ in range(10)]
        stats = request("STATS")["data"]

        assert ["pong"] * 10 == replies
        assert 0 == stats["driver"]["source_underrun_frames"]


def test_timers_that_take_longer_than_their_period(live: Path) -> None:
    """A timer slower than its period, and one that arms itself for now, leave the main loop to others."""
    plugin(
        live,
        "    def on_start(self):\n"
        "        self.ctx.every(SECOND // 1000, lambda: time.sleep(0.002))\n"
        "        self.again()\n"
        "    def again(self):\n        self.ctx.at(0, self.again)\n"
        "    def on_block(self, block):\n        pass",
    )
    (live / "rack.toml").write_text(LIVE + BAD)
    with Host(live / "rack.toml"):
        wait_until(answers)
        wait_until(lambda: request("STATS")["data"]["frame"] > 48_000)

        assert ["pong"] * 10 == [request("PING")["message"] for _ in range(10)]


def test_wrong_arguments_fail_where_they_are_given(tmp_path: Path) -> None:
    """post, at and every refuse what they cannot use in the plugin's own frame; the file is processed to its end."""
    plugin(
        tmp_path,
        "    factors = {'x': ''}\n"
        "    def on_start(self):\n        self.errors = []\n"
        "    def attempt(self, call):\n"
        "        try:\n            call()\n"
        "        except (TypeError, ValueError, KeyError) as error:\n            self.errors.append(type(error).__name__)\n"
        "    def on_block(self, block):\n"
        "        self.attempt(lambda: self.ctx.post('x', [1.0], ts_ns=2**70))\n"
        "        self.attempt(lambda: self.ctx.post('y', [1.0]))\n"
        "        self.attempt(lambda: self.ctx.post('x', 'text'))\n"
        "        self.attempt(lambda: self.ctx.at('soon', print))\n"
        "        self.attempt(lambda: self.ctx.at(5, 'print'))\n"
        "        self.attempt(lambda: self.ctx.every(5, print))\n"
        "        self.attempt(lambda: self.ctx.at(5, self.plain))\n"
        "        self.attempt(lambda: self.ctx.every(10**9, self.awaited))\n"
        "    def plain(self):\n        yield\n"
        "    async def awaited(self):\n        yield\n",
    )
    session = freewheel(tmp_path, BAD + EARS, noise(2048))
    bad, ears = (session.rack.slot(name).hooked for name in ("bad", "ears"))
    assert bad is not None
    assert ears is not None

    assert 0 == session.run()
    expected = ["ValueError", "KeyError", "ValueError", "TypeError", "TypeError", "ValueError", "TypeError", "TypeError"]
    assert expected * 2 == bad.plugin.errors  # type: ignore[attr-defined]
    assert 2048 == sum(block.frames for block in ears.plugin.blocks)  # type: ignore[attr-defined]


def test_only_hooks_may_touch_the_rack(tmp_path: Path) -> None:
    """set_param, at and subscribe called on a worker's thread raise; they would race with the main loop."""
    plugin(
        tmp_path,
        "    def work(self, tap):\n"
        "        self.errors = []\n"
        "        ctx = self.ctx\n"
        "        for call in (lambda: ctx.set_param('v', 'gain_db', 0), lambda: ctx.at(0, print), ctx.subscribe):\n"
        "            try:\n                call()\n"
        "            except RuntimeError as error:\n                self.errors.append(str(error))\n"
        "        for _ in tap:\n            pass",
    )
    session = freewheel(tmp_path, BAD, noise(2048))
    bad: Any = session.rack.slot("bad").hooked.plugin  # type: ignore[union-attr]
    session.run()

    assert 3 == len(bad.errors)
    assert all("on the main loop" in error for error in bad.errors)


def test_an_error_that_is_no_text(live: Path) -> None:
    """An exception whose message holds half a character is shown escaped; the control goes on answering."""
    plugin(live, "    def on_block(self, block):\n        raise ValueError('cannot read \\udcff.txt')")
    (live / "rack.toml").write_text(LIVE + BAD)
    with Host(live / "rack.toml"):
        wait_until(answers)
        wait_until(lambda: request("STATS")["data"]["slots"][0]["hooks"]["errors"])

        assert "\\udcff.txt" in request("STATS")["data"]["slots"][0]["hooks"]["last_error"]
        assert "pong" == request("PING")["message"]


def test_a_hook_that_never_returns_is_named_at_the_stop(live: Path) -> None:
    """When a hook hangs that nothing interrupts, a stop ends the host by force after its limit, with the slot's name."""
    plugin(live, "    def on_block(self, block):\n        self.ctx.log('hanging')\n        time.sleep(600)")
    (live / "rack.toml").write_text("[rack]\nhook_limit_ms = 0\n" + LIVE + EARS + BAD)
    with Host(live / "rack.toml") as host:
        wait_until(lambda: "hanging" in host.log)
        host.process.terminate()

        assert 103 == host.process.wait(15), host.log
        assert "a hook of bad did not return" in host.log


def test_a_reload_that_waits_keeps_nobody_waiting(live: Path) -> None:
    """While a reload imports a slow plugin, other commands are answered, and a stop ends the host."""
    (live / "rack.toml").write_text(LIVE + EARS)
    plugin(live, "    def on_block(self, block):\n        pass", head="time.sleep(5)")
    with Host(live / "rack.toml") as host:
        wait_until(answers)
        (live / "rack.toml").write_text(LIVE + EARS + BAD)
        host.process.send_signal(signal.SIGHUP)

        assert ["pong"] * 20 == [request("PING")["message"] for _ in range(20)]
        assert ["ears"] == [slot["name"] for slot in request("GET_STATUS")["data"]["slots"]]
        assert "stopping" == request("SHUTDOWN")["message"]
        assert 0 == host.process.wait(15), host.log


def test_a_half_wrong_reload_leaves_nothing(live: Path) -> None:
    """When one new slot is good and the next is broken, the good one goes without a hook called, and nothing has changed."""
    plugin(live, "    def on_block(self, block):\n        pass\n    def on_stop(self):\n        self.ctx.log('stopped')")
    (live / "rack.toml").write_text(LIVE + EARS)
    with Host(live / "rack.toml") as host:
        wait_until(answers)
        (live / "rack.toml").write_text(LIVE + EARS + BAD + '[[slot]]\nname = "broken"\nplugin = "gian"\n')
        with pytest.raises(CommandError) as refusal:
            request("RELOAD")

        assert "VALIDATION_INVALID_CONFIG" == refusal.value.code
        assert ["ears"] == [slot["name"] for slot in request("GET_STATUS")["data"]["slots"]]
        assert "stopped" not in host.log


@pytest.mark.parametrize("error", ["GeneratorExit", "KeyboardInterrupt", "__import__('asyncio').CancelledError", "SystemExit"])
def test_no_exception_of_a_plugin_ends_the_run(tmp_path: Path, error: str) -> None:
    """Whatever a hook or a worker raises, be it meant for tasks or for the interpreter, the file is processed to its end."""
    plugin(tmp_path, f"    def on_block(self, block):\n        raise {error}\n    def work(self, tap):\n        raise {error}")
    session = freewheel(tmp_path, BAD + EARS, noise(300_000))
    ears: Any = session.rack.slot("ears").hooked.plugin  # type: ignore[union-attr]

    assert 0 == session.run()
    assert 300_000 == sum(block.frames for block in ears.blocks)


def test_freewheel_waits_for_a_slow_worker(tmp_path: Path) -> None:
    """At the end of a file a worker may take as long as it needs: it gets every frame."""
    plugin(
        tmp_path,
        "    tap_seconds = 30.0\n"
        "    def work(self, tap):\n        self.frames = 0\n        for samples in tap:\n"
        "            time.sleep(0.1)\n            self.frames += len(samples)\n"
        "        self.done = True",
    )
    session = freewheel(tmp_path, BAD, noise(400_000))
    bad: Any = session.rack.slot("bad").hooked.plugin  # type: ignore[union-attr]

    assert 0 == session.run()
    assert (400_000, True) == (bad.frames, bad.done)


STUCK = """
#include <stdint.h>
#include <unistd.h>
#include "sigrack_signal.h"
void *signal_create(const char *config) { (void)config; return (void *)1; }
void signal_on_data(void *handle, int type, const void *data) { (void)handle; (void)type; (void)data; for (;;) pause(); }
void signal_destroy(void *handle) { (void)handle; }
"""


def test_a_stuck_engine_is_named_and_not_freed(tmp_path: Path, cc: Compile) -> None:
    """A signal engine that never returns from on_data makes render fail by its name, and the interpreter lives on."""
    library = cc(STUCK, "stuck")
    table = f'[[signal]]\nname = "stuck"\nlibrary = "{library}"\nlane = "inline"\nsymbols = ["A"]\n'
    rack = write(tmp_path, f'[source]\ndriver = "file"\npath = "-"\n{table}', noise(2000))
    good = tmp_path / "good.toml"
    good.write_text('[source]\ndriver = "file"\npath = "-"\n')

    with pytest.raises(EngineError, match="stuck"):
        _render_briefly(rack, tmp_path)
    render(good, tmp_path / "in.wav", tmp_path / "out.wav")

    assert 2000 == soundfile.info(tmp_path / "out.wav").frames


HANG = """
#include <stdlib.h>
#include <unistd.h>
#include <sigrack.h>
static void *create(const struct sigrack_host *h, const char *c, char *e, uint32_t n) {
    (void)h, (void)c, (void)e, (void)n;
    return malloc(1);
}
static int activate(void *self, const struct sigrack_setup *s, struct sigrack_contract *c) {
    (void)self, (void)s, (void)c;
    return 0;
}
static int process(void *self, const struct sigrack_block *block) {
    (void)self;
    while (block->frame > 20000)
        pause();
    return 0;
}
const struct sigrack_plugin *sigrack_plugin_entry(void) {
    static const struct sigrack_plugin plugin = {.size = sizeof plugin, .abi = SIGRACK_ABI, .id = "hang",
        .create = create, .activate = activate, .process = process, .destroy = free};
    return &plugin;
}
"""


def test_a_native_plugin_that_hangs_is_named_at_the_stop(live: Path, cc: Compile) -> None:
    """When `process` never returns, a stop still ends the host, by force and with the slot's name in the log."""
    (live / "rack.toml").write_text(LIVE + EARS + f'[[slot]]\nname = "culprit"\nplugin = "{cc(HANG, "hang")}"\nlane = "inline"\n')
    with Host(live / "rack.toml") as host:
        wait_until(answers)
        wait_until(lambda: request("STATS")["data"]["frame"] > 20_000)
        host.process.terminate()

        assert 103 == host.process.wait(10), host.log
        assert "did not stop in time: the engine, in culprit" in host.log


UNDYING = """
#include <stdint.h>
#include <unistd.h>
#include "sigrack_signal.h"
void *signal_create(const char *config) { (void)config; return (void *)1; }
void signal_on_data(void *handle, int type, const void *data) { (void)handle; (void)type; (void)data; }
void signal_destroy(void *handle) { (void)handle; for (;;) pause(); }
"""


def test_an_engine_that_does_not_end_is_named_at_the_stop(live: Path, cc: Compile) -> None:
    """When signal_destroy never returns, a stop ends the host by force, with the engine's name in the log."""
    table = f'[[signal]]\nname = "undying"\nlibrary = "{cc(UNDYING, "undying")}"\nlane = "inline"\nsymbols = ["A"]\n'
    (live / "rack.toml").write_text(LIVE + EARS + table)
    with Host(live / "rack.toml") as host:
        wait_until(answers)
        host.process.terminate()

        assert 103 == host.process.wait(15), host.log
        assert "undying: signal_destroy did not return within 4 s" in host.log


def _render_briefly(rack: Path, folder: Path) -> None:
    """Render, and ask for a stop once all is processed: a stuck engine would be waited for without end."""
    before = signal.getsignal(signal.SIGTERM)

    def ask() -> None:
        wait_until(lambda: signal.getsignal(signal.SIGTERM) != before)  # else the signal would end the test run
        threading.Event().wait(1.0)  # 2000 frames are processed long before
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask, daemon=True).start()
    render(rack, folder / "in.wav", folder / "out.wav")
