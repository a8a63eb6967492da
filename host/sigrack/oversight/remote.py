"""Questions and orders to supervisord."""

import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any

from sigrack.errors import EngineError

__all__ = ["SOCKET", "Remote", "find_remote"]

ANSWER_S = 3.0
"""How long supervisord may take to answer."""
SOCKET = "supervisord.sock"


class Remote:
    """supervisord's XML-RPC. Calls may come from one thread."""

    def __init__(self, url: str) -> None:
        """`url`: unix:///PATH of its socket, or http."""
        self.url = url

    def call(self, method: str, *arguments: Any, timeout_s: float = ANSWER_S) -> Any:
        """Call a method of its `supervisor` namespace. Raises OSError if it does not answer, or refuses. [any]"""
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, self.url)
        saved = socket.getdefaulttimeout()
        socket.setdefaulttimeout(timeout_s)  # the only way to tell this transport
        try:
            return getattr(xmlrpc.client.ServerProxy("http://localhost", transport).supervisor, method)(*arguments)
        except (xmlrpc.client.Error, http.client.HTTPException) as error:
            raise OSError(getattr(error, "faultString", str(error))) from None
        finally:
            socket.setdefaulttimeout(saved)
            transport.close()


def find_remote(folder: Path) -> Remote:
    """Return the supervisord whose run folder this is. Raises EngineError if none runs there. [any]"""
    remote = Remote(f"unix://{folder.absolute() / SOCKET}")
    try:
        remote.call("getState")
    except OSError:
        raise EngineError(
            f"no supervisord answers in {folder}: start it with `sigrack up RACK.toml`, or give its --folder"
        ) from None
    return remote
