"""Shared libraries: what the naive way does in a child process, and what ours does instead.

Children run the same script twice, with `way` = "naive" (dlopen of the path, dlclose at once) and with `way` = "ours".
"""

import contextlib
import ctypes as c
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from command import answer, sigrack
from factories import Compile
from plugin_source import plugin_source
from racks import Host, noise, write
from sigrack.control.client import Client
from sigrack.errors import ConfigError
from sigrack.loading import NativePlugin, libraries, tasks
from sigrack.loading.libraries import Library, kept, listing, open_library
from sigrack.loading.native import MOST_STATE, NativeInstance
from sigrack.places import default_endpoint
from sigrack_engine.results import POST_ADDRESS
from sigrack_plugins import abi
from waiting import wait_until

Compiler = Callable[..., Path]

VERSION = "int version(void) { return NUMBER; }"

THREAD = """\
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static atomic_int stop;
static pthread_t thread;

static void *run(void *unused) {
    while (!atomic_load(&stop))
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    return unused;
}
void start(void) { pthread_create(&thread, NULL, run, NULL); }
void end(void) { atomic_store(&stop, 1); }
void join(void) { pthread_join(thread, NULL); }
"""

PRELUDE = """\
import ctypes as c
import json, os, sys, threading, time
from pathlib import Path
from sigrack.errors import EngineError
from sigrack.loading.libraries import kept, listing, open_library
from waiting import wait_until

way, *paths = sys.argv[1:]
libc = c.CDLL(None)
libc.dlclose.argtypes = [c.c_void_p]

def load(path):  # the code, and what lets it go
    if way == "naive":
        cdll = c.CDLL(str(path))
        return cdll, lambda: libc.dlclose(cdll._handle)
    library = open_library(Path(path))
    library.unloadable = True
    return library.cdll, library.close
"""


def child(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a script in a process of its own, to its end or to its crash."""
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def said(done: "subprocess.CompletedProcess[str]") -> Any:
    """Return what a child that lived has printed."""
    assert 0 == done.returncode, f"{done.returncode}: {done.stderr}"
    return json.loads(done.stdout)


def numbered(cc: Compile, number: int, name: str = "numbered") -> Path:
    """A library whose `version` returns the number."""
    return cc(VERSION, name, f"-DNUMBER={number}")


def opened(path: Path, *, unloadable: bool = True) -> Library:
    """Open, with the declaration that its loader would find."""
    library = open_library(path)
    library.unloadable = unloadable
    return library


def mappings(text: str = "memfd:") -> int:
    """How many mapped files have a name with this text."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return len({tuple(line.split()[3:5]) for line in lines if text in line})


def row(library: Library) -> dict[str, Any]:
    """What the listing says about a library."""
    return next(row for row in listing() if library.sha256.startswith(row["sha256"]))


@pytest.fixture
def cxx(tmp_path: Path) -> Compiler:
    """The system's C++ compiler."""
    compiler = shutil.which(os.environ.get("CXX") or "c++")
    if compiler is None:
        pytest.skip("no C++ compiler: install g++ or clang++, or set CXX")

    def build(source: str, name: str, *flags: str) -> Path:
        target = tmp_path / f"{name}.so"
        command = [compiler, "-fPIC", "-shared", *flags, "-o", str(target), "-x", "c++", "-"]
        subprocess.run(command, input=source, text=True, check=True)
        return target

    return build


# A file that changes

RUNNING = """\
long turns;
int stop;
__attribute__((noinline)) static long step(long turn) { return turn + 1; }
void run(void) {
    while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST))
        __atomic_store_n(&turns, step(turns), __ATOMIC_SEQ_CST);
}
"""

OVERWRITE = """
library, _ = load(paths[0])
turns = c.c_long.in_dll(library, "turns")
thread = threading.Thread(target=library.run)
thread.start()
wait_until(lambda: turns.value > 1000)
Path(paths[0]).write_bytes(Path(paths[1]).read_bytes())  # cuts the file to nothing, then fills it
seen = turns.value
wait_until(lambda: turns.value > seen + 1000)
c.c_int.in_dll(library, "stop").value = 1
thread.join()
print(json.dumps("ran on"))
"""


def test_code_runs_on_while_its_file_is_overwritten(cc: Compile, tmp_path: Path) -> None:
    """A library whose file is cut and overwritten while its code runs goes on undisturbed."""
    path = cc(RUNNING, "running", "-O0")

    assert "ran on" == said(child(OVERWRITE, "ours", path, numbered(cc, 1)))


def test_naive_code_dies_with_its_file(cc: Compile) -> None:
    """Negative control: the same with dlopen of the path ends by a signal."""
    path = cc(RUNNING, "running", "-O0")

    assert child(OVERWRITE, "naive", path, numbered(cc, 1)).returncode < 0


RENAME = """
versions = []
for number in (1, 2):
    os.replace(paths[number], paths[0])
    versions.append(load(paths[0])[0].version())
print(json.dumps(versions))
"""


@pytest.mark.parametrize(("way", "versions"), [("ours", [1, 2]), ("naive", [1, 1])])
def test_a_file_renamed_over_another_is_new_code(cc: Compile, tmp_path: Path, way: str, versions: list[int]) -> None:
    """The new file at an old path is the new code; control: dlopen of the path gives the old code without a word."""
    files = [numbered(cc, number, f"version{number}") for number in (1, 2)]

    assert versions == said(child(RENAME, way, tmp_path / "same.so", *files))


DESCRIPTORS = """
versions, names = [], set()
for path in paths:
    if way == "naive":
        descriptor = os.memfd_create("copy")
        os.write(descriptor, Path(path).read_bytes())
        library = c.CDLL(f"/proc/self/fd/{descriptor}")
        let_go = lambda: os.close(descriptor)
    else:
        library, let_go = load(path)
    versions.append(library.version())
    names.add(library._name)
    let_go()
print(json.dumps([versions, len(names)]))
"""


@pytest.mark.parametrize(("way", "versions"), [("ours", [1, 2]), ("naive", [1, 1])])
def test_a_descriptor_number_that_comes_again_is_new_code(cc: Compile, way: str, versions: list[int]) -> None:
    """A copy whose descriptor has a number that was used before is new code; control: if it was
    closed while mapped, it is the old one."""
    files = [numbered(cc, number, f"version{number}") for number in (1, 2)]

    assert [versions, 1] == said(child(DESCRIPTORS, way, *files))


HANDLE = """
first = open_library(Path(paths[0]))
if way == "ours":
    os.close(int(first.cdll._name.rpartition("/")[2]))  # behind its back
try:
    print(json.dumps(open_library(Path(paths[1])).cdll.version()))
except EngineError as error:
    print(json.dumps(str(error)))
"""


def test_old_code_for_a_new_file_is_refused(cc: Compile) -> None:
    """Should the system's loader hand out another library's code, the load is refused with both names."""
    first, second = numbered(cc, 1, "first"), numbered(cc, 2, "second")
    message = f"{second}: the system's loader gave the code of {first} instead; start the host anew"

    assert message == said(child(HANDLE, "ours", first, second))
    assert 2 == said(child(HANDLE, "left alone", first, second))


def test_a_bundled_library_that_is_rebuilt_is_new_code(cc: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundled library is opened in place, its successor at the same path from a copy; neither is ever unmapped there."""
    path = numbered(cc, 1101)
    monkeypatch.setattr(libraries, "bundled", lambda: {"numbered": path})

    first = opened(path)
    second = open_library(numbered(cc, 1102))

    assert [1101, 1102] == [library.cdll.version() for library in (first, second)]
    assert [str(path), True] == [first.cdll._name, second.cdll._name.startswith("/proc/self/fd/")]

    first.close()

    assert ("kept", "opened in place: bundled with sigrack") == (row(first)["state"], row(first)["why"])


# One mapping per content


def test_equal_contents_share_one_mapping(cc: Compile, tmp_path: Path) -> None:
    """Two files with one content are one library with two users; control: dlopen maps both."""
    first = numbered(cc, 1201)
    second = Path(shutil.copy(first, tmp_path / "second.so"))
    before = mappings()

    libraries = [open_library(path) for path in (first, second)]

    assert libraries[0] is libraries[1]
    assert (2, before + 1) == (libraries[0].users, mappings())

    naive = [c.CDLL(str(path)) for path in (first, second)]

    assert 2 == mappings(str(first)) + mappings(str(second))
    assert naive[0]._handle != naive[1]._handle


def test_a_kept_mapping_is_taken_up_again(cc: Compile) -> None:
    """What was not declared unloadable stays after its last user, with the reason, and serves the next one."""
    path = numbered(cc, 1202)
    library = opened(path, unloadable=False)
    library.close()

    assert {
        "path": str(path),
        "sha256": library.sha256[:12],
        "users": 0,
        "state": "kept",
        "why": "not declared unloadable",
    } == row(library)
    assert 1 == mappings(library.sha256[:16])

    again = open_library(path)

    assert again is library
    assert (1, "in use", "") == (row(library)["users"], row(library)["state"], row(library)["why"])
    assert 1202 == again.cdll.version()


def distinct(path: Path, count: int) -> Iterator[Path]:
    """Copies with different contents: the loader does not mind what follows the last section."""
    content = path.read_bytes()
    for number in range(count):
        copy = path.with_name(f"distinct{number}.so")
        copy.write_bytes(content + number.to_bytes(8, "little"))
        yield copy


@pytest.mark.parametrize("unloadable", [True, False])
def test_mappings_are_bounded(cc: Compile, unloadable: bool) -> None:
    """Two hundred unloadable contents, one after the other, leave nothing; others leave one mapping each, opened thrice."""
    count = 200 if unloadable else 20
    before = mappings(), kept(), len(os.listdir("/proc/self/fd"))

    for path in distinct(numbered(cc, 1203 + unloadable), count):
        for _ in range(1 if unloadable else 3):
            library = opened(path, unloadable=unloadable)
            assert 1203 + unloadable == library.cdll.version()
            library.close()

    left = 0 if unloadable else count

    assert tuple(number + left for number in before) == (mappings(), kept(), len(os.listdir("/proc/self/fd")))


# Unmapping


def test_an_unloadable_library_goes_with_its_last_user(cc: Compile) -> None:
    """A library that declares itself unloadable is mapped until its last user has closed it, and can be loaded again."""
    path = numbered(cc, 1301)
    first, second = opened(path), opened(path)
    first.close()

    assert (1, 1301) == (mappings(first.sha256[:16]), second.cdll.version())

    second.close()

    assert 0 == mappings(first.sha256[:16])
    assert first.sha256[:12] not in [row["sha256"] for row in listing()]

    again = opened(path)

    assert again is not first
    assert 1301 == again.cdll.version()


def test_closing_more_often_than_opening_is_refused(cc: Compile) -> None:
    """One close too many is a fault of the caller, and takes no mapping from others."""
    library = opened(numbered(cc, 1302), unloadable=False)
    library.close()

    with pytest.raises(AssertionError, match="closed more often than opened"):
        library.close()


LIVE = """
library, let_go = load(paths[0])
library.start()
let_go()
if way == "naive":
    time.sleep(10)  # its thread wakes up long before
[row] = listing()
library.end()
library.join()
load(paths[1])[1]()  # any close tries again
print(json.dumps([row["state"], row["why"], listing()]))
"""


def test_code_with_a_live_thread_stays(cc: Compile) -> None:
    """An unloadable library whose thread is still there is kept, with the reason, until the thread has gone."""
    path, other = cc(THREAD, "thread", "-pthread"), numbered(cc, 1)
    state, why, left = said(child(LIVE, "ours", path, other))

    assert "kept" == state
    assert why.startswith("the thread ")
    assert why.endswith(" may be its own")
    assert [] == left


def test_naive_unmapping_under_a_live_thread_crashes(cc: Compile) -> None:
    """Negative control: the same with dlclose at once ends by a segmentation fault."""
    assert -11 == child(LIVE, "naive", cc(THREAD, "thread", "-pthread"), numbered(cc, 1)).returncode


UNIQUE = """\
template <class T> struct Shared { static int value; };
template <class T> int Shared<T>::value = 7;
extern "C" int touch() { return Shared<int>::value; }
"""


def test_a_library_with_unique_symbols_is_stuck(cxx: Compiler) -> None:
    """A C++ library that the loader never unmaps is reported as stuck and serves again; control: built otherwise, it goes."""
    path = cxx(UNIQUE, "unique", "-fgnu-unique")
    library = opened(path)
    handle = library.handle
    library.close()
    said_by_listing = row(library)
    again = opened(path)

    assert "stuck" == said_by_listing["state"]
    assert said_by_listing["why"].startswith("still mapped after dlclose: ")
    assert (library, handle, 7) == (again, again.handle, again.cdll.touch())

    again.close()

    assert ("stuck", 1) == (row(library)["state"], mappings(library.sha256[:16]))

    other = opened(cxx(UNIQUE, "other", "-fno-gnu-unique"))
    other.close()

    assert 0 == mappings(other.sha256[:16])


THREAD_LOCAL = """\
struct Held { int value = 5; ~Held() { value = 0; } };
thread_local Held held;
extern "C" int touch() { return held.value; }
"""


@contextlib.contextmanager
def touching(library: Library) -> Iterator[None]:
    """A thread of ours that has touched the library's thread-local, and ends with the block."""
    touched, go_on = threading.Event(), threading.Event()

    def touch() -> None:
        library.cdll.touch()
        touched.set()
        assert go_on.wait(10)

    thread = threading.Thread(target=touch)
    thread.start()
    assert touched.wait(10)
    yield
    go_on.set()
    thread.join()


def test_a_thread_local_keeps_its_library_until_the_thread_ends(cxx: Compiler, cc: Compile) -> None:
    """A library whose thread-local destructor is still to run is stuck; the next close of anything after that unmaps it."""
    library, other = opened(cxx(THREAD_LOCAL, "local")), numbered(cc, 1303)
    with touching(library):
        library.close()
        state = row(library)["state"]

    def is_gone() -> bool:
        opened(other, unloadable=False).close()
        return not mappings(library.sha256[:16])

    assert "stuck" == state
    assert wait_until(is_gone)
    assert str(library.path) not in [row["path"] for row in listing()]


def test_a_stuck_library_that_is_opened_again_is_held(cxx: Compiler, cc: Compile) -> None:
    """A stuck library that is in use again stays when what kept it has gone; control: closed, it goes."""
    library = opened(cxx(THREAD_LOCAL.replace("5", "6"), "held"))
    with touching(library):
        library.close()
        assert "stuck" == row(library)["state"]
        again = opened(library.path)
    opened(numbered(cc, 1304)).close()  # unmaps, and with it whatever else may go

    assert (1, library) == (mappings(library.sha256[:16]), again)
    assert 6 == again.cdll.touch()


CONCURRENT = """
wrong = []
def keep_opening():
    for _ in range(300):
        library = open_library(Path(paths[0]))
        library.unloadable = True
        if library.cdll.version() != 1:
            wrong.append("version")
        library.close()
threads = [threading.Thread(target=keep_opening) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps([wrong, sum(row["users"] for row in listing())]))
"""


def test_open_and_close_from_several_threads(cc: Compile) -> None:
    """Nobody's code is unmapped by somebody else's close, and every user is counted."""
    assert [[], 0] == said(child(CONCURRENT, "ours", numbered(cc, 1)))


# Threads


def test_a_foreign_thread_is_a_stranger_while_it_runs(cc: Compile) -> None:
    """A foreign thread is a stranger from its start until it has left its code, and not a moment longer."""
    library = c.CDLL(str(cc(THREAD, "ending", "-pthread")))
    before = tasks.running()
    library.start()
    meanwhile = tasks.strangers(before)
    library.end()
    library.join()
    afterwards = [tasks.strangers(before)]
    for _ in range(50):  # each ends at once
        library.start()
        library.join()
        afterwards.append(tasks.strangers(before))

    assert 1 == len(meanwhile)
    assert 51 * [{}] == afterwards


ENDED = """
from sigrack.loading import tasks

def tell():
    stat = Path(f"/proc/self/task/{os.getpid()}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
    print(json.dumps([str(os.getpid()) in os.listdir("/proc/self/task"), os.getpid() in [task for task, _ in tasks.running()]]))
    sys.stdout.flush()
    os._exit(0)

threading.Thread(target=tell).start()
libc.pthread_exit(None)
"""


def test_a_thread_that_has_left_its_code_does_not_run() -> None:
    """A thread that has ended while the kernel lists it still, as it does with a process's first, does not count as running."""
    assert [True, False] == said(child(ENDED, "ours"))


def test_a_python_thread_is_no_stranger() -> None:
    """A thread that Python has started after the library was loaded cannot be the library's; control: the kernel lists it."""
    before = tasks.running()
    ending = threading.Event()
    thread = threading.Thread(target=ending.wait)
    thread.start()

    assert {} == tasks.strangers(before)
    assert thread.native_id in [task for task, _ in tasks.running().keys() - before.keys()]

    ending.set()
    thread.join()


CALLER = (
    THREAD
    + """
static void (*call)(void);
static void *call_and_run(void *unused) {
    call();
    return run(unused);
}
void start_calling(void (*what)(void)) {
    call = what;
    pthread_create(&thread, NULL, call_and_run, NULL);
}
"""
)


def test_a_foreign_thread_that_python_has_met_is_a_stranger(cc: Compile) -> None:
    """A library's thread that has called into Python stands among Python's threads, and is a stranger still."""
    library = c.CDLL(str(cc(CALLER, "caller", "-pthread")))
    met: list[int | None] = []
    meet = c.CFUNCTYPE(None)(lambda: met.append(threading.current_thread().native_id))
    before = tasks.running()
    library.start_calling(meet)
    wait_until(lambda: met)
    found = [task for task, _ in tasks.strangers(before)]
    known = [thread.native_id for thread in threading.enumerate()]
    library.end()
    library.join()

    assert met == found
    assert met[0] in known


# Libraries that look for others beside them


def with_neighbour(cc: Compile, tmp_path: Path, number: int) -> Path:
    """A library in a folder of its own that finds another one there by $ORIGIN."""
    folder = tmp_path / "neighbours"
    folder.mkdir()
    cc("int helped(void) { return NUMBER; }", "libhelp", f"-DNUMBER={number}").rename(folder / "libhelp.so")
    source = "int helped(void); int version(void) { return helped(); }"
    flags = f"-L{folder}", "-Wl,--no-as-needed", "-l:libhelp.so", "-Wl,-rpath,$ORIGIN"
    built = cc(source, "helpless", *flags)
    return built.rename(folder / "helped.so")


def test_a_library_finds_its_neighbours(cc: Compile, tmp_path: Path) -> None:
    """A library that uses $ORIGIN is copied into its own folder, without a trace; control: from memory it does not load."""
    path = with_neighbour(cc, tmp_path, 1401)
    content = path.read_bytes()
    library = opened(path)

    assert 1401 == library.cdll.version()
    assert {"helped.so", "libhelp.so"} == set(os.listdir(path.parent))
    assert str(path) != library.cdll._name

    path.write_bytes(b"")

    assert 1401 == library.cdll.version()

    library.close()

    assert 0 == mappings(library.sha256[:16])

    descriptor = os.memfd_create("copy")
    os.write(descriptor, content)
    with pytest.raises(OSError, match=r"libhelp\.so: cannot open shared object file"):
        c.CDLL(f"/proc/self/fd/{descriptor}")
    os.close(descriptor)


def test_a_folder_that_cannot_be_written_to(cc: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the copy cannot stand beside its neighbours the load is refused, with the way out."""

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(libraries, "NamedTemporaryFile", refuse)
    path = with_neighbour(cc, tmp_path, 1402)
    before = kept()

    with pytest.raises(ConfigError) as caught:
        open_library(path)

    assert (
        f"{path}: it uses $ORIGIN, so its private copy must stand beside it, but {path.parent} cannot be written to "
        "(Permission denied): make the folder writable or link without $ORIGIN"
    ) == str(caught.value)
    assert before == kept()


# The plugin struct grows

STATE = """\
#include <string.h>
static uint32_t calls;
static char state[16] = "as it was";

static uint32_t state_save(void *self, void *data, uint32_t size) {
    (void)self;
    calls++;
    %(save)s
    if (size >= sizeof state)
        memcpy(data, state, sizeof state);
    return sizeof state;
}
static int state_load(void *self, const char *version, const void *data, uint32_t size, char *error, uint32_t error_size) {
    (void)self;
    %(load)s
    if (size != sizeof state) {
        snprintf(error, error_size, "%%u bytes by %%s", size, version);
        return -1;
    }
    memcpy(state, data, size);
    return 0;
}
"""


def stateful(
    save: str = "", load: str = "", fields: str = ".state_save = state_save, .state_load = state_load,", **more: Any
) -> str:
    """A plugin with 16 bytes of state; `save` and `load` come first in its functions."""
    source = plugin_source(**more).replace(".destroy = free,", f".destroy = free, {fields}")
    before, entry, after = source.partition("static const struct {")
    return before + STATE % {"save": save, "load": load} + "\nuint32_t *state_calls(void) { return &calls; }\n" + entry + after


UNUSED = "-Wno-unused-function", "-Wno-unused-variable"


def instance(path: Path) -> NativeInstance:
    """An instance that posts to nobody."""
    return NativePlugin(path).create({}, 0, POST_ADDRESS)


OLD = "offsetof(struct sigrack_plugin, flags)"


@pytest.mark.parametrize(
    ("size", "known"),
    [("sizeof all", True), (OLD, False), (f"{OLD} + 12", False)],
    ids=["this header's", "the first header's", "one that ends within a field"],
)
def test_a_plugin_of_the_first_header_loads(cc: Compile, size: str, known: bool) -> None:
    """A plugin whose struct ends before the later fields runs as if they were 0; control: with its whole size they count."""
    fields = ".flags = SIGRACK_UNLOADABLE, .state_save = state_save, .state_load = state_load,"
    path = cc("#include <stddef.h>\n" + stateful(fields=fields, size=size, id="older"), "older", *UNUSED)
    plugin = NativePlugin(path)
    made = plugin.create({}, 0, POST_ADDRESS)
    contract = made.activate(rate_hz=48_000, max_frames=64, channels=2, values=[1.0, 0.0])

    assert (known, 0) == (plugin.stateful, contract.latency_frames)
    assert (size != OLD, size != OLD) == (plugin.unloadable, plugin.library.unloadable)
    assert (16 * known) == len(made.save_state() or b"")

    made.destroy()


def test_the_structs_agree(cc: Compile) -> None:
    """Every field of `struct sigrack_plugin` stands where the header puts it."""
    names = [entry[0] for entry in abi.PluginStruct._fields_]
    offsets = ", ".join(f"offsetof(struct sigrack_plugin, {name})" for name in names)
    source = f'#include <stddef.h>\n#include "sigrack.h"\nunsigned long offsets[] = {{{offsets}, sizeof(struct sigrack_plugin)}};'
    found = (c.c_ulong * (len(names) + 1)).in_dll(c.CDLL(str(cc(source, "offsets"))), "offsets")
    wanted = [getattr(abi.PluginStruct, name).offset for name in names]

    assert [*wanted, c.sizeof(abi.PluginStruct)] == list(found)


@pytest.mark.parametrize(
    ("present", "absent"), [("state_save", "state_load"), ("state_load", "state_save")], ids=["save only", "load only"]
)
def test_half_a_state_is_refused(cc: Compile, present: str, absent: str) -> None:
    """A plugin that can save and not load, or the reverse, is refused."""
    path = cc(stateful(fields=f".{present} = {present},"), "half", *UNUSED)

    with pytest.raises(ConfigError) as caught:
        NativePlugin(path)

    assert f"{path}: has {present} but no {absent}: a plugin has both or neither" == str(caught.value)


# State


def test_state_goes_from_one_version_to_the_next(cc: Compile) -> None:
    """What one library's instance saved, another library's loads and saves again, byte by byte."""
    old = instance(cc(stateful(id="old").replace('"as it was"', '"new\\0\\1\\2"'), "old"))
    new = instance(cc(stateful(id="new"), "new"))
    data = old.save_state()

    assert b"new\0\1\2".ljust(16, b"\0") == data
    assert b"as it was".ljust(16, b"\0") == new.save_state()

    new.load_state("2.5", data)

    assert data == new.save_state()


def test_a_plugin_without_state(cc: Compile) -> None:
    """An instance that has no state saves none, and refuses another's."""
    made = instance(cc(plugin_source(id="stateless")))

    assert made.save_state() is None

    with pytest.raises(ConfigError, match=r"^stateless: has no state, and cannot take one over from version 1\.0$"):
        made.load_state("1.0", b"data")


def test_a_state_with_nothing_to_keep(cc: Compile) -> None:
    """A state of no bytes is no state."""
    assert instance(cc(stateful(save="return 0;", id="empty"))).save_state() is None


def test_a_state_that_grows_meanwhile_is_whole(cc: Compile) -> None:
    """A state that grows between the question and the answer is asked for again, until it fits; control: once is not enough."""
    grow = """
    uint32_t length = 1000 + 700 * (calls < 5 ? calls : 5);
    if (size >= length)
        memset(data, 'a' + (int)calls, length);
    return length;
    """
    path = cc(stateful(save=grow + "\n#if 0", id="grows").replace("return sizeof state;\n}", "#endif\n}", 1), "grows")
    made = instance(path)
    data = made.save_state()
    calls = c.cast(made.plugin.library.cdll.state_calls, c.CFUNCTYPE(c.POINTER(c.c_uint32)))().contents.value

    assert data is not None
    assert calls == 3
    assert len(data) * bytes([ord("a") + calls]) == data
    assert 1000 + 700 * calls == len(data)


def test_a_state_that_never_stops_growing_is_refused(cc: Compile) -> None:
    """A state that is always longer than its room, or longer than the limit, ends with one line."""
    made = instance(cc(stateful(save="return size + 1;", id="endless"), "endless"))

    with pytest.raises(ConfigError, match=rf"^endless: its state has {MOST_STATE + 1} bytes; 64 MiB is the most$"):
        made.save_state()


@pytest.mark.parametrize(
    ("load", "reason"),
    [("", "3 bytes by 0.9"), ("return 1;", "did not say why")],
    ids=["with a sentence", "without"],
)
def test_a_state_that_does_not_fit(cc: Compile, load: str, reason: str) -> None:
    """A state that the plugin refuses is an error with its sentence and the version that saved it."""
    made = instance(cc(stateful(load=load, id="strict")))

    with pytest.raises(ConfigError) as caught:
        made.load_state("0.9", b"abc")

    assert f"strict: cannot take over the state of version 0.9: {reason}" == str(caught.value)


# Plugins hold their library


def test_a_closed_plugin_stays_until_its_last_instance_has_gone(cc: Compile) -> None:
    """A closed plugin's code is there until the last instance is destroyed, in whatever order they come."""
    path = cc(stateful(fields=".flags = SIGRACK_UNLOADABLE,", id="leaving"), "leaving", *UNUSED)
    plugin = NativePlugin(path)
    mark = plugin.library.sha256[:16]
    made = [plugin.create({}, 0, POST_ADDRESS) for _ in range(2)]
    plugin.close()
    plugin.close()
    made[0].destroy()

    assert 1 == mappings(mark)

    made[1].destroy()

    assert 0 == mappings(mark)


def test_failures_hold_nothing(cc: Compile) -> None:
    """A plugin that is refused, and an instance that cannot be made, leave no user behind."""
    unfit = cc(plugin_source(id="unfit", process="NULL"), "unfit", *UNUSED)
    with pytest.raises(ConfigError):
        NativePlugin(unfit)
    failing = stateful(fields=".flags = SIGRACK_UNLOADABLE,", id="failing", create="return NULL;")
    plugin = NativePlugin(cc(failing, "failing", *UNUSED))
    with pytest.raises(ConfigError):
        plugin.create({}, 0, POST_ADDRESS)
    plugin.close()
    rows = {row["path"]: row["users"] for row in listing()}

    assert 0 == rows[str(unfit)]
    assert str(plugin.path) not in rows


# sigrack list


def test_list_shows_the_libraries_of_a_running_host(cc: Compile, tmp_path: Path) -> None:
    """`sigrack list` tells what a running host has mapped, `LIST` too; without a host it lists the plugins alone."""
    cc(plugin_source(id="shown"), "shown")
    slot = '[[slot]]\nname = "one"\nplugin = "./shown.so"\nlane = "inline"\n'
    toml = f'[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\n{slot}'
    rack = write(tmp_path, toml, noise(48_000))
    alone = answer("list")

    with Host(rack) as host:
        endpoint = default_endpoint("rack")
        wait_until(lambda: "runs: " in host.log, 10)
        together = answer("list")
        named = answer("list", "--rack", rack)
        text = sigrack("list").stdout
        with Client(endpoint) as client:
            data = client.request("LIST")["data"]
    shown = {row["path"]: row for row in together["libraries"]}

    assert [] == alone["libraries"]
    assert (alone["plugins"], together) == (together["plugins"], named)
    assert (endpoint, 1, "in use", "") == tuple(shown[f"{tmp_path}/shown.so"][key] for key in ("host", "users", "state", "why"))
    assert {"plugins", "libraries"} == set(data)
    assert together["libraries"] == [{"host": endpoint, **row} for row in data["libraries"]]
    assert f"{tmp_path}/shown.so" in text
