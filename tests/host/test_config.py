"""The rack's TOML file: what is accepted, and what is said about the rest."""

from pathlib import Path

import pytest

from sigrack.config import Document, load, parse
from sigrack.errors import ConfigError, nearest
from sigrack.tables import RATES_HZ

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
        (
            4,
            f"{SOURCE}[zzz]\n",
            'unknown key "zzz" in the file; valid: rack, bus, source, sink, slot, signal, feed, publish, control',
        ),
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


NO_SOURCE = '[source]\ndriver = "none"\n'
"""Lines 1 and 2."""
CLOCK = SOURCE.replace("file", "clock")
PIPE = '[source]\ndriver = "pipe"\npath = "fifo"\n'
RAW = f"{PIPE}channels = 1\n"
SINK = '[sink]\ndriver = "file"\npath = "out.wav"\n'
FEED = '[[feed]]\nname = "ticks"\ndriver = "csv"\nkind = "trade"\npath = "t.csv"\n'
SOCKET = '[[feed]]\nname = "wire"\ndriver = "zmq"\nkind = "depth"\nendpoint = "tcp://127.0.0.1:5555"\n'
SIGNAL = '[[signal]]\nname = "engine"\nlibrary = "x.so"\nsymbols = ["a"]\n'
PUBLISH = '[publish]\nendpoint = "tcp://127.0.0.1:5555"\nfactors = ["a.b"]\n'
CONTROL = '[control]\nendpoint = "tcp://127.0.0.1:5555"\n'
IPC = SOCKET.replace("tcp://127.0.0.1:5555", "ipc:///a/b") + "bind = true\n"


@pytest.mark.parametrize(
    ("text", "replay", "live"),
    [
        (SOURCE, False, False),
        (SOURCE.replace("file", "clock"), False, True),
        (NO_SOURCE, False, True),
        (f"{RAW}rate_hz = 8000\n", False, True),
        (NO_SOURCE + FEED, False, True),
        (f'{NO_SOURCE}{FEED}speed = "max"\n', True, False),
        (f"{SOURCE}{FEED}speed = 2\n", False, False),
        (NO_SOURCE + SOCKET, False, True),
    ],
)
def test_what_sets_the_pace(text: str, replay: bool, live: bool) -> None:
    """A clock, a file of sound, or feeds that are all read as fast as possible."""
    config = parse(Path("rack.toml"), text).config

    assert (replay, live) == (config.replay, config.live)


def test_a_signal_engine_names_its_feeds() -> None:
    """`feed` is audio, none, one feed or a list of feeds."""
    feeds = ['"audio"', '"none"', '"ticks"', '["wire", "ticks"]']
    texts = [f"{NO_SOURCE}{FEED}{SOCKET}{SIGNAL}feed = {feed}\n" for feed in feeds]

    assert [(), (), ("ticks",), ("wire", "ticks")] == [parse(Path("r.toml"), text).config.signal[0].feeds for text in texts]


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, f'{NO_SOURCE}path = "a.wav"\n', 'path needs driver = "file", "clock" or "pipe"'),
        (3, f'{NO_SOURCE}format = "int16"\n', 'format needs driver = "pipe"'),
        (4, f"{SOURCE}reopen = true\n", 'reopen needs driver = "pipe"'),
        (3, f"{NO_SOURCE}ring_s = 1\n", 'ring_s needs driver = "clock" or "pipe"'),
        (4, f"{SOURCE}ring_s = 1\n", 'ring_s needs driver = "clock" or "pipe"'),
        (4, f"{CLOCK}ring_s = 0\n", "source.ring_s: expected float > 0.0"),
        (4, f"{CLOCK}ring_s = 11\n", "source.ring_s: expected float <= 10.0"),
        (1, f"{PIPE}rate_hz = 48000\n", '[source] with driver = "pipe" lacks the key "channels": raw samples do not tell'),
        (1, f"{PIPE}channels = 2\n", '[source] with driver = "pipe" lacks the key "rate_hz"'),
        (5, f"{RAW}rate_hz = 47000\n", "unknown sample rate 47000"),
        (6, f'{RAW}rate_hz = 48000\nformat = "int8"\n', 'source.format: "int8" is not known'),
        (6, f"{RAW}rate_hz = 48000\nloop = true\n", 'loop needs driver = "clock"'),
        (6, f"{RAW.replace('fifo', '-')}rate_hz = 48000\nreopen = true\n", "reopen needs a named pipe"),
        (4, f"{NO_SOURCE}[sink]\nring_s = 0.5\n", 'ring_s needs driver = "file" or "pipe"'),
        (4, f'{NO_SOURCE}[sink]\noverflow = "drop-oldest"\n', 'overflow needs driver = "file" or "pipe"'),
        (7, f'{SOURCE}{SINK}ring_s = 0.5\n', "ring_s is for real time: a file source waits for the sink"),
        (7, f'{SOURCE}{SINK}overflow = "drop-oldest"\n', "overflow is for real time"),
        (7, f'{CLOCK}{SINK}overflow = "oldest"\n', 'sink.overflow: "oldest" is not known; did you mean "drop-oldest"?'),
        (3, f"{NO_SOURCE}loop = true\n", 'loop needs driver = "clock" and a path'),
        (3, f"{NO_SOURCE}channels = 33\n", "source.channels: expected int <= 32"),
        (6, NO_SOURCE + FEED.replace('"trade"', '"trades"'), 'feed.kind: "trades" is not known; did you mean "trade"?'),
        (9, f"{NO_SOURCE}{FEED}{FEED}", 'the name "ticks" is taken by a feed'),
        (4, NO_SOURCE + FEED.replace("ticks", "audio"), 'the name "audio" has a meaning of its own'),
        (3, NO_SOURCE + FEED.replace('path = "t.csv"\n', ""), '[[feed]] with driver = "csv" lacks the key "path"'),
        (8, f'{NO_SOURCE}{FEED}endpoint = "tcp://h:1"\n', 'endpoint needs driver = "zmq"'),
        (8, f"{NO_SOURCE}{FEED}bind = true\n", 'bind needs driver = "zmq"'),
        (8, f"{NO_SOURCE}{FEED}speed = 0\n", "speed: 0 is out of range: 1e-6 to 1e9"),
        (8, f"{NO_SOURCE}{FEED}speed = nan\n", "speed: nan is out of range"),
        (8, f'{NO_SOURCE}{FEED}speed = "fast"\n', 'feed.speed: "fast" is not known; valid: max'),
        (9, f'{SOURCE}{FEED}speed = "max"\n', "a file source sets the pace: give a speed"),
        (8, f'{NO_SOURCE}{FEED}speed = "max"\n{FEED.replace("ticks", "more")}', 'speed = "max" needs all feeds to be files'),
        (8, f"{NO_SOURCE}{FEED}symbols = []\n", "feed.symbols: expected array of length >= 1"),
        (3, NO_SOURCE + SOCKET.replace("endpoint", "topic"), '[[feed]] with driver = "zmq" lacks the key "endpoint"'),
        (8, f'{NO_SOURCE}{SOCKET}path = "a"\n', 'path needs driver = "csv" or "npz"'),
        (8, f"{NO_SOURCE}{SOCKET}speed = 2\n", "a socket sets its own pace: speed is for files"),
        (9, f'{NO_SOURCE}{SOCKET}socket = "pull"\ntopic = "a"\n', 'topic needs socket = "sub"'),
        (6, SOURCE + SOCKET, "zmq runs in real time"),
        (12, f'{NO_SOURCE}{FEED}{SIGNAL}feed = "tick"\n', 'there is no feed "tick"; did you mean "ticks"?'),
        (12, f'{NO_SOURCE}{FEED}{SIGNAL}feed = ["ticks", "audio"]\n', 'there is no feed "audio"; valid: ticks'),
        (12, f'{NO_SOURCE}{FEED}{SIGNAL}feed = ["ticks", "ticks"]\n', "feed: a name is there twice"),
        (7, f"{NO_SOURCE}{SIGNAL}queue = 15\n", "signal.queue: expected int >= 16"),
        (7, f'{NO_SOURCE}{SIGNAL}lane = "thread"\n', 'signal.lane: "thread" is not known; valid: inline, process'),
        (10, f'{NO_SOURCE}{FEED}speed = "max"\n[sink]\ndriver = "pipe"\npath = "-"\n', "a replay at speed"),
        (4, f'{NO_SOURCE}[publish]\nendpoint = "a"\nfactors = ["a.b"]\n', "publish.endpoint must be ipc:///PATH or tcp://"),
        (7, NO_SOURCE + SOCKET.replace("5555", "0"), "feed.endpoint: tcp://127.0.0.1:0: a PORT is a number from 1 to 65535"),
        (7, NO_SOURCE + SOCKET.replace("5555", "65536"), "a PORT is a number from 1 to 65535"),
        (4, NO_SOURCE + PUBLISH.replace("5555", "0"), "publish.endpoint: tcp://127.0.0.1:0: a PORT is a number from 1 to 65535"),
        (4, NO_SOURCE + PUBLISH.replace("tcp://127.0.0.1:5555", "ipc:///a\\u0000b"), "publish.endpoint must be ipc:///PATH"),
        (4, NO_SOURCE + PUBLISH + CONTROL, "publish.endpoint: tcp://127.0.0.1:5555 is taken by [control]; choose another"),
        (4, NO_SOURCE + PUBLISH + CONTROL.replace("5555", "5554"), "is taken by the events of [control]; choose another"),
        (4, NO_SOURCE + PUBLISH.replace("127.0.0.1", "*") + CONTROL, "publish.endpoint: tcp://*:5555 is taken by [control]"),
        (10, f"{NO_SOURCE}{PUBLISH}{SOCKET}bind = true\n", "feed.endpoint: tcp://127.0.0.1:5555 is taken by [publish]"),
        (13, f"{NO_SOURCE}{IPC}{IPC.replace('wire', 'more').replace('/a/b', '/a//b')}", 'is taken by the feed "wire"'),
        (6, NO_SOURCE + SIGNAL.replace('["a"]', '[""]'), "symbols: '' is not 1 to 63 printable ASCII characters"),
        (6, NO_SOURCE + SIGNAL.replace('["a"]', '["a\\u0000b"]'), r"symbols: 'a\x00b' is not 1 to 63 printable ASCII characters"),
        (6, NO_SOURCE + SIGNAL.replace('["a"]', '["é"]'), r"symbols: '\xe9' is not 1 to 63 printable ASCII characters"),
        (6, NO_SOURCE + SIGNAL.replace('["a"]', f'["{"a" * 64}"]'), "aaa' is not 1 to 63 printable ASCII characters"),
        (6, NO_SOURCE + SIGNAL.replace('["a"]', '["a", "b", "a"]'), 'symbols: "a" is there twice'),
        (5, f'{NO_SOURCE}[publish]\nendpoint = "ipc:///a"\nfactors = []\n', "publish.factors: expected array of length >= 1"),
    ],
)  # fmt: skip
def test_wrong_feeds(line: int, text: str, message: str) -> None:
    """What is wrong with feeds, and with what takes from them, is named with file and line."""
    found = complaint(text)

    assert message in found
    assert found.startswith(f"rack.toml:{line}: "), found


def test_endpoints_that_go_together() -> None:
    """Ports that differ, a socket that connects to what is bound, and a control that is switched off are no clash."""
    texts = [
        PUBLISH + CONTROL.replace("5555", "5553"),
        PUBLISH + CONTROL.replace("127.0.0.1", "127.0.0.2"),
        PUBLISH + CONTROL + "enabled = false\n",
        PUBLISH + SOCKET,
    ]

    assert all(parse(Path("rack.toml"), NO_SOURCE + text) for text in texts)


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
    for wrong in ("a\0b", "~nobody-is-called-so/x"):
        with pytest.raises(ConfigError, match=r"rack\.toml: .* is no path: "):
            document.resolve(wrong)


def test_a_message_lists_ten_names() -> None:
    """Of many valid names, none of them near, a message shows the first ten and says how many there are beside."""
    names = [f"S{number}" for number in range(12)]

    assert "; valid: S0, S1, S2, S3, S4, S5, S6, S7, S8, S9 and 2 more" == nearest("xyz", names)
    assert "; valid: S0, S1, S2, S3, S4, S5, S6, S7, S8, S9" == nearest("xyz", names[:10])
