"""What the keeper's children do in its tests."""

import ctypes
import os
import signal
import sys
import time
from typing import Any

import numpy as np


def end_well(descriptors: list[int], argument: Any) -> None:
    os.write(descriptors[0], f"{argument} {os.getsid(0) == os.getpid()} {sorted(_open_files())}".encode())


def _open_files() -> set[int]:
    return {number for number in range(256) if _is_open(number)}


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def die(_: list[int], number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave(_: list[int], code: int) -> None:
    os._exit(code)


def exit_python(_: list[int], code: int) -> None:
    sys.exit(code)


def fail(_: list[int], text: str) -> None:
    raise ValueError(text)


def rest(descriptors: list[int], _: Any) -> None:
    os.write(descriptors[0], b"here")
    time.sleep(600)


def grow(_: list[int], megabytes_at_once: int) -> None:
    held = []
    while True:
        held.append(np.ones(megabytes_at_once << 17))
        time.sleep(0.01)


def leave_others_behind(descriptors: list[int], _: Any) -> None:
    """One in the same session, one in a session of its own; both tell their pids."""
    for own_session in (False, True):
        told, tell = os.pipe()
        if not os.fork():
            if own_session:
                os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(descriptors[0], f"{os.getpid()} ".encode())
            os.write(tell, b".")
            time.sleep(600)
        os.read(told, 1)
    ctypes.string_at(0)
