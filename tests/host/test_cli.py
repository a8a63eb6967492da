"""The command line: what each command answers, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command import answer, refused, sigrack
from factories import MakeWav, WriteRack
from racks import Host, noise
from sigrack import __version__
from sigrack.control.schema import COMMANDS
from sigrack_plugins import bundled
from waiting import wait_until

VOLUME = '[[slot]]\nname = "volume"\nplugin = "gain"\nparams = { gain_db = -6.0 }\n'
METER = '[[slot]]\nname = "meter"\nplugin = "level"\nbypass = true\n'


def ready(host: Host) -> Host:
    """Wait until a host runs."""
    wait_until(lambda: "runs: " in host.log or host.process.poll() is not None, 10.0)

    assert host.process.poll() is None, host.log

    return host


@pytest.fixture
def live(wav: MakeWav, write_rack: WriteRack) -> Path:
    """A rack that runs until it is told to stop."""
    wav()
    return write_rack(f"loop = true\n{VOLUME}", live=True)


@pytest.fixture
def host(live: Path) -> Iterator[Host]:
    """It runs."""
    with Host(live) as host:
        yield ready(host)


# Without a host


def test_version_and_help() -> None:
    """Version and help are answered with 0; the help names every command."""
    found = sigrack("--help")

    assert f"sigrack {__version__}\n" == sigrack("--version").stdout
    assert 0 == found.returncode
    for command in ("run", "render", "check", "list", "info", "ctl", "top", "doctor", "up"):
        assert f"\n  {command} " in found.stdout or f"\n    {command} " in found.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND; see `sigrack --help`"),
        (("rnder",), 'unknown command "rnder"; did you mean "render"?'),
        (("zzz",), 'unknown command "zzz"; valid: run, render, check, '),
        (("run",), "the following arguments are required: RACK.toml; see `sigrack run --help`"),
        (("list", "--jsno"), "unrecognized arguments: --jsno; see `sigrack --help`"),
        (("--frobnicate", "list"), "unrecognized arguments: --frobnicate; see `sigrack --help`"),
        (("info", "gian"), 'unknown plugin "gian"; did you mean "gain"?'),
        (("info", "no.such.module"), 'unknown plugin "no.such.module"'),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], message: str) -> None:
    """Wrong arguments end like any other bad input: 101, one line, the nearest or where to look."""
    assert refused(101, *arguments).startswith(message)


def test_list() -> None:
    """`list` names every bundled plugin, with its kind and its sentence."""
    plugins = answer("list")["plugins"]
    text = sigrack("list").stdout

    assert list(bundled()) == [plugin["plugin"] for plugin in plugins]
    assert {"native", "python"} == {plugin["kind"] for plugin in plugins}
    assert all(plugin["description"] and plugin["version"] for plugin in plugins)
    for plugin in plugins:
        assert plugin["plugin"] in text
        assert plugin["description"] in text


def test_info_native() -> None:
    """`info` describes a native plugin: parameters with range, default and unit."""
    gain = answer("info", "gain")
    loudest = {"id": "gain_db", "name": "Gain", "unit": "dB", "minimum": -120.0, "maximum": 24.0, "initial": 0.0}

    assert ("gain", "native", {}, [], {}) == tuple(gain[key] for key in ("plugin", "kind", "config", "hooks", "factors"))
    assert loudest == gain["params"][0]
    assert {"peak_db": "dBFS", "rms_db": "dBFS"} == answer("info", "level")["factors"]
    assert "gain_db " in sigrack("info", "gain").stdout


def test_info_python() -> None:
    """`info` describes a Python plugin: options, hooks, what it posts."""
    loudness = answer("info", "loudness")

    assert ("python", []) == (loudness["kind"], loudness["params"])
    assert "on_block" in loudness["hooks"]
    assert "loudness_lufs" in loudness["factors"]
    assert answer("info", "recorder")["config"]


def test_info_rack(wav: MakeWav, write_rack: WriteRack) -> None:
    """`info RACK.toml` tells rate, latency and every slot with its parameters."""
    wav(rate_hz=44_100)
    rack = write_rack(VOLUME + METER)
    found = answer("info", rack)
    text = sigrack("info", rack).stdout

    assert ("rack", 44_100, 2, 256, 0) == tuple(
        found[key] for key in ("rack", "rate_hz", "channels", "block_frames", "latency_frames")
    )
    assert [("volume", "gain", False), ("meter", "level", True)] == [
        (slot["name"], slot["plugin"], slot["bypass"]) for slot in found["slots"]
    ]
    assert {"gain_db": -6.0, "smooth_ms": 20.0} == found["slots"][0]["params"]
    assert text.startswith("rack: 44100 Hz, 2 channels, blocks of 256 frames, latency 0 frames (0.00 ms)\n")
    assert "gain_db = -6" in text
    assert "bypassed" in text


def test_check(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """`check` builds all that several racks name, runs nothing and writes nothing."""
    wav()
    sink = '[sink]\ndriver = "file"\npath = "out.wav"\n'
    racks = [write_rack(VOLUME + sink, name="a.toml"), write_rack(VOLUME + METER, live=True, name="b.toml")]
    before = sorted(tmp_path.iterdir())

    found = answer("check", *racks)
    text = sigrack("check", *racks).stdout

    assert [(str(racks[0]), 1), (str(racks[1]), 2)] == [(rack["file"], rack["slots"]) for rack in found]
    assert [(48_000, 2, 0, 0)] * 2 == [
        (rack["rate_hz"], rack["channels"], rack["signals"], rack["latency_frames"]) for rack in found
    ]
    assert f"{racks[0]}: fine: 1 slots, 0 signal engines, 48000 Hz, 2 channels\n" in text
    assert before == sorted(tmp_path.iterdir())


def test_doctor(runtime: Path) -> None:
    """`doctor` tells what it found and what to do about what is missing."""
    found = {finding["what"]: finding for finding in answer("doctor")}
    text = sigrack("doctor").stdout

    assert {"processor", "real-time priority", "lockable memory", "runtime folder", "GPU", "cc", "versions"} <= set(found)
    assert str(runtime) == found["runtime folder"]["found"]
    assert found["runtime folder"]["needed"]
    assert f"sigrack {__version__}" in found["versions"]["found"]
    assert all(what in text for what in found)


def test_doctor_finds_fault(runtime: Path) -> None:
    """What every rack needs and is not there makes the doctor's exit code 102."""
    runtime.chmod(0o755)
    found = sigrack("doctor")

    assert 102 == found.returncode
    assert f"NO   runtime folder       {runtime}: must be yours alone (mode 0700)" in found.stdout


def test_render(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """`render` answers with what it made."""
    source, rack = wav(), write_rack(VOLUME)
    found = answer("render", rack, source, tmp_path / "a.wav")
    text = sigrack("render", rack, source, tmp_path / "b.wav").stdout
    quiet = sigrack("render", rack, source, tmp_path / "c.wav", "--quiet")

    assert (str(tmp_path / "a.wav"), 4800, 48_000) == (found["output"], found["frames"], found["rate_hz"])
    assert found["elapsed_s"] > 0
    assert pytest.approx(4800 / 48_000 / found["elapsed_s"]) == found["real_time_factor"]
    assert text.startswith(f"{tmp_path}/b.wav: 0.10 s of sound in ")
    assert (0, "") == (quiet.returncode, quiet.stdout)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav")[0], soundfile.read(tmp_path / "c.wav")[0])


def test_reader_that_goes_away() -> None:
    """A reader of the output that goes away, such as `head`, is no error."""
    command = [sys.executable, "-m", "sigrack", "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        assert ("", 0) == (process.stderr.read(), process.wait())


def test_no_core(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A native core that is missing ends in one line that says how to make it."""
    monkeypatch.setenv("SIGRACK_NATIVE", str(tmp_path))

    assert f"no native core at {tmp_path}/sigrack_engine/_core.so: run `make build`" == refused(102, "doctor")


# With a host


def test_ctl(host: Host) -> None:
    """`ctl` sends a command to the host that runs and prints its answer."""
    reply = answer("ctl", "ping")
    status = answer("ctl", "GET_STATUS")["data"]
    text = sigrack("ctl", "PARAM_SET", "slot=volume", "param=gain_db", "value=-3")
    named = sigrack("ctl", "LOAD", "name=123", "plugin=gain", 'params={"gain_db": -5}')

    assert {"status": "ok", "message": "pong"} == reply
    assert (host.process.pid, "running") == (status["pid"], status["state"])
    assert (0, "volume.gain_db = -3\n") == (text.returncode, text.stdout)
    assert "loaded 123\n" == named.stdout
    assert {"gain_db": -3.0} == json.loads(sigrack("ctl", "PARAM_GET", "slot=volume", "param=gain_db").stdout)["params"]


SET = ("PARAM_SET", "slot=volume", "param=gain_db")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("PIGN",), 'unknown command "PIGN"; did you mean "PING"?'),
        (("PING", "x"), '"x" is not of the form key=value; '),
        (("PING", "x=1"), 'IPC_INVALID_PARAMS: PING: unknown parameter "x"; it takes none'),
        (SET, 'IPC_INVALID_PARAMS: PARAM_SET: missing parameter "value"'),
        ((*SET, "value=loud"), 'IPC_INVALID_PARAMS: PARAM_SET: "value" must be a number, as 0.5, not text'),
        ((*SET, "value=99"), "IPC_INVALID_PARAMS: gain_db = 99 is out of range: -120 to 24 dB"),
        (
            ("PARAM_SET", "slot=volume", "param=gian_db", "value=1"),
            'VALIDATION_NOT_FOUND: "volume" (gain) has no parameter "gian_db"; did you mean "gain_db"?',
        ),
        (("BYPASS", "slot=volum"), 'VALIDATION_NOT_FOUND: there is no slot "volum"; did you mean "volume"?'),
        (("CROSSFEED_ENABLE",), "CROSSFEED_NOT_INITIALIZED: "),
    ],
)  # fmt: skip
def test_ctl_refused(host: Host, words: tuple[str, ...], message: str) -> None:
    """A command that the host refuses ends with 101 and the host's reason; the host runs on."""
    found = refused(101, "ctl", *words)

    assert found.startswith(message)
    assert host.process.poll() is None


def test_ctl_without_host(live: Path, runtime: Path) -> None:
    """Without a host `ctl` ends with 102 and says how to start one, also when a dead one has left its socket."""
    found = refused(102, "ctl", "PING")

    assert f"no rack runs here (nobody answers in {runtime}); start one with `sigrack up RACK.toml`" == found

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime / "rack.sock"))
    found = refused(102, "ctl", "PING", "--rack", live)

    assert f"no host answers at ipc://{runtime}/rack.sock; is it running? (`sigrack run RACK.toml`)" == found


def test_every_ctl_command_is_told() -> None:
    """The help of `ctl` names every command."""
    text = " ".join(sigrack("ctl", "--help").stdout.split())

    assert ", ".join(COMMANDS) in text


def test_second_host(host: Host, live: Path) -> None:
    """A second host of the same rack ends with 102 and names the first; the first does not notice."""
    found = refused(102, "run", live)

    assert f'the rack "rack" is already run by process {host.process.pid}: ' in found
    assert 0 == sigrack("ctl", "PING").returncode


def test_socket_of_another_process(live: Path, runtime: Path) -> None:
    """A control socket that another process listens at is not taken away from it."""
    path = runtime / "rack.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        found = refused(102, "run", live)

        assert f"the control socket {path} is in use by another process; set another [control] endpoint" == found
        assert path.is_socket()


def test_file_in_the_way_of_the_socket(live: Path, runtime: Path) -> None:
    """A file in the place of the control socket is kept."""
    (runtime / "rack.sock").write_text("precious")

    assert f"{runtime}/rack.sock is in the way of the control socket" in refused(102, "run", live)
    assert "precious" == (runtime / "rack.sock").read_text()


def test_tcp_port_in_use(live: Path) -> None:
    """A port that is taken ends with 102, and its number is told."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        endpoint = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        live.write_text(f'{live.read_text()}[control]\nendpoint = "{endpoint}"\n')

        assert f"cannot open the control socket {endpoint}: Address already in use" == refused(102, "run", live)


def test_stale_files(live: Path, runtime: Path) -> None:
    """What a killed host has left is no obstacle for the next one, and an orderly end leaves nothing."""
    with Host(live) as first:
        ready(first).process.kill()
        first.process.wait()

    assert {"rack.crash", "rack.lock", "rack.sock", "rack.sock.pub"} == {path.name for path in runtime.iterdir()}

    with Host(live) as second:
        wait_until(lambda: second.log.count("runs: ") == 2 or second.process.poll() is not None, 10.0)

        assert 0 == sigrack("ctl", "SHUTDOWN").returncode
        assert 0 == second.process.wait(10)
    assert [] == list(runtime.iterdir())


@pytest.mark.parametrize("kind", ["a file", "open to others", "under a file"])
def test_runtime_folder(live: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A folder for sockets that cannot be used, or that others could write to, is named with the way out."""
    folder = runtime / "folder"
    match kind:
        case "a file":
            folder.touch()
        case "open to others":
            folder.mkdir(mode=0o755)
        case "under a file":
            folder.touch()
            folder /= "deeper"
    monkeypatch.setenv("SIGRACK_RUNTIME", str(folder))

    found = refused(101, "run", live)

    assert found.startswith(f"{folder}: ")
    assert found.endswith("; set SIGRACK_RUNTIME to a folder of your own")


def test_runtime_folder_with_a_long_name(live: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder whose name is too long for a socket is named with the limit."""
    folder = runtime / ("x" * 100)
    monkeypatch.setenv("SIGRACK_RUNTIME", str(folder))

    found = refused(101, "run", live)

    assert f"{folder}/rack.sock" in found
    assert "107 bytes" in found


def test_lock_that_cannot_be_made(live: Path, runtime: Path) -> None:
    """A folder in the place of the lock is named."""
    (runtime / "rack.lock").mkdir()

    assert f"{runtime}/rack.lock: cannot be locked: Is a directory" == refused(102, "run", live)


# Signals

HANGS = """
from sigrack_plugins import Plugin

class Hangs(Plugin):
    def {hook}:
        print("hangs", flush=True)
        while True:
            pass
    def on_factor(self, a, b, c, d):
        pass
"""


INTERRUPTS = """
import os, signal
from sigrack_plugins import Plugin

class Interrupts(Plugin):
    def on_block(self, block):
        if block.frame == 0:
            os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(host: Host, runtime: Path, number: signal.Signals) -> None:
    """One SIGINT or SIGTERM ends the host in order: 0, and nothing is left."""
    host.process.send_signal(number)

    assert 0 == host.process.wait(10)
    assert [] == list(runtime.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("hook", ["on_stop(self)", "on_block(self, block)", "on_start(self)"])
def test_second_signal(live: Path, number: signal.Signals, hook: str) -> None:
    """A second signal ends a host that hangs in a hook: 103."""
    (live.parent / "hangs.py").write_text(HANGS.format(hook=hook))
    live.write_text(f'{live.read_text()}[[slot]]\nname = "hangs"\nplugin = "hangs.py"\n')

    with Host(live) as host:
        if hook == "on_stop(self)":
            ready(host).process.send_signal(number)
            wait_until(lambda: "hangs\n" in host.log, 10.0)
        else:
            wait_until(lambda: "hangs\n" in host.log, 10.0)
            host.process.send_signal(number)
            wait_until(lambda: "stopping" in host.log, 10.0)
        host.process.send_signal(number)

        assert 103 == host.process.wait(10), host.log


def test_interrupted_render(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """A render that is interrupted says so with 102 and leaves no half of a file."""
    (tmp_path / "interrupts.py").write_text(INTERRUPTS)
    source, rack = wav(noise(960_000)), write_rack('[[slot]]\nname = "one"\nplugin = "interrupts.py"\n')

    found = refused(102, "render", rack, source, tmp_path / "out.wav")

    assert found.startswith("stopped after ")
    assert found.endswith(f" of 960000 frames; {tmp_path}/out.wav was not made")
    assert not (tmp_path / "out.wav").exists()


def test_killed_while_loading(live: Path) -> None:
    """SIGINT before the rack runs ends it by force, without a traceback."""
    (live.parent / "slow.py").write_text('print("hangs", flush=True)\nwhile True:\n    pass\n')
    live.write_text(f'{live.read_text()}[[slot]]\nname = "slow"\nplugin = "slow.py"\n')

    with Host(live) as host:
        wait_until(lambda: "hangs\n" in host.log, 10.0)
        host.process.send_signal(signal.SIGINT)

        assert 103 == host.process.wait(10)
        assert "Traceback" not in host.log


def test_python_dash_m() -> None:
    """`sigrack` and `python -m sigrack` are the same program."""
    script = Path(sys.executable).with_name("sigrack")
    if not os.access(script, os.X_OK):
        pytest.skip(f"no {script}: the package is not installed here")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)

    assert sigrack("--version").stdout == done.stdout
