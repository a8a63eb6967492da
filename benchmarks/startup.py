"""From the start of the process to the first block and to the first answer."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import soundfile

import sigrack
from harness import Report
from sigrack_plugins import bundled

__all__ = ["measure"]

PLUGINS = ("gain", "level", "crossfeed", "loudness")
RATE_HZ = 48_000
LIMIT_S = 10.0


def _write_rack(folder: Path) -> tuple[Path, list[str]]:
    """Write a rack and what it plays; return its file and its plugins."""
    tone = 0.1 * np.sin(2 * np.pi * 440 / RATE_HZ * np.arange(2 * RATE_HZ))
    soundfile.write(folder / "tone.wav", np.stack([tone, tone], axis=1), RATE_HZ, subtype="PCM_24")
    plugins = [name for name in PLUGINS if name in bundled()]
    slots = "".join(f'[[slot]]\nname = "{name}"\nplugin = "{name}"\n\n' for name in plugins)
    rack = folder / "bench.toml"
    rack.write_text(f'[source]\ndriver = "clock"\npath = "tone.wav"\nloop = true\n\n{slots}')
    return rack, plugins


def _wait_for(path: Path, host: "subprocess.Popen[str]") -> None:
    """Wait for the last file that the host makes before it answers: connecting earlier would cost a retry."""
    limit = time.monotonic() + LIMIT_S
    while not path.exists():
        if host.poll() is not None or time.monotonic() > limit:
            raise RuntimeError("the host did not open its control socket")
        time.sleep(0.0005)


@contextlib.contextmanager
def _running(rack: Path, environment: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Start a host, and stop it in order. Raises RuntimeError, with what it printed, if it does not end well."""
    command = [sys.executable, "-m", "sigrack", "run", str(rack)]
    host = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield host
        host.terminate()
        host.wait(LIMIT_S)
    finally:
        host.kill()
        errors = host.communicate()[1]
        if host.returncode:
            raise RuntimeError(f"the host ended with {host.returncode}:\n{errors}")


def _start_once(rack: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Start a host and stop it; return milliseconds to the first block and to the first answer."""
    socket = Path(environment["SIGRACK_RUNTIME"], f"{rack.stem}.sock")
    begun = time.monotonic_ns()
    with _running(rack, environment) as host:
        _wait_for(socket.with_suffix(".sock.pub"), host)
        with sigrack.Client(f"ipc://{socket}") as client:
            client.request("PING")
            ready = time.monotonic_ns()
            first_block = client.request("STATS")["data"]["first_block_monotonic_ns"]
    return (first_block - begun) / 1e6, (ready - begun) / 1e6


def _python_once() -> float:
    begun = time.monotonic_ns()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.monotonic_ns() - begun) / 1e6


def _import_once() -> float:
    begun = time.monotonic_ns()
    probe = "import sigrack.session, time; print(time.monotonic_ns())"  # an interpreter takes long to end, too
    environment = {"OPENBLAS_NUM_THREADS": "1", **os.environ}
    done = subprocess.run([sys.executable, "-c", probe], check=True, env=environment, capture_output=True, text=True)
    return (int(done.stdout) - begun) / 1e6


def measure(report: Report, *, quick: bool) -> None:
    """Start a live rack several times; the first start only warms the caches."""
    block, ready, imports, bare = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        rack, plugins = _write_rack(Path(folder))
        environment = {**os.environ, "SIGRACK_RUNTIME": folder}
        _start_once(rack, environment)
        for _ in range(5 if quick else 15):
            to_block, to_ready = _start_once(rack, environment)
            block.append(to_block)
            ready.append(to_ready)
            imports.append(_import_once())
            bare.append(_python_once())
    about = f"spawn to the end of the first block: {', '.join(plugins)}"
    report.add("start_to_first_block_ms", median(block), "ms", about, goal=300, samples=block)
    p90 = quantiles(block, n=10, method="inclusive")[8]
    report.add("start_to_first_block_p90_ms", p90, "ms", "the slowest tenth takes longer", samples=block)
    report.add("import_ms", median(imports), "ms", "of that, an interpreter that imports the host", samples=imports)
    report.add("start_to_ready_ms", median(ready), "ms", "spawn to the answer to PING", samples=ready)
    report.add("bare_python_ms", median(bare), "ms", "of that, an interpreter that does nothing", samples=bare)
