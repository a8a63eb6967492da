"""The devices that tests run on: the kernels on this CPU, and a GPU where there is one."""

import shutil
from collections.abc import Iterator

import pytest

from engine.cuda.emulated import Emulated
from sigrack_engine.cuda.device import Cuda, Device
from sigrack_engine.cuda.errors import CudaError


def _gpu() -> Device:
    try:
        return Cuda()
    except CudaError as why:
        pytest.skip(str(why))


@pytest.fixture
def emulated() -> Iterator[Emulated]:
    """Yield the kernels on this CPU; nothing may be left of them."""
    if not shutil.which("g++"):
        pytest.skip("no g++: the kernels cannot be compiled for this CPU")
    device = Emulated()
    yield device
    assert (device.held, device.pinned) == ({}, set())


@pytest.fixture
def gpu() -> Device:
    """Return a GPU."""
    return _gpu()


@pytest.fixture(params=["emulated", "gpu"])
def device(request: pytest.FixtureRequest) -> Device:
    """Return one and the other."""
    made: Device = request.getfixturevalue(request.param)
    return made
