"""What a user can get wrong, through the real command line: one line that names it, and the exit code that says whose it is."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

import command
from command import sigrack
from factories import Compile, MakeWav, WriteRack
from plugin_source import plugin_source
from racks import noise
from warm import warm_sigrack

PLAIN = '[[slot]]\nname = "volume"\nplugin = "gain"\n'


def refused(code: int, *arguments: object) -> str:
    """What is said when a command ends with `code`."""
    return command.refused(code, *arguments, warm=True)


@pytest.fixture
def rack(write_rack: WriteRack) -> Path:
    """A rack that is fine."""
    return write_rack(PLAIN)


def slot(plugin: str, more: str = "") -> str:
    """Lines 4 to 6 and on of a rack: one slot."""
    return f'[[slot]]\nname = "one"\nplugin = "{plugin}"\n{more}'


def python(body: str, head: str = "") -> str:
    """A Python plugin with a class of this body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{head}from sigrack_plugins import Plugin\n\nclass Wrong(Plugin):\n{lines}"


DATACLASS = "from dataclasses import dataclass\n"


# The control: all of it fine


def test_fine(rack: Path, wav: MakeWav, tmp_path: Path) -> None:
    """With nothing wrong, every command of this file ends with 0 and an empty standard error but for the log."""
    wav()

    for words in (("check", rack), ("info", rack), ("run", rack), ("render", rack, tmp_path / "in.wav", tmp_path / "out.wav")):
        done = sigrack(*words)

        assert 0 == done.returncode, done.stderr
        assert "sigrack:" not in done.stderr


# Sound files


def cut(path: Path, part: float) -> None:
    """Keep a part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: round(part * len(content))])


def damage(path: Path) -> None:
    """Overwrite the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)


def bad_sound(kind: str, wav: MakeWav, folder: Path) -> Path:
    """Make a sound file that cannot be used."""
    match kind:
        case "missing":
            return folder / "nothing.wav"
        case "folder":
            (folder / "in.wav").mkdir()
            return folder / "in.wav"
        case "text":
            (folder / "in.wav").write_text("this is no sound\n" * 20)
            return folder / "in.wav"
        case "zero bytes":
            (folder / "in.wav").touch()
            return folder / "in.wav"
        case "zero frames":
            return wav(np.zeros((0, 2)))
        case "truncated wav":
            cut(wav(noise(48_000)), 0.5)
            return folder / "in.wav"
        case "truncated flac":
            cut(wav(noise(48_000), "in.flac"), 0.5)
            return folder / "in.flac"
        case "damaged flac":
            damage(wav(noise(96_000), "in.flac"))
            return folder / "in.flac"
        case "unknown rate":
            return wav(rate_hz=47_999)
        case "too many channels":
            return wav(np.zeros((100, 33)))
        case _:
            sound = noise(30_000)
            sound[20_001, 1] = {"nan": np.nan, "infinite": -np.inf}[kind]
            return wav(sound)


BAD_SOUNDS = {
    "missing": "nothing.wav: No such file or directory",
    "folder": "in.wav: Is a directory",
    "text": "in.wav: not a sound file that can be read: ",
    "zero bytes": "in.wav: not a sound file that can be read: ",
    "zero frames": "in.wav: holds no sound",
    "truncated wav": "in.wav: truncated: its header promises ",
    "truncated flac": "in.flac: truncated or damaged: it ends before frame 48000; copy it again",
    "damaged flac": "in.flac: truncated or damaged: it ends before frame 96000; copy it again",
    "unknown rate": "in.wav: unknown sample rate 47999 Hz; valid: 8000, ",
    "too many channels": "in.wav has 33 channels; the bus takes 32",
    "nan": "in.wav: sample nan at frame 20001, channel 2",
    "infinite": "in.wav: sample -inf at frame 20001, channel 2",
}


@pytest.mark.parametrize("kind", BAD_SOUNDS)
def test_sound_in_render(kind: str, rack: Path, wav: MakeWav, tmp_path: Path) -> None:
    """A sound file that cannot be used ends a render with 101, the file's name and the reason; no output is left."""
    source = bad_sound(kind, wav, tmp_path)

    found = refused(101, "render", rack, source, tmp_path / "out.wav")

    assert found.startswith(f"{source.parent}/{BAD_SOUNDS[kind]}")
    assert not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize("kind", ["missing", "truncated wav", "damaged flac", "unknown rate", "nan"])
@pytest.mark.parametrize("live", [False, True])
def test_sound_in_run(kind: str, live: bool, wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """The same ends a run with 101, in real time too; what can be seen at the start is blamed on its line."""
    source = bad_sound(kind, wav, tmp_path)
    rack = write_rack(PLAIN, source=source.name, live=live)

    found = refused(101, "run", rack)

    assert f"{source.parent}/{BAD_SOUNDS[kind]}" in found
    if kind in ("missing", "truncated wav", "unknown rate"):
        assert found.startswith(f"{rack}:3: ")


def test_nan_late_in_real_time(wav: MakeWav, write_rack: WriteRack) -> None:
    """A sample that is no number ends a real-time run also when it comes after what is read ahead at the start."""
    sound = noise(60_000)
    sound[55_000, 0] = np.nan
    wav(sound)

    found = refused(101, "run", write_rack(PLAIN, live=True))

    assert "in.wav: sample nan at frame 55000, channel 1" in found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable(rack: Path, wav: MakeWav, tmp_path: Path) -> None:
    """A file without read permission is named with the system's reason."""
    path = wav()
    path.chmod(0)

    assert f"{path}: Permission denied" == refused(101, "render", rack, path, tmp_path / "out.wav")


def test_rate_that_the_file_lacks(wav: MakeWav, write_rack: WriteRack) -> None:
    """`rate_hz` is what the file must have; another rate is blamed on its line."""
    path = wav(rate_hz=44_100)
    rack = write_rack("rate_hz = 48000\n")

    assert f"{rack}:4: {path} has 44100 Hz, not 48000 Hz" == refused(101, "check", rack)


# The rack's file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'[source]\ndriver = "file"\npath = "in.wav"\nlop = true\n', ':4: unknown key "lop" in [source]; did you mean "loop"?'),
        (b'[source]\ndriver = "file"\npath = "in.wav"\n[slto]\n', ':4: unknown key "slto" in the file; did you mean "slot"?'),
        (b'[source]\ndriver = "file"\npath = 5\n', ":3: source.path: expected str, got int"),
        (b'[source]\ndriver = "file"\npath =\n', ":3: not valid TOML: Invalid value"),
        (b'[source]\ndriver = "\xff"\n', ": not a text file in UTF-8"),
    ],
)
@pytest.mark.parametrize("name", ["check", "run"])
def test_rack_file(tmp_path: Path, name: str, text: bytes, message: str) -> None:
    """A rack file that is wrong is named with the line and the nearest that would be right."""
    rack = tmp_path / "rack.toml"
    rack.write_bytes(text)

    assert f"{rack}{message}" == refused(101, name, rack)


def test_no_rack_file(tmp_path: Path) -> None:
    """A rack file that is not there, or is a folder, is named."""
    assert f"{tmp_path}/rack.toml: No such file or directory" == refused(101, "run", tmp_path / "rack.toml")
    assert f"{tmp_path}: Is a directory" == refused(101, "run", tmp_path)


# Native plugins


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("int nothing;", ":6: {path}: not a sigrack plugin: it exports no sigrack_plugin_entry"),
        (plugin_source(abi="7"), ":6: {path}: has plugin ABI 7, this host needs 1: rebuild it"),
        (plugin_source(size="64"), ":6: {path}: its plugin struct is shorter than this host's: rebuild it with this sigrack.h"),
        (plugin_source(entry="NULL"), ":6: {path}: sigrack_plugin_entry returned NULL"),
        (
            plugin_source(create='snprintf(error, error_size, "the licence\\nhas ended"); return NULL;'),
            ":6: scale: the licence has ended",
        ),
        (plugin_source(create="(void)error; return NULL;"), ":6: scale: create failed and did not say why"),
        (plugin_source(activate="return 1;"), ":6: scale: cannot run with 2 channels at 48000 Hz"),
    ],
)  # fmt: skip
def test_native(cc: Compile, wav: MakeWav, write_rack: WriteRack, source: str, message: str) -> None:
    """A native plugin that cannot be used is blamed on the slot's line, in its own words where it has some."""
    wav()
    path = cc(source, "plugin", "-Wno-unused")
    rack = write_rack(slot("./plugin.so"))

    assert f"{rack}{message.format(path=path)}" == refused(101, "check", rack)


def test_text_as_library(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """A text file with the name of a library is no library."""
    wav()
    (tmp_path / "plugin.so").write_text("not a library, whatever its name says\n" * 100)
    rack = write_rack(slot("./plugin.so"))

    found = refused(101, "check", rack)

    assert f"{rack}:6: {tmp_path}/plugin.so: not a library that can be loaded: invalid ELF header" == found


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("params = { gain_db = 99 }\n", ":7: one: gain_db = 99 is out of range: -120 to 24 dB"),
        ("[slot.params]\nsmooth_ms = 5\ngain_db = nan\n", ":9: one: gain_db = nan is out of range: -120 to 24 dB"),
        ('params = { gain_db = "loud" }\n', ":7: one: gain_db must be a number, not 'loud'"),
        ("params = { gain_db = true }\n", ":7: one: gain_db must be a number, not True"),
        ("\nparams.gian_db = 1\n", ':8: gain has no parameter "gian_db"; did you mean "gain_db"?'),
        ("config = { gain_db = 1 }\n", ":7: gain: gain has no configuration: use [slot.params]"),
        ("[slot.config]\na = 1\ngain_db = nan\n", ":9: config.gain_db: nan and inf cannot be handed over; give a number"),
    ],
)
def test_native_parameters(wav: MakeWav, write_rack: WriteRack, more: str, message: str) -> None:
    """A parameter that is unknown, out of range or no number is blamed on its own line."""
    wav()
    rack = write_rack(slot("gain", more))

    found = refused(101, "check", rack)

    assert found.startswith(f"{rack}{message}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gian", 'unknown plugin "gian"; did you mean "gain"?'),
        ("./nothing.so", "{folder}/nothing.so: no such plugin file"),
        ("../x/nothing.py", "{parent}/x/nothing.py: no such plugin file"),
        ("plugin.txt/", "{folder}/plugin.txt: no such plugin file"),
    ],
)
def test_plugin_not_found(wav: MakeWav, write_rack: WriteRack, tmp_path: Path, name: str, message: str) -> None:
    """A plugin that is not there is named, with the nearest or with the whole path."""
    wav()
    rack = write_rack(slot(name))

    found = refused(101, "check", rack)

    assert f"{rack}:6: {message.format(folder=tmp_path, parent=tmp_path.parent)}" == found


# Python plugins


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            python("def on_blok(self, block): pass"),
            '{path}: Wrong has an unknown hook "on_blok"; did you mean "on_block"?',
        ),
        (python("def on_block(self): pass"), "{path}: Wrong.on_block must take self and 1 more argument(s)"),
        (python("def on_factor(self, a, b): pass"), "{path}: Wrong.on_factor must take self and 4 more argument(s)"),
        (
            python("async def on_start(self): pass\ndef on_block(self, block): pass"),
            "{path}: Wrong.on_start is a coroutine; only on_block, on_data, on_factor, on_factors may be one",
        ),
        (python("def on_block(self, block): yield"), "{path}: Wrong.on_block is a generator: it has a `yield`, so"),
        (python("async def on_data(self, batch): yield"), "{path}: Wrong.on_data is a generator: it has a `yield`, so"),
        (python("def fir(self, setup): yield 1"), "{path}: Wrong.fir is a generator: it has a `yield`, so"),
        (
            python("def on_factor(self, a, b, c, d): pass\ndef on_factors(self, a): pass"),
            "{path}: Wrong has both on_factor and on_factors: keep one",
        ),
        (python("pass"), "{path}: Wrong does nothing: it has no process, no hook, no fir, no recursive and no work"),
        (
            python("def on_block(self, block): pass") + "class Second(Wrong): pass\n",
            "{path}: a plugin module holds exactly one subclass of sigrack_plugins.Plugin, here: Second, Wrong",
        ),
        ("x = 1\n", "{path}: a plugin module holds exactly one subclass of sigrack_plugins.Plugin, here: none"),
        ("", "{path}: a plugin module holds exactly one subclass of sigrack_plugins.Plugin, here: none"),
        ("\nimport no_such_thing\n", "{path}:2: cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        (
            "\n\ndef f():\n    raise ValueError('two\\nlines')\n\nf()\n",
            "{path}:4: cannot be imported: ValueError: two lines",
        ),
        ("\n\nimport json\njson.loads('x')\n", "{path}:4: cannot be imported: JSONDecodeError: "),
        ("def f(:\n", "{path}:1: cannot be imported: SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(5)\n", "{path}:2: cannot be imported: SystemExit: 5"),
        (python("Config = dict\ndef on_block(self, block): pass"), "{path}: Wrong.Config must be a dataclass"),
        (
            python("def __init__(self): raise OSError('no microphone')\ndef on_block(self, block): pass"),
            "wrong: no microphone",
        ),
        (python("def fir(self, setup): raise ValueError('no such room')"), "wrong: no such room"),
        (python("def fir(self, setup): return 1 / 0"), "wrong: ZeroDivisionError: division by zero ({path}:4)"),
        (
            python("def __init__(self): dict()['x']\ndef on_block(self, block): pass"),
            "wrong: KeyError: 'x' ({path}:4)",
        ),
        (
            python("@dataclass\nclass Config:\n    def __post_init__(self): 1 / 0\ndef work(self, tap): pass", DATACLASS),
            "wrong: ZeroDivisionError: division by zero ({path}:7)",
        ),
        (python("def fir(self, setup): return [[[0.5]]]"), "wrong: fir gave taps of shape (1, 1, 1), not (2, 2, taps)"),
        (python("def fir(self, setup): return [[[float('nan')]] * 2] * 2"), "wrong: fir gave taps that are not finite"),
    ],
)  # fmt: skip
def test_python(wav: MakeWav, write_rack: WriteRack, tmp_path: Path, source: str, message: str) -> None:
    """A Python plugin that cannot be used is blamed on the slot's line; what is wrong in it on its own."""
    wav()
    path = tmp_path / "wrong.py"
    path.write_text(source)
    rack = write_rack(slot("wrong.py"))

    found = refused(101, "check", rack)

    assert found.startswith(f"{rack}:6: {message.format(path=path)}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no such room')", "no such room"),
        ("open('/nothing/at/all')", "[Errno 2] No such file or directory: '/nothing/at/all'"),
        ("self.ctx.subscribe('two')", 'no source "two" posts factors, and there is no such feed'),
        ("1 / 0", "ZeroDivisionError: division by zero ({path}:4)"),
        ("dict()['x']", "KeyError: 'x' ({path}:4)"),
        ("raise SystemExit(5)", "SystemExit: 5 ({path}:4)"),
    ],
)
def test_on_start(wav: MakeWav, write_rack: WriteRack, tmp_path: Path, body: str, message: str) -> None:
    """A plugin whose on_start raises keeps the rack from starting, in its own words or with file and line."""
    wav()
    (tmp_path / "wrong.py").write_text(python(f"def on_start(self): {body}\ndef on_block(self, block): pass"))
    rack = write_rack(slot("wrong.py"))

    assert f"{rack}:4: one: on_start: {message.format(path=tmp_path / 'wrong.py')}" == refused(101, "run", rack)


@pytest.mark.parametrize("body", ["def on_block(self, block): raise SystemExit(5)", "def work(self, tap): raise SystemExit(5)"])
def test_exit_while_running(wav: MakeWav, write_rack: WriteRack, tmp_path: Path, body: str) -> None:
    """A plugin that calls for the end of the process while audio runs does not get it: the render is complete."""
    source = wav(noise(240_000))
    (tmp_path / "wrong.py").write_text(python(body))
    done = warm_sigrack("render", write_rack(slot("wrong.py")), source, tmp_path / "out.wav")

    assert (0, 240_000) == (done.returncode, soundfile.info(tmp_path / "out.wav").frames)
    assert "SystemExit: 5" in done.stderr


CONFIGURED = """
from dataclasses import dataclass
from pathlib import Path
from sigrack_plugins import Plugin

@dataclass
class Options:
    target_lufs: float = -23.0
    folder: Path = Path("x")

    def __post_init__(self):
        if self.target_lufs > 0:
            raise ValueError("target_lufs must be negative")

class Configured(Plugin):
    Config = Options

    def on_block(self, block):
        pass
"""


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("config = { target_luf = 1 }\n", ':7: configured has no configuration key "target_luf"; did you mean "target_lufs"?'),
        ('\n[slot.config]\ntarget_lufs = "loud"\n', ":9: configured: target_lufs: expected float, got str"),
        ("[slot.config]\nfolder = 1\n", ":8: configured: folder: expected a path, got int"),
        ("[slot.config]\ntarget_lufs = 1.0\n", ":8: configured: target_lufs must be negative"),
        ("params = { gain_db = 1 }\n", ':7: "one" (configured) has no parameters; its options go into [slot.config]'),
        ("bypass = true\n", ':7: "one" only listens: there is nothing to bypass'),
    ],
)
def test_python_configuration(wav: MakeWav, write_rack: WriteRack, tmp_path: Path, more: str, message: str) -> None:
    """A configuration that does not fit is blamed on its own line."""
    wav()
    (tmp_path / "configured.py").write_text(CONFIGURED)
    rack = write_rack(slot("configured.py", more))

    assert f"{rack}{message}" == refused(101, "check", rack)


# Output


def test_output_exists(rack: Path, wav: MakeWav, tmp_path: Path) -> None:
    """An output that exists is kept, byte for byte; with --overwrite it is replaced."""
    source, target = wav(), tmp_path / "out.wav"
    target.write_bytes(b"precious")

    found = refused(101, "render", rack, source, target)

    assert f"{target}: exists already; give another name, or allow it with overwrite (render: --overwrite)" == found
    assert b"precious" == target.read_bytes()
    assert 0 == sigrack("render", rack, source, target, "--overwrite").returncode
    assert 4800 == soundfile.info(target).frames


def test_output_is_the_input(rack: Path, wav: MakeWav, tmp_path: Path) -> None:
    """The input is never overwritten by its own render, under no name."""
    source = wav()
    link = tmp_path / "link.wav"
    link.symlink_to(source)
    content = source.read_bytes()

    for target in (source, link):
        found = refused(101, "render", rack, source, target, "--overwrite")

        assert "is the source as well; give another name" in found
        assert content == source.read_bytes()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("none/out.wav", (), "{target}: No such file or directory"),
        ("in.wav/out.wav", (), "{target}: Not a directory"),
        ("folder", ("--overwrite",), '{target}: unknown kind of file ""; use .wav or .flac'),
        ("out.mp42", (), '{target}: unknown kind of file ".mp42"; use .wav or .flac'),
        ("out.flac", ("--samples", "float32"), "{target}: FLAC cannot hold float32 samples"),
        ("out.wav", ("--samples", "int20"), "argument --samples: invalid choice: 'int20'"),
        ("folder.wav", (), "{target}: exists already; give another name, or allow it with overwrite (render: --overwrite)"),
        ("folder.wav", ("--overwrite",), "{target}: Is a directory"),
    ],
)
def test_output(rack: Path, wav: MakeWav, tmp_path: Path, name: str, options: tuple[str, ...], message: str) -> None:
    """An output that cannot be written is named with the reason, and nothing is left."""
    source = wav()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.wav").mkdir()
    before = sorted(tmp_path.rglob("*"))

    found = refused(101, "render", rack, source, tmp_path / name, *options)

    assert found.startswith(message.format(target=tmp_path / name))
    assert before == sorted(tmp_path.rglob("*"))


def test_sink_in_the_rack(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """A sink that cannot be opened is blamed on its line."""
    wav()
    sink = '[sink]\ndriver = "file"\npath = "none/out.wav"\n'
    rack = write_rack(sink)
    pipe = write_rack('[sink]\ndriver = "pipe"\npath = "in.wav"\n', name="pipe.toml")

    assert f"{rack}:6: {tmp_path}/none/out.wav: No such file or directory" == refused(101, "run", rack)
    assert f"{pipe}:6: {tmp_path}/in.wav is not a named pipe: make one with mkfifo" == refused(101, "run", pipe)


def test_source_that_is_no_pipe(wav: MakeWav, tmp_path: Path) -> None:
    """A source that is no pipe, or the sink's, is blamed on its line before anything runs."""
    wav()
    os.mkfifo(tmp_path / "fifo")
    rack = tmp_path / "rack.toml"
    head = '[source]\ndriver = "pipe"\nrate_hz = 48000\nchannels = 2\n'
    for path, tables, line, message in (
        ("none", "", 5, "none is not a named pipe: make one with mkfifo"),
        ("in.wav", "", 5, "in.wav is not a named pipe: make one with mkfifo"),
        ("fifo", '[sink]\ndriver = "pipe"\npath = "fifo"\n', 8, "fifo: is the source as well; give another name"),
    ):
        rack.write_text(f'{head}path = "{path}"\n{tables}')
        assert f"{rack}:{line}: {tmp_path}/{message}" == refused(101, "run", rack)
        assert f"{rack}:{line}: {tmp_path}/{message}" == refused(101, "check", rack)


def test_ring_that_is_too_short(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """A ring that would not hold its blocks is refused with what it needs, and no sink is made."""
    wav()
    sink = '[sink]\ndriver = "file"\npath = "out.wav"\n'
    for tables, line, least in (
        ("ring_s = 0.02\n", 4, "1024 frames (0.0213 s at 48000 Hz)"),
        (f"{sink}ring_s = 0.02\n", 7, "1024 frames (0.0213 s at 48000 Hz)"),
    ):
        rack = write_rack(tables, live=True)
        message = f"{rack}:{line}: ring_s: 0.02 s is too short: a ring holds 4 blocks, here {least}"
        assert message == refused(101, "run", rack)
        assert message == refused(101, "check", rack)
    assert not (tmp_path / "out.wav").exists()


def test_pipe_that_breaks(wav: MakeWav, write_rack: WriteRack, tmp_path: Path) -> None:
    """A pipe whose reader has gone ends the run with 102: trying again may help."""
    wav(noise(480_000))
    rack = write_rack('[sink]\ndriver = "pipe"\npath = "pipe"\n')
    os.mkfifo(tmp_path / "pipe")
    reader = threading.Thread(target=lambda: (tmp_path / "pipe").open("rb").close())
    reader.start()

    assert "the sink's pipe: Broken pipe" == refused(102, "run", rack)

    reader.join()


def test_disk_that_is_full(rack: Path, wav: MakeWav, tmp_path: Path) -> None:
    """An output that cannot grow ends a render with 102, and what was written of it is removed."""
    source, target = wav(noise(480_000)), tmp_path / "out.wav"

    found = command.refused(102, "render", rack, source, target, file_bytes=1_000_000)

    assert found.startswith(f"{target}: cannot be written: ")
    assert not target.exists()
