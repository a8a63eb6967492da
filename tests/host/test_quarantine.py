"""The quarantine: who is in it is loaded by nobody, it survives whatever its file meets, and a person empties it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from command import answer, refused, sigrack
from factories import Compile, MakeWav, WriteRack
from plugin_source import plugin_source
from racks import Host, answers, request
from sigrack.config import load
from sigrack.control.schema import CommandError
from sigrack.errors import EngineError
from sigrack.loading import NativePlugin, PythonPlugin, find_plugin, load_plugin
from sigrack.loading.modules import module_file
from sigrack.places import state_folder
from sigrack.quarantine import Quarantine, QuarantinedError
from sigrack.session import Session
from sigrack_plugins import bundled
from waiting import wait_until

MARK = """
from pathlib import Path
from sigrack_plugins import Plugin

Path({mark!r}).touch()

class Listener(Plugin):
    \"\"\"Listens.\"\"\"

    def on_block(self, block):
        pass
"""


@pytest.fixture
def quarantine(runtime: Path) -> Quarantine:
    """The user's, empty."""
    return Quarantine.open()


def listed() -> Any:
    """Return what `sigrack quarantine list` says."""
    return answer("quarantine", "list")


@pytest.fixture
def scale(cc: Compile) -> Path:
    """A native plugin."""
    return cc(plugin_source())


def marking(folder: Path, name: str = "listener") -> tuple[Path, Path]:
    """Write a Python plugin; return it and the file that shows that its code has run."""
    mark = folder / f"{name}.ran"
    path = folder / f"{name}.py"
    path.write_text(MARK.format(mark=str(mark)))
    return path, mark


# The list


def test_an_entry_tells_all(quarantine: Quarantine, scale: Path) -> None:
    """Path, id, reason, time and hash are kept for other processes; doing it again counts."""
    quarantine.add(scale, "scale", "SIGSEGV in process")
    first = listed()[0]
    quarantine.add(scale, "scale", "SIGABRT in destroy")
    entry = quarantine.reason(scale)

    assert entry is not None
    assert (2, "SIGABRT in destroy", "scale", str(scale)) == (entry.count, entry.reason, entry.plugin, entry.path)
    assert entry.when_unix_s > first["when_unix_s"]
    assert ("scale", "SIGSEGV in process", 1) == tuple(first[key] for key in ("name", "reason", "count"))
    assert subprocess.run(["sha256sum", scale], capture_output=True, text=True, check=True).stdout.split()[0] == entry.sha256


def test_a_content_is_in_it_not_a_name(quarantine: Quarantine, cc: Compile, tmp_path: Path) -> None:
    """A copy under another name is the same plugin, a new build under the old name another; also if its length is the same."""
    path, other = cc(plugin_source(constant=0.25)), cc(plugin_source(constant=0.5), "other")
    quarantine.add(path, "scale", "SIGSEGV in process")
    copy = Path(shutil.copy(path, tmp_path / "copy.so"))
    assert path.stat().st_size == other.stat().st_size
    other.rename(path)

    assert quarantine.reason(copy) is not None
    assert quarantine.reason(path) is None


def test_what_did_it_is_kept_not_what_lies_there_now(quarantine: Quarantine, cc: Compile) -> None:
    """A crash is booked to the content that was loaded, though its file was built anew meanwhile."""
    plugin = NativePlugin(cc(plugin_source(constant=0.25)))
    cc(plugin_source(constant=0.5))

    quarantine.add(plugin.file, plugin.id, "SIGSEGV in process", plugin.sha256)

    assert quarantine.find(plugin.sha256) is not None
    assert quarantine.reason(plugin.file) is None
    assert NativePlugin(plugin.file).id == "scale"


@pytest.mark.parametrize("name", ["com.example.scale", "plugin", "plugin.so", "PATH", "HASH"])
def test_release_by_any_of_its_names(quarantine: Quarantine, scale: Path, tmp_path: Path, name: str) -> None:
    """A plugin is let out by its id, its file's name, its path or its hash, alone."""
    entry = quarantine.add(scale, "com.example.scale", "SIGSEGV in process")
    quarantine.add(marking(tmp_path)[0], "", "SIGILL in import")
    text = {"PATH": os.path.relpath(scale), "HASH": entry.sha256[:8]}.get(name, name)

    assert [entry] == quarantine.release(text)
    assert ["listener"] == [row.name for row in quarantine.entries()]
    assert [] == quarantine.release(text)
    assert [] == quarantine.release(entry.sha256[:7])


def test_many_processes_add_at_once(quarantine: Quarantine, tmp_path: Path) -> None:
    """Nothing is lost when several hosts write at once."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom sigrack.quarantine import Quarantine\n"
        "for i in range(20):\n    Quarantine.open().add(Path('x.so'), 'x', 'y', f'{sys.argv[1]}-{i}')\n"
    )
    hosts = [subprocess.Popen([sys.executable, "-c", program, str(number)]) for number in range(4)]

    assert [0] * 4 == [host.wait() for host in hosts]
    assert {f"{number}-{i}" for number in range(4) for i in range(20)} == {entry.sha256 for entry in quarantine.entries()}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "Input data was truncated"),
        ("", "Input data was truncated"),
        ('{"version": 1, "rows": [{"sha256": 3}]}', "Expected `str`, got `int`"),
        ('{"version": 2, "rows": []}', "it has version 2, this sigrack knows 1"),
        ("\xff\x00", "malformed"),
    ],
)
def test_a_damaged_file_is_kept_aside(
    quarantine: Quarantine, scale: Path, caplog: pytest.LogCaptureFixture, content: str, why: str
) -> None:
    """A list that cannot be understood is kept, said so in one line, and begins anew."""
    quarantine.add(scale, "scale", "SIGSEGV in process")
    path = state_folder() / "quarantine.json"
    path.write_text(content, "latin-1")

    assert () == quarantine.entries()
    assert () == Quarantine.open().entries()
    aside = list(path.parent.glob("quarantine.json.damaged-*"))
    assert [content] == [file.read_text("latin-1") for file in aside]
    assert 1 == len(caplog.messages)
    assert why in caplog.messages[0]
    assert str(aside[0]) in caplog.messages[0]

    quarantine.add(scale, "scale", "SIGSEGV in process")

    assert 1 == len(Quarantine.open().entries())


def test_a_folder_that_cannot_be_used(quarantine: Quarantine, scale: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a list nobody is kept out, with a line in the log; commands end with an error."""
    state_folder().touch()

    with pytest.raises(EngineError, match=r"quarantine.json: Not a directory"):
        quarantine.entries()
    assert "scale" == NativePlugin(scale).id
    assert "the quarantine is not heeded" in caplog.text
    assert "Not a directory" in refused(102, "quarantine", "list")


# Loading


def test_a_library_is_refused_before_its_code_runs(quarantine: Quarantine, cc: Compile, tmp_path: Path) -> None:
    """Not even a constructor runs; when the plugin is let out, it does."""
    mark = tmp_path / "ran"
    constructor = f'#include <fcntl.h>\n__attribute__((constructor)) static void run(void) {{ creat("{mark}", 0600); }}\n'
    path = cc(constructor + plugin_source())
    entry = quarantine.add(path, "scale", "SIGSEGV in process")

    with pytest.raises(QuarantinedError) as caught:
        load_plugin(path)

    assert not mark.exists()
    assert entry == caught.value.entry
    assert 101 == caught.value.exit_code
    said = f"scale has been in quarantine since {entry.when}: SIGSEGV in process; `sigrack quarantine clear scale` lets it out"
    assert f"{path}: {said}" == str(caught.value)

    quarantine.release("scale")

    assert "scale" == load_plugin(path).id
    assert mark.exists()


def test_a_module_is_refused_before_its_code_runs(
    quarantine: Quarantine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file by its path and a dotted module by the file that it has."""
    path, mark = marking(tmp_path)
    package = tmp_path / "rooms"
    package.mkdir()
    (package / "__init__.py").touch()
    dotted, dotted_mark = marking(package, "ears")
    monkeypatch.syspath_prepend(tmp_path)
    quarantine.add(path, "listener", "exit code 3 in import")
    quarantine.add(dotted, "ears", "exit code 3 in import")

    assert dotted == module_file("rooms.ears")
    for text in (str(path), "rooms.ears"):
        with pytest.raises(QuarantinedError):
            load_plugin(find_plugin(text, lambda text: Path(text)))
    assert not mark.exists()
    assert not dotted_mark.exists()

    quarantine.release(None)

    plugins = [load_plugin(find_plugin(text, lambda text: Path(text))) for text in (str(path), "rooms.ears")]
    assert [path, dotted] == [plugin.file for plugin in plugins]
    for plugin in plugins:
        assert isinstance(plugin, PythonPlugin)
        quarantine.add(plugin.file, plugin.id, "3 crashes", plugin.sha256)
        assert quarantine.reason(plugin.file) is not None


def test_racks_refuse_it(quarantine: Quarantine, cc: Compile, wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """render, check, info and run end with 101 and one line that names the place, for slots and signal engines."""
    wav()
    engine = cc(
        '#include "sigrack_signal.h"\n#include <stddef.h>\n'
        "void *signal_create(const char *config) { return (void *)config; }\n"
        "void signal_on_data(void *h, int type, const void *data) { (void)h; (void)type; (void)data; }\n"
        "void signal_destroy(void *h) { (void)h; }\n",
        "engine",
    )
    quarantine.add(bundled()["gain"], "gain", "6 crashes in 60 s")
    quarantine.add(engine, "", "SIGSEGV in on_data")
    slot = write_rack('[[slot]]\nname = "volume"\nplugin = "gain"\n')
    signal = write_rack('[[signal]]\nname = "motor"\nlibrary = "engine.so"\nsymbols = ["x"]\n', name="signal.toml")

    for rack, line, said in ((slot, 6, "gain has been in quarantine since"), (signal, 6, "engine has been in quarantine since")):
        for command in (
            ["check", rack],
            ["render", rack, tmp_path / "in.wav", tmp_path / "out.wav"],
            ["run", rack],
            ["info", rack],
        ):
            message = refused(101, *command, warm=True)
            assert message.startswith(f"{rack}:{line}: ")
            assert said in message
    with pytest.raises(QuarantinedError) as caught:
        Session(load(slot))
    assert ("gain", "6 crashes in 60 s") == (caught.value.entry.plugin, caught.value.entry.reason)


def test_a_running_rack_refuses_it(quarantine: Quarantine, wav: MakeWav, write_rack: WriteRack, scale: Path) -> None:
    """LOAD and SWAP fail and say why; what plays goes on, though it is in quarantine by now."""
    wav()
    rack = write_rack('loop = true\n[[slot]]\nname = "volume"\nplugin = "gain"\n', live=True)
    with Host(rack):
        wait_until(answers, 30.0)
        quarantine.add(scale, "scale", "6 crashes in 60 s")
        quarantine.add(bundled()["gain"], "gain", "SIGSEGV in scan")
        for cmd, params in (("LOAD", {"name": "new", "plugin": str(scale)}), ("SWAP", {"name": "volume"})):
            with pytest.raises(
                CommandError, match=r"has been in quarantine since .*; `sigrack quarantine clear \w+` lets it out"
            ):
                request(cmd, **params)
        before = request("STATS")["data"]["frame"]

        assert ["volume"] == [slot["name"] for slot in request("GET_STATUS")["data"]["slots"]]
        wait_until(lambda: request("STATS")["data"]["frame"] > before)

        quarantine.release(None)
        request("LOAD", name="new", plugin=str(scale))


# Commands


def test_list_and_clear(quarantine: Quarantine, scale: Path, tmp_path: Path) -> None:
    """What is in is listed with its reason; it is let out by name, several at once, all of it; nothing is loaded."""
    path, mark = marking(tmp_path)
    quarantine.add(scale, "scale", "SIGSEGV in process")
    quarantine.add(path, "", "exit code 3 in import")
    text = sigrack("quarantine", "list").stdout

    for word in ("scale", "SIGSEGV in process", str(scale), "listener", "exit code 3 in import"):
        assert word in text
    assert '"scal" is not in quarantine; did you mean "scale"?' == refused(101, "quarantine", "clear", "listener", "scal")
    assert 2 == len(listed())
    assert f"let out: scale ({scale}), listener ({path})\n" == sigrack("quarantine", "clear", "scale", "listener").stdout
    assert [] == listed()
    assert "nothing is in quarantine\n" == sigrack("quarantine", "list").stdout
    quarantine.add(scale, "scale", "SIGSEGV in process")
    assert ["scale"] == [entry["name"] for entry in answer("quarantine", "clear", "--all")]
    assert [] == listed()
    assert not mark.exists()


@pytest.mark.parametrize("arguments", [(), ("NAME", "--all")])
def test_clear_wants_to_know_whom(arguments: tuple[str, ...]) -> None:
    """Neither nothing nor both."""
    assert refused(101, "quarantine", "clear", *arguments).startswith("say which plugins to let out: NAME ..., or --all")


def test_list_of_plugins_marks_it(quarantine: Quarantine) -> None:
    """`sigrack list` says which bundled plugin is in quarantine, and lists the others."""
    quarantine.add(bundled()["gain"], "gain", "6 crashes in 60 s")
    plugins = {plugin["plugin"]: plugin["quarantined"] for plugin in answer("list")["plugins"]}

    assert "in quarantine: 6 crashes in 60 s; `sigrack quarantine clear gain` lets it out" == plugins.pop("gain")
    assert {""} == set(plugins.values())
    assert "in quarantine: 6 crashes in 60 s" in sigrack("list").stdout
