"""One NVIDIA GPU through CuPy.

Every call into CUDA goes through here: what fails, fails as CudaError, and a test can put another device in its place.
"""

import ctypes as c
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.plan import Limits

__all__ = ["Cuda", "Device", "Event", "Graph", "Kernel", "Stream", "opened"]

MAPPED = 2  # cudaHostAllocMapped, cudaHostRegisterMapped
DEFAULT_COPY = 4  # cudaMemcpyDefault: the addresses tell where they are
LONG = c.c_int64

Stream = Any
Event = Any


class Kernel(Protocol):
    """A kernel of a session: launched with integers and addresses."""

    def __call__(self, stream: Stream, grid: tuple[int, int, int], threads: int, *arguments: int) -> None:
        """Launch it. [lane]"""


class Graph(Protocol):
    """Recorded work."""

    def launch(self, stream: Stream) -> None:
        """Do it. [lane]"""


class Device(Protocol):
    """What a session needs of a GPU. Addresses are integers. [control, unless said otherwise]"""

    name: str
    limits: Limits

    def memory(self) -> tuple[int, int]:
        """Return the free and all memory, in bytes."""

    def allocate(self, size: int) -> int:
        """Return the address of memory on the device, zeroed."""

    def free(self, address: int) -> None:
        """Give it back."""

    def allocate_host(self, size: int) -> int:
        """Return the address of host memory that the device reaches, zeroed."""

    def free_host(self, address: int) -> None:
        """Give it back."""

    def register(self, address: int, size: int) -> None:
        """Let the device reach host memory of whole pages in place; it stays mapped until `unregister`."""

    def unregister(self, address: int) -> None:
        """End that."""

    def kernels(self, source: str, shared_bytes: dict[str, int]) -> dict[str, Kernel]:
        """Compile `source`; return its kernels, of which each block has so many bytes of shared memory."""

    def stream(self, *, urgent: bool = False) -> Stream:
        """Return a queue for work."""

    def event(self) -> Event:
        """Return a mark in a queue."""

    def copy(self, to: int, origin: int, size: int, stream: Stream) -> None:
        """Queue a copy; both ends must stay until it is over. [lane]"""

    def clear(self, address: int, size: int, stream: Stream) -> None:
        """Queue zeros. [lane]"""

    def record(self, event: Event, stream: Stream) -> None:
        """Queue a mark. [lane]"""

    def await_event(self, event: Event, stream: Stream) -> None:
        """Let a queue wait for a mark. [lane]"""

    def passed(self, event: Event) -> bool:
        """Whether the mark's queue has come to it. [lane]"""

    def synchronize(self, of: Stream | Event) -> None:
        """Wait until a queue is empty, or has come to a mark. [lane]"""

    def busy(self, stream: Stream) -> bool:
        """Whether work is queued; raises CudaError when some of it has failed. [lane]"""

    def record_graph(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Return what `work` queues, for launching it at once."""


class Cuda:
    """A GPU through CuPy."""

    def __init__(self) -> None:
        """Open the first GPU (CUDA_VISIBLE_DEVICES). Raises CudaError, which tells why there is none, or no CuPy."""
        try:
            import cupy
        except ImportError as why:
            reason = str(why).partition("\n")[0]
            raise CudaError(f"no CuPy ({reason}); pip install 'sigrack[gpu]'") from why
        self._cupy, self._runtime = cupy, cupy.cuda.runtime
        # CuPy looks at both at the end of a stream that could not be made, and has not set them.
        self._stream = type("Stream", (cupy.cuda.Stream,), {"ptr": 0, "_foreign_stream_ref": None})
        with self._checked("no GPU"):
            properties = self._runtime.getDeviceProperties(0)
            self._runtime.free(0)
        self.name = properties["name"].decode()
        self.limits = Limits(processors=properties["multiProcessorCount"])

    @contextmanager
    def _checked(self, what: str) -> Iterator[None]:
        """Turn CUDA's errors into ours."""
        cuda = self._cupy.cuda
        try:
            yield
        except (self._runtime.CUDARuntimeError, cuda.driver.CUDADriverError, cuda.compiler.CompileException) as why:
            raise CudaError(f"{what}: {why}") from why

    def memory(self) -> tuple[int, int]:
        """Return the free and all memory, in bytes."""
        with self._checked(self.name):
            free, total = self._runtime.memGetInfo()
        return free, total

    def allocate(self, size: int) -> int:
        """Return the address of memory on the device, zeroed."""
        with self._checked(f"{size / 2**20:.0f} MiB on {self.name}"):
            address = int(self._runtime.malloc(size))
            self._runtime.memset(address, 0, size)
            self._runtime.deviceSynchronize()  # no queue of ours waits for that
        return address

    def free(self, address: int) -> None:
        """Give it back."""
        with self._checked(self.name):
            self._runtime.free(address)

    def allocate_host(self, size: int) -> int:
        """Return the address of host memory that the device reaches, zeroed."""
        with self._checked(f"{size / 2**20:.0f} MiB of pinned memory"):
            address = int(self._runtime.hostAlloc(size, MAPPED))
        c.memset(address, 0, size)
        return address

    def free_host(self, address: int) -> None:
        """Give it back."""
        with self._checked(self.name):
            self._runtime.freeHost(address)

    def register(self, address: int, size: int) -> None:
        """Let the device reach host memory of whole pages in place; it stays mapped until `unregister`."""
        with self._checked(f"pinning {size} bytes"):
            self._runtime.hostRegister(address, size, MAPPED)

    def unregister(self, address: int) -> None:
        """End that."""
        with self._checked(self.name):
            self._runtime.hostUnregister(address)

    def kernels(self, source: str, shared_bytes: dict[str, int]) -> dict[str, Kernel]:
        """Compile `source`, which CuPy keeps on disk; return its kernels, whose blocks have so many bytes of shared memory."""
        with self._checked("the kernels"):
            module = self._cupy.RawModule(code=source, options=("-std=c++17",))
            return {name: self._kernel(module.get_function(name), size) for name, size in shared_bytes.items()}

    def _kernel(self, function: Any, shared: int) -> Kernel:
        if shared > 48 << 10:
            function.max_dynamic_shared_size_bytes = shared

        def launch(stream: Stream, grid: tuple[int, int, int], threads: int, *arguments: int) -> None:
            with self._checked(function.name), stream:
                function(grid, (threads, 1, 1), arguments, shared_mem=shared)

        return launch

    def stream(self, *, urgent: bool = False) -> Stream:
        """Return a queue for work."""
        with self._checked(self.name):
            return self._stream(non_blocking=True, priority=-1 if urgent else 0)

    def event(self) -> Event:
        """Return a mark in a queue."""
        with self._checked(self.name):
            return self._cupy.cuda.Event(disable_timing=True)

    def copy(self, to: int, origin: int, size: int, stream: Stream) -> None:
        """Queue a copy; both ends must stay until it is over."""
        with self._checked("a copy"):
            self._runtime.memcpyAsync(to, origin, size, DEFAULT_COPY, stream.ptr)

    def clear(self, address: int, size: int, stream: Stream) -> None:
        """Queue zeros."""
        with self._checked(self.name):
            self._runtime.memsetAsync(address, 0, size, stream.ptr)

    def record(self, event: Event, stream: Stream) -> None:
        """Queue a mark."""
        with self._checked(self.name):
            event.record(stream)

    def await_event(self, event: Event, stream: Stream) -> None:
        """Let a queue wait for a mark."""
        with self._checked(self.name):
            stream.wait_event(event)

    def passed(self, event: Event) -> bool:
        """Whether the mark's queue has come to it."""
        with self._checked(self.name):
            return bool(event.done)

    def synchronize(self, of: Stream | Event) -> None:
        """Wait until a queue is empty, or has come to a mark."""
        with self._checked(self.name):
            of.synchronize()

    def busy(self, stream: Stream) -> bool:
        """Whether work is queued; raises CudaError when some of it has failed."""
        with self._checked(self.name):
            return not stream.done

    def record_graph(self, stream: Stream, work: Callable[[], None]) -> Graph:
        """Return what `work` queues, for launching it at once."""
        with self._checked("a graph"):
            with stream:
                stream.begin_capture()
                try:
                    work()
                finally:
                    graph = stream.end_capture()
            graph.upload(stream)
            return _Graph(self, graph)

    def launch(self, graph: Any, stream: Stream) -> None:
        """Launch CuPy's graph."""
        with self._checked("a block"):
            graph.launch(stream)


class _Graph:
    def __init__(self, device: Cuda, graph: Any) -> None:
        self._device, self._graph = device, graph

    def launch(self, stream: Stream) -> None:
        self._device.launch(self._graph, stream)


_opened: list[Device] = []


def opened() -> Device:
    """Return the first GPU, which stays open. Raises CudaError when there is none. [control]"""
    if not _opened:
        _opened.append(Cuda())
    return _opened[0]
