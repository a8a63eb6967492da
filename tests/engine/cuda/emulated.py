"""A device that runs the kernels on this CPU, slowly: for machines without a GPU. Queues do everything at once."""

import ctypes as c
import hashlib
import re
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sigrack_engine.cuda.errors import CudaError
from sigrack_engine.cuda.plan import Limits

__all__ = ["Emulated"]

SHARED = 1 << 18
HEADER = Path(__file__).with_name("emulated.h")
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(([^)]*)\)')


class _Graph:
    def __init__(self, device: "Emulated", work: list[Callable[[], object]]) -> None:
        self._device, self._work = device, work

    def launch(self, stream: Any) -> None:
        self._device.called("a block")
        for step in self._work:
            step()


class Emulated:
    """Counts what it has given and what came back; fails when it is told to."""

    name = "emulated"

    def __init__(self, limits: Limits | None = None) -> None:
        """`limits` of a small GPU, if not given."""
        self.limits = limits or Limits(threads=4, columns=4, lanes=2, processors=2)
        self.held: dict[int, Any] = {}
        self.pinned: set[int] = set()
        self.calls = 0
        self.fails_at = -1
        """Which call fails, counted from 0, and all after it; -1: none."""
        self._recording: list[Callable[[], object]] | None = None
        self._folder = Path(tempfile.gettempdir()) / "sigrack-emulated"
        self._folder.mkdir(exist_ok=True)

    def called(self, what: str) -> None:
        """Count a call; fail if it is its turn."""
        self.calls += 1
        if 0 <= self.fails_at < self.calls:
            raise CudaError(f"{what}: told to fail")

    def memory(self) -> tuple[int, int]:
        """Return the free and all memory."""
        return (1 << 40) - sum(len(each) for each in self.held.values()), 1 << 40

    def allocate(self, size: int) -> int:
        """Return zeroed memory."""
        self.called("memory")
        memory = c.create_string_buffer(size + 256)
        address = -(-c.addressof(memory) // 256) * 256
        self.held[address] = memory
        return address

    def free(self, address: int) -> None:
        """Give it back, whatever has failed."""
        del self.held[address]

    allocate_host, free_host = allocate, free

    def register(self, address: int, size: int) -> None:
        """Note it."""
        self.called("pinning")
        if address in self.pinned:
            raise CudaError(f"pinning {size} bytes: already mapped")
        self.pinned.add(address)

    def unregister(self, address: int) -> None:
        """Forget it."""
        self.pinned.remove(address)

    def kernels(self, source: str, shared_bytes: dict[str, int]) -> dict[str, Any]:
        """Compile `source` with the C++ compiler."""
        self.called("kernels")
        library = self._library(source)
        return {name: self._kernel(library, name, size) for name, size in shared_bytes.items()}

    def _library(self, source: str) -> c.CDLL:
        wrappers = []
        for name, parameters in KERNEL.findall(source):
            types = [parameter.rsplit(maxsplit=1) for parameter in parameters.split(",")]
            casts = (f"({kind}{'*' if '*' in last else ''})values[{number}]" for number, (kind, last) in enumerate(types))
            wrappers.append(f'extern "C" void call_{name}(const long long *values) {{ {name}({", ".join(casts)}); }}')
        memory = f'float2 shared[{SHARED // 8}];\nextern "C" void *shared_memory() {{ return shared; }}'
        text = "\n".join([HEADER.read_text(), source, memory, *map(self._guarded, wrappers)])
        built = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.so"
        if not built.exists():
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                made = Path(folder) / "kernels.cpp"
                made.write_text(text)
                command = ["g++", "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-o", f"{folder}/kernels.so", str(made)]
                subprocess.run(command, check=True, capture_output=True, text=True)
                Path(folder, "kernels.so").rename(built)
        return c.CDLL(str(built))

    @staticmethod
    def _guarded(wrapper: str) -> str:
        """Leave out what this plan has not."""
        if found := re.search(r"call_(?:ahead|prepare)_(\d)", wrapper):
            return f"#if STAGES > {found[1]}\n{wrapper}\n#endif"
        if "call_fetch" in wrapper:
            return f"#if FETCHED\n{wrapper}\n#endif"
        return f"#if PHASES > 1\n{wrapper}\n#endif" if "call_interleave" in wrapper else wrapper

    def _kernel(self, library: c.CDLL, name: str, shared: int) -> Any:
        function = c.cast(getattr(library, f"call_{name}"), c.c_void_p)
        library.shared_memory.restype = c.c_void_p
        memory = library.shared_memory()

        def run(grid: tuple[int, int, int], threads: int, values: Any) -> None:
            library.emulate(function, values, *grid, threads, c.c_void_p(memory), c.c_ulong(shared))

        def launch(stream: Any, grid: tuple[int, int, int], threads: int, *arguments: int) -> None:
            self.called(name)
            values = (c.c_longlong * len(arguments))(*arguments)
            self._do(lambda: run(grid, threads, values))

        return launch

    def _do(self, work: Callable[[], object]) -> None:
        if self._recording is None:
            work()
        else:
            self._recording.append(work)

    def stream(self, *, urgent: bool = False) -> str:
        """Return a queue."""
        self.called("a stream")
        return "stream"

    def event(self) -> str:
        """Return a mark."""
        self.called("an event")
        return "event"

    def copy(self, to: int, origin: int, size: int, stream: Any) -> None:
        """Copy."""
        self.called("a copy")
        self._do(partial(c.memmove, to, origin, size))

    def clear(self, address: int, size: int, stream: Any) -> None:
        """Fill with zeros."""
        self.called("zeros")
        self._do(partial(c.memset, address, 0, size))

    def record(self, event: Any, stream: Any) -> None:
        """Everything before is over."""
        self.called("a mark")

    def await_event(self, event: Any, stream: Any) -> None:
        """Everything before is over."""
        self.called("waiting")

    def passed(self, event: Any) -> bool:
        """Everything before is over."""
        self.called("a question")
        return True

    def synchronize(self, of: Any) -> None:
        """Everything before is over."""
        self.called("waiting")

    def busy(self, stream: Any) -> bool:
        """Nothing is ever left to do."""
        self.called("a question")
        return False

    def record_graph(self, stream: Any, work: Callable[[], None]) -> _Graph:
        """Record."""
        self._recording = []
        try:
            work()
            return _Graph(self, self._recording)
        finally:
            self._recording = None
