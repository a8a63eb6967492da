"""The control protocol: one schema, strict, answered by a live host."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import zmq

from racks import Host, noise, write
from sigrack.control.client import Client
from sigrack.control.schema import COMMANDS, CommandError, to_markdown
from sigrack.control.server import decode
from sigrack.errors import EngineError
from sigrack.places import default_endpoint, events_endpoint
from waiting import wait_until

RACK = """
[rack]
block_frames = 128
[source]
driver = "clock"
path = "in.wav"
loop = true
[[slot]]
name = "volume"
plugin = "gain"
[[slot]]
name = "space"
plugin = "crossfeed"
bypass = true
[[slot]]
name = "ears"
plugin = "./collector.py"
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A live host that answers."""
    with Host(write(tmp_path, RACK, noise(48_000))) as running:
        wait_until(lambda: _answers("rack"), 10)
        yield running


def _answers(name: str) -> bool:
    try:
        with Client(default_endpoint(name), timeout_s=0.2) as client:
            return bool(client.request("PING"))
    except Exception:
        return False


def raw(request: bytes, *, dealer: bool = False) -> Any:
    """Send bytes from a plain ZeroMQ client; return the reply."""
    with zmq.Context() as context, context.socket(zmq.DEALER if dealer else zmq.REQ) as socket:
        socket.linger = 0
        socket.rcvtimeo = 3000
        socket.connect(default_endpoint("rack"))
        socket.send(request)
        return json.loads(socket.recv())


@pytest.mark.usefixtures("host")
def test_the_legacy_crossfeed_reply_is_exact() -> None:
    """A plain REQ client that enables the crossfeed gets the two keys it has always got, and the status follows."""
    before = raw(b'{"cmd": "CROSSFEED_GET_STATUS"}')
    reply = raw(b'{"cmd": "CROSSFEED_ENABLE"}')
    after = raw(b'{"cmd": "CROSSFEED_GET_STATUS"}')

    assert {"message": "Crossfeed enabled", "status": "ok"} == reply
    assert (False, True) == (before["data"]["enabled"], after["data"]["enabled"])
    assert {"message": "Crossfeed disabled", "status": "ok"} == raw(b'{"cmd": "CROSSFEED_DISABLE"}')


@pytest.mark.usefixtures("host")
def test_a_dealer_without_envelope_is_answered() -> None:
    """A DEALER client that sends one bare frame gets one bare frame back."""
    assert {"message": "pong", "status": "ok"} == raw(b'{"cmd":"PING"}', dealer=True)


@pytest.mark.usefixtures("host")
def test_a_request_of_two_frames_is_refused() -> None:
    """A request that is not one frame gets one frame back that says so."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger, socket.rcvtimeo = 0, 3000
        socket.connect(default_endpoint("rack"))
        socket.send_multipart([b'{"cmd": "PING"}', b"two"])
        reply = socket.recv_multipart()

    assert 1 == len(reply)
    assert "one frame of JSON, not 2" in json.loads(reply[0])["message"]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (b"hello", "IPC_PROTOCOL_ERROR", "not a request"),
        (b"\xff\xfe", "IPC_PROTOCOL_ERROR", "not a request"),
        (b"[1]", "IPC_PROTOCOL_ERROR", "not a request"),
        (b'{"cmd": "PING", "more": 1}', "IPC_PROTOCOL_ERROR", "more"),
        (b'{"cmd": "PNG"}', "IPC_INVALID_COMMAND", 'did you mean "PING"'),
        (b'{"cmd": "PING", "params": {"x": 1}}', "IPC_INVALID_PARAMS", "x"),
        (b'{"cmd": "PARAM_SET", "params": {"slot": "volume"}}', "IPC_INVALID_PARAMS", "param"),
        (b'{"cmd": "BYPASS", "params": {"slot": "volume", "on": "yes"}}', "IPC_INVALID_PARAMS", "on"),
        (
            b'{"cmd": "LOAD", "params": {"name": 5, "plugin": "x"}}',
            "IPC_INVALID_PARAMS",
            '"name" must be text, as "abc", not a whole',
        ),
        (b'{"cmd": "SWAP", "params": {"name": "x", "config": "y"}}', "IPC_INVALID_PARAMS", 'an object, as {"key": 5}, not text'),
        (b'{"cmd": "LOAD_SIGNAL", "params": {"symbols": "A"}}', "IPC_INVALID_PARAMS", 'a list, as ["A", "B"], not text'),
    ],
)
def test_bad_requests_are_refused_by_the_decoder(request_: bytes, code: str, words: str) -> None:
    """Whatever is wrong with a request is named with its error code."""
    with pytest.raises(CommandError) as failure:
        decode(request_)

    assert code == failure.value.code
    assert words in failure.value.message


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"slot": "volum", "param": "gain_db", "value": 0}, "VALIDATION_NOT_FOUND", 'did you mean "volume"'),
        ({"slot": "volume", "param": "gain", "value": 0}, "VALIDATION_NOT_FOUND", 'did you mean "gain_db"'),
        ({"slot": "volume", "param": "gain_db", "value": 99}, "IPC_INVALID_PARAMS", "out of range: -120 to 24 dB"),
        ({"slot": "ears", "param": "gain_db", "value": 0}, "VALIDATION_NOT_FOUND", "no parameter"),
    ],
)
@pytest.mark.usefixtures("host")
def test_what_does_not_exist_is_refused_by_the_host(params: dict[str, Any], code: str, words: str) -> None:
    """An unknown slot or parameter, or a value out of range, is an error with the nearest one or the range."""
    reply = raw(json.dumps({"cmd": "PARAM_SET", "params": params}).encode())

    assert ("error", code) == (reply["status"], reply["error_code"])
    assert words in reply["message"]


@pytest.mark.usefixtures("host")
def test_parameters_and_bypass_round_trip() -> None:
    """PARAM_SET, PARAM_GET, BYPASS and GET_STATUS agree with each other."""
    with Client(default_endpoint("rack")) as client:
        client.request("PARAM_SET", slot="volume", param="gain_db", value=-7)
        client.request("BYPASS", slot="volume")
        params = client.request("PARAM_GET", slot="volume")["data"]["params"]
        one = client.request("PARAM_GET", slot="volume", param="gain_db")["data"]["params"]
        status = client.request("GET_STATUS")["data"]

    assert {"gain_db": -7.0, "smooth_ms": 20.0} == params
    assert {"gain_db": -7.0} == one
    assert [("volume", True), ("space", True), ("ears", False)] == [(s["name"], s["bypass"]) for s in status["slots"]]
    assert ("running", "clock", 48_000, 2) == tuple(status[key] for key in ("state", "driver", "rate_hz", "channels"))


@pytest.mark.usefixtures("host")
def test_events_are_numbered_without_gaps() -> None:
    """A subscriber gets one event per change, with consecutive sequence numbers."""
    with zmq.Context() as context, context.socket(zmq.SUB) as events:
        events.linger, events.rcvtimeo = 0, 3000
        events.subscribe(b"")
        events.connect(events_endpoint(default_endpoint("rack")))
        with Client(default_endpoint("rack")) as client:

            def subscribed() -> bool:
                client.request("PARAM_SET", slot="volume", param="gain_db", value=0)
                return bool(events.poll(50))

            wait_until(subscribed, 5)
            client.request("BYPASS", slot="volume", on=True)
            received: list[Any] = []
            while not received or received[-1]["type"] != "bypass":
                received.append(json.loads(events.recv_multipart()[1]))

    first = received[0]["seq"]
    assert list(range(first, first + len(received))) == [event["seq"] for event in received]
    assert {"slot": "volume", "on": True} == received[-1]["data"]


def test_the_socket_is_private(host: Host) -> None:
    """The control socket has mode 0600 in a folder of mode 0700."""
    path = Path(default_endpoint("rack").removeprefix("ipc://"))

    assert host.process.poll() is None
    assert (0o600, 0o700) == (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777)


@pytest.mark.usefixtures("host")
def test_a_client_that_floods_is_answered_in_order() -> None:
    """Two hundred pipelined requests of one client are all answered, in order."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger, socket.rcvtimeo = 0, 5000
        socket.connect(default_endpoint("rack"))
        for number in range(200):
            socket.send(
                json.dumps({"cmd": "PARAM_SET", "params": {"slot": "volume", "param": "gain_db", "value": -number / 10}}).encode()
            )
        values = [json.loads(socket.recv())["data"]["value"] for _ in range(200)]

    assert [-number / 10 for number in range(200)] == values


def _names() -> list[str]:
    with Client(default_endpoint("rack")) as client:
        return [slot["name"] for slot in client.request("GET_STATUS")["data"]["slots"]]


@pytest.mark.usefixtures("host")
def test_slots_come_change_and_go() -> None:
    """LOAD, SWAP, RELOAD name= and UNLOAD are answered when they are in force, and told to those who listen."""
    with zmq.Context() as context, context.socket(zmq.SUB) as events, Client(default_endpoint("rack")) as client:
        events.connect(events_endpoint(default_endpoint("rack")))
        events.subscribe(b"")
        events.rcvtimeo = 5000
        wait_until(lambda: client.request("BYPASS", slot="volume", on=False) and events.poll(50))
        said = [
            client.request("LOAD", name="meter", plugin="level", before="space")["message"],
            client.request("LOAD", name="late", plugin="gain", params={"gain_db": -3})["message"],
            client.request("SWAP", name="late", params={"gain_db": -6})["message"],
            client.request("RELOAD", name="ears")["message"],
            client.request("UNLOAD", name="space", drain=False)["message"],
        ]
        names, value = _names(), client.request("PARAM_GET", slot="late", param="gain_db")["data"]["params"]
        kinds: list[str] = []
        while "unloaded" not in kinds:
            kinds.append(json.loads(events.recv_multipart()[-1])["type"])

    assert ["loaded meter", "loaded late", "swapped late", "reloaded ears", "unloaded space"] == said
    assert ["volume", "meter", "ears", "late"] == names
    assert {"gain_db": -6.0} == value
    assert ["loaded", "loaded", "swapped", "swapped", "unloaded"] == [kind for kind in kinds if kind != "bypass"]


@pytest.mark.parametrize(
    ("cmd", "params", "code", "words"),
    [
        ("LOAD", {"name": "volume", "plugin": "level"}, "VALIDATION_INVALID_PLUGIN", 'the name "volume" is taken'),
        ("LOAD", {"name": "new", "plugin": "leval"}, "VALIDATION_INVALID_PLUGIN", 'did you mean "level"'),
        ("LOAD", {"name": "new one", "plugin": "level"}, "VALIDATION_INVALID_PLUGIN", "must be letters"),
        ("LOAD", {"name": "new", "plugin": "level", "before": "spice"}, "VALIDATION_NOT_FOUND", 'did you mean "space"'),
        ("LOAD", {"name": "new", "plugin": "gain", "params": {"gain_db": 999}}, "VALIDATION_INVALID_PLUGIN", "out of range"),
        (
            "LOAD",
            {"name": "new", "plugin": "crossfeed", "config": {"x": 1}},
            "VALIDATION_INVALID_PLUGIN",
            'no configuration key "x"',
        ),
        ("UNLOAD", {"name": "spice"}, "VALIDATION_NOT_FOUND", 'did you mean "space"'),
        ("SWAP", {"name": "volume", "plugin": "gian"}, "VALIDATION_INVALID_PLUGIN", 'did you mean "gain"'),
        ("SWAP", {"name": "volume", "plugn": "gain"}, "IPC_INVALID_PARAMS", "plugn"),
        ("RELOAD", {"name": "volum"}, "VALIDATION_NOT_FOUND", 'did you mean "volume"'),
    ],
)
@pytest.mark.usefixtures("host")
def test_a_change_that_cannot_be_made_changes_nothing(cmd: str, params: dict[str, Any], code: str, words: str) -> None:
    """What is wrong is named with the nearest that would be right; the rack is as it was."""
    with Client(default_endpoint("rack")) as client, pytest.raises(CommandError) as refusal:
        client.request(cmd, **params)

    assert code == refusal.value.code
    assert words in refusal.value.message
    assert ["volume", "space", "ears"] == _names()


SLOW = """
import time
from sigrack_plugins import Plugin
time.sleep({})
class Slow(Plugin):
    def on_block(self, block):
        pass
"""


def test_a_change_may_take_longer_than_an_answer(host: Host, tmp_path: Path) -> None:
    """A client that gives up on a silent host after 0.5 s waits for a plugin that takes 1.5 s to load, and says so once."""
    (tmp_path / "slow.py").write_text(SLOW.format(1.5))
    waited: list[str] = []
    with Client(default_endpoint("rack"), timeout_s=0.5, on_wait=lambda: waited.append("waited")) as client:
        message = client.request("LOAD", name="slow", plugin="./slow.py")["message"]

    assert host.process.poll() is None
    assert ("loaded slow", ["waited"]) == (message, waited)


def test_a_change_that_takes_too_long_is_not_taken_for_silence(host: Host, tmp_path: Path) -> None:
    """When a change's time is up the client says that the host is still working, and of a dead host that none answers."""
    (tmp_path / "slow.py").write_text(SLOW.format(600))
    with Client(default_endpoint("rack"), timeout_s=0.5, change_s=1.0) as client:
        with pytest.raises(EngineError, match=r"the host at .* is still working on LOAD; its log will tell"):
            client.request("LOAD", name="slow", plugin="./slow.py")
        host.process.kill()
        host.process.wait()
        with pytest.raises(EngineError, match="no host answers at"):
            client.request("UNLOAD", name="slow")


@pytest.mark.parametrize(
    ("cmd", "params", "words"),
    [
        ("LOAD", {"name": "new", "plugin": "leval"}, 'did you mean "level"'),
        ("SWAP", {"name": "volume", "params": {"gain_db": 999}}, "out of range"),
        ("RELOAD", {"name": "volum"}, 'did you mean "volume"'),
        ("UNLOAD", {"name": "spice"}, 'did you mean "space"'),
        ("RELOAD", {}, "not valid TOML"),
    ],
)
def test_a_change_that_fails_is_told_to_all(host: Host, cmd: str, params: dict[str, Any], words: str) -> None:
    """A change that control asks for in vain leaves one line in the log and an event with the reason."""
    rack = host.log_path.with_suffix(".toml")
    rack.write_text(rack.read_text() + "[[slot")
    with zmq.Context() as context, context.socket(zmq.SUB) as events, Client(default_endpoint("rack")) as client:
        events.linger, events.rcvtimeo = 0, 3000
        events.connect(events_endpoint(default_endpoint("rack")))
        events.subscribe(b"")
        wait_until(lambda: client.request("BYPASS", slot="volume", on=False) and events.poll(50))
        with pytest.raises(CommandError) as refusal:
            client.request(cmd, **params)
        received: Any = {"type": "bypass"}
        while received["type"] == "bypass":
            received = json.loads(events.recv_multipart()[1])
    told = {"cmd": cmd, "name": params.get("name"), "message": refusal.value.message}
    what = f"{cmd} {params['name']}" if params else cmd

    assert words in refusal.value.message
    assert ("failed", told) == (received["type"], received["data"])
    assert 1 == host.log.count(f"{what} failed: {refusal.value.message}")


def test_enabling_the_crossfeed_cross_fades_the_audio(tmp_path: Path) -> None:
    """While sound runs, CROSSFEED_ENABLE leads from the input to its crossfeed with no step larger than the signal's."""
    seconds = np.arange(48_000) / 48_000
    tone = np.stack([0.5 * np.sin(2 * np.pi * 100 * seconds), 0 * seconds], 1).astype(np.float32)
    sink = '[sink]\ndriver = "file"\npath = "out.wav"\n'
    with Host(write(tmp_path, sink + RACK, tone)) as host:
        wait_until(lambda: _answers("rack"), 10)
        with Client(default_endpoint("rack")) as client:

            def frames() -> int:
                return int(client.request("STATS")["data"]["frame"])

            wait_until(lambda: frames() > 12_000, 5)
            client.request("CROSSFEED_ENABLE")
            enabled = frames()
            wait_until(lambda: frames() > enabled + 12_000, 5)
            client.request("SHUTDOWN")
        assert 0 == host.process.wait(5)
    heard, _ = soundfile.read(tmp_path / "out.wav")

    step = 0.5 * 2 * np.pi * 100 / 48_000
    assert np.array_equal(np.resize(tone, (12_000, 2))[960:], heard[960:12_000].astype(np.float32)), "after the fade at the start"
    assert np.abs(heard[-2000:, 1]).max() > 0.01, "the right ear hears the left channel"
    assert np.abs(np.diff(heard, axis=0)).max() < 1.5 * step


def test_the_reference_in_the_manual_is_generated() -> None:
    """docs/control.md holds exactly the tables that the schema generates, and every command is in it."""
    manual = (Path(__file__).parents[2] / "docs" / "control.md").read_text()

    assert to_markdown() in manual
    assert all(f"`{name}`" in manual for name in COMMANDS)
