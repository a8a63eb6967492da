"""The name of a process, where processes are listed."""

import ctypes

__all__ = ["name_process"]

PR_SET_NAME = 15
BYTES = 15


def name_process(name: str) -> None:
    """Call this process `name`, the first 15 bytes of it. [main]"""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:BYTES])
