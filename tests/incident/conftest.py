"""The engine and the naive host of this folder, compiled once; children that crash leave no core files."""

import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigrack_plugins import include

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _no_core_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def _compile(target: Path, *arguments: object) -> Path:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler: install g++")
    flags = ["-std=c++17", "-O1", "-Wall", "-Werror", "-pthread", f"-I{include()}"]
    subprocess.run([compiler, *flags, "-o", target, *map(str, arguments)], check=True)
    return target


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """engine.cpp as a library."""
    return _compile(tmp_path_factory.mktemp("incident") / "engine.so", "-fPIC", "-shared", HERE / "engine.cpp")


@pytest.fixture(scope="session")
def naive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """naive.cpp with the engine, as a program."""
    return _compile(tmp_path_factory.mktemp("incident") / "naive", HERE / "naive.cpp", HERE / "engine.cpp")
