"""What control commands do to a session, without a socket between."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from factories import Compile
from racks import write
from sigrack.commands import Commands
from sigrack.config import load
from sigrack.control import schema
from sigrack.control.schema import CommandError
from sigrack.session import Session

SILENCE = '[source]\ndriver = "none"\n[control]\nenabled = false\n'
EARS = '[[slot]]\nname = "ears"\nplugin = "./collector.py"\n'


def commanded(folder: Path, slots: str, work: Callable[[Session, Commands], Coroutine[Any, Any, None]]) -> None:
    """Run a rack in real time beside `work`, and end it."""
    session = Session(load(write(folder, SILENCE + slots)))
    assert 0 == session.run(lambda: work(session, Commands(session)))


def test_what_is_held_delays_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody pins a plugin that was unloaded, its UNLOAD and later commands for its name are answered at once."""
    monkeypatch.setattr("sigrack.commands.GONE_S", 60.0)
    held: list[set[str]] = []

    async def work(session: Session, commands: Commands) -> None:
        hooked = session.rack.slot("ears").hooked
        assert hooked is not None
        with hooked.pinned():
            for command in (schema.Unload(name="ears"), schema.Load(name="ears", plugin="gain"), schema.Swap(name="ears")):
                await asyncio.wait_for(commands.handle(command), 20)
                held.append(session.rack.reaper.lingering)

    commanded(tmp_path, EARS, work)

    assert [{"ears"}] * 3 == held


def test_what_has_left_is_gone_when_its_command_is_answered(tmp_path: Path) -> None:
    """When SWAP and UNLOAD are answered the instance that has left has had its on_stop."""
    last: list[object] = []

    async def work(session: Session, commands: Commands) -> None:
        for command in (schema.Swap(name="ears"), schema.Unload(name="ears")):
            ears: Any = session.rack.slot("ears").hooked.plugin  # type: ignore[union-attr]
            await commands.handle(command)
            last.append(ears.calls[-1])

    commanded(tmp_path, EARS, work)

    assert ["on_stop"] * 2 == last


ENGINE = """
#include <stdlib.h>
#include "sigrack_signal.h"
struct engine { signal_callback callback; void *user; };
void *signal_create(const char *config) { (void)config; return calloc(1, sizeof(struct engine)); }
int signal_register_callback(void *handle, signal_callback callback, void *user) {
    *(struct engine *)handle = (struct engine){callback, user};
    return 0;
}
void signal_on_data(void *handle, int type, const void *data) {
    struct engine *e = handle;
    (void)type, (void)data;
    e->callback("N", 7, &(double){5.0}, 1, e->user);
}
void signal_destroy(void *handle) { free(handle); }
"""


def test_a_signal_engine_comes_by_command(tmp_path: Path, cc: Compile) -> None:
    """LOAD_SIGNAL adds an engine that is fed and heard, from a path beside the rack's file; UNLOAD takes it out again."""
    cc(ENGINE, "engine")
    said: list[str | None] = []

    async def work(session: Session, commands: Commands) -> None:
        ears: Any = session.rack.slot("ears").hooked.plugin  # type: ignore[union-attr]
        said.append((await commands.handle(schema.LoadSignal(name="engine", library="engine.so", symbols=["N"]))).message)
        while not ears.batches:
            await asyncio.sleep(0.001)
        said.append((await commands.handle(schema.Unload(name="engine"))).message)
        batch = ears.batches[0]
        said.append(f"{batch.source} {batch.symbols} {batch.ts_ns[0]} {batch.values[0, 0]}, {len(session.rack.signals)} left")

    commanded(tmp_path, EARS, work)

    assert ["loaded engine", "unloaded engine", "engine ('N',) 7 5.0, 0 left"] == said


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"feed": "tick"}, 'there is no feed "tick"; valid: audio, none'),
        ({"feed": ["none"]}, 'there is no feed "none"'),
        ({"symbols": ["N", "N"]}, 'symbols: "N" is there twice'),
        ({"symbols": []}, "symbols: expected array of length >= 1"),
        ({"library": "./nothing.so"}, "nothing.so: No such file or directory"),
        ({"name": "ears"}, 'the name "ears" is taken'),
        ({"queue": 3}, "queue: expected int >= 16"),
    ],
)
def test_a_wrong_signal_engine_is_refused(tmp_path: Path, cc: Compile, wrong: dict[str, Any], words: str) -> None:
    """What a `[[signal]]` table must not say LOAD_SIGNAL must not either; the rack is as it was."""
    cc(ENGINE, "engine")
    command = schema.LoadSignal(**{"name": "engine", "library": "engine.so", "symbols": ["N"], **wrong})

    async def work(session: Session, commands: Commands) -> None:
        with pytest.raises(CommandError, match=re.escape(words)):
            await commands.handle(command)
        assert [] == list(session.rack.signals)

    commanded(tmp_path, EARS, work)
