"""The last changes, to be undone and done again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sigrack.saved.database import Statement
from sigrack.saved.overlay import Overlay, Path
from sigrack.saved.records import entry_text, read_entry
from sigrack.saved.settings import pack, unpack

__all__ = ["History", "Step"]

MOST = 50
"""Steps that are kept."""
TOGETHER_S = 0.5
"""Changes of one parameter that follow each other within this time are one step."""


@dataclass(slots=True)
class Step:
    """One change set: what it has made of the overlay."""

    number: int
    what: str
    """In words, for the reply."""
    items: dict[Path, tuple[str | None, str | None]]
    """Entries before and after as text; None: no override."""
    undone: bool = False

    def onto(self, overlay: Overlay, *, back: bool) -> Overlay:
        """Return the overlay with the step undone (`back`) or done again. [main]"""
        made = dict(overlay)
        for path, (before, after) in self.items.items():
            text = before if back else after
            if text is None:
                made.pop(path, None)
            else:
                made[path] = read_entry(text)
        return made

    def text(self) -> str:
        """Return it as JSON. [main]"""
        return pack({"what": self.what, "items": [[list(path), *texts] for path, texts in self.items.items()]})


class History:
    """Steps that were done, and behind them those that were undone. What is undone goes when something new is done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps: list[Step] = []
        self._clock = clock
        self._last: tuple[str, float] = "", 0.0
        """Which parameter the last change was about, if it was the last of all, and when."""

    def read(self, rows: "list[tuple[int, int, str]]") -> None:
        """Take what was kept. Raises ValueError, KeyError. [main]"""
        for number, undone, body in rows:
            found = unpack(body)
            items = {tuple(path): (before, after) for path, before, after in found["items"]}
            self.steps.append(Step(number, found["what"], items, bool(undone)))

    @property
    def undo(self) -> Step | None:
        """The step that would be undone next. [main]"""
        return next((step for step in reversed(self.steps) if not step.undone), None)

    @property
    def redo(self) -> Step | None:
        """The step that would be done again next. [main]"""
        return next((step for step in self.steps if step.undone), None)

    def add(self, what: str, key: str, before: Overlay, after: Overlay) -> list[Statement]:
        """Note a change of the overlay; return what to write. [main]"""
        paths = [path for path in {**before, **after} if before.get(path) != after.get(path)]
        items = {path: texts for path in paths if (texts := (_text(before, path), _text(after, path)))[0] != texts[1]}
        if not items:
            return []
        statements = self._forget([step for step in self.steps if step.undone])
        last, now = self.undo, self._clock()
        together = last is not None and key == self._last[0] != "" and now - self._last[1] <= TOGETHER_S
        self._last = key, now
        if last and together:
            first, then = {**items, **last.items}, {**last.items, **items}
            last.items = {path: (first[path][0], then[path][1]) for path in then}
            last.what = what
            return [*statements, _written(last)]
        step = Step(self.steps[-1].number + 1 if self.steps else 1, what, items)
        self.steps.append(step)
        return [*statements, _written(step), *self._forget(self.steps[:-MOST])]

    def rebase(self, was: Overlay) -> list[Statement]:
        """Follow a new file: what it said before is `was` over what it says now; return what to write. [main]"""
        for step in self.steps:
            step.items = {
                path: (before or _text(was, path), after or _text(was, path)) for path, (before, after) in step.items.items()
            }
        return self.everything()

    def turn(self, step: Step, *, undone: bool) -> list[Statement]:
        """Note that a step was undone, or done again; return what to write. [main]"""
        step.undone, self._last = undone, ("", 0.0)
        return [_written(step)]

    def forget(self, step: Step) -> list[Statement]:
        """Let go of a step; return what to write. [main]"""
        return self._forget([step] if step in self.steps else [])

    def _forget(self, steps: list[Step]) -> list[Statement]:
        self.steps = [step for step in self.steps if step not in steps]
        return [("delete from steps where n = ?", (step.number,)) for step in steps]

    def everything(self) -> list[Statement]:
        """Return what writes all of it anew. [main]"""
        return [("delete from steps", ()), *map(_written, self.steps)]


def _text(overlay: Overlay, path: Path) -> str | None:
    return entry_text(overlay[path]) if path in overlay else None


def _written(step: Step) -> Statement:
    return "insert or replace into steps values (?, ?, ?)", (step.number, step.undone, step.text())
