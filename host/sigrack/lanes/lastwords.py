"""A file of memory that a child leaves behind: Python's stack of the thread that died in it, and which thread is at work."""

import mmap
import os

__all__ = ["AtWork", "last_words", "stack_of", "thread_at_work"]

STACK_BYTES, THREAD_BYTES = 4 * mmap.PAGESIZE, 4


def last_words() -> int:
    """Return the descriptor of a new one, empty. Raises OSError. [minder]"""
    file = os.memfd_create("sigrack-stack", os.MFD_CLOEXEC)
    try:
        os.ftruncate(file, STACK_BYTES + THREAD_BYTES)
    except OSError:
        os.close(file)
        raise
    return file


def stack_of(file: int) -> list[str]:
    """Return the lines of what has been written. [minder]"""
    return os.pread(file, STACK_BYTES, 0).rstrip(b"\0").decode(errors="replace").splitlines()


def thread_at_work(file: int) -> int:
    """Return the kernel's number of the thread that is at work, as the child says, which may say anything. [minder]"""
    return int.from_bytes(os.pread(file, THREAD_BYTES, STACK_BYTES), "little", signed=True)


class AtWork:
    """Tells which thread of this process is at work: if it hangs, that one does. The file may be closed meanwhile. [child]"""

    def __init__(self, file: int) -> None:
        """Map its page. Raises OSError."""
        self._page = mmap.mmap(file, THREAD_BYTES, offset=STACK_BYTES)

    def tell(self, thread: int) -> None:
        """Name the thread."""
        self._page[:] = thread.to_bytes(THREAD_BYTES, "little")
