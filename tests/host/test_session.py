"""The life of a host: it starts with sound, stops in order, reloads by signal, and ends with the right code."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from racks import Host, noise, write
from sigrack.control.client import Client
from sigrack.places import default_endpoint, runtime_folder
from waiting import wait_until

LIVE = """
[rack]
block_frames = 256
fade_ms = 0
[source]
driver = "clock"
path = "in.wav"
loop = {loop}
[sink]
driver = "file"
path = "out.wav"
overwrite = true
[[slot]]
name = "volume"
plugin = "gain"
params = {{ gain_db = -6.0 }}
[[slot]]
name = "meter"
plugin = "level"
"""


def request(cmd: str, **params: Any) -> Any:
    """Ask the host of these tests."""
    with Client(default_endpoint("rack"), timeout_s=1.0) as client:
        return client.request(cmd, **params).get("data")


def processing() -> bool:
    """Whether the host answers and has run blocks."""
    try:
        return bool(request("STATS")["blocks"])
    except Exception:
        return False


def test_a_file_that_ends_ends_the_run(tmp_path: Path) -> None:
    """A clock source without loop plays every frame once, in time, into the sink, and the host ends with code 0."""
    sound = noise(30_000)
    with Host(write(tmp_path, LIVE.format(loop="false"), sound)) as host:
        assert 0 == host.process.wait(20), host.log
    heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")

    assert sound.shape == heard.shape
    assert np.abs(heard - sound * 10 ** (-6 / 20)).max() < 1e-6


def test_a_loop_has_no_seam(tmp_path: Path) -> None:
    """A looped source repeats the file frame after frame, without gap or repetition."""
    sound = noise(7001)
    with Host(write(tmp_path, LIVE.format(loop="true"), sound)) as host:
        wait_until(processing)
        wait_until(lambda: request("STATS")["frame"] > 30_000)
        host.process.send_signal(signal.SIGTERM)
        assert 0 == host.process.wait(5), host.log
    heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    heard = heard[: np.flatnonzero(heard.any(axis=1))[-1] + 1]  # a stop is silent before it ends
    wanted = np.resize(sound, heard.shape)

    assert len(heard) > 30_000
    assert np.abs(heard - wanted * 10 ** (-6 / 20)).max() < 1e-6


def test_sigterm_ends_it_and_nothing_is_left(tmp_path: Path) -> None:
    """SIGTERM ends a live host with code 0; sockets and lock are gone, the sink is complete."""
    with Host(write(tmp_path, LIVE.format(loop="true"), noise(48_000))) as host:
        wait_until(processing)
        host.process.terminate()
        assert 0 == host.process.wait(5), host.log

    assert [] == list(runtime_folder().iterdir())
    assert soundfile.info(tmp_path / "out.wav").frames > 0


HANG = """
import time
from sigrack_plugins import Plugin
class Hang(Plugin):
    def on_stop(self):
        self.ctx.log("hanging")
        time.sleep(600)
    def on_block(self, block):
        pass
"""


def test_a_second_signal_ends_it_by_force(tmp_path: Path) -> None:
    """When a plugin keeps the stop from ending, a second signal ends the host at once with code 103."""
    (tmp_path / "hang.py").write_text(HANG)
    rack = write(tmp_path, LIVE.format(loop="true") + '[[slot]]\nname = "hang"\nplugin = "./hang.py"\n', noise(48_000))
    with Host(rack) as host:
        wait_until(processing)
        host.process.terminate()
        wait_until(lambda: "hanging" in host.log)
        host.process.terminate()
        assert 103 == host.process.wait(5), host.log


def test_sighup_reloads(tmp_path: Path) -> None:
    """SIGHUP brings the running rack to the changed file; a wrong file is refused in the log and changes nothing."""
    rack = write(tmp_path, LIVE.format(loop="true"), noise(48_000))
    with Host(rack) as host:
        wait_until(processing)
        rack.write_text(rack.read_text().replace("-6.0", "-12.0"))
        host.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "volume.gain_db = -12" in host.log)
        rack.write_text(rack.read_text().replace("gain_db", "gain_dB"))
        host.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "nothing was changed" in host.log)

        assert {"gain_db": -12.0, "smooth_ms": 20.0} == request("PARAM_GET", slot="volume")["params"]
        assert 'did you mean "gain_db"' in host.log


def test_the_host_survives_its_bad_plugins(tmp_path: Path) -> None:
    """Hooks that raise, a worker that dies and a native plugin that posts NaN cost no block of anybody else."""
    (tmp_path / "bad.py").write_text(
        "from sigrack_plugins import Plugin\n"
        "class Bad(Plugin):\n"
        "    def on_block(self, block):\n        raise KeyError(block)\n"
        "    def work(self, tap):\n        raise OSError('gone')\n"
    )
    rack = write(tmp_path, LIVE.format(loop="true") + '[[slot]]\nname = "bad"\nplugin = "./bad.py"\n', noise(48_000))
    with Host(rack) as host:
        wait_until(processing)
        wait_until(lambda: request("STATS")["frame"] > 48_000)
        stats = request("STATS")
        bad = next(slot for slot in stats["slots"] if slot["name"] == "bad")

        assert bad["hooks"]["errors"] > 10
        assert "KeyError" in bad["hooks"]["last_error"]
        assert 0 == stats["driver"]["source_underrun_frames"]
        assert "its worker ended: OSError: gone" in host.log


def test_a_pipe_sink_carries_the_samples(tmp_path: Path) -> None:
    """A named pipe gets every frame as raw little-endian samples."""
    sound = noise(20_000)
    os.mkfifo(tmp_path / "pipe")
    toml = LIVE.format(loop="false").replace(
        'driver = "file"\npath = "out.wav"\noverwrite = true', 'driver = "pipe"\npath = "pipe"'
    )
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    with Host(write(tmp_path, toml, sound)) as host:
        assert 0 == host.process.wait(20), host.log
    reader.join(5)
    heard = np.frombuffer(received[0], "<f4").reshape(-1, 2)

    assert sound.shape == heard.shape
    assert np.abs(heard - sound * 10 ** (-6 / 20)).max() < 1e-6
