"""`sigrack watch` under a real supervisord: why the host ended, how often, and what is done when it hangs or grows."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import racks
from factories import Compile
from plugin_source import plugin_source
from sigrack.kept import peek
from sigrack.oversight.ledger import LEDGER, Ledger
from sigrack.oversight.processes import facts
from sigrack.oversight.remote import SOCKET, Remote
from sigrack.oversight.watcher import Event, Limits, Watcher
from supervised import CLOCK, CONF, Up
from waiting import wait_until

LONG_S = 60
PLUGIN = """
import ctypes, os, time
from pathlib import Path
from sigrack_plugins import Plugin

class Odd(Plugin):
    def on_start(self):
        self.folder, self.begun, self.kept = Path(__file__).parent, time.monotonic(), []

    def on_block(self, block):
        age = time.monotonic() - self.begun
        if (fault := self.folder / "fault").exists():
            {fault}
"""
FAULTS = {
    "segv": "fault.unlink(); ctypes.string_at(1)",
    "late": "age > 3.2 and (fault.unlink(), os._exit(7))",
    "again": "os._exit(7)",
    "hang": "fault.unlink(); ctypes.PyDLL(None).sleep(1000)",
    "grow": "self.kept.append(b'x' * (5 << 20))",
}

Begin = Callable[..., Up]


def add(folder: Path, fault: str) -> None:
    """Add the plugin with this fault to the rack, which happens once the file `fault` is there."""
    (folder / "odd.py").write_text(PLUGIN.format(fault=FAULTS[fault]))
    rack = CLOCK.replace("priority = 0\n", "priority = 0\nhook_limit_ms = 0\n")
    (folder / "rack.toml").write_text(rack + '[[slot]]\nname = "odd"\nplugin = "./odd.py"\n')


@pytest.fixture(name="begin")
def _begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts `sigrack up` with a rack of its own."""
    racks.write(tmp_path, CLOCK, racks.noise(48_000))
    begun: list[Up] = []

    def begin(*options: str, **settings: str) -> Up:
        begun.append(Up(tmp_path, *options, **settings))
        return begun[-1]

    yield begin
    for up in begun:
        if up.process.poll() is None:
            up.process.terminate()
            up.end(limit_s=LONG_S)


def ledger(folder: Path) -> Ledger:
    """Return what the watch remembers."""
    return peek(folder / "run" / LEDGER, Ledger)


def rpc(folder: Path, method: str, *arguments: Any) -> Any:
    """Ask supervisord."""
    return Remote(f"unix://{folder / 'run' / SOCKET}").call(method, *arguments)


def sigrack(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command beside the rack."""
    environment = os.environ | {"SIGRACK_RUNTIME": str(folder / "rt")}
    return subprocess.run([sys.executable, "-m", "sigrack", *words], cwd=folder, env=environment, capture_output=True, text=True)


def ready(folder: Path, other_than: int = 0) -> int:
    """Wait until the watch has seen a host that is ready; return its process id."""
    return wait_until(lambda: (pid := ledger(folder).ready_pid) != other_than and pid, LONG_S, "a host that is ready")


@contextmanager
def ended_at_last(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End a process, whatever happens meanwhile."""
    try:
        yield
    finally:
        process.terminate()


def ended(folder: Path, times: int) -> bool:
    """Whether so many ends are counted."""
    return ledger(folder).restarts == times


def test_a_crash_that_supervisord_takes_for_a_run_is_told(tmp_path: Path, begin: Begin) -> None:
    """The watch says which signal, which thread and which slot; supervisord only that the program runs (again)."""
    add(tmp_path, "segv")
    up = begin()
    first = ready(tmp_path)
    (tmp_path / "fault").touch()
    second = ready(tmp_path, other_than=first)

    book = ledger(tmp_path)
    assert book.last
    assert (1, first, "odd") == (book.restarts, book.last.pid, book.last.suspect)
    assert "SIGSEGV on the main loop, in odd" == book.last.text
    assert any("on_block" in line for line in book.last.log)
    shown = {row["name"]: row for row in json.loads(sigrack(tmp_path, "ps", "--json").stdout)}
    host = shown["sigrack"]
    assert (second, "running", 1, book.last.text) == (host["pid"], host["state"], host["restarts"], host["reason"])
    assert host["blocks_per_s"] > 10
    assert host["memory_mb"] > 10
    assert shown["watch"]["pid"] != second
    wait_until(lambda: up.frame() > 6 * 48_000, LONG_S, "a line of `sigrack up`, which comes every five seconds")
    assert "restarted once, last: SIGSEGV on the main loop, in odd" in up.end(signal.SIGINT, LONG_S)[1]


@pytest.mark.slow
def test_a_death_right_after_startsecs_is_counted_each_time(tmp_path: Path, begin: Begin) -> None:
    """supervisord starts such a host at once, for ever; the watch counts, and from the fourth end on lets it wait."""
    add(tmp_path, "late")
    begin()
    for ends in range(1, 5):
        ready(tmp_path, other_than=ledger(tmp_path).ready_pid)
        (tmp_path / "fault").touch()
        wait_until(partial(ended, tmp_path, ends), LONG_S, f"end number {ends}")
    paused = ledger(tmp_path).pause_until_unix_s
    wait_until(lambda: not ledger(tmp_path).pause_until_unix_s, LONG_S, "the end of the pause")
    ready(tmp_path, other_than=ledger(tmp_path).ready_pid)

    book = ledger(tmp_path)
    assert paused > 0
    assert ["exit status 7"] * 4 == [reason.text for reason in book.reasons]
    assert [""] * 4 == [reason.suspect for reason in book.reasons]
    assert 4 == book.streak


def test_a_host_that_is_given_up_is_told(tmp_path: Path, begin: Begin) -> None:
    """FATAL after the retries: the reasons tell each failed start, and the last one that it is over."""
    add(tmp_path, "again")
    (tmp_path / "fault").touch()
    conf = tmp_path / "own.conf"
    conf.write_text(CONF.read_text().replace("startretries=20", "startretries=1"))
    (tmp_path / "run").mkdir()
    (tmp_path / "rt").mkdir(mode=0o700)
    own = {
        "SIGRACK_RUNTIME": str(tmp_path / "rt"),
        "SIGRACK_RACK": str(tmp_path / "rack.toml"),
        "SIGRACK_RUN": str(tmp_path / "run"),
    }
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "--silent", "--configuration", str(conf)]
    with subprocess.Popen(command, env=os.environ | own | path) as process, ended_at_last(process):
        wait_until(lambda: (last := ledger(tmp_path).last) and last.text.startswith("given up"), LONG_S, "the end")
        state = rpc(tmp_path, "getProcessInfo", "sigrack")["statename"]
        shown = sigrack(tmp_path, "ps").stdout

    book = ledger(tmp_path)
    assert "FATAL" == state
    assert book.restarts == len(book.reasons) - 2 > 0  # the last end is followed by no start
    assert {"exit status 7"} == {reason.text for reason in book.reasons[:-1]}
    assert any("fatal" in line and "given up" in line for line in shown.splitlines())


def test_up_tells_why_it_gives_up(tmp_path: Path, begin: Begin) -> None:
    """The last line of `sigrack up` is the reason that the watch has found."""
    add(tmp_path, "again")
    (tmp_path / "fault").touch()
    conf = tmp_path / "own.conf"
    conf.write_text(CONF.read_text().replace("startretries=20", "startretries=2"))
    code, _, err = begin("--conf", str(conf)).end(limit_s=LONG_S)

    assert 102 == code
    assert "sigrack: the host cannot be kept running: exit status 7" == err.splitlines()[-1]


def test_a_host_that_hangs_is_ended_and_started_again(tmp_path: Path, begin: Begin) -> None:
    """A hook that holds the interpreter for ever: the loop turns no more, the host dies of SIGABRT and the hook is named."""
    add(tmp_path, "hang")
    begin(SIGRACK_WATCH_PROGRESS_S="3")
    first = ready(tmp_path)
    (tmp_path / "fault").touch()
    second = ready(tmp_path, other_than=first)

    last = ledger(tmp_path).last
    assert last
    assert "the main loop has not turned for 3 s: SIGABRT on the main loop, in odd" == last.text
    assert ("odd", 1) == (last.suspect, ledger(tmp_path).restarts)
    assert second == rpc(tmp_path, "getProcessInfo", "sigrack")["pid"]


def test_an_engine_that_stands_is_ended_and_started_again(tmp_path: Path, begin: Begin, cc: Compile) -> None:
    """A processor that never returns: no block is made any more, though the loop turns; its slot is named."""
    stuck = 'if (!access("fault", F_OK) && !unlink("fault")) for (;;) sleep(1);'
    source = plugin_source().replace("    scale->host.post", f"    {stuck}\n    scale->host.post")
    cc(f"#define _DEFAULT_SOURCE\n#include <unistd.h>\n{source}", "stuck")
    (tmp_path / "rack.toml").write_text(CLOCK + '[[slot]]\nname = "stuck"\nplugin = "./stuck.so"\nlane = "inline"\n')
    begin(SIGRACK_WATCH_PROGRESS_S="3")
    first = ready(tmp_path)
    (tmp_path / "fault").touch()
    ready(tmp_path, other_than=first)

    last = ledger(tmp_path).last
    assert last
    assert "no block was processed for 3 s: SIGABRT on the engine thread, in stuck" == last.text
    assert "stuck" == last.suspect


@pytest.mark.slow
def test_a_host_that_is_stopped_is_ended_by_force(tmp_path: Path, begin: Begin) -> None:
    """One that no signal wakes is killed by supervisord; that blames nobody."""
    begin(SIGRACK_WATCH_PROGRESS_S="3")
    first = ready(tmp_path)
    os.kill(first, signal.SIGSTOP)
    ready(tmp_path, other_than=first)

    last = ledger(tmp_path).last
    assert last
    assert last.text.startswith("the main loop has not turned for 3 s")
    assert "" == last.suspect
    assert 1 == ledger(tmp_path).restarts


@pytest.mark.slow
def test_a_host_that_only_runs_is_left_alone(tmp_path: Path, begin: Begin) -> None:
    """The negative control: with the same limits, one whose numbers rise lives on."""
    up = begin(SIGRACK_WATCH_PROGRESS_S="3", SIGRACK_WATCH_MEMORY_MB="4000")
    pid = ready(tmp_path)
    wait_until(lambda: up.frame() > 8 * 48_000, LONG_S, "eight seconds of sound")

    assert (0, None, pid) == (ledger(tmp_path).restarts, ledger(tmp_path).last, rpc(tmp_path, "getProcessInfo", "sigrack")["pid"])


def test_a_host_that_grows_is_restarted_in_order(tmp_path: Path, begin: Begin) -> None:
    """Over the memory limit it gets SIGTERM: the recording is complete, and there is no crash."""
    add(tmp_path, "grow")
    begin(SIGRACK_WATCH_MEMORY_MB="600")
    first = ready(tmp_path)
    (tmp_path / "fault").touch()
    wait_until(lambda: ledger(tmp_path).last, LONG_S, "the limit")
    (tmp_path / "fault").unlink()
    ready(tmp_path, other_than=first)

    last = ledger(tmp_path).last
    assert last
    assert "MB of memory, the limit is 600" in last.text
    assert "stopping" in (tmp_path / "run/host.log").read_text()
    assert not (tmp_path / "rt/up.deaths").exists()


def test_a_watch_that_dies_takes_nothing_with_it(tmp_path: Path, begin: Begin) -> None:
    """The host plays on, supervisord starts another watch, and that goes on with the counts."""
    add(tmp_path, "segv")
    up = begin()
    first = ready(tmp_path)
    (tmp_path / "fault").touch()
    second = ready(tmp_path, other_than=first)
    listener = rpc(tmp_path, "getProcessInfo", "watch")["pid"]
    os.kill(listener, signal.SIGKILL)
    wait_until(lambda: (pid := rpc(tmp_path, "getProcessInfo", "watch")["pid"]) and pid != listener, LONG_S, "another watch")
    frame = up.frame()
    wait_until(lambda: up.frame() > frame + 48_000, LONG_S, "a second of sound")

    assert second == rpc(tmp_path, "getProcessInfo", "sigrack")["pid"]
    (tmp_path / "fault").touch()
    wait_until(lambda: ledger(tmp_path).restarts == 2, LONG_S, "the second restart")
    assert [first, second] == [reason.pid for reason in ledger(tmp_path).reasons]


def test_a_watch_ends_between_two_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes when it is told to end is written whole, and nothing after that: no half file is left."""
    supervisor = facts(os.getpid())
    assert supervisor
    watcher = Watcher("rack", "sigrack", tmp_path, Remote("http://127.0.0.1:1"), Limits(), supervisor)
    begun, go_on, replace = threading.Event(), threading.Event(), Path.replace

    def slow(path: Path, target: Path) -> Path:
        begun.set()
        assert go_on.wait(LONG_S)
        return replace(path, target)

    def look() -> None:
        with suppress(OSError):  # there is no supervisord
            watcher.look()

    monkeypatch.setattr(Path, "replace", slow)
    for _ in range(2):
        watcher.tell(Event("EXITED"))
    threading.Thread(target=look, daemon=True).start()
    assert begun.wait(LONG_S)
    assert ["watch.json", "watch.json.new"] == sorted(path.name for path in tmp_path.iterdir())
    threading.Timer(0.1, go_on.set).start()
    watcher.close()

    assert ["watch.json"] == [path.name for path in tmp_path.iterdir()]
    (tmp_path / LEDGER).unlink()
    time.sleep(0.1)  # the second event's time
    assert [] == list(tmp_path.iterdir())


def test_restart_logs_and_ps(tmp_path: Path, begin: Begin) -> None:
    """What a person asks for is no restart that counts; the logs end with what was written last."""
    begin()
    first = ready(tmp_path)
    restarted = sigrack(tmp_path, "restart")
    second = ready(tmp_path, other_than=first)
    logs = sigrack(tmp_path, "logs", "-n", "1")
    table = sigrack(tmp_path, "ps").stdout.splitlines()

    assert (0, f"sigrack is ready: process {second}\n") == (restarted.returncode, restarted.stdout)
    assert 0 == ledger(tmp_path).restarts
    assert logs.stdout.splitlines() == (tmp_path / "run/host.log").read_text().splitlines()[-1:]
    assert "the host is ready" in sigrack(tmp_path, "logs", "watch").stdout
    assert table[0].split()[:4] == ["name", "pid", "state", "restarts"]
    assert [["sigrack", str(second), "running", "0"]] == [line.split()[:4] for line in table if line.startswith("sigrack")]


def test_ps_lists_children_under_the_host(tmp_path: Path, begin: Begin) -> None:
    """The keeper, and below it who runs in a process of its own, by the slot's name; each has its own memory."""
    rack = tmp_path / "rack.toml"
    rack.write_text(CLOCK.replace('plugin = "level"', 'plugin = "level"\nlane = "process"'))
    begin()
    pid = ready(tmp_path)
    shown = {row["name"]: row for row in json.loads(sigrack(tmp_path, "ps", "--json").stdout)}
    lines = sigrack(tmp_path, "ps").stdout.splitlines()

    assert ["sigrack-keeper", "level"] == [child["name"] for child in shown["sigrack"]["children"]]
    assert all(child["memory_mb"] > 1 and child["pid"] != pid for child in shown["sigrack"]["children"])
    assert ["sigrack", "  sigrack-keeper", "  level", "watch"] == [
        line[: len(line) - len(line.lstrip())] + line.split()[0] for line in lines[1:]
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["ps"], 102, "no supervisord answers in run: start it with `sigrack up RACK.toml`, or give its --folder"),
        (["restart"], 102, "no supervisord answers in run: start it with `sigrack up RACK.toml`, or give its --folder"),
        (["logs"], 102, "run/host.log: No such file or directory; is this the --folder of `sigrack up`?"),
        (["logs", "hots"], 101, 'there is no log "hots"; valid: host, watch, supervisord'),
        (["logs", "-n", "-3"], 101, None),
        (
            ["watch", "rack.toml"],
            101,
            "`sigrack watch` is for supervisord, which starts it as an event listener: see supervisord.conf",
        ),
        (
            ["watch", "rack.toml", "--memory-mb", "lots"],
            101,
            '--memory-mb or SIGRACK_WATCH_MEMORY_MB is "lots": give a number from 0 on',
        ),
    ],
)
def test_where_nothing_runs_it_is_one_line(tmp_path: Path, words: list[str], code: int, message: str | None) -> None:
    """A mistake ends with its exit code and says what to do."""
    done = sigrack(tmp_path, *words)

    assert (code, "") == (done.returncode, done.stdout)
    assert 1 == len(done.stderr.splitlines())
    assert message is None or f"sigrack: {message}\n" == done.stderr
