"""Finding and loading plugins: libraries that a test has compiled, modules that it has written."""

import inspect
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from factories import Compile, MakeWav, WriteRack
from plugin_source import plugin_source
from sigrack.errors import ConfigError
from sigrack.loading import NativePlugin, PythonPlugin, find_plugin, load_plugin
from sigrack.loading.libraries import kept, open_library
from sigrack.rendering import render
from sigrack_plugins import bundled

LISTENER = '''
from sigrack_plugins import Plugin

class Listener(Plugin):
    """Listens."""

    def on_block(self, block):
        pass
'''


def absolute(text: str) -> Path:
    """Resolve a path as `sigrack info` does."""
    return Path(text).resolve()


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that modules are imported from."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


# Native


def test_native_description(cc: Compile) -> None:
    """A plugin compiled against the header is described with its parameters and factors."""
    plugin = NativePlugin(cc(plugin_source()))
    factor, offset = plugin.params

    assert ("scale", "Scale", "2.5", "Multiplies and adds.") == (plugin.id, plugin.name, plugin.version, plugin.description)
    assert ("factor", "Factor", "", -2.0, 2.0, 1.0) == (
        factor.id,
        factor.name,
        factor.unit,
        factor.minimum,
        factor.maximum,
        factor.initial,
    )
    assert ("offset", "V", 0.0, 1.0) == (offset.id, offset.unit, offset.minimum, offset.maximum)
    assert {"first": "V"} == plugin.factors


@pytest.mark.parametrize("newer", [False, True])
def test_native_processes(cc: Compile, wav: MakeWav, write_rack: WriteRack, tmp_path: Path, newer: bool) -> None:
    """A compiled plugin does its arithmetic on every sample, also when its structs are longer than this host's."""
    cc(plugin_source(newer=newer))
    wav()
    rack = write_rack(
        '[[slot]]\nname = "scale"\nplugin = "./plugin.so"\nlane = "inline"\nparams = { factor = -0.5, offset = 0.25 }\n'
    )

    render(rack, tmp_path / "in.wav", tmp_path / "out.wav")
    source, _ = soundfile.read(tmp_path / "in.wav", dtype="float32")
    found, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")

    np.testing.assert_allclose(found, source * -0.5 + 0.25, rtol=0, atol=1e-7)


def test_newer_structs_are_read(cc: Compile) -> None:
    """Arrays of longer structs are walked in the plugin's own steps."""
    plugin = NativePlugin(cc(plugin_source(newer=True)))

    assert ["factor", "offset"] == [info.id for info in plugin.params]
    assert [2.0, 1.0] == [info.maximum for info in plugin.params]


def test_one_mapping_per_content(cc: Compile, tmp_path: Path) -> None:
    """The same content under two names is mapped once; another content once more."""
    first = cc(plugin_source(constant=0.125), "first")
    second = tmp_path / "second.so"
    shutil.copy(first, second)
    before = kept()

    libraries = [open_library(first), open_library(second), open_library(first)]

    assert before + 1 == kept()
    assert 1 == len({library.handle for library in libraries})

    open_library(cc(plugin_source(constant=0.375), "third"))

    assert before + 2 == kept()


def test_equal_stems(cc: Compile, tmp_path: Path) -> None:
    """Two files with the same name in two folders are two plugins."""
    paths = []
    for number in (1, 2):
        (tmp_path / f"folder{number}").mkdir()
        built = cc(plugin_source(id=f"scale{number}"), "same")
        paths.append(built.rename(tmp_path / f"folder{number}" / "same.so"))

    plugins = [NativePlugin(path) for path in paths]

    assert ["scale1", "scale2"] == [plugin.id for plugin in plugins]


def test_overwritten_while_loaded(cc: Compile, wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """Overwriting a loaded library in place does not disturb the running code; the next load sees the new one."""
    path = cc(plugin_source(constant=0.0625, id="before"))
    new = cc(plugin_source(constant=0.1875, id="after"), "new").read_bytes()
    wav(np.zeros((1000, 1)))
    rack = write_rack('[[slot]]\nname = "scale"\nplugin = "plugin.so"\nlane = "inline"\n')
    plugin = NativePlugin(path)
    inode = path.stat().st_ino

    with path.open("r+b") as file:  # the same file, as `cp` does it; a mapping of it would change under the code
        file.write(b"\0" * len(path.read_bytes()))
    instance = plugin.create({}, 0, 0)
    instance.destroy()

    assert "before" == instance.plugin.id

    with path.open("r+b") as file:
        file.write(new)
        file.truncate()
    render(rack, tmp_path / "in.wav", tmp_path / "out.wav")
    found, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")

    assert inode == path.stat().st_ino
    assert "after" == NativePlugin(path).id
    assert {0.1875} == set(found)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("int nothing;", "not a sigrack plugin: it exports no sigrack_plugin_entry"),
        (plugin_source(abi="SIGRACK_ABI + 1"), "has plugin ABI 2, this host needs 1: rebuild it"),
        (plugin_source(size="offsetof(struct sigrack_plugin, destroy)"), "its plugin struct is shorter than this host's"),
        (plugin_source(entry="NULL"), "sigrack_plugin_entry returned NULL"),
        (plugin_source(process="NULL"), "lacks one of create, activate, process, destroy"),
        (plugin_source().replace("+ EXTRA", "- 8"), "its param structs are shorter than this host's"),
        (plugin_source().replace(".params = (const struct sigrack_param *)params,", ""), "promises 2 params and holds none"),
        (plugin_source().replace('"first", "V"', '0, "V"'), "a factor lacks its name"),
        (plugin_source().replace('"offset", "Offset"', '"factor", "Offset"'), 'has two parameters with the name "factor"'),
        (plugin_source().replace("-2.0, 2.0, 1.0", "-2.0, 2.0, 3.0"), "factor = 3 is out of range: -2 to 2"),
    ],
)  # fmt: skip
def test_unfit_libraries(cc: Compile, source: str, message: str) -> None:
    """A library that is no plugin for this host is refused with its path and the reason."""
    unused = "-Wno-unused-const-variable", "-Wno-unused-function"
    path = cc(f"#include <stddef.h>\n{source}", "plugin", *unused)

    with pytest.raises(ConfigError) as caught:
        NativePlugin(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_failed_load_leaves_nothing(tmp_path: Path) -> None:
    """A file that cannot be loaded is not counted as kept, and its private copy is let go."""
    path = tmp_path / "text.so"
    path.write_text("not a library")
    before = kept(), len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(ConfigError, match=r"text\.so: not a library that can be loaded: .*(invalid ELF header|file too short)$"):
        NativePlugin(path)

    assert before == (kept(), len(list(Path("/proc/self/fd").iterdir())))


# Python


def test_python_by_path(tmp_path: Path) -> None:
    """A file is a plugin; its stem is its name, the first line of its docstring its description."""
    path = tmp_path / "listener.py"
    path.write_text(LISTENER)
    plugin = load_plugin(find_plugin(str(path), absolute))

    assert isinstance(plugin, PythonPlugin)
    assert ("listener", "Listener", "Listens.") == (plugin.id, plugin.name, plugin.description)
    assert {"on_block"} == plugin.methods


def test_python_by_dotted_name(on_path: Path) -> None:
    """A module is a plugin under its dotted name."""
    (on_path / "studio").mkdir()
    (on_path / "studio" / "ears.py").write_text(LISTENER)
    plugin = load_plugin(find_plugin("studio.ears", absolute))

    assert isinstance(plugin, PythonPlugin)
    assert "ears" == plugin.id


@pytest.mark.parametrize("name", ["studio.none", "no.such.module", "..", "a..b", "json.decoder.JSONDecoder"])
def test_no_such_module(name: str) -> None:
    """A dotted name that is no module is an unknown plugin."""
    with pytest.raises(ConfigError, match=f'^unknown plugin "{name}"'):
        find_plugin(name, absolute)


def test_package_that_fails(on_path: Path) -> None:
    """A dotted name whose package raises is an error that names file and line, not an unknown plugin."""
    (on_path / "broken").mkdir()
    (on_path / "broken" / "__init__.py").write_text("\n\n1 / 0\n")
    (on_path / "broken" / "ears.py").write_text(LISTENER)

    with pytest.raises(ConfigError, match=r"broken/__init__\.py:3: cannot be imported: ZeroDivisionError: division by zero$"):
        load_plugin(find_plugin("broken.ears", absolute))


def test_module_that_fails(on_path: Path) -> None:
    """A module that cannot be imported is named with file and line."""
    (on_path / "studio2").mkdir()
    (on_path / "studio2" / "ears.py").write_text("\nimport no_such_thing\n")

    with pytest.raises(ConfigError, match=r"studio2/ears\.py:2: cannot be imported: ModuleNotFoundError: No module named"):
        load_plugin(find_plugin("studio2.ears", absolute))


def test_equal_python_stems(tmp_path: Path) -> None:
    """Two files with the same stem are two modules."""
    plugins = []
    for name in ("One", "Two"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "same.py"
        path.write_text(LISTENER.replace("Listener", name))
        plugins.append(PythonPlugin(path))

    assert ["One", "Two"] == [plugin.name for plugin in plugins]
    assert ["same", "same"] == [plugin.id for plugin in plugins]


def test_changed_python_file(tmp_path: Path) -> None:
    """A file that was changed is imported anew; an unchanged one is not."""
    path = tmp_path / "listener.py"
    path.write_text(LISTENER)
    first, again = PythonPlugin(path), PythonPlugin(path)
    path.write_text(LISTENER.replace("Listens.", "Listens closely."))
    changed = PythonPlugin(path)

    assert first._class is again._class
    assert first._class is not changed._class
    assert "Listens closely." == changed.description


@pytest.mark.parametrize("cached", [True, False])
def test_equal_length_and_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
    """Contents of one length, written within one second, each run as they are, whether Python keeps bytecode or not."""
    monkeypatch.setattr(sys, "dont_write_bytecode", not cached)
    path = tmp_path / "listener.py"
    found = []
    for letter in "ABC":
        path.write_text(LISTENER.replace("Listens.", f"Code {letter}."))
        os.utime(path, (1_700_000_000, 1_700_000_000))
        found.append(PythonPlugin(path).description)

    assert ["Code A.", "Code B.", "Code C."] == found


def test_modules_go_with_their_last_instance(tmp_path: Path) -> None:
    """Of ten contents of a file the newest stays in sys.modules, and the first as long as an instance of it lives."""
    path = tmp_path / "fleeting.py"
    kept = []

    def loaded() -> list[object]:
        modules = [module for name, module in sys.modules.items() if name.startswith("sigrack_plugin_fleeting_")]
        return sorted(module.NUMBER for module in modules)

    for number in range(10):
        path.write_text(f"{LISTENER}\nNUMBER = {number}\n")
        instance = PythonPlugin(path).create({}, absolute)
        if number == 0:
            kept.append(instance)
        del instance

    assert [0, 9] == loaded()

    kept.clear()

    assert [9] == loaded()


def test_source_of_a_python_file(tmp_path: Path) -> None:
    """A file's module knows where it stands, its source can be read, and its coding line counts."""
    path = tmp_path / "listener.py"
    path.write_bytes(b"# coding: latin-1\n" + LISTENER.replace("Listens.", "H\xf6rt.").encode("latin-1"))
    kind = PythonPlugin(path)._class
    module = sys.modules[kind.__module__]

    assert "H\xf6rt." == kind.__doc__
    assert str(path) == module.__file__ == module.__spec__.origin  # type: ignore[union-attr]
    assert "class Listener(Plugin):" == inspect.getsource(kind).splitlines()[0]


def test_bundled() -> None:
    """Every bundled plugin is found by its name, loads and describes itself in one sentence."""
    plugins = {name: load_plugin(find_plugin(name, absolute)) for name in bundled()}

    assert {"crossfeed", "gain", "level", "loudness", "recorder"} <= set(plugins)
    assert list(plugins) == [plugin.id for plugin in plugins.values()]
    assert all(plugin.description.endswith(".") for plugin in plugins.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gian", 'unknown plugin "gian"; did you mean "gain"?'),
        ("zzzzzz", 'unknown plugin "zzzzzz"; valid: {names}'),
        ("./nothing.so", "nothing.so: no such plugin file"),
        ("nothing.py", "nothing.py: no such plugin file"),
        ("./folder.py", "folder.py: is a folder; a plugin is a .so or a .py file"),
        ("./plugin.vst3", "plugin.vst3: a plugin is a .so or a .py file"),
    ],
)
def test_not_found(tmp_path: Path, text: str, message: str) -> None:
    """A plugin that cannot be found is named, with the nearest or with what would be one."""
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "plugin.vst3").touch()

    with pytest.raises(ConfigError) as caught:
        find_plugin(text, lambda path: tmp_path / path)

    assert message.format(names=", ".join(bundled())) in str(caught.value)
