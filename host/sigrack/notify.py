"""Words to systemd: that the host is ready, that it lives, that it stops. Nothing unless systemd asks for them."""

import contextlib
import os
import socket

__all__ = ["Notify"]


class Notify:
    """sd_notify: datagrams to the socket in $NOTIFY_SOCKET. [main]"""

    def __init__(self) -> None:
        path = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.every_s = int(os.environ.get("WATCHDOG_USEC") or 0) / 2e6 if mine and self._address else 0.0
        """How often it wants a sign of life, at least; 0: it wants none."""

    def say(self, text: str) -> None:
        """Send one message, as READY=1. It never waits; what cannot be sent is lost."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.sendto(text.encode(), self._address)
