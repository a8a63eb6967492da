"""`sigrack up`: supervisord, a host and a recording, all of them real."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

import racks
from supervised import CLOCK, CONF, Up, alive
from waiting import wait_until


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    racks.write(tmp_path, CLOCK, racks.noise(48_000))
    return tmp_path


@pytest.fixture(name="up")
def _up(folder: Path) -> Iterator[Up]:
    up = Up(folder)
    yield up
    if up.process.poll() is None:
        up.process.terminate()
        up.end()


def test_a_killed_host_comes_back(up: Up, folder: Path) -> None:
    """After kill -9 supervisord starts the host again; the recording of before is readable up to the last second."""
    first = up.host()
    frame = wait_until(lambda: up.frame() if up.frame() > 96_000 else 0, 10, "two seconds of sound")
    os.kill(first, signal.SIGKILL)
    second = up.host(other_than=first)
    recorded = soundfile.read(folder / "take.flac")[0]
    code, out, err = up.end(signal.SIGINT)

    assert len(recorded) > frame - 48_000
    assert recorded.std() > 0.1
    assert (0, "") == (code, err)
    assert not alive(second)
    assert soundfile.info(folder / "take-2.flac").frames > 0
    assert out.startswith(f"try: SIGRACK_RUNTIME={up.runtime} ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left(up: Up, number: int) -> None:
    """Ctrl-C, SIGTERM and the terminal's closing end every process and remove every socket and pid file."""
    pids = [up.host(), up.supervisor, up.process.pid]
    code, _, err = up.end(number)

    assert (0, "") == (code, err)
    assert [] == [pid for pid in pids if alive(pid)]
    assert [] == up.left()


def test_the_starter_killed_ends_all_of_it(up: Up) -> None:
    """Even kill -9 of `sigrack up` leaves no process."""
    pids = [up.host(), up.supervisor]
    up.end(signal.SIGKILL)

    wait_until(lambda: not any(map(alive, pids)), 10, "the end of supervisord and the host")
    assert [] == up.left()


def test_a_second_one_is_refused(up: Up, folder: Path) -> None:
    """The same rack cannot be started twice; the first runs on."""
    pid = up.host()
    code, out, err = Up(folder).end()

    assert (102, "") == (code, out)
    assert [f'sigrack: the rack "up" is already run by process {pid}: stop it, or give this one another [rack] name'] == (
        err.splitlines()
    )
    assert pid == up.host()


def test_a_config_error_starts_nothing(folder: Path) -> None:
    """A wrong file ends with one line and 101; neither supervisord nor a host has run."""
    rack = folder / "rack.toml"
    rack.write_text(CLOCK.replace('plugin = "level"', 'plugin = "levle"'))
    code, out, err = Up(folder).end()

    assert (101, "") == (code, out)
    assert 1 == len(err.splitlines())
    assert err.startswith("sigrack: rack.toml:11: ")
    assert not (folder / "run").exists()


def add_late(folder: Path, statement: str) -> None:
    """Add a slot to the rack that does something in `on_start`, where a check of the rack does not see it."""
    (folder / "late.py").write_text(
        "import os\n"
        "from sigrack_plugins import Plugin\n"
        "class Late(Plugin):\n"
        "    def on_start(self):\n"
        f"        {statement}\n"
        "    def on_block(self, block):\n"
        "        pass\n"
    )
    (folder / "rack.toml").write_text(CLOCK + '[[slot]]\nname = "late"\nplugin = "./late.py"\n')


def test_a_late_config_error_is_not_tried_again(folder: Path) -> None:
    """What only `on_start` can tell ends the host with 101 in its first second; supervisord takes that as final."""
    add_late(folder, "raise ValueError('the moon is not full')")
    up = Up(folder)
    code, _, err = up.end()

    assert 101 == code
    assert 1 == err.count("the moon is not full")
    assert 1 == (folder / "run/supervisord.log").read_text().count("spawned: 'sigrack'")
    assert [] == up.left()


def test_a_host_that_cannot_run_is_given_up(folder: Path) -> None:
    """A host that dies right after each start is tried again with growing pauses, then given up; the log's last lines say why.

    Nobody is to blame for it: a plugin that exits while it is loaded would be held back, and the host would run.
    """
    add_late(folder, "pass")
    late = folder / "late.py"
    late.write_text(
        late.read_text().replace("block):\n        pass", "block):\n        print('goodbye', flush=True); os._exit(9)")
    )
    conf = folder / "own.conf"
    conf.write_text(CONF.read_text().replace("startretries=20", "startretries=1"))
    up = Up(folder, "--conf", str(conf))
    code, _, err = up.end()

    assert 102 == code
    assert "goodbye" in err.splitlines()
    assert any(line.endswith("was killed or called _exit") for line in err.splitlines())
    assert err.splitlines()[-1].startswith("sigrack: the host cannot be kept running")
    assert ["up.crash", "up.deaths"] == sorted(name for name in up.left() if name.startswith("up.") and "sock" not in name)


def test_the_end_of_a_file_is_the_end(folder: Path) -> None:
    """A file source that has ended ends all of it with 0, and runs once."""
    (folder / "rack.toml").write_text(CLOCK.replace("loop = true", "").replace('"clock"', '"file"'))
    up = Up(folder)
    code, _, err = up.end()

    assert 0 == code
    assert "closed" in err
    assert 48_000 == soundfile.info(folder / "take.flac").frames
    assert not (folder / "take-2.flac").exists()
    assert [] == up.left()


def test_another_file_is_played(folder: Path) -> None:
    """--input takes the place of the source's path; the rack's own relative paths stay as they are, also over a RELOAD."""
    soundfile.write(folder / "song.flac", racks.noise(44_100, channels=1), 44_100)
    up = Up(folder, "--input", "song.flac")
    up.host()
    status = up.ask("GET_STATUS")
    reloaded = up.ask("RELOAD")
    code, _, _ = up.end(signal.SIGINT)

    assert status is not None
    assert (str(folder / "song.flac"), 44_100, 1) == (status["source"], status["rate_hz"], status["channels"])
    assert {"changed": []} == reloaded
    assert (folder / "take.flac").exists()
    assert 0 == code


@pytest.mark.parametrize("kind", ["truncated", "text", "missing"])
def test_a_bad_input_is_one_line(folder: Path, kind: str) -> None:
    """A file that cannot be played ends with one line that names it, and 101."""
    path = folder / "bad.wav"
    if kind == "truncated":
        path.write_bytes((folder / "in.wav").read_bytes()[:50_000])
    elif kind == "text":
        path.write_text("la la la")
    code, out, err = Up(folder, "--input", "bad.wav").end()

    assert (101, "") == (code, out)
    assert 1 == len(err.splitlines())
    assert f"{path}: " in err
