"""The rack's TOML file: what is accepted, and what is said about the rest."""

from pathlib import Path

import pytest

from sigrack.config import RATES_HZ, Document, load, parse
from sigrack.errors import ConfigError

SLOT = '[[slot]]\nname = "a"\nplugin = "gain"\n'
SECOND = '[[slot]]\nname = "b"\nplugin = "gain"\n'
SOURCE = '[source]\ndriver = "file"\npath = "in.wav"\n'
"""Lines 1 to 3."""


def complaint(text: str) -> str:
    """What is said about a file."""
    with pytest.raises(ConfigError) as caught:
        parse(Path("rack.toml"), text)

    return str(caught.value)


def test_least() -> None:
    """A source is all that a rack needs; the rest has defaults."""
    document = parse(Path("some/place/hall.toml"), SOURCE)

    assert "hall" == document.name
    assert (256, 1024, 20.0, 70) == (
        document.config.rack.block_frames,
        document.config.rack.hook_frames,
        document.config.rack.fade_ms,
        document.config.rack.priority,
    )
    assert ("none", True, []) == (document.config.sink.driver, document.config.control.enabled, document.config.slot)


def test_name() -> None:
    """`[rack] name` goes before the name of the file."""
    assert "a" == parse(Path("b.toml"), '[rack]\nname = "a"\n' + SOURCE).name


def test_every_table() -> None:
    """Every table and key can be given."""
    text = (
        '[rack]\nname = "a"\nblock_frames = 64\nhook_frames = 512\nfade_ms = 5\npriority = 0\n'
        '[source]\ndriver = "clock"\npath = "in.wav"\nloop = true\nrate_hz = 48000\n'
        '[sink]\ndriver = "file"\npath = "out.flac"\nformat = "int16"\noverwrite = true\n'
        '[[slot]]\nname = "one"\nplugin = "gain"\nbypass = true\nparams = { gain_db = 1 }\nconfig = { a = [1, 2] }\n'
        '[[signal]]\nname = "two"\nlibrary = "x.so"\nsymbols = ["a"]\nconfig = { b = 1 }\nfeed = "none"\n'
        '[control]\nenabled = false\nendpoint = "tcp://127.0.0.1:5555"\n'
    )

    config = parse(Path("rack.toml"), text).config

    assert ("clock", True, 48_000) == (config.source.driver, config.source.loop, config.source.rate_hz)
    assert ({"gain_db": 1}, {"a": [1, 2]}) == (config.slot[0].params, config.slot[0].config)
    assert "tcp://127.0.0.1:5555" == config.control.endpoint


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_known_rates(rate_hz: int) -> None:
    """Every rate in the list may be asked for."""
    assert rate_hz == parse(Path("rack.toml"), f"{SOURCE}rate_hz = {rate_hz}\n").config.source.rate_hz


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (2, f"[rack]\nblok_frames = 1\n{SOURCE}", 'unknown key "blok_frames" in [rack]; did you mean "block_frames"?'),
        (4, f"{SOURCE}lop = true\n", 'unknown key "lop" in [source]; did you mean "loop"?'),
        (5, f"{SOURCE}[sink]\noverwrit = true\n", 'unknown key "overwrit" in [sink]; did you mean "overwrite"?'),
        (7, f"{SOURCE}{SLOT}param = 1\n", 'unknown key "param" in [[slot]]; did you mean "params"?'),
        (
            10,
            f"{SOURCE}{SLOT}{SECOND}bypas = 1\n",
            'unknown key "bypas" in [[slot]]; did you mean "bypass"?',
        ),
        (4, f"{SOURCE}[slots]\n", 'unknown key "slots" in the file; did you mean "slot"?'),
        (4, f"{SOURCE}[zzz]\n", 'unknown key "zzz" in the file; valid: rack, source, sink, slot, signal, control'),
        (2, f'{SOURCE.replace("file", "fil")}', 'source.driver: "fil" is not known; did you mean "file"?'),
        (5, f'{SOURCE}[sink]\ndriver = "files"\n', 'sink.driver: "files" is not known; did you mean "file"?'),
        (5, f'{SOURCE}[sink]\nformat = "float"\n', 'sink.format: "float" is not known; did you mean "float32"?'),
        (5, f'{SOURCE}[rack]\nblock_frames = "many"\n', "rack.block_frames: expected int, got str"),
        (5, f"{SOURCE}[rack]\nblock_frames = 0\n", "rack.block_frames: expected int >= 1"),
        (5, f"{SOURCE}[rack]\nblock_frames = 65537\n", "rack.block_frames: expected int <= 65536"),
        (5, f"{SOURCE}[rack]\nfade_ms = -1\n", "rack.fade_ms: expected float >= 0.0"),
        (5, f"{SOURCE}[rack]\npriority = true\n", "rack.priority: expected int, got bool"),
        (4, f'{SOURCE}[slot]\nname = "a"\nplugin = "gain"\n', "slot: expected array, got object; write [[slot]]"),
        (1, f'slot = "gain"\n{SOURCE}', "slot: expected array, got str"),
        (1, f"rack = 1\n{SOURCE}", "rack: expected object, got int"),
        (4, f'{SOURCE}[[slot]]\nplugin = "gain"\n', '[[slot]] lacks the key "name"'),
        (4, f'{SOURCE}[[slot]]\nname = "a"\n', '[[slot]] lacks the key "plugin"'),
        (1, "", 'the file lacks the key "source"'),
        (1, '[source]\ndriver = "file"\n', '[source] lacks the key "path"'),
        (8, f"{SOURCE}{SLOT}{SLOT}", 'the name "a" is taken by a slot'),
        (
            8,
            f'{SOURCE}{SLOT}[[signal]]\nname = "a"\nlibrary = "x"\nsymbols = ["s"]\n',
            'the name "a" is taken by a slot',
        ),
        (4, f"{SOURCE}loop = true\n", 'loop needs driver = "clock": a file source would never end'),
        (4, f'{SOURCE}[sink]\ndriver = "file"\n', '[sink] with driver = "file" lacks the key "path"'),
        (5, f'{SOURCE}[sink]\npath = "a.wav"\n', 'path needs driver = "file" or "pipe"'),
        (4, f"{SOURCE}rate_hz = 47000\n", "unknown sample rate 47000; valid: 8000, 11025, 12000"),
        (7, f'{SOURCE}[[signal]]\nname = "a"\nlibrary = "x"\nsymbols = []\n', "signal.symbols: expected array of length >= 1"),
    ],
)  # fmt: skip
def test_wrong(line: int, text: str, message: str) -> None:
    """What is wrong is named with file, line, key and the nearest that would be right."""
    found = complaint(text)

    assert found.startswith(f"rack.toml:{line}: "), found
    assert message in found


@pytest.mark.parametrize("name", ["", "a b", "../a", "a/b", ".a", "-a", "ä"])
def test_names_that_make_no_file_name(name: str) -> None:
    """A name that could not stand in a socket's path is refused, and the message says what a name is."""
    found = complaint(f'{SOURCE}[rack]\nname = "{name}"\n')

    assert found.startswith("rack.toml:5: rack.name "), found
    assert "must be letters, digits" in found


@pytest.mark.parametrize("endpoint", ["ipc://relative", "http://127.0.0.1:1", "tcp://127.0.0.1", "", "tcp://127.0.0.1:65536"])
def test_endpoints(endpoint: str) -> None:
    """An endpoint that cannot be bound is refused with a form that can."""
    found = complaint(f'{SOURCE}[control]\nendpoint = "{endpoint}"\n')

    assert found.startswith("rack.toml:5: control.endpoint"), found
    assert "tcp://HOST:PORT" in found
    assert "regex" not in found


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (2, '[source]\ndriver = file\npath = "in.wav"\n'),
        (4, f"{SOURCE}[rack\n"),
        (5, f"{SOURCE}\n="),
        (3, '[source]\ndriver = "file"\npath = "in.wav'),
        (5, f"{SOURCE}[rack]\n[rack]\n"),
    ],
)
def test_not_toml(line: int, text: str) -> None:
    """A file that is no TOML is refused with the line, the end of the file included."""
    found = complaint(text)

    assert found.startswith(f"rack.toml:{line}: not valid TOML: "), found
    assert "\n" not in found


def test_not_text(tmp_path: Path) -> None:
    """A file that is not UTF-8 is named."""
    path = tmp_path / "rack.toml"
    path.write_bytes(b'[rack]\nname = "\xff"\n')

    with pytest.raises(ConfigError, match=r"rack\.toml: not a text file in UTF-8$"):
        load(path)


def test_byte_order_mark(tmp_path: Path) -> None:
    """A file that an editor has begun with a byte order mark is read."""
    path = tmp_path / "rack.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SOURCE.encode())

    assert "in.wav" == load(path).config.source.path


def test_resolve() -> None:
    """Paths are relative to the file that names them; absolute ones and ~ stay what they are."""
    document: Document = parse(Path("/a/b/rack.toml"), SOURCE)

    assert Path("/a/b/x.wav") == document.resolve("x.wav")
    assert Path("/a/x.wav") == document.resolve("../x.wav")
    assert Path("/x.wav") == document.resolve("/x.wav")
    assert Path.home() / "x.wav" == document.resolve("~/x.wav")
