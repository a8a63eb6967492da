"""What control commands do to a session, without a socket between."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from racks import write
from sigrack.commands import Commands
from sigrack.config import load
from sigrack.control import schema
from sigrack.session import Session

SILENCE = '[source]\ndriver = "none"\n[control]\nenabled = false\n'
EARS = '[[slot]]\nname = "ears"\nplugin = "./collector.py"\n'


def commanded(folder: Path, slots: str, work: Callable[[Session, Commands], Coroutine[Any, Any, None]]) -> None:
    """Run a rack in real time beside `work`, and end it."""
    session = Session(load(write(folder, SILENCE + slots)))
    assert 0 == session.run(lambda: work(session, Commands(session)))


def test_what_is_held_delays_only_its_own_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a plugin is pinned that was unloaded, its UNLOAD waits for it, and commands for other slots do not."""
    monkeypatch.setattr("sigrack.commands.GONE_S", 60.0)
    order: list[str] = []

    async def work(session: Session, commands: Commands) -> None:
        hooked = session.rack.slot("ears").hooked
        assert hooked is not None
        with hooked.pinned():
            unload = asyncio.create_task(commands.handle(schema.Unload(name="ears")))
            while not session.rack.reaper.lingering:
                await asyncio.sleep(0.001)
            for command in (schema.Load(name="ears", plugin="gain"), schema.Swap(name="ears"), schema.Unload(name="ears")):
                await asyncio.wait_for(commands.handle(command), 20)
            order.append(f"held: {session.rack.reaper.lingering}, answered: {unload.done()}")
        await asyncio.wait_for(unload, 20)
        order.append(f"held: {session.rack.reaper.lingering}, answered: {unload.done()}")

    commanded(tmp_path, EARS, work)

    assert ["held: {'ears'}, answered: False", "held: set(), answered: True"] == order
