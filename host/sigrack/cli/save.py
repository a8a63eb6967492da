"""sigrack save"""

import argparse
import asyncio
from pathlib import Path

from sigrack.cli.find import find_endpoint
from sigrack.config import load
from sigrack.control.client import Client
from sigrack.control.schema import CommandError
from sigrack.errors import ConfigError, EngineError
from sigrack.places import RackLock
from sigrack.saved.desired import Call
from sigrack.session import open_desired

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("rack", type=Path, metavar="RACK.toml")


def run(options: argparse.Namespace) -> int:
    """Write the overlay into the file: by the host if it runs, which knows of the newest changes."""
    document = load(options.rack)
    try:
        lock = RackLock(document.name)
    except EngineError:
        print(_by_host(options.rack))
        return 0
    try:
        desired = open_desired(document)
        try:
            call = Call()
            asyncio.run(desired.save(call))
        finally:
            desired.close()
    finally:
        lock.close()
    print(call.reply.message)
    return 0


def _by_host(rack: Path) -> str | None:
    with Client(find_endpoint(rack, None)) as client:
        try:
            return client.request("SAVE").get("message")
        except CommandError as failure:
            raise ConfigError(failure.message) from None
