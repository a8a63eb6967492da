"""The recorder, with children that are really killed and files that are really read."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from sigrack_engine.engine import Engine, FreewheelBuffers, RunList
from sigrack_engine.tap import WorkerTap
from sigrack_plugins._take import Take
from sigrack_plugins.api import Context, Setup, Tap
from sigrack_plugins.recorder import Recorder, RecorderConfig

Signal = npt.NDArray[np.float32]

RATE_HZ = 48000
BLOCK = 480
FIRST = 72_000
"""Frame number where a FakeTap begins, 1.5 s after the rack."""
NOW_NS = 2_500_000_000
"""Rack time when that frame reaches the recorder, a second later."""
FORMATS = ["flac", "wav", "rf64"]
BEHIND = {"flac": 4096, "wav": 0, "rf64": 0}
"""Frames that were written but cannot be read yet."""


def block(index: int, channels: int = 2) -> Signal:
    """Noise that 24 bits hold exactly, a different one for each index."""
    integers = np.random.default_rng(index).integers(-(2**22), 2**22, (BLOCK, channels))
    return (integers / 2**23).astype(np.float32)


def blocks(count: int, channels: int = 2) -> Signal:
    """The first blocks in a row."""
    return np.concatenate([block(index, channels) for index in range(count)])


class FakeContext:
    """Keeps what a plugin logs."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.lines: list[str] = []

    def now(self) -> int:
        return NOW_NS

    def log(self, message: str) -> None:
        self.lines.append(message)


class FakeTap:
    """Delivers noise from frame FIRST on; `losses` are the values of `lost` in front of each block."""

    rate_hz = RATE_HZ

    def __init__(self, count: int, channels: int = 2, losses: dict[int, int] | None = None) -> None:
        self.channels = channels
        self.lost = self.frame = 0
        self._count = count
        self._losses = losses or {}

    def __iter__(self) -> Iterator[Signal]:
        for index in range(self._count):
            self.lost = self._losses.get(index, self.lost)
            self.frame = FIRST + index * BLOCK + self.lost
            yield block(index, self.channels)


def recorder(config: RecorderConfig, channels: int = 2, rate_hz: int = RATE_HZ) -> tuple[Recorder, FakeContext]:
    """A recorder that is ready to start."""
    plugin, context = Recorder(), FakeContext(Setup(rate_hz, channels))
    plugin.ctx, plugin.config = cast(Context, context), config
    return plugin, context


def record(config: RecorderConfig, tap: FakeTap) -> list[str]:
    """Record the whole tap and return the log."""
    plugin, context = recorder(config, tap.channels)
    plugin.on_start()
    plugin.work(cast(Tap, tap))
    return context.lines


def read(path: Path) -> Signal:
    """All frames that a reader finds."""
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate_hz == RATE_HZ
    return cast(Signal, samples)


# Prints the number of frames that were written so far, after each block.
CHILD = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_recorder as t
from sigrack_plugins import _take, recorder

class LoudTap(t.FakeTap):
    def __iter__(self):
        for index, samples in enumerate(super().__iter__()):
            yield samples
            print((index + 1) * t.BLOCK, flush=True)

path, variant = Path(sys.argv[1]), sys.argv[2]
if variant == "no-update":
    _take.FlacHeader.update = _take.WaveHeader.update = lambda self, frames: None
if variant == "disk-full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
subtype = "PCM_24" if path.suffix == ".flac" else "FLOAT"
print(t.record(recorder.RecorderConfig(path, subtype=subtype), LoudTap(100_000)))
"""


def kill_recording(path: Path, frames: int, variant: str = "") -> int:
    """Record in a child, SIGKILL it when it has written `frames`; return how many it had written when it died."""
    with subprocess.Popen([sys.executable, "-c", CHILD, path, variant], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        written = 0
        while written < frames:
            written = int(child.stdout.readline())
        child.kill()
        complete = [line for line in child.stdout if line.endswith("\n")]
    return max([written, *map(int, complete)])


@pytest.mark.parametrize("frames", [9600, 96000, 480000])
@pytest.mark.parametrize("name", FORMATS)
def test_killed_recording_is_readable(tmp_path: Path, name: str, frames: int) -> None:
    """After SIGKILL every frame can be read, bit for bit, up to the last one (FLAC: up to the last 4096)."""
    path = tmp_path / f"take.{name}"

    written = kill_recording(path, frames)

    found = read(path)
    assert len(found) >= written - BEHIND[name]
    assert np.array_equal(blocks(-(-len(found) // BLOCK))[: len(found)], found)


@pytest.mark.parametrize("name", FORMATS)
def test_kill_test_can_fail(tmp_path: Path, name: str) -> None:
    """Without the update of the header libsndfile reads nothing of a killed recording."""
    path = tmp_path / f"take.{name}"

    written = kill_recording(path, 96000, "no-update")

    assert written * 2 < path.stat().st_size
    assert soundfile.info(path).frames in (0, 2**63 - 1)


@pytest.mark.parametrize("name", FORMATS)
def test_disk_full(tmp_path: Path, name: str) -> None:
    """When the file cannot grow, one line is logged, `work` ends, and what was written is readable."""
    path = tmp_path / f"take.{name}"

    child = subprocess.run([sys.executable, "-c", CHILD, path, "disk-full"], capture_output=True, text=True, check=True)

    *counts, log = child.stdout.splitlines()
    assert log.count("recording stopped") == 1
    assert f"MiB free in {tmp_path}" in log
    found = read(path)
    assert len(found) >= int(counts[-1]) - BEHIND[name]
    assert np.array_equal(blocks(-(-len(found) // BLOCK))[: len(found)], found)


@pytest.mark.parametrize("count", [1, 9, 300])
@pytest.mark.parametrize("name", FORMATS)
def test_normal_end(tmp_path: Path, name: str, count: int) -> None:
    """A recording that ends normally holds every frame that the tap delivered, bit for bit."""
    path = tmp_path / f"take.{name}"

    lines = record(RecorderConfig(path), FakeTap(count))

    assert np.array_equal(blocks(count), read(path))
    assert f"closed {path} with {count * BLOCK} frames ({count * BLOCK / RATE_HZ:.1f} s)" == lines[-1]


def test_float_keeps_every_bit(tmp_path: Path) -> None:
    """WAV holds float32 samples as they are, beyond full scale too."""
    path = tmp_path / "take.wav"
    gains = 10.0 ** np.arange(-30, 3)[:, None, None]
    samples = (np.random.default_rng(5).standard_normal((1000, 3)) * gains).astype(np.float32)
    take = Take(path, "wav", "FLOAT", RATE_HZ, 3)

    for part in samples:
        take.write(part)
    take.close()

    assert samples.tobytes() == read(path).tobytes()


@pytest.mark.parametrize(("name", "mark"), [("wav", b"RIFF"), ("rf64", b"RF64"), ("flac", b"fLaC")])
def test_kind_of_file(tmp_path: Path, name: str, mark: bytes) -> None:
    """The ending decides the format; a small WAV file is a plain one."""
    path = tmp_path / f"take.{name}"

    record(RecorderConfig(path), FakeTap(3))

    assert mark == path.read_bytes()[:4]


@pytest.mark.parametrize("name", ["wav", "rf64"])
def test_beyond_4_gib(tmp_path: Path, name: str) -> None:
    """A WAV file turns into RF64 when it outgrows 4 GiB, and both are readable before and after they are closed."""
    path = tmp_path / f"take.{name}"
    take = Take(path, name, "FLOAT", RATE_HZ, 32)
    take.write(block(0, 32))
    begin = path.read_bytes()[:4]
    far = 5 * 2**30 // 128
    take._file.seek(far)  # the file is sparse: it takes no room
    take.frames = far

    take.write(block(1, 32))
    unclosed = tail(path)
    take.close()

    assert (b"RIFF" if name == "wav" else b"RF64") == begin
    assert [b"RF64", far + BLOCK, block(1, 32).tobytes()] == unclosed
    assert unclosed == tail(path)


def tail(path: Path) -> list[object]:
    """Mark, length in frames and last block of a file of 32 channels."""
    with path.open("rb") as file, soundfile.SoundFile(path) as sound:
        sound.seek(-BLOCK, soundfile.SEEK_END)
        return [file.read(4), sound.frames, sound.read(dtype="float32").tobytes()]


def test_flac_never_promises_too_much(tmp_path: Path) -> None:
    """Around the borders of FLAC's blocks the length in the header is what can be read."""
    path = tmp_path / "take.flac"
    take = Take(path, "flac", "PCM_24", RATE_HZ, 2)
    found = []

    for frames in (4095, 1, 1, 4094, 1, 1):
        take.write(np.zeros((frames, 2), np.float32))
        found.append(len(read(path)) if take.frames > 4096 else 0)

    take.close()
    assert [0, 0, 4096, 4096, 4096, 8192] == found
    assert 8193 == len(read(path))


def test_existing_file_is_kept(tmp_path: Path) -> None:
    """Each start takes the next free name and logs it."""
    path = tmp_path / "take.wav"
    path.write_bytes(b"precious")

    logs = [record(RecorderConfig(path), FakeTap(count)) for count in (1, 2)]

    assert b"precious" == path.read_bytes()
    assert [BLOCK, 2 * BLOCK] == [len(read(tmp_path / f"take-{number}.wav")) for number in (2, 3)]
    expected = [f"recording to {tmp_path}/take-{number}.wav (wav, FLOAT)" for number in (2, 3)]
    assert expected == [lines[0] for lines in logs]


def test_overwrite(tmp_path: Path) -> None:
    """Only with `overwrite` an existing file is replaced."""
    path = tmp_path / "take.wav"
    path.write_bytes(bytes(100_000))

    record(RecorderConfig(path, overwrite=True), FakeTap(1))

    assert [path] == list(tmp_path.iterdir())
    assert np.array_equal(blocks(1), read(path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": Path("a.wav"), "format": "flak"}, "format: unknown 'flak', the nearest is 'flac'"),
        ({"path": Path("a.wav"), "format": "WAV"}, "format: unknown 'WAV', the nearest is 'wav'"),
        ({"path": Path("a.wave")}, "path: ending of 'a.wave': unknown '.wave', the nearest is '.wav'"),
        ({"path": Path("a.flac"), "subtype": "pcm24"}, "subtype: unknown 'pcm24', the nearest is 'PCM_24'"),
        ({"path": Path("a.flac"), "subtype": "FLOAT"}, "subtype: unknown 'FLOAT', the nearest is"),
    ],
)
def test_unknown_settings(settings: dict[str, object], message: str) -> None:
    """An unknown format, ending or subtype is refused with the nearest one."""
    with pytest.raises(ValueError, match="unknown") as raised:
        RecorderConfig(**settings)  # type: ignore[arg-type]

    assert str(raised.value).startswith(message)


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that does not exist is an error of one line at the start, with the way out."""
    plugin, _ = recorder(RecorderConfig(tmp_path / "takes" / "a.wav"))

    with pytest.raises(OSError, match="cannot record into") as raised:
        plugin.on_start()

    expected = f"cannot record into {tmp_path}/takes: No such file or directory; create it or change `path`"
    assert expected == str(raised.value)


@pytest.mark.parametrize(("channels", "rate_hz"), [(9, 48000), (2, 768000)])
def test_flac_that_cannot_be(tmp_path: Path, channels: int, rate_hz: int) -> None:
    """What FLAC cannot hold is refused at the start, and leaves no file; WAV holds it."""
    flac, _ = recorder(RecorderConfig(tmp_path / "a.flac"), channels, rate_hz)
    wav, _ = recorder(RecorderConfig(tmp_path / "a.wav"), channels, rate_hz)

    wav.on_start()
    with pytest.raises(ValueError, match=f"flac PCM_24 cannot hold {channels} channels at {rate_hz} Hz"):
        flac.on_start()

    assert [] == list(tmp_path.iterdir())


def test_lost_frames_are_logged_now_and_then(tmp_path: Path) -> None:
    """Losses are logged when they begin and in all at the end, not for each block."""
    lines = record(RecorderConfig(tmp_path / "a.wav"), FakeTap(50, losses={n: n * 100 for n in range(10, 40)}))

    expected = [
        "1000 frames lost so far: the file is written too slowly",
        "3900 frames lost in all: the file was written too slowly",
    ]
    assert expected == lines[1:-1]


@pytest.mark.parametrize("name", FORMATS)
def test_the_file_tells_when_it_begins(tmp_path: Path, name: str) -> None:
    """The comment names the first frame, its rack time and its time of day, which is as long ago as rack time says."""
    path = tmp_path / f"take.{name}"
    before = time.time()

    record(RecorderConfig(path), FakeTap(2))

    with soundfile.SoundFile(path) as file:
        words, date = dict(word.split("=") for word in file.comment.split()), file.date
    began = datetime.fromisoformat(words.pop("utc"))
    assert {"first_frame": "72000", "rate_hz": "48000", "rack_time_ns": "1500000000"} == words
    assert before - 1.001 <= began.timestamp() <= time.time() - 1
    assert date == began.date().isoformat()
    assert began.tzinfo == UTC


@pytest.mark.parametrize("name", FORMATS)
def test_silence_stands_for_lost_frames(tmp_path: Path, name: str) -> None:
    """Each frame stands where its number says, and nothing but silence where frames are missing, however many."""
    path = tmp_path / f"take.{name}"
    losses = {3: 1, 4: 100_000, 9: 100_007}

    lines = record(RecorderConfig(path), FakeTap(12, losses=losses))

    found, lost = read(path), 0
    expected = np.zeros((12 * BLOCK + 100_007, 2), np.float32)
    for index in range(12):
        lost = losses.get(index, lost)
        start = index * BLOCK + lost
        expected[start : start + BLOCK] = block(index)
    assert np.array_equal(expected, found)
    assert lines[-1].endswith("105767 frames (2.2 s), 100007 of them silence for lost ones")


class Driven:
    """A real tap behind a real engine, read each time when so many blocks have run."""

    rate_hz, channels = RATE_HZ, 2

    def __init__(self, sound: Signal, script: list[int]) -> None:
        self._sound, self._script = sound, script
        self._engine = Engine(2, BLOCK, 1)
        self.tap = WorkerTap(2, RATE_HZ, 4096 / RATE_HZ, BLOCK)
        self._buffers = FreewheelBuffers(self._engine, BLOCK)
        self._engine.publish(RunList([self.tap.ring]), dip=False)

    @property
    def frame(self) -> int:
        return self.tap.frame

    @property
    def lost(self) -> int:
        return self.tap.lost

    def __iter__(self) -> Iterator[Signal]:
        for count in self._script:
            for _ in range(count):
                at = self._engine.frame
                self._buffers.input[:] = self._sound[at : at + BLOCK].T
                self._buffers.run(0, BLOCK)
            while len(samples := self.tap.ring.read(1000)):
                yield samples

    def close(self) -> None:
        self._engine.close()
        self.tap.close()


@pytest.mark.parametrize("name", ["wav", "flac"])
def test_a_tap_that_overflows_shifts_nothing(tmp_path: Path, name: str) -> None:
    """What the tap could not take is silence in the file; all else is the stream, frame by frame, before and after."""
    path, sound = tmp_path / f"take.{name}", blocks(100)
    tap = Driven(sound, [5, 20, 3, 8, 40, 24])

    plugin, context = recorder(RecorderConfig(path))
    plugin.work(cast(Tap, tap))
    lost = tap.lost
    tap.close()

    found = read(path)
    held = np.any(found, axis=1)
    kept = 4096 // BLOCK
    assert lost == ((20 - kept) + (40 - kept) + (24 - kept)) * BLOCK
    assert np.array_equal(sound[: len(found)][held], found[held])
    assert not found[~held].any()
    spans = [(0, 5 + kept), (25, 36 + kept), (76, 76 + kept)]
    assert [(at * BLOCK, to * BLOCK) for at, to in spans] == runs(held)
    assert f"{lost} frames lost in all: the file was written too slowly" in context.lines


def runs(mask: npt.ArrayLike) -> list[tuple[int, int]]:
    """Where it is true: beginnings and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(mask, np.int8), [0]])))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
