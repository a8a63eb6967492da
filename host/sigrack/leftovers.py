"""What plugins leave running in the host: threads, and processes that they have forked."""

import ctypes
import logging
import os
import signal
import threading

from sigrack.errors import FORCED

__all__ = ["end_with_host", "forks", "limit_end", "threads"]

log = logging.getLogger("sigrack")

PR_SET_PDEATHSIG = 1
LIMIT_S = 4.0
"""How long threads may keep the process from ending."""

_prctl = ctypes.CDLL(None).prctl
_forks = 0
_host_thread = 0
"""What is forked on it ends with it; 0: no thread."""


def forks() -> int:
    """Return how many forks lie between this process and the one that has imported this module. [any]"""
    return _forks


def _forked() -> None:
    global _forks
    _forks += 1
    if threading.get_ident() == _host_thread:  # of another thread it would be the thread's end that counts
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_host() -> None:
    """Let what is forked on this thread end with it, whatever it dies of: it holds the host's lock and sockets. [main]"""
    global _host_thread
    _host_thread = threading.get_ident()


def threads() -> list[str]:
    """Return the names of the threads that the interpreter would wait for at its end. [any]"""
    return [thread.name for thread in threading.enumerate() if not (thread.daemon or thread is threading.main_thread())]


def limit_end() -> None:
    """Let such threads keep the process no longer than LIMIT_S; then it ends by force. [main]"""

    def force() -> None:
        if not (left := threads()):
            return
        log.error("%s: threads that a plugin has started did not end within %g s: ending by force", ", ".join(left), LIMIT_S)
        logging.shutdown()
        os._exit(FORCED)

    if threads():
        timer = threading.Timer(LIMIT_S, force)
        timer.daemon = True
        timer.start()


os.register_at_fork(after_in_child=_forked)
