"""Files through a rack that is one filter, on a GPU: what comes out is the CPU's, whatever else becomes of the batch.

The device is emulated: it runs the real kernels, slowly, in the real child.
"""

import os
import re
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command import sigrack
from fades import slot
from filters import FILTER, filtered
from oracles.chain import error_db
from racks import noise, write
from sigrack import RackError, render, render_files
from sigrack.config import load
from sigrack.drivers import built
from sigrack.onefilter import only_group
from sigrack.rendering import RenderResult, StoppedError

TESTS = Path(__file__).parents[1]
LIMIT_DB = -120.0
LENGTHS = (3001, 10, 20_000, 777, 1, 9000)
RATE_HZ = 48_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds the plugins of these tests, and what the device is told and tells."""
    if not shutil.which("g++"):
        pytest.skip("no g++: the kernels cannot be compiled for this CPU")
    (tmp_path / "filter.py").write_text(FILTER)
    monkeypatch.setenv("SIGRACK_CUDA_DEVICE", "gpu_device:opened")
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("GPU_FOLDER", str(tmp_path))
    return tmp_path


def rack_of(folder: Path, tables: str, more: str = "") -> Path:
    head = '[rack]\nblock_frames = 256\npriority = 0\n[source]\ndriver = "file"\npath = "in.wav"\n[control]\nenabled = false\n'
    return write(folder, f"{head}{more}{tables}", noise(100))


def sounds(folder: Path, lengths: tuple[int, ...] = LENGTHS) -> list[Path]:
    paths = [folder / f"s{number}.wav" for number in range(len(lengths))]
    for number, (path, frames) in enumerate(zip(paths, lengths, strict=True)):
        soundfile.write(path, noise(frames, seed=number), RATE_HZ, subtype="FLOAT")
    return paths


def through(folder: Path, rack: Path, paths: list[Path], backend: str, **options: object) -> list[RenderResult | RackError]:
    (folder / backend).mkdir(exist_ok=True)
    pairs = [(path, folder / backend / path.name) for path in paths]
    return render_files(rack, pairs, backend=backend, **options)  # type: ignore[arg-type]


def difference_db(folder: Path, name: str) -> float:
    heard, wanted = (soundfile.read(folder / backend / name, always_2d=True)[0] for backend in ("cuda", "cpu"))
    assert heard.shape == wanted.shape
    return error_db(heard, wanted)


@pytest.mark.parametrize(
    "tables",
    [
        filtered("a", taps=500),
        filtered("a", taps=100, late=37) + filtered("up", taps=1500, ratio=4, late=701),
    ],
)
def test_files_of_any_length_are_what_the_cpu_makes(folder: Path, tables: str, caplog: pytest.LogCaptureFixture) -> None:
    """As long, in time; side by side, and one in the place of another that has ended."""
    caplog.set_level("INFO", "sigrack")
    rack, paths = rack_of(folder, tables), sounds(folder)
    wanted, found = (through(folder, rack, paths, backend) for backend in ("cpu", "cuda"))

    assert [(each.frames, each.rate_hz) for each in wanted if isinstance(each, RenderResult)] == [
        (each.frames, each.rate_hz) for each in found if isinstance(each, RenderResult)
    ]
    assert max(difference_db(folder, path.name) for path in paths) < LIMIT_DB
    assert any("runs on emulated, 6 files" in record.message for record in caplog.records)


def test_files_on_a_real_gpu_are_what_the_cpu_makes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one: more files than streams, blocks of many segments."""
    monkeypatch.delenv("SIGRACK_CUDA_DEVICE")
    probe = rack_of(folder, filtered("a", taps=100))
    probe.write_text(probe.read_text().replace("[rack]", '[rack]\nbackend = "cuda"'))
    with built(load(probe)) as rack:
        if not rack.groups[0].lane:
            pytest.skip("there is no GPU")
    path = rack_of(folder, filtered("a", taps=5000) + filtered("up", taps=20_000, ratio=4, late=20))
    paths = sounds(folder, tuple(range(20_000, 220_000, 10_001)))
    for backend in ("cpu", "cuda"):
        assert all(isinstance(result, RenderResult) for result in through(folder, path, paths, backend))

    assert max(difference_db(folder, each.name) for each in paths) < LIMIT_DB


def test_a_single_render_takes_the_same_way(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And tells its progress to the last frame."""
    caplog.set_level("INFO", "sigrack")
    rack, (path,) = rack_of(folder, filtered("a", taps=500)), sounds(folder, (30_001,))
    told: list[tuple[int, int, int]] = []
    (folder / "cuda").mkdir()
    result = render(rack, path, folder / "cuda" / path.name, backend="cuda", progress=lambda *each: told.append(each))
    through(folder, rack, [path], "cpu")

    assert difference_db(folder, path.name) < LIMIT_DB
    assert (30_001, RATE_HZ, 30_001) == (result.frames, result.rate_hz, sum(frames for frames, _, _ in told))
    assert {(30_001, RATE_HZ)} == {(total, rate_hz) for _, total, rate_hz in told}
    assert any("runs on emulated, one file" in record.message for record in caplog.records)


def test_a_bad_file_does_not_lose_the_others(folder: Path) -> None:
    """Whether it is missing, ends early, is no sound, or would take the place of one: each has its own error, and no target."""
    rack, paths = rack_of(folder, filtered("a", taps=500)), sounds(folder)
    (folder / "text.wav").write_text("no sound")
    soundfile.write(
        folder / "nan.wav", np.where(np.arange(9000) == 8000, np.nan, 0.1).repeat(2).reshape(-1, 2), RATE_HZ, subtype="FLOAT"
    )
    soundfile.write(folder / "other.wav", noise(500, 1), 44_100)
    soundfile.write(folder / "there.wav", noise(500), RATE_HZ)
    (folder / "cuda").mkdir()
    (folder / "cuda" / "there.wav").write_text("old")
    bad = [folder / name for name in ("missing.wav", "text.wav", "nan.wav", "there.wav")]
    results = through(folder, rack, [*bad, *paths], "cuda")
    through(folder, rack, paths, "cpu")

    errors = [str(result) for result in results if isinstance(result, RackError)]
    assert [bad[0].name, bad[1].name, bad[2].name, bad[3].name] == [text.partition(": ")[0].rpartition("/")[2] for text in errors]
    assert [True] * 4 == [
        words in text
        for words, text in zip(("No such file", "not a sound file", "nan at frame 8000", "exists"), errors, strict=True)
    ]
    assert max(difference_db(folder, path.name) for path in paths) < LIMIT_DB
    assert {path.name for path in paths} | {"there.wav"} == {path.name for path in (folder / "cuda").iterdir()}
    assert "old" == (folder / "cuda" / "there.wav").read_text()


@pytest.mark.parametrize("left", [1.0, 0.5, 0.1])
def test_the_cpu_renders_what_a_failing_device_has_left(folder: Path, left: float, caplog: pytest.LogCaptureFixture) -> None:
    """From its beginning, and says so: in the device's first call, while it takes memory, when files are done."""
    rack, paths = rack_of(folder, filtered("a", taps=500)), sounds(folder, tuple(range(800, 1000, 10)))
    through(folder, rack, paths, "cuda")
    calls = int((folder / "calls").read_text())
    for path in paths:
        (folder / "cuda" / path.name).write_text("old")
    (folder / "fails_at").write_text(str(calls - round(left * calls)))
    seen: list[float] = []
    results = through(folder, rack, paths, "cuda", overwrite=True, progress=lambda seconds, _: seen.append(seconds))
    through(folder, rack, paths, "cpu")

    assert all(isinstance(result, RenderResult) for result in results)
    assert max(difference_db(folder, path.name) for path in paths) < LIMIT_DB
    (told,) = [record.message for record in caplog.records if "the GPU failed" in record.message]
    found = re.search(r"cudaErrorDevicesUnavailable: device lost; the CPU renders the (\d+) files that are left", told)
    assert found
    assert (int(found[1]) == 20) == (left > 0.1), "some were done before"
    assert sum(range(800, 1000, 10)) / RATE_HZ == pytest.approx(sum(seen))
    assert {path.name for path in paths} == {path.name for path in (folder / "cuda").iterdir()}


def test_a_killed_child_is_a_failing_device(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The driver may do that to it."""
    rack, paths = rack_of(folder, filtered("a", taps=500)), sounds(folder, (200_000, 100))
    killed: list[int] = []

    def kill(_: float, __: float) -> None:
        if not killed:
            killed.append(child())
            os.kill(killed[0], signal.SIGKILL)

    results = through(folder, rack, paths, "cuda", progress=kill)
    through(folder, rack, paths, "cpu")

    assert all(isinstance(result, RenderResult) for result in results)
    assert max(difference_db(folder, path.name) for path in paths) < LIMIT_DB
    assert any("the GPU failed: SIGKILL; the CPU renders" in record.message for record in caplog.records)


def test_a_child_that_hangs_is_a_failing_device(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed when nothing comes of it."""
    monkeypatch.setattr("sigrack.lanes.files.STALL_S", 1.0)
    rack, paths = rack_of(folder, filtered("a", taps=500)), sounds(folder, (200_000, 100))
    stopped: list[int] = []

    def stop(_: float, __: float) -> None:
        if not stopped:
            stopped.append(child())
            os.kill(stopped[0], signal.SIGSTOP)

    results = through(folder, rack, paths, "cuda", progress=stop)
    through(folder, rack, paths, "cpu")

    assert all(isinstance(result, RenderResult) for result in results)
    assert max(difference_db(folder, path.name) for path in paths) < LIMIT_DB
    assert any("the GPU failed: no block was made in 1 s; the CPU renders" in record.message for record in caplog.records)
    assert not Path(f"/proc/{stopped[0]}").exists()


def child() -> int:
    """Return the process of the batch that runs: a child of this one's keeper."""
    for keeper in children(os.getpid()):
        for pid in children(keeper):
            return pid
    raise AssertionError("there is no child")


def children(pid: int) -> list[int]:
    return [int(each) for task in Path(f"/proc/{pid}/task").iterdir() for each in (task / "children").read_text().split()]


def test_who_asks_for_the_end_gets_it(folder: Path) -> None:
    """At once: no half of a file is left, whole ones stay, and the child is gone."""
    rack, paths = rack_of(folder, filtered("a", taps=500)), sounds(folder, (2_000_000, 100))
    pids: list[int] = []

    def interrupt(_: float, __: float) -> None:
        if not pids:
            pids.append(child())
            signal.raise_signal(signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(StoppedError, match="files were not made"):
        through(folder, rack, paths, "cuda", progress=interrupt)
    assert not (folder / "cuda" / "s0.wav").exists()
    assert not Path(f"/proc/{pids[0]}").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_gpu_the_cpu_renders_and_one_line_tells_why(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One for all files, whatever their rates."""
    (folder / "none").write_text("no GPU here")
    rack, paths = rack_of(folder, filtered("a", taps=50)), sounds(folder)
    soundfile.write(folder / "other.wav", noise(500), 44_100, subtype="FLOAT")
    results = through(folder, rack, [*paths, folder / "other.wav"], "cuda")

    assert all(isinstance(result, RenderResult) for result in results)
    assert ["there is no GPU to run on: no GPU here; the CPU runs"] == [
        record.message for record in caplog.records if record.levelname == "WARNING"
    ]


@pytest.mark.parametrize(
    ("tables", "more", "is_one"),
    [
        (filtered("a", taps=50), "", True),
        (filtered("a", taps=50) + filtered("b", taps=60), "", True),
        (filtered("a", taps=50) + slot("meter", "level"), "", False),
        (slot("meter", "level") + filtered("a", taps=50), "", False),
        (filtered("a", taps=50) + slot("quiet", "gain"), "", False),
        (slot("a", "./filter.py", rest="bypass = true"), "", False),
        (slot("a", "./hears.py"), "", False),
        (slot("eq", "equalizer", 'text = "Filter 1: ON PK Fc 30 Hz Gain 6 dB Q 8"'), "", False),
        (filtered("a", taps=50), '[bus]\nchannels = ["l", "r"]\nout = ["r", "l"]\n', False),
        (filtered("a", taps=50), '[bus]\nchannels = ["l", "r"]\nmute = ["l"]\n', False),
    ],
)
def test_only_a_rack_that_is_one_filter_goes_without_an_engine(folder: Path, tables: str, more: str, is_one: bool) -> None:
    """All else gives what it always gives, on both ways."""
    (folder / "hears.py").write_text(FILTER + "    def on_start(self):\n        pass\n")
    rack, paths = rack_of(folder, tables, more), sounds(folder, (900, 300))
    with built(load(rack)) as made:
        assert is_one == (only_group(made) is not None)
    for backend in ("cpu", "cuda"):
        assert all(isinstance(result, RenderResult) for result in through(folder, rack, paths, backend))

    assert max(difference_db(folder, path.name) for path in paths) < LIMIT_DB


def test_the_command_renders_into_a_folder(folder: Path) -> None:
    """One line for all; a line for each that failed, whose code is the exit's."""
    rack, paths = rack_of(folder, filtered("a", taps=500)), sounds(folder)
    done = sigrack("render", rack, *paths, folder / "missing.wav", "-o", folder / "new", "--type", "flac", "--backend", "cuda")

    assert 101 == done.returncode
    assert done.stdout.startswith(f"{folder}/new: 6 files: ")
    assert f"sigrack: {folder}/missing.wav: No such file or directory" in done.stderr.splitlines()
    assert {f"s{number}.flac" for number in range(6)} == {path.name for path in (folder / "new").iterdir()}
    assert "Traceback" not in done.stderr
    assert "%" not in done.stderr.replace("%(", ""), "no bar where there is no terminal"


def test_two_files_of_one_name_are_refused_before_anything_is_made(folder: Path) -> None:
    """As are more files than IN and OUT without a folder, and files that would be written over."""
    rack, paths = rack_of(folder, filtered("a", taps=500)), sounds(folder)
    (folder / "too").mkdir()
    (folder / "too" / "s0.wav").write_bytes(paths[0].read_bytes())
    twice = sigrack("render", rack, paths[0], folder / "too" / "s0.wav", "-o", folder / "new")
    three = sigrack("render", rack, *paths[:3])
    same = sigrack("render", rack, paths[0], "-o", folder, "--overwrite")

    assert [101] * 3 == [each.returncode for each in (twice, three, same)]
    assert "would be made of" in twice.stderr
    assert "give IN and OUT, or FILE... and -o FOLDER" in three.stderr
    assert "is the source as well" in same.stderr
    assert not list((folder / "new").iterdir())
