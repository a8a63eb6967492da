"""The host under supervisord: when it may end."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sigrack.errors import ConfigError

__all__ = ["outlast_start"]

START_S = 3.5
"""Longer than startsecs in supervisord.conf."""


@dataclass(slots=True)
class End:
    """How a host under supervisord ends."""

    at_once: bool = False
    """supervisord has asked for it."""


@contextmanager
def outlast_start() -> Iterator[End]:
    """Under supervisord, let an end that is final (clean, or ConfigError) come only when the start counts as successful.

    Before, supervisord takes any end for a failed start and tries again. [main]
    """
    begun = time.monotonic()
    end = End()
    final = True
    try:
        yield end
    except BaseException as error:
        final = isinstance(error, ConfigError)
        raise
    finally:
        if final and not end.at_once and "SUPERVISOR_ENABLED" in os.environ:
            time.sleep(max(0.0, begun + START_S - time.monotonic()))
