"""The rings of a live rack: a writer that starves it, a reader that does not read, and what all that is counted as."""

import asyncio
import contextlib
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from racks import noise, write
from sigrack.config import load
from sigrack.errors import CLEAN
from sigrack.session import Session

Signal = npt.NDArray[np.float32]

RATE_HZ = 48_000
PIPE = f"""
[rack]
fade_ms = {{fade_ms}}
[control]
enabled = false
[source]
driver = "pipe"
path = "in"
rate_hz = {RATE_HZ}
channels = 2
{{more}}
[sink]
driver = "file"
path = "out.wav"
"""


async def until(true: Callable[[], Any]) -> None:
    """Wait for the other threads; the limit is only there to end a test that has failed."""
    for _ in range(12_000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited in vain")


def counts(session: Session) -> dict[str, Any]:
    """STATS of the driver."""
    return cast(dict[str, Any], session.driver.stats)


def risen(session: Session, key: str, before: dict[str, Any]) -> bool:
    """Whether a count is higher than it was before."""
    return bool(counts(session)[key] > before[key])


async def opened(path: Path) -> int:
    """The write end of a named pipe, once the rack reads it."""
    found: list[int] = []

    def open_it() -> list[int]:
        with contextlib.suppress(OSError):  # nobody reads yet
            found.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        return found

    await until(open_it)
    return found[0]


Burst = tuple[bytes, str]
"""What is written at once, and what must rise in the counts before there is more; nothing: the pipe is closed at once."""


def play(folder: Path, toml: str, *writers: list[Burst]) -> tuple[dict[str, Any], Signal]:
    """Run a rack whose source each of `writers` opens in turn; return the counts and what the sink holds.

    A rack that waits for yet another writer is stopped.
    """
    os.mkfifo(folder / "in")
    session = Session(load(write(folder, toml)))
    found: dict[str, Any] = {}

    async def feed() -> None:
        try:
            for bursts in writers:
                pipe = await opened(folder / "in")
                for data, key in bursts:
                    before = counts(session)
                    assert os.write(pipe, data) == len(data)
                    if key:
                        await until(partial(risen, session, key, before))
                os.close(pipe)
            if not session.document.config.source.reopen:
                await asyncio.Event().wait()
        finally:
            found.update(counts(session))

    assert CLEAN == session.run(beside=feed)  # nobody is left behind, waiting in a pipe
    return found, soundfile.read(folder / "out.wav", dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize("kind", ["float32", "int24"])
def test_a_starving_pipe_loses_nothing_and_counts_each_frame(tmp_path: Path, kind: str) -> None:
    """Each frame of a pipe that is written in bursts is played once, in order; each frame between them is counted."""
    sound = np.round(noise(15_000) * 2**23).astype(np.float32) / np.float32(2**23)
    sound[sound == 0] = 0.25
    parts = [sound[:4000], sound[4000:8000], sound[8000:8300], sound[8300:]]
    after = ["source_underruns", "source_underruns", "source_waiting_frames", ""]  # 300 frames are not enough to be ready
    bursts = [(encoded(part, kind), key) for part, key in zip(parts, after, strict=True)]

    found, heard = play(tmp_path, PIPE.format(fade_ms=0, more=f'format = "{kind}"'), bursts)

    silent = ~heard.any(axis=1)
    assert 0 == found["sink_overruns"]
    assert np.array_equal(sound, heard[~silent])
    assert found["source_frames"] == len(sound)
    assert found["source_underruns"] == 2
    assert found["source_underrun_frames"] + found["source_waiting_frames"] == np.count_nonzero(silent)
    assert found["source_underrun_frames"] > 0
    assert found["source_waiting_frames"] > 0


def encoded(samples: Signal, kind: str) -> bytes:
    """Raw samples, written without the code under test."""
    if kind == "float32":
        return samples.astype("<f4").tobytes()
    numbers = np.round(samples.astype(np.float64) * 2**23).astype(int).ravel()
    return b"".join(int(number).to_bytes(3, "little", signed=True) for number in numbers)


@pytest.mark.parametrize(("fade_ms", "low", "high"), [(20.0, 0.0, 0.5 / 144 + 1e-6), (0.0, 0.49, 0.51)])
def test_running_dry_is_no_step(tmp_path: Path, fade_ms: float, low: float, high: float) -> None:
    """A level of 0.5 that breaks off and comes back has no steep edge; without fades (the control) it has."""
    level = np.full((4000, 2), 0.5, np.float32).tobytes()

    bursts = [(level, "source_underruns"), (level, "source_underruns"), (level, "")]
    found, heard = play(tmp_path, PIPE.format(fade_ms=fade_ms, more=""), bursts)

    assert found["source_underruns"] == 2
    assert low <= np.abs(np.diff(heard, axis=0)).max() <= high
    assert heard.max() == 0.5


def test_writers_come_and_go(tmp_path: Path) -> None:
    """With `reopen` the next writer goes on, and the rack does not end."""
    sound = noise(6000)
    first, second, key = sound[:3000].tobytes(), sound[3000:].tobytes(), "source_underruns"

    found, heard = play(tmp_path, PIPE.format(fade_ms=0, more="reopen = true"), [(first, key)], [(second, key)])

    heard = heard[heard.any(axis=1)]
    assert np.array_equal(sound, heard)
    assert found["source_frames"] == 6000


def test_standard_input(tmp_path: Path) -> None:
    """`-` reads standard input to its end, which ends the run."""
    sound = noise(30_000)
    rack = write(tmp_path, PIPE.format(fade_ms=0, more="").replace('"in"', '"-"'))

    run = subprocess.run(
        [sys.executable, "-m", "sigrack", "run", str(rack)], input=sound.tobytes(), capture_output=True, check=False
    )

    heard = soundfile.read(tmp_path / "out.wav", dtype="float32")[0]
    assert 0 == run.returncode, run.stderr
    assert np.array_equal(sound, heard[heard.any(axis=1)])


SLOW = """
[rack]
fade_ms = 0
[control]
enabled = false
[source]
driver = "clock"
path = "in.wav"
[sink]
driver = "pipe"
path = "out"
ring_s = 0.1
overflow = "drop-{which}"
"""
LIMIT = RATE_HZ // 10
BLOCK = 256
"""The pipe holds 512 frames, and the worker a quarter of the ring: all that came before the ring filled up is less than that."""


def numbered(frames: int) -> Signal:
    """Frame n holds n + 1, scaled so that it is exact and below full scale."""
    return np.repeat((np.arange(frames, dtype=np.float32) + 1)[:, None] * np.float32(2**-22), 2, axis=1)


@contextmanager
def receiving(open_pipe: Callable[[], int]) -> Iterator[list[bytes]]:
    """Read a pipe to its end, beside."""
    received: list[bytes] = []

    def read() -> None:
        descriptor = open_pipe()
        while data := os.read(descriptor, 1 << 16):
            received.append(data)
        os.close(descriptor)

    thread = threading.Thread(target=read)
    thread.start()
    yield received
    thread.join()


def run_unread(folder: Path, which: str) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
    """Run a rack whose sink nobody reads until it has lost a second; return the counts and what came."""
    os.mkfifo(folder / "out")
    pipe = os.open(folder / "out", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
    session = Session(load(write(folder, SLOW.format(which=which), numbered(4 * RATE_HZ))))
    found: dict[str, Any] = {}

    def unblocked() -> int:
        os.set_blocking(pipe, True)
        return pipe

    async def look() -> None:
        try:
            await until(lambda: counts(session)["sink_overrun_frames"] > RATE_HZ)
            received.append(stack.enter_context(receiving(unblocked)))
            await asyncio.Event().wait()
        finally:
            await until(lambda: counts(session)["sink_fill_frames"] == 0)
            found.update(counts(session))

    received: list[list[bytes]] = []
    with ExitStack() as stack:
        session.run(beside=look)
    samples = np.frombuffer(b"".join(received[0]), "<f4").reshape(-1, 2)
    assert np.array_equal(samples[:, 0], samples[:, 1])
    return found, np.round(samples[:, 0] * 2**22).astype(np.int64)


@pytest.mark.parametrize("which", ["newest", "oldest"])
def test_a_sink_that_is_not_read_loses_what_was_chosen(tmp_path: Path, which: str) -> None:
    """Frames come in order, what is missing is what is counted; the newest are lost behind a full ring, the oldest out of it."""
    found, frames = run_unread(tmp_path, which)

    steps = np.diff(frames)
    first_run = int(np.flatnonzero(steps != 1)[0]) + 1
    assert (steps > 0).all()
    assert frames[0] == 1
    assert frames[-1] == 4 * RATE_HZ
    assert found["sink_overrun_frames"] == 4 * RATE_HZ - len(frames)
    assert found["sink_frames"] == len(frames)
    assert found["sink_overruns"] >= 1
    if which == "newest":
        assert first_run > LIMIT - BLOCK
    else:
        assert first_run < LIMIT - BLOCK


def test_a_sink_in_time_loses_nothing(tmp_path: Path) -> None:
    """The control: half a second in a ring of one is never too much, under either policy."""
    for which in ("newest", "oldest"):
        folder = tmp_path / which
        folder.mkdir()
        os.mkfifo(folder / "out")
        session = Session(load(write(folder, SLOW.format(which=which).replace("ring_s = 0.1\n", ""), numbered(RATE_HZ // 2))))
        with receiving(partial(os.open, folder / "out", os.O_RDONLY)) as received:
            session.run()
        samples = np.frombuffer(b"".join(received), "<f4").reshape(-1, 2)
        assert np.array_equal(numbered(RATE_HZ // 2), samples)


def test_a_file_shorter_than_a_block_is_no_underrun(tmp_path: Path) -> None:
    """A source that ends before the ring was ready is played to its end."""
    sound = noise(100)
    toml = '[rack]\nfade_ms = 0\n[control]\nenabled = false\n[source]\ndriver = "clock"\npath = "in.wav"\n'
    session = Session(load(write(tmp_path, f'{toml}[sink]\ndriver = "file"\npath = "out.wav"\n', sound)))
    session.run()

    assert np.array_equal(sound, soundfile.read(tmp_path / "out.wav", dtype="float32")[0])
