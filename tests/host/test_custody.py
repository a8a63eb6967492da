"""Who takes the host down twice in a minute is not loaded any more; three deaths end in safe mode. Audio goes out."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from factories import Compile
from plugin_source import plugin_source
from racks import Host, answers, noise, request, write
from sigrack.config import parse
from sigrack.custody import MOST_DEATHS, WINDOW_S, Custody, book_path
from sigrack.deaths import Death
from waiting import wait_until

FRAMES = 20_000
LIVE = '[rack]\nname = "rack"\n[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n'
FILE = (
    '[rack]\nname = "rack"\n[source]\ndriver = "file"\npath = "in.wav"\n'
    '[sink]\ndriver = "file"\npath = "out.wav"\noverwrite = true\n'
)
VILLAIN = '[[slot]]\nname = "villain"\nplugin = "./plugin.so"\nlane = "inline"\n'
BAD = '[[slot]]\nname = "bad"\nplugin = "./bad.py"\n'
VOLUME = '[[slot]]\nname = "volume"\nplugin = "gain"\nparams = { gain_db = -6.0 }\n'
PYTHON = """
import ctypes, os
from pathlib import Path
import numpy as np
from sigrack_plugins import Plugin

def boom():
    if Path(__file__).with_name("boom").exists():
        {fault}
{imported}
class Bad(Plugin):
    def on_start(self):
        {started}
    def on_block(self, block):
        {block}
"""
RAISER = """
import ctypes
from pathlib import Path
import numpy as np
from sigrack_plugins import Plugin

class Raiser(Plugin):
    def ratio(self, setup):
        return 4
    def fir(self, setup):
        if Path(__file__).with_name("boom").exists():
            ctypes.string_at(1)
        taps = np.zeros((setup.channels, setup.channels, 4), np.float32)
        taps[range(setup.channels), range(setup.channels)] = 1.0
        return taps
"""
SEGV = "ctypes.string_at(1)"
EXIT = "os._exit(0)"


def python(folder: Path, *, fault: str = SEGV, imported: str = "", started: str = "pass", block: str = "pass") -> None:
    """Write a plugin with its faults where they are to be; they happen as long as the file `boom` exists."""
    (folder / "bad.py").write_text(PYTHON.format(fault=fault, imported=imported, started=started, block=block))
    (folder / "boom").touch()


def run(folder: Path, toml: str, times: int = 1) -> list[int]:
    """Run a rack that ends by itself so often; return the exit codes."""
    codes = []
    for _ in range(times):
        with Host(write(folder, toml, noise(FRAMES))) as host:
            codes.append(host.process.wait(60))
    return codes


def log(folder: Path) -> str:
    """Return what all hosts have said."""
    return (folder / "rack.log").read_text()


def played(folder: Path) -> npt.NDArray[np.float32]:
    """Return what went out."""
    sound: npt.NDArray[np.float32] = soundfile.read(folder / "out.wav", dtype="float32")[0]
    return sound


def status(folder: Path, toml: str) -> dict[str, Any]:
    """Return what a host of this rack says, which is then ended in order."""
    with Host(write(folder, toml, noise(FRAMES))) as host:
        wait_until(answers, 30)
        data: dict[str, Any] = request("GET_STATUS")["data"]
        host.process.terminate()
        assert 0 == host.process.wait(30)
    return data


@pytest.mark.parametrize("times", [1, 2])
def test_the_second_death_of_a_slot_holds_it_back(tmp_path: Path, cc: Compile, times: int) -> None:
    """After one death it is loaded again; after the second dry audio goes out in its place, and the host says so."""
    cc(
        plugin_source().replace(
            "    scale->host.post", "    if (block->frame > 2000) *(volatile int *)0 = 1;\n    scale->host.post"
        )
    )

    assert [-signal.SIGSEGV] * times == run(tmp_path, FILE + VILLAIN, times)
    assert [0 if times == 2 else -signal.SIGSEGV] == run(tmp_path, FILE + VILLAIN)
    assert (times == 2) == ('"villain" is not loaded: it took the host down 2 times within 60 s' in log(tmp_path))
    if times == 2:
        np.testing.assert_array_equal(noise(FRAMES), played(tmp_path))
        told = status(tmp_path, LIVE + VILLAIN)
        assert ["villain"] == list(told["held"])
        assert "by SIGSEGV on the main loop, in villain" in told["slots"][0]["held"]
        assert told["safe_mode"] is None


@pytest.mark.parametrize("fault", ["create", "import", "on_start"])
def test_an_exit_while_loading_counts(tmp_path: Path, cc: Compile, fault: str) -> None:
    """`_exit` blames who is just loaded or started: in a native call, in a module, in `on_start`."""
    if fault == "create":
        cc(plugin_source(create="extern void _exit(int); _exit(0);"))
    else:
        python(tmp_path, fault=EXIT, **({"imported": "boom()"} if fault == "import" else {"started": "boom()"}))
    slot, name = (VILLAIN, "villain") if fault == "create" else (BAD, "bad")

    run(tmp_path, FILE + slot, 2)
    assert [0] == run(tmp_path, FILE + slot)
    assert f'"{name}" is not loaded' in log(tmp_path)
    np.testing.assert_array_equal(noise(FRAMES), played(tmp_path))


def test_an_exit_and_a_kill_while_all_runs_blame_nobody(tmp_path: Path) -> None:
    """A hook that calls `_exit` and somebody's SIGKILL, three times each: everybody is loaded the next time."""
    python(tmp_path, fault=EXIT, block="boom()")
    run(tmp_path, FILE + BAD, 3)
    for _ in range(3):
        with Host(write(tmp_path, LIVE + VOLUME, noise(FRAMES))) as host:
            wait_until(answers, 30)
            os.kill(host.process.pid, signal.SIGKILL)
            host.process.wait()

    told = status(tmp_path, LIVE + VOLUME)
    assert ({}, None) == (told["held"], told["safe_mode"])
    assert 6 == log(tmp_path).count("was killed or called _exit")
    assert "not loaded" not in log(tmp_path)


def test_three_deaths_end_in_safe_mode(tmp_path: Path, cc: Compile) -> None:
    """Two of one slot, then one of another: nothing is loaded but the volume, so that nothing is louder than it was."""
    cc(plugin_source().replace("    scale->host.post", "    abort();\n    scale->host.post"))
    python(tmp_path, block="boom()")
    rack = VOLUME + VILLAIN + BAD

    assert [-signal.SIGABRT] * 2 + [-signal.SIGSEGV] == run(tmp_path, FILE + rack, 3)
    assert [0] == run(tmp_path, FILE + rack)
    assert "safe mode: no plugin is loaded, dry audio goes out (3 deaths within 60 s" in log(tmp_path)
    np.testing.assert_allclose(noise(FRAMES) * 10 ** (-6 / 20), played(tmp_path), atol=1e-6)
    told = status(tmp_path, LIVE + rack)
    assert {"villain", "bad"} == set(told["held"])
    assert told["safe_mode"].startswith("3 deaths within 60 s, the last one by SIGSEGV on the main loop, in bad")


def test_release_ends_it(tmp_path: Path) -> None:
    """RELEASE loads what is held, live and from then on; before, its parameters cannot be had, and the message says why."""
    python(tmp_path, started="boom()")
    run(tmp_path, LIVE + BAD, 2)
    with Host(write(tmp_path, LIVE + VOLUME + BAD, noise(FRAMES))) as host:
        wait_until(answers, 30)
        with pytest.raises(Exception, match=r'"bad" is held back.*RELEASE name=bad'):
            request("BYPASS", slot="bad")
        with pytest.raises(Exception, match='"bda" is not held back; did you mean "bad"'):
            request("RELEASE", name="bda")
        (tmp_path / "boom").unlink()
        reply = request("RELEASE")
        slots = {slot["name"]: slot["held"] for slot in request("GET_STATUS")["data"]["slots"]}
        again = request("RELEASE")
        host.process.terminate()
        host.process.wait(30)

    assert {"released": ["bad"]} == reply["data"]
    assert {"volume": None, "bad": None} == slots
    assert {"released": []} == again["data"]
    assert {} == status(tmp_path, LIVE + BAD)["held"]


@pytest.mark.parametrize("way", ["RELOAD", "SWAP"])
def test_reload_and_swap_release_too(tmp_path: Path, runtime: Path, way: str) -> None:
    """Who loads a slot anew means it; the book is gone when there is nothing to remember."""
    python(tmp_path, started="boom()")
    run(tmp_path, LIVE + BAD, 2)
    with Host(write(tmp_path, LIVE + BAD, noise(FRAMES))) as host:
        wait_until(answers, 30)
        held = list(request("GET_STATUS")["data"]["held"])
        (tmp_path / "boom").unlink()
        request(way, name="bad")
        after = request("GET_STATUS")["data"]["held"]
        host.process.terminate()
        host.process.wait(30)

    assert (["bad"], {}) == (held, after)
    assert [] == list(runtime.iterdir())


def test_who_is_changed_is_loaded(tmp_path: Path) -> None:
    """A plugin's new file is another plugin: it is tried again at the next start."""
    python(tmp_path, started="boom()")
    run(tmp_path, FILE + BAD, 2)
    assert [0] == run(tmp_path, FILE + BAD)
    (tmp_path / "bad.py").write_text(
        (tmp_path / "bad.py").read_text().replace("boom()\n    def on_block", "pass\n    def on_block")
    )

    assert [0] == run(tmp_path, FILE + BAD)
    assert 1 == log(tmp_path).count('"bad" is not loaded')
    assert '"bad" is no longer held back: it was changed' in log(tmp_path)


def test_a_death_before_the_change_does_not_count(tmp_path: Path) -> None:
    """Who writes a plugin may see it crash more than twice a minute, as long as the file changes in between."""
    python(tmp_path, started="boom()")
    for _ in range(3):
        run(tmp_path, FILE + BAD)
        (tmp_path / "bad.py").touch()

    assert [-signal.SIGSEGV] == run(tmp_path, FILE + BAD)
    assert "not loaded" not in log(tmp_path)


def test_what_raised_the_rate_still_does(tmp_path: Path) -> None:
    """The stand-in of an upsampler keeps the rate that goes out: the frames that came in, and others between them."""
    (tmp_path / "raiser.py").write_text(RAISER)
    rack = FILE + '[[slot]]\nname = "raiser"\nplugin = "./raiser.py"\n' + VOLUME
    assert [0] == run(tmp_path, rack)
    real = soundfile.info(tmp_path / "out.wav")
    (tmp_path / "boom").touch()
    assert [-signal.SIGSEGV] * 2 == run(tmp_path, rack, 2)
    assert [0] == run(tmp_path, rack)

    held = soundfile.info(tmp_path / "out.wav")
    assert (192_000, 4 * FRAMES) == (real.samplerate, real.frames)
    assert (192_000, 4 * FRAMES) == (held.samplerate, held.frames)
    assert '"raiser" is not loaded' in log(tmp_path)
    np.testing.assert_allclose(noise(FRAMES) * 10 ** (-6 / 20), played(tmp_path)[::4], atol=1e-5)
    assert (
        np.abs(np.fft.rfft(played(tmp_path)[:, 0]))[3 * FRAMES // 4 :].max()
        < 1e-2 * np.abs(np.fft.rfft(played(tmp_path)[:, 0])).max()
    )


ENGINE = """
#include <stdlib.h>
#include <pthread.h>
#include "sigrack_signal.h"
void *signal_create(const char *config) {{ (void)config; {create} return malloc(1); }}
int signal_register_callback(void *h, signal_callback cb, void *user) {{ (void)h; (void)cb; (void)user; return 0; }}
void signal_on_data(void *h, int type, const void *data) {{ (void)h; (void)type; (void)data; {data} }}
void signal_destroy(void *h) {{ free(h); }}
"""


@pytest.mark.parametrize("fault", ["create", "data"])
def test_a_signal_engine_is_held_back(tmp_path: Path, cc: Compile, fault: str) -> None:
    """One that dies when it is made, or on its feeder; who listens to it is loaded, and the audio is as it would be."""
    cc(ENGINE.format(**{"create": "", "data": ""} | {fault: "abort();"}), "engine")
    (tmp_path / "listener.py").write_text(
        "from sigrack_plugins import Plugin\n"
        "class Listener(Plugin):\n"
        "    def on_start(self):\n"
        "        self.ctx.subscribe('engine', 'alpha')\n"
        "    def on_factors(self, batch):\n"
        "        pass\n"
    )
    rack = (
        FILE + '[[slot]]\nname = "listener"\nplugin = "./listener.py"\n'
        '[[signal]]\nname = "engine"\nlibrary = "./engine.so"\nlane = "inline"\nsymbols = ["alpha"]\n'
    )

    assert [-signal.SIGABRT] * 2 == run(tmp_path, rack, 2)
    assert [0] == run(tmp_path, rack)
    assert 2 == log(tmp_path).count("died of SIGABRT")
    assert '"engine" is not loaded' in log(tmp_path)
    np.testing.assert_array_equal(noise(FRAMES), played(tmp_path))


def test_a_book_that_cannot_be_read_is_kept_aside(tmp_path: Path, runtime: Path) -> None:
    """One line says so, and the host runs."""
    book_path("rack").write_text('{"deaths": [{"pid"')

    assert {} == status(tmp_path, LIVE)["held"]
    assert 1 == log(tmp_path).count("rack.deaths cannot be read")
    assert '{"deaths": [{"pid"' == (runtime / "rack.deaths.bad").read_text()


def death(number: int, unix_s: float, suspect: str = "bad") -> Death:
    """Return the death of process `number`."""
    return Death(number, "SIGSEGV", "the engine thread", suspect, suspect, unix_s - 1, unix_s, 1.0)


def custody(folder: Path, last: Death | None) -> Custody:
    """Return the custody of a rack with two slots, as its next host finds it."""
    document = parse(folder / "rack.toml", FILE + BAD + VOLUME)
    return Custody(book_path("rack"), document, last)


@pytest.mark.parametrize(("apart_s", "held"), [(WINDOW_S - 1, ["bad"]), (WINDOW_S + 1, [])])
def test_only_deaths_in_the_window_count(tmp_path: Path, apart_s: float, held: list[str]) -> None:
    """Two deaths within a minute make a suspect, two that are further apart do not."""
    custody(tmp_path, death(1, 1000.0))

    assert held == list(custody(tmp_path, death(2, 1000.0 + apart_s)).held)


def test_a_death_is_noted_once(tmp_path: Path) -> None:
    """A host that is killed before it begins its own record leaves the old one to the next host: that is no second death."""
    custody(tmp_path, death(1, 1000.0))

    assert {} == custody(tmp_path, death(1, 1000.0)).held


def test_the_book_is_bounded(tmp_path: Path) -> None:
    """However often a host dies, the book has room for the last deaths only."""
    for number in range(3 * MOST_DEATHS):
        custody(tmp_path, death(number, 1000.0 * number))

    deaths = msgspec.json.decode(book_path("rack").read_bytes())["deaths"]
    assert list(range(2 * MOST_DEATHS, 3 * MOST_DEATHS)) == [entry["pid"] for entry in deaths]


def test_unnamed_deaths_count_against_nobody_but_together(tmp_path: Path) -> None:
    """Crashes that no record explains make nobody a suspect; three of them end in safe mode."""
    now = time.time()
    for number in range(2):
        assert {} == custody(tmp_path, death(number, now + number, suspect="")).held
    last = custody(tmp_path, death(2, now + 2, suspect=""))

    assert ["bad"] == list(last.held)
    assert last.safe_mode.startswith("3 deaths")
