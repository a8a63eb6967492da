"""The tap that a worker thread reads."""

import os
import resource
import threading

import pytest

from sigrack_engine.tap import WorkerTap

MANY = 1100


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[0] < MANY + 100, reason="`ulimit -n` is too low")
def test_waits_with_many_open_files() -> None:
    """A worker waits for audio also in a process with more open files than select() could watch."""
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(MANY)]
    tap = WorkerTap(2, 48_000, 0.1, 256)
    failures: list[Exception] = []

    def work() -> None:
        try:
            list(tap)
        except Exception as error:
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join(0.05)
    waits = worker.is_alive()
    tap.finish()
    worker.join(10)
    tap.close()
    for file in files:
        os.close(file)

    assert (True, []) == (waits, failures)
