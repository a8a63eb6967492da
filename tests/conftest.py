"""What tests of several folders share."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from factories import Compile, MakeWav, WriteRack
from racks import noise
from sigrack_plugins import include


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """Hosts get SIGINT: a shell has it ignored, by heirs too, in what it runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the test's own for sockets and locks, beside it one for what survives; names are short: a socket's path has 107
    bytes at most.
    """
    folder = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
    monkeypatch.setenv("SIGRACK_RUNTIME", str(folder))
    monkeypatch.setenv("SIGRACK_STATE", f"{folder}-state")
    yield folder
    for path in (folder, Path(f"{folder}-state")):
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def heirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """What the environment of all processes of this test holds."""
    monkeypatch.setenv("SIGRACK_TEST", str(tmp_path))
    return f"SIGRACK_TEST={tmp_path}"


@pytest.fixture
def cc(tmp_path: Path) -> Compile:
    """The system's C compiler."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if compiler is None:
        pytest.skip("no C compiler: install gcc or clang, or set CC")

    def build(source: str, name: str = "plugin", *flags: str) -> Path:
        target = tmp_path / f"{name}.so"
        part = tmp_path / f"{name}.so.part"  # renamed into place: a library that is mapped must not change
        command = [compiler, "-std=c11", "-Wall", "-Werror", "-fPIC", "-shared", f"-I{include()}", *flags]
        subprocess.run([*command, "-o", str(part), "-x", "c", "-"], input=source, text=True, check=True)
        return part.rename(target)

    return build


@pytest.fixture
def wav(tmp_path: Path) -> MakeWav:
    """A factory of sound files."""

    def write(
        sound: npt.NDArray[np.floating] | None = None,
        name: str = "in.wav",
        rate_hz: int = 48_000,
        subtype: str | None = None,
    ) -> Path:
        path = tmp_path / name
        subtype = subtype or ("PCM_16" if path.suffix == ".flac" else "FLOAT")
        soundfile.write(path, noise(4800) if sound is None else sound, rate_hz, subtype=subtype)
        return path

    return write


@pytest.fixture
def write_rack(tmp_path: Path) -> WriteRack:
    """A factory of rack files."""

    def write(tables: str = "", *, source: str = "in.wav", live: bool = False, name: str = "rack.toml") -> Path:
        path = tmp_path / name
        head = f'[source]\ndriver = "{"clock" if live else "file"}"\npath = "{source}"\n'
        path.write_text(head + tables)
        return path

    return write
