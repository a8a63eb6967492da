"""The scan: whatever a plugin does, its verdict is right, the scanner lives, and nothing runs on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from command import answer, refused, sigrack
from factories import Compile
from plugin_source import plugin_source
from sigrack.quarantine import Quarantine
from sigrack_plugins import bundled
from waiting import wait_until

HEAD = "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <signal.h>\n#include <string.h>\n#include <unistd.h>\n"
NULL = "*(volatile int *)0 = 1;"
STAY = "for (;;) pause();"
CONSTRUCTOR = "__attribute__((constructor)) static void begin(void) {{ {} }}\n"
DESTRUCTOR = "__attribute__((destructor)) static void end(void) {{ {} }}\n"
OVERFLOW = "static int deep(volatile char *p) { volatile char more[4096]; more[0] = *p; return deep(more) + more[0]; }\n"
FLOOD = f'for (int i = 0; i < 1600000; i++) puts("{"0123456789" * 6}\\a!"); puts("last");'

ENDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "null_in_constructor": (CONSTRUCTOR.format(NULL), {}, "SIGSEGV in load"),
    "null_in_create": ("", {"create": NULL}, "SIGSEGV in create"),
    "null_in_activate": ("", {"activate": NULL}, "SIGSEGV in activate"),
    "null_at_exit": (DESTRUCTOR.format(NULL), {}, "SIGSEGV in exit"),
    "abort": ("", {"create": "abort();"}, "SIGABRT in create"),
    "illegal": (CONSTRUCTOR.format("__builtin_trap();"), {}, "SIGILL in load"),
    "leaves": ("", {"create": "_exit(0);"}, "exit code 0 in create"),
    "leaves_from_constructor": (CONSTRUCTOR.format("_exit(0);"), {}, "exit code 0 in load"),
    "exits": ("", {"activate": "exit(3);"}, "exit code 3 in activate"),
    "overflows": (OVERFLOW, {"create": 'deep("");'}, "SIGSEGV in create"),
    "smashes_heap": ("", {"create": "char *p = malloc(8); free(p); free(p);"}, "SIGABRT in create"),
    "forks": ("", {"create": f"if (!fork()) {STAY}"}, "left a process behind"),
    "forks_and_both_go_on": ("", {"create": "fork();"}, "left a process behind"),
    "forks_and_hides": (
        "",
        {"create": f"if (!fork()) {{ setsid(); if (!fork()) {{ setsid(); fork(); setsid(); {STAY} }} _exit(0); }}"},
        "left a process behind",
    ),
    "forks_in_constructor": (CONSTRUCTOR.format(f"if (!fork()) {{ setsid(); {STAY} }}"), {}, "left a process behind"),
    "closes": ("", {"create": "for (int i = 0; i < 1024; i++) close(i);"}, "closed its report in create"),
    "closes_in_constructor": (CONSTRUCTOR.format("for (int i = 0; i < 1024; i++) close(i);"), {}, "closed its report in load"),
    "writes_everywhere": (
        "",
        {"create": 'for (int i = 3; i < 1024; i++) if (write(i, "nonsense", 8) < 0) continue;'},
        "wrote into its report in create",
    ),
    "forges": (
        "",
        {"create": 'for (int i = 3; i < 1024; i++) if (write(i, "{\\"done\\": true}\\n", 15) < 0) continue; _exit(0);'},
        "exit code 0 in create",
    ),
    "kills_its_parent": ("", {"create": f"kill(getppid(), SIGKILL); {STAY}"}, "ended the process that watched it in create"),
    "eats_memory": (
        "",
        {"create": "for (;;) memset(malloc(1 << 20), 1, 1 << 20);"},
        r"(SIGSEGV|memory limit of 256 MiB) in create",
    ),
    "eats_all_at_once": ("", {"create": "memset(malloc(1ull << 40), 1, 1ull << 40);"}, "SIGSEGV in create"),
}
HANGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "loops_in_constructor": (CONSTRUCTOR.format("for (volatile int i = 0;; i++);"), {}, "no end within 2 s in load"),
    "loops_in_create": ("", {"create": "for (volatile int i = 0;; i++);"}, "no end within 2 s in create"),
    "stops": ("", {"create": "kill(getpid(), SIGSTOP);"}, "no end within 2 s in create"),
    "hangs_at_exit": (DESTRUCTOR.format("for (volatile int i = 0;; i++);"), {}, "no end within 2 s in exit"),
}


def build(cc: Compile, name: str, extra: str, parts: dict[str, Any]) -> Path:
    """Compile a plugin that misbehaves."""
    return cc(HEAD + extra + plugin_source(id=name, **parts), name, "-w")


def processing(code: str, name: str) -> str:
    """Return the source of a plugin whose `process` begins with `code`."""
    source = plugin_source(id=name, process="first")
    wrapper = f"static int first(void *self, const struct sigrack_block *block) {{ {code} return process(self, block); }}\n"
    return source.replace("static const struct {", wrapper + "static const struct {", 1)


def scan(*arguments: object, code: int) -> dict[str, dict[str, Any]]:
    """Scan; return the results by the files' names. Nothing that was started may run on."""
    mark = uuid.uuid4().hex
    done = subprocess.run(
        [sys.executable, "-m", "sigrack", "scan", *map(str, arguments), "--json"],
        env=os.environ | {"SIGRACK_TEST_MARK": mark},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert (code, b"") == (done.returncode, done.stderr)
    assert [] == marked(mark)

    return {Path(result["path"]).name: result for result in json.loads(done.stdout)}


def marked(mark: str) -> list[str]:
    """Return the processes that have inherited a mark and live."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes():  # empty of a zombie
                found.append(path.name)
        except OSError:
            continue
    return found


def test_harm_is_found_and_contained(cc: Compile, tmp_path: Path) -> None:
    """Each nasty library gets its verdict with the call that it died in, goes into quarantine, and disturbs no other."""
    for name, (extra, parts, _) in ENDS.items():
        build(cc, name, extra, parts)
    cc(plugin_source(id="zz_last"), "zz_last")

    results = scan(tmp_path, "--limit", 60, "--memory", 256, code=1)
    entries = {Path(entry.path).stem: entry for entry in Quarantine.open().entries()}

    assert "good" == results.pop("zz_last.so")["verdict"]
    assert {f"{name}.so" for name in ENDS} == set(results)
    for name, (_, _, cause) in ENDS.items():
        result = results[f"{name}.so"]
        assert "quarantined" == result["verdict"], result
        assert re.fullmatch(f"{cause}, in a scan", result["reason"]), result
        assert (result["sha256"], result["reason"]) == (entries[name].sha256, entries[name].reason)
        assert entries[name].name == name
    assert len(ENDS) == len(entries)


def test_what_does_not_end_is_ended(cc: Compile, tmp_path: Path) -> None:
    """The time limit holds in every call, whatever the plugin does meanwhile."""
    for name, (extra, parts, _) in HANGS.items():
        build(cc, name, extra, parts)

    results = scan(tmp_path, "--limit", 2, code=1)

    assert {f"{name}.so": f"{cause}, in a scan" for name, (_, _, cause) in HANGS.items()} == {
        name: result["reason"] for name, result in results.items()
    }


BLOCKS = {
    "after": ("block->out[0][block->frames] = 1;", "quarantined", "wrote beside a block of 1 frames, in a scan"),
    "far": ("if (block->frames == 32) block->out[1][32] = 1;", "quarantined", "SIGSEGV in process, in a scan"),
    "before": ("block->out[0][-1] = 1;", "quarantined", "wrote beside a block of 1 frames, in a scan"),
    "input": ("((float **)block->in)[0][0] = 1;", "quarantined", "SIGSEGV in process, in a scan"),
    "event": ("if (block->event_count) abort();", "quarantined", "SIGABRT in process, in a scan"),
    "refuses": ("if (block->frames == 7) return 1;", "failed", "refuses: refused a block of 7 frames"),
    "lazy": (
        "if (block->frame > 9) return 0;",
        "failed",
        "lazy: left frames of a block of 5 unwritten, or made them NaN or infinite",
    ),
    "fine": ("", "good", ""),
}


def test_blocks_of_all_lengths(cc: Compile, tmp_path: Path) -> None:
    """What a plugin writes, and where, is looked at for each length of a block."""
    for name, (code, _, _) in BLOCKS.items():
        cc(processing(code, name), name)

    results = scan(tmp_path, "--limit", 60, code=1)

    assert {f"{name}.so": (verdict, reason) for name, (_, verdict, reason) in BLOCKS.items()} == {
        name: (result["verdict"], result["reason"]) for name, result in results.items()
    }
    for name in BLOCKS:
        assert (name, "native", "2.5") == tuple(results[f"{name}.so"][key] for key in ("plugin", "kind", "version"))


PLUGIN = "from sigrack_plugins import Plugin\n{}\nclass Ears(Plugin):\n    def on_block(self, block):\n        pass\n{}"
IMPORT = "{path}:2: cannot be imported: "
FORKS = "import subprocess; subprocess.Popen(['sleep', '3600'])"
NO_X = "    def __init__(self):\n        self.x\n"
MODULES = {
    "fine": (PLUGIN.format("", ""), "good", ""),
    "dies": (PLUGIN.format("import ctypes; ctypes.string_at(0)", ""), "quarantined", "SIGSEGV in import, in a scan"),
    "leaves": (PLUGIN.format("import os; os._exit(3)", ""), "quarantined", "exit code 3 in import, in a scan"),
    "exits": (PLUGIN.format("raise SystemExit(3)", ""), "failed", f"{IMPORT}SystemExit: 3"),
    "stops": (PLUGIN.format("raise KeyboardInterrupt('now')", ""), "failed", "KeyboardInterrupt: now ({path}:2)"),
    "fails": (PLUGIN.format("import nil", ""), "failed", f"{IMPORT}ModuleNotFoundError: No module named 'nil'"),
    "broken": (PLUGIN.format("class", ""), "failed", f"{IMPORT}SyntaxError: invalid syntax (broken.py, line 2)"),
    "unmade": (PLUGIN.format("", NO_X), "failed", "unmade: AttributeError: 'Ears' object has no attribute 'x' ({path}:7)"),
    "forks": (PLUGIN.format(FORKS, ""), "quarantined", "left a process behind, in a scan"),
    "runs": (PLUGIN.format("import subprocess; subprocess.run(['true'])", ""), "good", ""),
    "helper": (
        "from sigrack_plugins import Plugin\n",
        "no plugin",
        "{path}: a plugin module holds exactly one subclass of sigrack_plugins.Plugin, here: none",
    ),
    "script": ("raise SystemExit('not to be run')\n", "no plugin", ""),
}


def test_modules(tmp_path: Path) -> None:
    """Python plugins are imported and made; what they raise is said, what they do to the process is harm."""
    for name, (text, _, _) in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)

    results = scan(tmp_path, "--limit", 60, code=1)

    assert set(results) == {f"{name}.py" for name in MODULES}
    for name, (_, verdict, reason) in MODULES.items():
        result = results[f"{name}.py"]
        assert (verdict, reason.format(path=tmp_path / f"{name}.py")) == (result["verdict"], result["reason"])


ENGINE = """
#include "sigrack_signal.h"
#include <stdlib.h>
void *signal_create(const char *config) {{ {create} return malloc(1); }}
void signal_on_data(void *h, int type, const void *data) {{ (void)h; (void)type; (void)data; }}
int signal_register_callback(void *h, signal_callback callback, void *user) {{
    double value = 1;
    (void)h;
    callback("x", 0, &value, 1, user);
    return 0;
}}
void signal_destroy(void *h) {{ {destroy} free(h); }}
"""


@pytest.mark.parametrize(
    ("create", "destroy", "verdict", "reason"),
    [
        ("", "", "good", ""),
        ("if (config[1] == '}') return 0;", "", "good", "no engine without a configuration"),
        ("", "abort();", "quarantined", "SIGABRT in signal_destroy, in a scan"),
    ],
)
def test_signal_engines(cc: Compile, create: str, destroy: str, verdict: str, reason: str) -> None:
    """An engine is made, given a callback and destroyed."""
    path = cc(ENGINE.format(create=create or "(void)config;", destroy=destroy))
    result = scan(path, "--limit", 60, code=int(verdict != "good"))["plugin.so"]

    assert (verdict, reason, "signal engine") == (result["verdict"], result["reason"], result["kind"])


def test_prints_are_kept_to_the_last_lines(cc: Compile, tmp_path: Path) -> None:
    """100 MB of prints disturb nobody; the last lines are shown of what failed, without control characters."""
    cc(plugin_source(id="loud", create=FLOOD), "loud")
    build(cc, "louder", "", {"create": f"{FLOOD} fflush(stdout); abort();"})

    results = scan(tmp_path, "--limit", 60, code=1)

    assert "good" == results["loud.so"]["verdict"]
    assert "SIGABRT in create, in a scan" == results["louder.so"]["reason"]
    assert 5 == len(results["louder.so"]["printed"])
    assert results["louder.so"]["printed"][-2:] == [f"{'0123456789' * 6}?!", "last"]


def test_states_are_handed_over(cc: Compile) -> None:
    """A plugin's own state is saved and loaded: one that cannot be is of no use."""
    states = """
    static uint32_t save(void *self, void *data, uint32_t size) {{ (void)self; if (size) *(char *)data = 7; return 1; }}
    static int load(void *self, const char *version, const void *data, uint32_t size, char *error, uint32_t error_size) {{
        (void)self; (void)version; (void)size; snprintf(error, error_size, "no %d", *(const char *)data); return {}; }}
    """
    found = []
    for name, value in (("fine", 0), ("unfit", 1)):
        source = plugin_source(id=name).replace("static const struct {", states.format(value) + "static const struct {", 1)
        path = cc(source.replace(".destroy = free,", ".destroy = free, .state_save = save, .state_load = load,"), name)
        result = scan(path, "--limit", 60, code=value)[f"{name}.so"]
        found.append((result["verdict"], result["reason"]))

    assert [("good", ""), ("failed", "unfit: cannot take over the state of version 2.5: no 7")] == found


def test_bundled_plugins_are_good() -> None:
    """Without a path the bundled plugins are tried, and all are good."""
    results = answer("scan", "--limit", 60)

    assert [str(path) for path in bundled().values()] == [result["path"] for result in results]
    assert {"good"} == {result["verdict"] for result in results}
    assert list(bundled()) == [result["plugin"] for result in results]


COUNTER = 'int fd = open("{}", O_WRONLY | O_APPEND | O_CREAT, 0600); if (write(fd, "x", 1) < 0) abort(); close(fd);'


def test_what_is_known_is_not_loaded_again(cc: Compile, tmp_path: Path) -> None:
    """A second scan loads nothing but what failed; --again does, also what is in quarantine, which only a person ends."""
    loads = tmp_path / "loads"
    good = build(cc, "good", CONSTRUCTOR.format(COUNTER.format(loads)), {})
    bad = build(
        cc, "bad", CONSTRUCTOR.format(COUNTER.format(loads)), {"create": f'if (access("{tmp_path}/mended", F_OK)) abort();'}
    )

    scan(good, bad, "--limit", 60, code=1)
    known = scan(good, bad, Path(shutil.copy(good, tmp_path / "copy.so")), "--limit", 60, code=1)

    assert 2 == loads.stat().st_size
    assert {"good.so": "good", "bad.so": "quarantined", "copy.so": "good"} == {n: r["verdict"] for n, r in known.items()}
    assert {True} == {result["cached"] for result in known.values()}

    (tmp_path / "mended").touch()
    again = scan(good, bad, "--again", "--limit", 60, code=1)

    assert 4 == loads.stat().st_size
    assert again["bad.so"]["reason"] == (
        "SIGABRT in create, in a scan; this time it is good: `sigrack quarantine clear bad` lets it out"
    )

    sigrack("quarantine", "clear", "bad")

    assert "good" == scan(bad, "--limit", 60, code=0)["bad.so"]["verdict"]
    assert 5 == loads.stat().st_size


def test_a_failure_is_looked_at_again(tmp_path: Path) -> None:
    """What lacks something may find it the next time."""
    path = tmp_path / "lacking.py"
    path.write_text(PLUGIN.format(f"open({str(tmp_path / 'needed')!r})", ""))

    assert "failed" == scan(path, "--limit", 60, code=1)["lacking.py"]["verdict"]
    (tmp_path / "needed").touch()
    assert "good" == scan(path, "--limit", 60, code=0)["lacking.py"]["verdict"]


def test_a_dead_scanner_leaves_nothing(cc: Compile, tmp_path: Path) -> None:
    """SIGKILL to the scanner ends the plugin's process and what that has started, in sessions of their own, too."""
    pids = tmp_path / "pids"
    tell = f'int fd = open("{pids}", O_WRONLY | O_APPEND | O_CREAT, 0600); dprintf(fd, "%d\\n", getpid());'
    path = build(cc, "stays", "", {"create": f"if (!fork()) {{ setsid(); if (fork()) setsid(); {tell} {STAY} }} {tell} {STAY}"})
    mark = uuid.uuid4().hex
    scanner = subprocess.Popen(
        [sys.executable, "-m", "sigrack", "scan", path, "--limit", "600"], env=os.environ | {"SIGRACK_TEST_MARK": mark}
    )
    try:
        wait_until(lambda: pids.exists() and pids.read_text().count("\n") == 3, 60.0)

        assert 5 <= len(marked(mark))
    finally:
        scanner.send_signal(signal.SIGKILL)
        scanner.wait()

    wait_until(lambda: not marked(mark), 60.0)


def test_ctrl_c_ends_all(cc: Compile, tmp_path: Path) -> None:
    """An interrupted scan takes what it has started along."""
    began = tmp_path / "began"
    path = build(cc, "stays", "", {"create": f'creat("{began}", 0600); if (!fork()) setsid(); {STAY}'})
    mark = uuid.uuid4().hex
    scanner = subprocess.Popen(
        [sys.executable, "-m", "sigrack", "scan", path, "--limit", "600"], env=os.environ | {"SIGRACK_TEST_MARK": mark}
    )
    wait_until(began.exists, 60.0)
    scanner.send_signal(signal.SIGINT)

    assert 103 == scanner.wait()
    assert [] == marked(mark)


def test_folders_and_names(cc: Compile, tmp_path: Path) -> None:
    """Folders are walked, hidden ones and what cannot be a plugin are left alone; names stand for bundled plugins."""
    ran = tmp_path / "ran"
    cc(f"#include <fcntl.h>\n{CONSTRUCTOR.format(f'creat({json.dumps(str(ran))}, 0600);')}int nothing;\n", "library")
    (tmp_path / "text.so").write_text("no library\n")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.py").write_text(PLUGIN.format("", ""))
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.py").write_text(PLUGIN.format("", ""))
    os.mkfifo(tmp_path / "pipe.py")

    results = scan(tmp_path, "gain", tmp_path / "below" / "a.py", "--limit", 60, code=0)

    assert {"library.so": "no plugin", "text.so": "no plugin", "a.py": "good", "gain.so": "good"} == {
        name: result["verdict"] for name, result in results.items()
    }
    assert not ran.exists()


def test_a_dotted_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of a package is imported as such; its package's code does not run in the scanner."""
    package = tmp_path / "rooms"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nHOST = os.getppid()\n")
    (package / "help.py").write_text("")
    (package / "ears.py").write_text(PLUGIN.format("from . import help", ""))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    assert "good" == scan("rooms.ears", "--limit", 60, code=0)["ears.py"]["verdict"]


def test_plugins_named_as_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder where it is called, a plugin with the name of one of Python's modules is not taken for that."""
    for name in ("json", "select", "signal"):
        (tmp_path / f"{name}.py").write_text(PLUGIN.format("", ""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # as the installed command does

    assert {"good"} == {result["verdict"] for result in scan(".", "--limit", 60, code=0).values()}


def test_a_keeper_that_cannot_start_is_no_plugins_fault(cc: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error of the system; nothing goes into quarantine."""
    path = cc(plugin_source())
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif '-P' in sys.orig_argv:\n    os._exit(1)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    said = refused(102, "scan", path)
    assert "the keeper of the plugins' processes died" in said or "the keeper of lanes is gone" in said  # before it was asked
    assert () == Quarantine.open().entries()


def test_a_table_for_people(cc: Compile, tmp_path: Path) -> None:
    """One line for each, with the reason; a count at the end."""
    build(cc, "abort", "", {"create": 'fputs("I give up\\n", stderr); abort();'})
    done = sigrack("scan", tmp_path, "gain", "--limit", 60)

    assert 1 == done.returncode
    assert f"quarantined  abort 2.5           {tmp_path}/abort.so: SIGABRT in create, in a scan\n" in done.stdout
    assert "             | I give up\n" in done.stdout
    assert done.stdout.endswith("\n2 scanned: 1 quarantined, 1 good\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.so",), "nowhere.so: no such file or folder"),
        (("gian",), 'gian: no such file or folder; did you mean "gain"?'),
        (("/dev/null",), "/dev/null: a plugin is a .so or a .py file"),
        (("gain", "--limit", "0"), "--limit and --memory must be above 0"),
        (("gain", "--limit", "nan"), "--limit and --memory must be above 0"),
        (("gain", "--memory", "x"), "argument --memory: invalid int value: 'x'; see `sigrack scan --help`"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str) -> None:
    """One line, exit code 101."""
    assert refused(101, "scan", *arguments).endswith(message)
