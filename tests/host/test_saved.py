"""What control has changed survives the host, whatever ends it; an id is carried out once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from command import sigrack
from factories import Compile
from racks import Host, answers, noise, request, write
from sigrack.control.client import Client
from sigrack.control.schema import CommandError
from sigrack.places import default_endpoint
from waiting import wait_until

RACK = """
[rack]
name = "rack"
block_frames = 256
[bus]
mute = ["2"]
[source]
driver = "clock"
path = "in.wav"
loop = true
[[slot]]
name = "volume"
plugin = "gain"
params = { gain_db = -6.0 }
[[slot]]
name = "meter"
plugin = "level"
"""


@contextmanager
def hosted(rack: Path, *options: str) -> Iterator[Host]:
    """A live host that answers."""
    with Host(rack, *options) as host:
        wait_until(lambda: answers() or host.process.poll() is not None, 20, "an answer")
        yield host


def rack_of(folder: Path, text: str = RACK) -> Path:
    """Write the rack of these tests."""
    return write(folder, text, noise(4800))


def ask(cmd: str, id_: str | None = None, **params: Any) -> Any:
    """Send a request with an id; return the reply."""
    with Client(default_endpoint("rack")) as client:
        return client.request(cmd, request_id=id_, **params)


def slots() -> dict[str, Any]:
    """Return plugin, bypass and parameters of each slot, in their order."""
    found = request("GET_STATUS")["data"]["slots"]
    return {slot["name"]: (slot["plugin"], slot["bypass"], slot["params"]) for slot in found}


def test_every_kind_of_change_is_there_after_a_kill(tmp_path: Path) -> None:
    """Parameter, bypass, channel, load, unload, swap, lane: what was acknowledged is in force in the next host, in order."""
    rack = rack_of(tmp_path)
    with hosted(rack) as host:
        request("PARAM_SET", slot="volume", param="gain_db", value=-9)
        request("LOAD", name="second", plugin="gain", before="meter", params={"gain_db": 1.0})
        request("LOAD", name="first", plugin="gain", before="volume")
        request("PARAM_SET", slot="second", param="gain_db", value=2)
        request("BYPASS", slot="first")
        request("UNLOAD", name="meter")
        request("CHANNEL_SET", name="2", mute=False, gain_db=-3)
        request("LOAD", name="last", plugin="gain")
        request("SWAP", name="last", plugin="level")
        request("SWAP", name="volume", lane="process")
        before, channels = slots(), request("STATS")["data"]["channels"]
        host.process.kill()
    with hosted(rack):
        after, stats = slots(), request("STATS")["data"]

    assert ["first", "volume", "second", "last"] == list(before)
    assert list(before) == list(after)
    assert before == after
    assert channels == stats["channels"]
    assert ["volume"] == [slot["name"] for slot in stats["slots"] if slot.get("lane")]
    assert (False, -3.0) == (channels[1]["mute"], channels[1]["gain_db"])


ENGINE = """
#include <stdlib.h>
#include "sigrack_signal.h"
void *signal_create(const char *config) { (void)config; return calloc(1, 1); }
int signal_register_callback(void *handle, signal_callback callback, void *user) {
    (void)handle, (void)callback, (void)user;
    return 0;
}
void signal_on_data(void *handle, int type, const void *data) { (void)handle, (void)type, (void)data; }
void signal_destroy(void *handle) { free(handle); }
"""


def test_crossfeed_and_signal_engines_survive(tmp_path: Path, cc: Compile) -> None:
    """What CROSSFEED_* and LOAD_SIGNAL have changed is there after a kill, and can be taken back."""
    cc(ENGINE, "engine")
    rack = rack_of(tmp_path, RACK + '[[slot]]\nname = "space"\nplugin = "crossfeed"\nbypass = true\n')
    with hosted(rack) as host:
        request("CROSSFEED_SET_SIZE", head_size="xl")
        request("CROSSFEED_ENABLE")
        request("LOAD_SIGNAL", name="engine", library="engine.so", symbols=["N"], feed="none")
        host.process.kill()
    with hosted(rack):
        crossfeed = request("CROSSFEED_GET_STATUS")["data"]
        assert (True, "xl") == (crossfeed["enabled"], crossfeed["head_size"])
        assert ["engine"] == [signal["name"] for signal in request("GET_STATUS")["data"]["signals"]]
        for _ in range(3):
            request("UNDO")
        crossfeed = request("CROSSFEED_GET_STATUS")["data"]
        assert (False, None) == (crossfeed["enabled"], crossfeed.get("head_size"))
        assert [] == request("GET_STATUS")["data"]["signals"]


def test_the_file_wins_where_it_has_changed(tmp_path: Path) -> None:
    """After an edit of the file, at a restart and at RELOAD: what it changed wins and is named; the rest of the overlay stays."""
    rack = rack_of(tmp_path)
    with hosted(rack) as host:
        request("PARAM_SET", slot="volume", param="gain_db", value=-9)
        request("PARAM_SET", slot="volume", param="smooth_ms", value=7)
        host.process.kill()
    rack.write_text(RACK.replace("-6.0", "-5.0"))
    with hosted(rack) as host:
        first = slots()["volume"][2]
        assert "the file has changed volume.gain_db: it wins" in host.log
        request("PARAM_SET", slot="volume", param="gain_db", value=-8)
        rack.write_text(RACK.replace("-6.0", "-4.0"))
        request("RELOAD")
        second = slots()["volume"][2]
        request("PARAM_SET", slot="volume", param="gain_db", value=-7)
        rack.write_text(rack.read_text().replace("[[slot]]\nname", "[[slot\nname"))
        with pytest.raises(CommandError, match="not valid TOML"):
            request("RELOAD")
        third = slots()["volume"][2]

    assert [-5.0, -4.0, -7.0] == [values["gain_db"] for values in (first, second, third)]
    assert [7.0] * 3 == [values["smooth_ms"] for values in (first, second, third)]


def test_what_cannot_be_in_force_waits(tmp_path: Path) -> None:
    """A plugin that is missing at the start is named and left out; it comes when it is there again."""
    rack = rack_of(tmp_path)
    plugin = tmp_path / "other.py"
    plugin.write_text((tmp_path / "collector.py").read_text())
    with hosted(rack) as host:
        request("LOAD", name="extra", plugin="./other.py")
        request("PARAM_SET", slot="volume", param="gain_db", value=-9)
        host.process.kill()
    plugin.rename(tmp_path / "away.py")
    with hosted(rack) as host:
        without = slots()
        assert "what control had set of extra is not in force" in host.log
        host.process.kill()
    (tmp_path / "away.py").rename(plugin)
    with hosted(rack):
        back = slots()

    assert ["volume", "meter"] == list(without)
    assert -9.0 == without["volume"][2]["gain_db"]
    assert ["volume", "meter", "extra"] == list(back)


def test_an_id_is_carried_out_once(tmp_path: Path) -> None:
    """The same request with the same id gets the same reply, also from the next host; for another request the id is refused."""
    rack = rack_of(tmp_path)
    with hosted(rack) as host:
        first = ask("LOAD", "a", name="extra", plugin="gain")
        again = ask("LOAD", "a", name="extra", plugin="gain")
        host.process.kill()
    with hosted(rack):
        after = ask("LOAD", "a", name="extra", plugin="gain")
        with pytest.raises(CommandError, match="taken"):
            ask("LOAD", "b", name="extra", plugin="gain")
        with pytest.raises(CommandError, match="another request's"):
            ask("UNLOAD", "a", name="extra")

    assert first == again == after


def test_undo_and_redo_survive(tmp_path: Path) -> None:
    """Steps taken back and made again, in the same host and in the next one."""
    rack = rack_of(tmp_path)
    with hosted(rack) as host:
        request("LOAD", name="a", plugin="gain", before="volume")
        request("UNLOAD", name="meter")
        request("BYPASS", slot="volume")
        assert "taken back: volume bypassed" == request("UNDO")["message"]
        assert not slots()["volume"][1]
        host.process.kill()
    with hosted(rack) as host:
        assert "taken back: unloaded meter" == request("UNDO")["message"]
        assert ["a", "volume", "meter"] == list(slots())
        host.process.kill()
    with hosted(rack):
        request("UNDO")
        assert ["volume", "meter"] == list(slots())
        with pytest.raises(CommandError, match="nothing to take back"):
            request("UNDO")
        for _ in range(3):
            request("REDO")
        assert ["a", "volume"] == list(slots())
        assert slots()["volume"][1]


def test_presets_and_sides_survive(tmp_path: Path) -> None:
    """A preset brings all settings back; A and B each keep what was changed on them."""
    rack = rack_of(tmp_path)
    with hosted(rack) as host:
        request("PARAM_SET", slot="volume", param="gain_db", value=-1)
        request("LOAD", name="extra", plugin="gain")
        request("PRESET_SAVE", name="loud")
        assert "side B" == request("COMPARE")["message"]
        request("PARAM_SET", slot="volume", param="gain_db", value=-30)
        request("UNLOAD", name="extra")
        host.process.kill()
    with hosted(rack) as host:
        assert ["volume", "meter"] == list(slots())
        request("COMPARE")
        assert (-1.0, 3) == (slots()["volume"][2]["gain_db"], len(slots()))
        request("COMPARE", side="B")
        assert (-30.0, 2) == (slots()["volume"][2]["gain_db"], len(slots()))
        request("PRESET_RECALL", name="file")
        assert -6.0 == slots()["volume"][2]["gain_db"]
        request("PRESET_RECALL", name="loud")
        assert (-1.0, 3) == (slots()["volume"][2]["gain_db"], len(slots()))
        assert ["loud"] == [preset["name"] for preset in request("PRESET_LIST")["data"]["presets"]]
        with pytest.raises(CommandError, match='did you mean "loud"'):
            request("PRESET_RECALL", name="lod")
        request("PRESET_DELETE", name="loud")
        assert [] == request("PRESET_LIST")["data"]["presets"]


COMMENTED = """\
# My rack.
[rack]
name = "rack"       # its name

[source]
driver = "clock"
path = "in.wav"
loop = true

# Loud enough.
[[slot]]
name = "volume"     # the volume
plugin = "gain"
params = { gain_db = -6.0 }   # dB

[[slot]]
name = "meter"
plugin = "level"
"""


def test_save_writes_the_overlay_and_leaves_the_rest(tmp_path: Path) -> None:
    """By the host: values, a new slot in its place, one that has gone; all comments stay; then nothing is overridden."""
    rack = rack_of(tmp_path, COMMENTED)
    with hosted(rack) as host:
        request("PARAM_SET", slot="volume", param="gain_db", value=-9)
        request("LOAD", name="extra", plugin="gain", before="meter", params={"gain_db": 2.0})
        request("BYPASS", slot="extra")
        request("CHANNEL_SET", name="2", gain_db=-1, mute=True)
        before = slots()
        said = sigrack("save", rack)
        assert (0, "wrote 2.mute, extra, volume.gain_db; the file has no place for 2.gain_db, which stay as they are\n") == (
            said.returncode,
            said.stdout,
        )
        assert [["channel", "2", "gain_db"]] == [o["path"] for o in request("GET_STATUS")["data"]["saved"]["overrides"]]
        assert "reloaded: nothing has changed" == request("RELOAD")["message"]
        request("UNDO")
        request("UNDO")
        assert not slots()["extra"][1]
        request("REDO")
        host.process.kill()
    with hosted(rack):
        after = slots()
    text = rack.read_text()

    assert before == after
    assert all(line in text for line in ("# My rack.", "# its name", "# Loud enough.", "# the volume", "gain_db = -9.0 }   # dB"))
    assert text.index('"volume"') < text.index('"extra"') < text.index('"meter"')


def test_save_without_a_host(tmp_path: Path) -> None:
    """The command does it itself; what the file has changed meanwhile wins; a second time there is nothing to write."""
    rack = rack_of(tmp_path, COMMENTED)
    with hosted(rack) as host:
        request("PARAM_SET", slot="volume", param="gain_db", value=-9)
        request("UNLOAD", name="meter")
        host.process.kill()
    first, second = sigrack("save", rack), sigrack("save", rack)

    assert (0, "wrote meter, volume.gain_db\n") == (first.returncode, first.stdout)
    assert (0, "there is nothing to write\n") == (second.returncode, second.stdout)
    assert "meter" not in rack.read_text()


def test_save_does_not_overwrite_an_edit(tmp_path: Path) -> None:
    """A file that was edited since the host has read it is left as it is."""
    rack = rack_of(tmp_path, COMMENTED)
    with hosted(rack):
        request("PARAM_SET", slot="volume", param="gain_db", value=-9)
        rack.write_text(COMMENTED + "# later\n")
        said = sigrack("save", rack)

    assert (101, COMMENTED + "# later\n") == (said.returncode, rack.read_text())
    assert "has changed since it was read: RELOAD first" in said.stderr


def test_a_fresh_run_leaves_what_is_kept_alone(tmp_path: Path) -> None:
    """--fresh starts as the file says and keeps nothing; the next start has what was kept before."""
    rack = rack_of(tmp_path)
    with hosted(rack) as host:
        request("PARAM_SET", slot="volume", param="gain_db", value=-9)
        host.process.kill()
    with hosted(rack, "--fresh") as host:
        assert -6.0 == slots()["volume"][2]["gain_db"]
        request("PARAM_SET", slot="volume", param="gain_db", value=-20)
        assert (False, "the host was started with --fresh") == tuple(
            request("GET_STATUS")["data"]["saved"][key] for key in ("kept", "why_not")
        )
        host.process.kill()
    with hosted(rack):
        assert -9.0 == slots()["volume"][2]["gain_db"]


def test_what_the_file_has_taken_the_name_of_waits(tmp_path: Path) -> None:
    """A loaded slot whose name the file has given to a feed is named and left out; the rack starts, and reloads."""
    feed = '[[feed]]\nname = "{}"\ndriver = "csv"\nkind = "trade"\npath = "trades.csv"\n'
    (tmp_path / "trades.csv").write_text("ts_ns,symbol,price,quantity\n1,A,1,1\n")
    rack = rack_of(tmp_path)
    with hosted(rack) as host:
        request("LOAD", name="ticks", plugin="gain")
        request("PARAM_SET", slot="volume", param="gain_db", value=-9)
        host.process.kill()
    rack.write_text(RACK + feed.format("ticks"))
    with hosted(rack) as host:
        assert ["volume", "meter"] == list(slots())
        assert -9.0 == slots()["volume"][2]["gain_db"]
        assert 'what control had set of ticks is not in force: the name "ticks" is taken' in host.log
        assert "reloaded: nothing has changed" == request("RELOAD")["message"]
