"""What control wants of a rack: the file and the overlay on it. Every change by control is put down here, and nothing else."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from sigrack.config import Document
from sigrack.control.schema import Reply, Request
from sigrack.errors import RackError
from sigrack.saved import records
from sigrack.saved.database import Database, Statement, Unusable
from sigrack.saved.history import History, Step
from sigrack.saved.overlay import SIDES, Entry, Laid, Overlay, Path, difference, in_words, lay, renewed
from sigrack.saved.presets import Presets
from sigrack.saved.settings import CHANNEL, KINDS, Settings, Table, pack
from sigrack.saved.states import States
from sigrack.saved.tomlfile import replace_file, written

if TYPE_CHECKING:
    from sigrack.rack import Rack

__all__ = ["Call", "Desired", "Edit"]

log = logging.getLogger("sigrack")

MOST_SHOWN = 500
"""Characters of a value that GET_STATUS shows."""
Note = Callable[[Overlay, Overlay], list[Statement]]
"""Given the overlay before and after: what else to write."""


@dataclass(slots=True)
class Call:
    """One command on its way: what it answers, and whether that is written down."""

    request: Request | None = None
    """None: it has no id."""
    reply: Reply = field(default_factory=Reply)
    saved: "Future[str] | None" = None

    @property
    def digest(self) -> bytes:
        """What tells this request from another one with the same id."""
        assert self.request is not None
        text = msgspec.json.encode([self.request.cmd, self.request.params], order="deterministic")
        return hashlib.sha256(text).digest()


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of one value, which may come while a change of the whole rack is on its way."""

    what: str
    """In words."""
    on: Callable[[Settings], Settings]
    again: Callable[[], object]
    """Sets the value in the rack."""
    name: str = ""
    """Of the slot."""
    key: str = ""
    """Of what follows within half a second with the same key, all is one step."""


class Desired:
    """The settings of one rack. They change on the main loop; a database may keep them."""

    def __init__(self, base: Document, database: Database | None = None, why: str = "") -> None:
        """Read what was kept. `why` nothing is, where there is no database. [main]"""
        self.base = base
        self.database = database
        self._why = why
        self.turn = asyncio.Lock()
        """One change of the whole rack by control at a time."""
        self._refused: dict[Path, str] = {}
        self._meanwhile: list[Edit] | None = None
        self._clear()
        if database:
            try:
                self._read(database)
            except (Unusable, ValueError, KeyError, TypeError) as error:
                database.put_aside(f"damaged ({error})")
                self._clear()
                self.states = States(database)
        self._lay(self.overlay)

    def _clear(self) -> None:
        self.settings = Settings.of(self.base)
        self.overlay: Overlay = {}
        self.history = History()
        self.requests = records.Requests()
        self.presets = Presets()
        self.states = States()

    def _read(self, database: Database) -> None:
        self.overlay = records.read_overlay(database.read("select path, value, base from overlay"))
        self.history.read(database.read("select n, undone, body from steps order by n"))
        self.requests.read(database.read("select n, id, digest, reply from requests order by n"))
        self.presets.read(database.read("select name, settings, saved from presets"))
        self.states = States(database)

    @property
    def failure(self) -> str:
        """Why nothing is kept; empty: all is. [main]"""
        return self.database.failure if self.database else self._why

    @property
    def document(self) -> Document:
        """The configuration that is to run. Raises ConfigError where overrides do not go together with the file. [main]"""
        return self.settings.document(self.base) if self.overlay else self.base

    @property
    def facts(self) -> dict[str, Any]:
        """What GET_STATUS tells of it. [main]"""
        sides, last = self.overlay.get(SIDES), (self.history.undo, self.history.redo)
        return {
            "kept": not self.failure,
            "why_not": self.failure or None,
            "file": str(self.database.path) if self.database else None,
            "overrides": [_described(path, entry) for path, entry in self.overlay.items() if path != SIDES],
            "undo": last[0].what if last[0] else None,
            "redo": last[1].what if last[1] else None,
            "side": sides.value["side"] if sides else "A",
        }

    # At the start, and when the file is read again

    def _lay(self, overlay: Overlay) -> None:
        laid = lay(Settings.of(self.base), overlay, self._refused)
        statements = records.changed(overlay, laid.overlay)
        self.settings, self.overlay = laid.settings, laid.overlay
        self._tell(laid)
        if statements and self.database:
            self.database.submit(statements)

    def _tell(self, laid: Laid) -> None:
        for path in laid.dropped:
            log.warning("the file has changed %s: it wins over what control had set", in_words(path))
        for path, entry in laid.overlay.items():
            if entry.aside:
                log.warning("what control had set of %s is not in force: %s", in_words(path), entry.aside)

    def set_aside(self, error: RackError) -> bool:
        """Leave out the overrides that an error is about, all if that is not known; False: there are none in force. [main]"""
        if not (here := _in_force(self.overlay)):
            return False
        self._refused |= dict.fromkeys(_blamed(here, self.settings, error) or here, str(error))
        self._lay(self.overlay)
        return True

    # Changes

    def edit(self, edit: Edit, call: Call) -> None:
        """Put down a change of one value that is in force. [main]"""
        if self._meanwhile is not None:
            self._meanwhile.append(edit)
        self.put(edit.on(self.settings), edit.what, call, names=(edit.name,), key=edit.key)

    def put(self, settings: Settings, what: str, call: Call, *, names: Iterable[str] | None = None, key: str = "") -> None:
        """Put down settings that are in force. `names` of the only tables that are different. [main]"""
        after = self._overlay_of(settings, names)
        self._write(settings, after, lambda before, after: self.history.add(what, key, before, after), call)

    def _overlay_of(self, settings: Settings, names: Iterable[str] | None = None) -> Overlay:
        """Return the overlay of settings, with those overrides that wait and are not about the same."""
        found = difference(Settings.of(self.base), settings, names)
        if names is not None:
            found |= {path: e for path, e in self.overlay.items() if path[0] in KINDS and path[1] not in names and not e.aside}
        whole = {path for path in found if len(path) == 2}
        waiting = {path: e for path, e in self.overlay.items() if e.aside and path not in found and path[:2] not in whole}
        others = {path: e for path, e in self.overlay.items() if path[0] not in (*KINDS, "channel")}
        self._refused = {path: why for path, why in self._refused.items() if path in waiting}
        return {**found, **waiting, **others}

    def _write(self, settings: Settings, after: Overlay, note: Note, call: Call) -> None:
        before, self.settings, self.overlay = self.overlay, settings, after
        self.submit([*records.changed(before, after), *note(before, after)], call)

    def submit(self, statements: list[Statement], call: Call) -> None:
        """Write something down together with the reply to the request. [main]"""
        if call.request and call.request.id:
            reply = msgspec.json.encode(call.reply)
            statements = [*statements, *self.requests.add(call.request.id, call.digest, reply)]
        call.saved = Future()
        if self.database is None:
            call.saved.set_result(self._why)
            return
        whole = bool(self.database.failure)
        call.saved = self.database.submit(self._everything() if whole else statements, whole=whole)

    def _everything(self) -> list[Statement]:
        parts = (self.history, self.requests, self.presets)
        return [*records.everything(self.overlay), *(statement for part in parts for statement in part.everything())]

    async def keep(self, rack: "Rack") -> None:
        """Write down the plugins' states, and what could not be written before. [main]"""
        if self.database and self.database.failure:
            self.submit([], Call())
        await self.states.keep(rack)

    # Changes of the whole rack

    async def move(
        self,
        rack: "Rack",
        laid: Laid,
        base: Document,
        call: Call,
        note: Note = lambda before, after: [],
        answer: Callable[[list[str]], Reply] | None = None,
    ) -> list[str]:
        """Bring the rack to what an overlay makes of `base`; return what changed, in words. Raises RackError. [main]

        `turn` is held. `answer` makes the reply of those words.
        """
        same_file = base is self.base

        def document() -> Document:
            settings = _beside(rack, self.settings, laid.settings) if same_file else laid.settings
            return settings.document(base)

        def then(words: list[str]) -> None:
            words += self._move_channels(rack, laid.settings)
            if answer:
                call.reply = answer(words)
            edits = self._meanwhile or ()
            settings = laid.settings
            for edit in edits:
                settings = edit.on(settings)
                with suppress(KeyError, ValueError):
                    edit.again()
            self.base = base
            overlay = laid.overlay
            if edits:
                self.overlay, before = overlay, self.overlay
                overlay, self.overlay = self._overlay_of(settings), before
            self._write(settings, overlay, note, call)

        with self._in_flight():
            return await rack.changes.apply(document, then)

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        self._meanwhile = []
        try:
            yield
        finally:
            self._meanwhile = None

    @property
    def overtaken(self) -> bool:
        """Whether something was set while the change that is in flight was made. [main]"""
        return bool(self._meanwhile)

    def _move_channels(self, rack: "Rack", settings: Settings) -> list[str]:
        words = []
        for name in {**self.settings.channels, **settings.channels}:
            before = CHANNEL | self.settings.channels.get(name, {})
            after = CHANNEL | settings.channels.get(name, {})
            if before != after:
                rack.channels.set(name, **after)
                words.append(f"channel {name}")
        return words

    def laid(self, step: Step, *, back: bool) -> Laid:
        """Return what a step, taken back or made again, makes of the overlay. [main]"""
        base = Settings.of(self.base)
        return lay(base, renewed(base, step.onto(self.overlay, back=back), step.items), self._refused)

    def laid_for(self, settings: Settings) -> Laid:
        """Return the overlay that makes these settings of the file. [main]"""
        return Laid(settings, self._overlay_of(settings))

    async def reload(self, rack: "Rack", base: Document, call: Call) -> list[str]:
        """Bring the rack to a file that was read again. Raises RackError; then nothing has changed. [main]"""
        async with self.turn:
            refused: dict[Path, str] = {}
            while True:
                laid = lay(Settings.of(base), self.overlay, refused)
                try:
                    words = await self.move(rack, laid, base, call, answer=_reloaded)
                except RackError as error:
                    if not (guilty := _blamed(_in_force(laid.overlay), laid.settings, error)):
                        raise
                    refused |= dict.fromkeys(guilty, str(error))
                else:
                    break
            self._refused = refused
            self._tell(laid)
            return words

    async def save(self, call: Call) -> None:
        """Write the overlay into the rack's file. Raises ConfigError; then nothing has changed. [main]

        `turn` is held.
        """
        made, left = written(self.base, self.overlay, self.settings)
        if made.text != self.base.text:
            await asyncio.to_thread(replace_file, made, self.base)
        paths = sorted(path for path, entry in self.overlay.items() if path != SIDES and not entry.aside and path not in left)
        words = f"wrote {', '.join(map(in_words, paths))}" if paths else "there is nothing to write"
        staying = f"; the file has no place for {', '.join(map(in_words, left))}, which stay as they are" if left else ""
        call.reply = Reply(
            f"{words}{staying}", {"written": [list(path) for path in paths], "left": [list(path) for path in left]}
        )
        was = difference(Settings.of(made), Settings.of(self.base))
        self.base = made
        after = self._overlay_of(self.settings)  # with what was set while it was written
        self._write(self.settings, after, lambda before, after: self.history.rebase(was), call)

    def close(self) -> None:
        """Write what waits. [main]"""
        if self.database:
            self.database.close()


def _described(path: Path, entry: Entry) -> dict[str, Any]:
    """Describe an override, without values that fill a screen."""
    shown = [value if len(pack(value)) <= MOST_SHOWN else "..." for value in (entry.value, entry.base)]
    return {"path": list(path), "value": shown[0], "file": shown[1], "waits": entry.aside or None}


def _reloaded(words: list[str]) -> Reply:
    return Reply(f"reloaded: {', '.join(words) or 'nothing has changed'}", {"changed": words})


def _in_force(overlay: Overlay) -> list[Path]:
    return [path for path, entry in overlay.items() if path[0] in (*KINDS, "channel") and not entry.aside]


def _blamed(paths: list[Path], settings: Settings, error: RackError) -> list[Path]:
    """Return those overrides that are of what an error is about."""
    kind, *rest = error.at or ("",)
    name = rest[0] if rest else None
    if kind in KINDS and isinstance(name, int):
        name = settings.tables(str(kind))[name].name
    return [path for path in paths if path[:2] == (kind, name)]


def _beside(rack: "Rack", old: Settings, new: Settings) -> Settings:
    """Return what a rack is to hold that goes from `old` to `new`: with all that hooks have made of it meanwhile."""
    slots = _merged([slot.table for slot in rack.slots], old.slots, new.slots)
    signals = _merged([signal.table for signal in rack.signals], old.signals, new.signals)
    return Settings(slots, signals)


def _merged(running: "list[Any]", old: "tuple[Any, ...]", new: "tuple[Any, ...]") -> "tuple[Any, ...]":
    before = {table.name: table for table in old}
    now: Mapping[str, Table] = {table.name: table for table in running}
    wanted = {table.name for table in new}
    result = [
        now[table.name] if table.name in now and before.get(table.name) == table else table
        for table in new
        if table.name in now or table.name not in before or before[table.name] != table
    ]
    for place, table in enumerate(running):
        if table.name not in before and table.name not in wanted:
            names = [other.name for other in result]
            after = next((names.index(other.name) + 1 for other in reversed(running[:place]) if other.name in names), 0)
            result.insert(after, table)
    return tuple(result)
