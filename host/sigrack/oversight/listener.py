"""supervisord's event listener protocol, on standard input and output."""

from collections.abc import Callable, Iterator
from typing import BinaryIO

from sigrack.oversight.watcher import Event

__all__ = ["listen"]

STATE = "PROCESS_STATE_"


def _words(text: str) -> dict[str, str]:
    """Return the fields of a line of `key:value` words."""
    return dict(word.split(":", 1) for word in text.split() if ":" in word)


def listen(program: str, tell: Callable[[Event], object], source: BinaryIO, target: BinaryIO) -> None:
    """Answer supervisord until it closes the pipe; hand on what it says about `program`. [main]"""
    for name, payload in _events(source, target):
        fields = _words(payload.partition("\n")[0])
        if name.startswith(STATE) and fields.get("processname") == program:
            expected = fields.get("expected", "1") == "1"
            tell(Event(name.removeprefix(STATE), fields.get("from_state", ""), int(fields.get("pid", 0)), expected))


def _events(source: BinaryIO, target: BinaryIO) -> Iterator[tuple[str, str]]:
    """Yield each event's name and payload; it is acknowledged first, for supervisord holds back the others until then."""
    while True:
        target.write(b"READY\n")
        target.flush()
        header = _words(source.readline().decode())
        if "len" not in header:
            return
        payload = source.read(int(header["len"])).decode(errors="replace")
        target.write(b"RESULT 2\nOK")
        target.flush()
        yield header.get("eventname", ""), payload
