"""Signal engines: the example's figures against numpy, libraries that do not fit, engines that misbehave."""

import ctypes as c
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from factories import Compile
from racks import freewheel, noise
from sigrack.errors import ConfigError
from sigrack.loading.libraries import open_library
from sigrack.session import Session
from sigrack.signals import SignalEngine
from sigrack_engine.core import lib
from sigrack_engine.results import PostCounts

EXAMPLE = Path(__file__).parents[2] / "examples" / "signal_engine" / "spectrum.c"

Signal = npt.NDArray[np.float32]
Record = tuple[str, int, list[float]]

COLLECTOR = '[[slot]]\nname = "collector"\nplugin = "./collector.py"\n'


@pytest.fixture
def spectrum(cc: Compile) -> Path:
    """The example, built as its README says."""
    return cc(EXAMPLE.read_text(), "spectrum", "-O2", "-pthread")


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, PostCounts]:
    """What became of each engine's records, as counted when it was freed."""
    found: dict[str, PostCounts] = {}
    free = SignalEngine.free

    def freeing(engine: SignalEngine) -> None:
        found[engine.table.name] = engine.ring.counts
        free(engine)

    monkeypatch.setattr(SignalEngine, "free", freeing)
    return found


def signal_table(library: Path, symbols: str = '["ENERGY", "CROSSINGS"]', more: str = "", name: str = "spectrum") -> str:
    """A `[[signal]]` table."""
    return f'[[signal]]\nname = "{name}"\nlibrary = "{library}"\nlane = "inline"\nsymbols = {symbols}\n{more}\n'


def run(session: Session) -> list[Record]:
    """Run to the end of the sound; return what the collector was given, in order."""
    hooked = session.rack.slot("collector").hooked
    assert hooked is not None
    session.run()
    batches = hooked.plugin.batches  # type: ignore[attr-defined]
    return [(symbol, ts_ns, values.tolist()) for batch in batches for symbol, ts_ns, values in batch]


def expected(sound: Signal, rate_hz: int, window_ms: int) -> list[Record]:
    """The records of the example by numpy: windows on the grid of rack time, a change of sign belongs to its second sample."""
    starts = [-(-number * rate_hz * window_ms // 1000) for number in range(len(sound))]
    edges = [start for start in starts if start <= len(sound)]
    changes = np.diff((sound < 0).astype(int), axis=0, prepend=(sound[:1] < 0).astype(int)) != 0
    records: list[Record] = []
    for start, end in itertools.pairwise(edges):
        ts_ns = end * 10**9 // rate_hz
        energy = np.square(sound[start:end].astype(np.float64)).mean(axis=0)
        crossings = changes[start:end].sum(axis=0) * rate_hz / (end - start)
        records += [("ENERGY", ts_ns, energy.tolist()), ("CROSSINGS", ts_ns, crossings.tolist())]
    return records


def same(wanted: list[Record], found: list[Record]) -> bool:
    """Equal but for rounding in the last digits of the values."""
    return [record[:2] for record in wanted] == [record[:2] for record in found] and all(
        np.allclose(left, right, rtol=1e-12, atol=0) for (_, _, left), (_, _, right) in zip(wanted, found, strict=True)
    )


# The example in a rack


@pytest.mark.parametrize("block_frames", [64, 1000])
@pytest.mark.parametrize(("rate_hz", "channels", "window_ms"), [(48_000, 2, 100), (44_100, 1, 7), (48_000, 32, 250)])
def test_records_arrive(
    tmp_path: Path,
    spectrum: Path,
    counts: dict[str, PostCounts],
    rate_hz: int,
    channels: int,
    window_ms: int,
    block_frames: int,
) -> None:
    """Every record of the example arrives once, in order, with numpy's values and times, also those of the last moments."""
    sound = noise(30_034, channels)  # at most 512 pieces however it is cut: the example's queue holds all of it
    tables = COLLECTOR + signal_table(spectrum, more=f"config = {{ window_ms = {window_ms} }}")
    found = run(freewheel(tmp_path, tables, sound, rack=f"block_frames = {block_frames}", rate_hz=rate_hz))
    wanted = expected(sound, rate_hz, window_ms)

    assert same(wanted, found)
    assert PostCounts(len(wanted), len(wanted), 0, 0, 0, 0) == counts["spectrum"]


def test_the_comparison_sees_a_wrong_record() -> None:
    """Negative control: another window, a lost record or a changed value is not the same."""
    sound = noise(4800)
    records = expected(sound, 48_000, 10)
    symbol, ts_ns, values = records[3]

    assert same(records, expected(sound, 48_000, 10))
    assert not same(records, expected(sound, 48_000, 11))
    assert not same(records, records[:-1])
    assert not same(records, [*records[:3], (symbol, ts_ns, [values[0] * (1 + 1e-9), *values[1:]]), *records[4:]])


def test_a_tone_has_two_crossings_per_period(tmp_path: Path, spectrum: Path) -> None:
    """A tone of 1 kHz at half of full scale has the energy 1/8 and 2000 crossings per second."""
    tone = 0.5 * np.sin(2 * np.pi * 1000 / 48_000 * (np.arange(48_000) + 0.5))
    sound = np.stack([tone, tone], axis=1).astype(np.float32)
    found = run(freewheel(tmp_path, COLLECTOR + signal_table(spectrum), sound))
    energy = [values for symbol, _, values in found if symbol == "ENERGY"]
    crossings = [values for symbol, _, values in found if symbol == "CROSSINGS"]

    assert np.allclose(0.125, energy)
    assert [[1990.0, 1990.0]] + 9 * [[2000.0, 2000.0]] == crossings


def test_two_instances_of_one_library(tmp_path: Path, spectrum: Path, counts: dict[str, PostCounts]) -> None:
    """Two engines of the same library keep their settings and their results apart."""
    sound = noise(48_000)
    tables = COLLECTOR + signal_table(spectrum, name="slow")
    tables += signal_table(spectrum, name="fast", more="config = { window_ms = 5 }")
    run(freewheel(tmp_path, tables, sound))

    assert 2 * 10 == counts["slow"].delivered
    assert 2 * 200 == counts["fast"].delivered


def test_a_full_ring_holds_freewheel_up(tmp_path: Path, spectrum: Path, counts: dict[str, PostCounts]) -> None:
    """In freewheel an engine waits for room for what it posts, and the audio waits for the engine: nothing is dropped."""
    sound = noise(480_000, 1)
    tables = COLLECTOR + signal_table(spectrum, more="config = { window_ms = 1 }\nqueue = 16")
    found = run(freewheel(tmp_path, tables, sound))

    assert 20_000 == len(found)
    assert PostCounts(20_000, 20_000, 0, 0, 0, 0) == counts["spectrum"]


def test_unknown_symbol(tmp_path: Path, spectrum: Path, counts: dict[str, PostCounts], caplog: pytest.LogCaptureFixture) -> None:
    """A symbol that the rack does not know is refused and counted, and the log names it and the nearest; the others arrive."""
    sound = noise(48_000)
    found = run(freewheel(tmp_path, COLLECTOR + signal_table(spectrum, '["ENERGY", "CROSSING"]'), sound))
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]

    assert same([record for record in expected(sound, 48_000, 100) if record[0] == "ENERGY"], found)
    assert PostCounts(20, 10, 0, 10, 0, 0) == counts["spectrum"]
    assert ['spectrum: posted the unknown symbol "CROSSINGS"; did you mean "CROSSING"?'] == lines


@pytest.mark.parametrize(
    "config",
    [
        "window_ms = 0",
        "window_ms = 10001",
        "window_ms = -5",
        "window_ms = 2.5",
        'window_ms = "100"',
        "window_ms = true",
        "window_ms = 99999999999",
        "window = 100",
        "window_ms = 100, more = 1",
    ],
)
def test_a_bad_setting_of_the_example(tmp_path: Path, spectrum: Path, capfd: pytest.CaptureFixture[str], config: str) -> None:
    """A setting that the example does not know ends in one line of its own and in a ConfigError with file and line."""
    with pytest.raises(ConfigError) as info:
        freewheel(tmp_path, signal_table(spectrum, more=f"config = {{ {config} }}"), noise(100))
    said = capfd.readouterr().err.splitlines()

    assert f'{tmp_path}/rack.toml:10: {spectrum}: signal_create failed for "spectrum"; see its own messages' == str(info.value)
    assert 1 == len(said)
    assert said[0].startswith("spectrum: cannot use the configuration {")


# The example by itself


class _Audio(c.Structure):
    """`struct signal_audio`, written down once more so that a change of the host's is seen."""

    _fields_ = [
        ("size", c.c_uint32),
        ("rate_hz", c.c_uint32),
        ("channels", c.c_uint32),
        ("frames", c.c_uint32),
        ("frame", c.c_uint64),
        ("samples", c.POINTER(c.POINTER(c.c_float))),
    ]


_Callback = c.CFUNCTYPE(None, c.c_char_p, c.c_longlong, c.POINTER(c.c_double), c.c_int, c.c_void_p)


@dataclass
class Example:
    """The example, driven by hand; its records come on its own thread."""

    library: c.CDLL
    heard: Callable[[], None] = lambda: None
    """Called for each record."""

    def __enter__(self) -> "Example":
        self.records: list[Record] = []
        self._callback = _Callback(self._take)
        self.library.signal_create.restype = c.c_void_p
        self._handle = c.c_void_p(self.library.signal_create(b"{}"))
        self.library.signal_register_callback(self._handle, self._callback, None)
        return self

    def __exit__(self, *_: object) -> None:
        self.library.signal_destroy(self._handle)

    def _take(self, symbol: bytes, ts_ns: int, values: Any, count: int, user: int | None) -> None:
        self.records.append((symbol.decode(), ts_ns, values[:count]))
        self.heard()

    def feed(self, sound: Signal, frame: int) -> None:
        """Hand over the sound; `frame` is the number of its first frame."""
        planes = [np.ascontiguousarray(plane) for plane in sound.T]
        pointers = (c.POINTER(c.c_float) * len(planes))(*(plane.ctypes.data_as(c.POINTER(c.c_float)) for plane in planes))
        audio = _Audio(c.sizeof(_Audio), 48_000, len(planes), len(sound), frame, pointers)
        self.library.signal_on_data(self._handle, 200, c.byref(audio))


def test_a_window_with_a_gap_posts_nothing(spectrum: Path) -> None:
    """Windows in which frames are missing are left out; those before and after are on the grid, with their own times."""
    sound = noise(4800 * 5)
    with Example(c.CDLL(str(spectrum))) as example:
        example.feed(sound[:7000], 0)
        example.feed(sound[9700:], 9700)
    wanted = [record for record in expected(sound, 48_000, 100) if record[1] not in (200_000_000, 300_000_000)]

    assert same(wanted, example.records)


def test_a_full_queue_drops_and_counts(spectrum: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """While the engine's thread hangs the feeder never waits: 512 pieces are kept, the rest is dropped and counted."""
    entered, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        assert go_on.wait(10)

    piece = noise(1024)
    with Example(c.CDLL(str(spectrum)), hang) as example:
        for number in range(5):
            example.feed(piece, 1024 * number)
        assert entered.wait(10)
        for number in range(5, 600):
            example.feed(piece, 1024 * number)
        go_on.set()
    kept = 4 + 512  # the fifth piece is being worked on and still takes its place

    assert f"spectrum: {1024 * (600 - kept)} frames were dropped: its queue was full\n" == capfd.readouterr().err
    assert 2 * (1024 * kept // 4800) == len(example.records)


# Libraries that do not fit

OTHER = """\
#define _POSIX_C_SOURCE 200809L
#include "sigrack_signal.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static _Atomic long calls, destroyed;
static atomic_int stop;
static pthread_t thread;
static signal_callback post;
static void *user;

/* Without a pause once destroyed; before that at a rate that the host keeps up with. */
static void *keep_calling(void *unused) {
    while (!atomic_load(&stop)) {
        double value = (double)atomic_load(&calls);
        post("COUNT", 0, &value, 1, user);
        atomic_fetch_add(&calls, 1);
        if (!atomic_load(&destroyed))
            nanosleep(&(struct timespec){0, 20000}, NULL);
    }
    return unused;
}

/* Let the thread make `more` calls, then end it. */
SIGNAL_EXPORT void other_end(long more) {
    long end = atomic_load(&calls) + more;
    while (atomic_load(&calls) < end)
        sched_yield();
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
}
SIGNAL_EXPORT int other_number = NUMBER; /* makes this library's content its own */
SIGNAL_EXPORT long other_calls(void) { return atomic_load(&calls); }
SIGNAL_EXPORT long other_destroyed(void) { return atomic_load(&destroyed); }

#ifndef NO_CREATE
void *signal_create(const char *config_json) { (void)config_json; return CREATES ? malloc(1) : NULL; }
#endif
int signal_register_callback(void *handle, signal_callback callback, void *cookie) {
    (void)handle;
    post = callback;
    user = cookie;
    if (CALLS)
        pthread_create(&thread, NULL, keep_calling, NULL);
    return REGISTERS ? 0 : -1;
}
#ifndef NO_DATA
void signal_on_data(void *handle, int type, const void *data) { (void)handle; (void)type; (void)data; }
#endif
#ifndef NO_DESTROY
void signal_destroy(void *handle) { atomic_fetch_add(&destroyed, 1); free(handle); } /* the thread goes on */
#endif
int signal_abi_version(void) { return ABI; }
int signal_data_size(int type) { return type == SIGNAL_AUDIO ? SIZE : 0; }
"""


_numbers = itertools.count()


def other(cc: Compile, **changes: int) -> Path:
    """A library that does nothing, well or badly; each is a new one, with counters of its own."""
    number = next(_numbers)
    values = {"NUMBER": number, "ABI": 1, "SIZE": 32, "CREATES": 1, "REGISTERS": 1, "CALLS": 0, **changes}
    return cc(OTHER, f"other{number}", "-pthread", *(f"-D{key}={value}" for key, value in values.items()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ABI": 2}, "has signal ABI 2, this host needs 1: rebuild it"),
        ({"NO_CREATE": 1}, "not a signal engine: it exports no signal_create"),
        ({"NO_DATA": 1}, "not a signal engine: it exports no signal_on_data"),
        ({"NO_DESTROY": 1}, "not a signal engine: it exports no signal_destroy"),
        ({"SIZE": 24}, "its struct signal_audio has 24 bytes, this host's 32: rebuild it"),
        ({"SIZE": 0}, 'takes no audio; set feed = "none" for "other"'),
        ({"CREATES": 0}, 'signal_create failed for "other"; see its own messages'),
        ({"REGISTERS": 0}, 'signal_register_callback failed for "other"'),
    ],
)
def test_a_library_that_does_not_fit(tmp_path: Path, cc: Compile, change: dict[str, int], message: str) -> None:
    """A library that is no signal engine, or one of another time, is refused with its path and the reason."""
    library = other(cc, **change)
    with pytest.raises(ConfigError) as info:
        freewheel(tmp_path, signal_table(library, name="other"), noise(100))

    assert f"{tmp_path}/rack.toml:10: {library}: {message}" == str(info.value)


def test_a_library_that_fits(tmp_path: Path, cc: Compile) -> None:
    """Negative control: without a change the library runs, and is destroyed once."""
    library = other(cc)

    assert [] == run(freewheel(tmp_path, COLLECTOR + signal_table(library, name="other"), noise(100)))
    assert 1 == open_library(library).cdll.other_destroyed()


def test_no_library(tmp_path: Path) -> None:
    """A library that is missing, or no library, is refused with its path."""
    for name, message in (("none.so", "No such file or directory"), ("in.wav", "not a library that can be loaded: ")):
        with pytest.raises(ConfigError) as info:
            freewheel(tmp_path, signal_table(tmp_path / name), noise(100))

        assert str(info.value).startswith(f"{tmp_path}/rack.toml:10: {tmp_path / name}: {message}")


def test_an_engine_without_feed(tmp_path: Path, cc: Compile) -> None:
    """An engine that takes no audio runs with feed = "none"."""
    library = other(cc, SIZE=0)

    assert [] == run(freewheel(tmp_path, COLLECTOR + signal_table(library, more='feed = "none"', name="deaf"), noise(100)))
    assert 1 == open_library(library).cdll.other_destroyed()


@pytest.mark.parametrize(("change", "destroyed"), [({"REGISTERS": 0}, 1), ({"SIZE": 0}, 0)])
def test_what_was_created_is_destroyed(tmp_path: Path, cc: Compile, change: dict[str, int], destroyed: int) -> None:
    """When an engine is refused, those before it are destroyed, and it itself is if it was created."""
    first, second = other(cc), other(cc, **change)
    with pytest.raises(ConfigError):
        freewheel(tmp_path, signal_table(first, name="one") + signal_table(second, name="two"), noise(100))

    assert 1 == open_library(first).cdll.other_destroyed()
    assert destroyed == open_library(second).cdll.other_destroyed()


# Engines that misbehave


@pytest.fixture
def caller(cc: Compile) -> Iterator[Path]:
    """An engine whose thread calls from its creation on, and after its destruction without a pause."""
    path = other(cc, CALLS=1)
    yield path
    open_library(path).cdll.other_end(c.c_long(0))


def test_calls_after_destroy_are_refused_and_counted(
    tmp_path: Path, caller: Path, counts: dict[str, PostCounts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that goes on calling after signal_destroy does no harm: each late call is counted, and the host goes on."""
    posted: list[int] = []
    halt = SignalEngine.halt

    def halting(engine: SignalEngine) -> None:
        halt(engine)
        posted.append(engine.ring.counts.posted)

    monkeypatch.setattr(SignalEngine, "halt", halting)
    late = lib.core_handle_late()
    run(freewheel(tmp_path, COLLECTOR + signal_table(caller, '["COUNT"]', name="caller"), noise(48_000)))
    library = open_library(caller).cdll
    library.other_calls.restype = c.c_long
    library.other_end(c.c_long(1000))
    late_calls = lib.core_handle_late() - late
    count = counts["caller"]

    settled = count.delivered + count.dropped + count.refused + count.stale + count.queued

    assert late_calls >= 1000
    assert count.posted > 0
    assert count.posted - posted[0] in (0, 1), "the call that was inside when the door closed, no other"
    assert count.posted - settled in (0, 1)
    assert library.other_calls() - count.posted - late_calls in (0, 1)
