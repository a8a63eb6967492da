"""sigrack ctl"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from sigrack.cli.find import find_endpoint
from sigrack.control.client import Client
from sigrack.control.schema import COMMANDS, CommandError
from sigrack.errors import ConfigError, nearest

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = "Commands: " + ", ".join(COMMANDS)
    parser.add_argument("cmd", metavar="CMD", type=str.upper)
    parser.add_argument("params", metavar="key=value", nargs="*")
    parser.add_argument("--rack", type=Path, metavar="RACK.toml", help="which host, if several run")
    parser.add_argument("--endpoint", help="its control endpoint, if it is not the default one")
    parser.add_argument("--id", help="of the request: one that was carried out is not carried out again")
    parser.add_argument("--json", action="store_true", help="print the whole reply as JSON")


def _value(text: str, kind: Any) -> Any:
    """Return what fits the parameter's type: the text as JSON, else as it is. What does not fit is the host's to refuse."""
    try:
        value = msgspec.json.decode(text.encode())
    except msgspec.DecodeError:
        return text
    for candidate in (value, text):
        with contextlib.suppress(msgspec.ValidationError):
            msgspec.convert(candidate, kind)
            return candidate
    return value


def _params(words: list[str], cmd: str) -> dict[str, Any]:
    """Parse key=value for the command `cmd`."""
    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(COMMANDS[cmd])}
    params = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f'"{word}" is not of the form key=value; see `sigrack ctl --help` and docs/control.md for {cmd}')
        params[key] = _value(value, kinds.get(key, Any))
    return params


def run(options: argparse.Namespace) -> int:
    """Send a command and print the answer."""
    if options.cmd not in COMMANDS:
        raise ConfigError(f'unknown command "{options.cmd}"{nearest(options.cmd, list(COMMANDS))}')
    params = _params(options.params, options.cmd)
    endpoint = find_endpoint(options.rack, options.endpoint)
    with Client(
        endpoint, on_wait=lambda: print(f"sigrack: the host is still working on {options.cmd}", file=sys.stderr)
    ) as client:
        try:
            reply = client.request(options.cmd, request_id=options.id, **params)
        except CommandError as failure:
            raise ConfigError(f"{failure.code}: {failure.message}") from None
    if options.json:
        print(json.dumps(reply))
    else:
        _show(reply)
    return 0


def _show(reply: dict[str, Any]) -> None:
    if message := reply.get("message"):
        print(message)
    elif "data" in reply:
        print(json.dumps(reply["data"], indent=2))
