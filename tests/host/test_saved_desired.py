"""What is desired, and what merely runs: changes that overtake each other, hooks, and requests with ids."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from racks import write
from sigrack.commands import Commands
from sigrack.config import load
from sigrack.control import schema as s
from sigrack.session import Session

RACK = """
[source]
driver = "none"
[control]
enabled = false
[[slot]]
name = "volume"
plugin = "gain"
params = { gain_db = -6.0 }
[[slot]]
name = "ears"
plugin = "./collector.py"
"""
Work = Callable[[Session, Commands], Coroutine[Any, Any, None]]


def commanded(folder: Path, work: Work) -> None:
    """Run a rack in real time beside `work`, and end it."""
    session = Session(load(write(folder, RACK)))
    assert 0 == session.run(lambda: work(session, Commands(session)))


def gain(value: float) -> s.ParamSet:
    """Return the command that sets the volume."""
    return s.ParamSet(slot="volume", param="gain_db", value=value)


def overrides(session: Session) -> dict[tuple[str, ...], Any]:
    """Return what is overridden."""
    return {tuple(entry["path"]): entry["value"] for entry in session.desired.facts["overrides"]}


def slow_down(session: Session) -> None:
    """Let each change of the rack take a while to be built."""
    prepare = session.rack.prepare

    def slowly(*arguments: Any) -> Any:
        time.sleep(0.3)
        return prepare(*arguments)

    session.rack.prepare = slowly  # type: ignore[method-assign,assignment]


def test_what_hooks_do_is_not_desired(tmp_path: Path) -> None:
    """A parameter set and a slot loaded by a hook run, are no overrides, and outlast UNDO; RELOAD takes the slot away."""

    async def work(session: Session, commands: Commands) -> None:
        context = session.rack.slot("ears").context
        assert context is not None
        await commands.handle(s.Load(name="extra", plugin="gain"))
        context.set_param("volume", "gain_db", -1.0)
        await asyncio.wrap_future(context.load("mine", "gain", before="volume"))
        assert {("slot", "extra")} == set(overrides(session))
        await commands.handle(s.Undo())
        assert ["mine", "volume", "ears"] == [slot.name for slot in session.rack.slots]
        assert -1.0 == session.rack.slot("volume").values["gain_db"]
        await commands.handle(s.Reload())
        assert ["volume", "ears"] == [slot.name for slot in session.rack.slots]
        assert -1.0 == session.rack.slot("volume").values["gain_db"]
        assert {} == overrides(session)

    commanded(tmp_path, work)


@pytest.mark.parametrize("command", [s.Reload(), s.Undo(), s.PresetRecall(name="file"), s.Swap(name="volume"), s.Compare()])
def test_what_is_set_while_the_rack_changes_stays(tmp_path: Path, command: s.Change) -> None:
    """A value set while a change of the whole rack is built is in force, and desired, when that is done; and can be undone."""

    async def work(session: Session, commands: Commands) -> None:
        await commands.handle(s.Bypass(slot="volume"))
        slow_down(session)
        change = asyncio.create_task(commands.handle(command))
        await asyncio.sleep(0.1)
        await commands.handle(gain(-12.0))
        assert not change.done()
        await change
        assert -12.0 == session.rack.slot("volume").values["gain_db"]
        assert -12.0 == overrides(session)["slot", "volume", "params", "gain_db"]
        assert session.rack.slot("volume").table.params == session.desired.settings.slots[0].params
        await commands.handle(s.Reload())
        assert -12.0 == session.rack.slot("volume").values["gain_db"]

    commanded(tmp_path, work)


def test_changes_that_wait_for_each_other_lose_nothing(tmp_path: Path) -> None:
    """Ten loads, unloads, swaps and an undo, asked for at once, end in what they say one after the other."""

    async def work(session: Session, commands: Commands) -> None:
        slow_down(session)
        asked: list[s.Command] = [s.Load(name=f"n{i}", plugin="gain", before="ears") for i in range(4)]
        asked += [s.Swap(name="volume", params={"gain_db": -3.0}), s.Unload(name="n1"), s.Undo(), s.Unload(name="n2")]
        await asyncio.gather(*map(commands.handle, asked))
        names = ["volume", "n0", "n1", "n3", "ears"]
        assert names == [slot.name for slot in session.rack.slots]
        assert names == [table.name for table in session.desired.settings.slots]
        assert -3.0 == session.desired.settings.slots[0].params["gain_db"]

    commanded(tmp_path, work)


def test_a_fader_that_moves_is_one_step(tmp_path: Path) -> None:
    """Many values of one parameter in a row are taken back as one; another parameter is another step."""

    async def work(session: Session, commands: Commands) -> None:
        for number in range(20):
            await commands.handle(gain(-float(number)))
        await commands.handle(s.ParamSet(slot="volume", param="smooth_ms", value=5.0))
        await commands.handle(s.Undo())
        assert -19.0 == session.rack.slot("volume").values["gain_db"]
        assert "taken back: volume.gain_db = -19" == (await commands.handle(s.Undo())).message
        assert {"gain_db": -6.0, "smooth_ms": 20.0} == session.rack.slot("volume").values
        assert {} == overrides(session)

    commanded(tmp_path, work)


def test_a_request_that_comes_twice_at_once_is_carried_out_once(tmp_path: Path) -> None:
    """While the first is on its way the second waits for its reply; a refusal is not remembered."""

    async def work(session: Session, commands: Commands) -> None:
        slow_down(session)
        load_ = s.Load(name="extra", plugin="gain")
        request = s.Request("LOAD", {"name": "extra", "plugin": "gain"}, "a")
        replies = await asyncio.gather(*(commands.handle(load_, request) for _ in range(3)))
        assert 1 == len({reply.message for reply in replies})
        wrong = s.Request("UNLOAD", {"name": "nobody"}, "b")
        for _ in range(2):
            with pytest.raises(s.CommandError, match="nobody"):
                await commands.handle(s.Unload(name="nobody"), wrong)
        assert session.desired.requests.find("b") is None

    commanded(tmp_path, work)


def test_a_swap_to_another_plugin_forgets_what_that_has_not(tmp_path: Path) -> None:
    """Parameters that the new plugin does not take are no longer desired: the next start, and UNDO, have no trouble with them."""

    async def work(session: Session, commands: Commands) -> None:
        await commands.handle(gain(-9.0))
        await commands.handle(s.Swap(name="volume", plugin="level"))
        assert {} == session.desired.settings.slots[0].params
        await commands.handle(s.Reload())
        assert "level" == session.rack.slot("volume").plugin.id
        await commands.handle(s.Undo())
        assert ("gain", -9.0) == (session.rack.slot("volume").plugin.id, session.rack.slot("volume").values["gain_db"])

    commanded(tmp_path, work)
