"""A host is killed again and again while a client changes its rack: what was acknowledged is in force in the next one, once."""

import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
import soundfile

from sigrack.soak.belief import Belief, Settings, differences, shown
from sigrack.soak.hosts import DiedError, Direct, Host, Parent, Supervised
from sigrack.soak.report import Chart, Curve, Histogram

__all__ = ["Verdict", "soak"]

NAME = "restarts"
RATE_HZ = 48_000
EARLY = 0.2
"""Share of kills that come while the host starts."""
MOST_LOADED = 6
MOST_LOST_S = 1.0
"""Of a recording."""
SETTLE_S = 0.1
"""Within which a killed host's last write is done; the next one has not begun to record."""

RACK = f"""\
[rack]
name = "{NAME}"
block_frames = 256
[source]
driver = "clock"
path = "in.wav"
loop = true
[[slot]]
name = "volume"
plugin = "gain"
params = {{ gain_db = -6.0 }}
[[slot]]
name = "balance"
plugin = "gain"
[[slot]]
name = "meter"
plugin = "level"
[[slot]]
name = "recorder"
plugin = "recorder"
[slot.config]
path = "take.wav"
"""


def _slots() -> list[list[Any]]:
    """Return the same, as the client believes it."""
    gains: list[list[Any]] = [["volume", "gain", False, -6.0], ["balance", "gain", False, 0.0]]
    return [*gains, ["meter", "level", False, None], ["recorder", "recorder", False, None]]


@dataclass(slots=True)
class Verdict:
    """What came of it."""

    kills: int = 0
    early_kills: int = 0
    """While the host started."""
    by_others: int = 0
    """Hosts that somebody else has killed, as the kernel does when there is no memory: they count as kills."""
    acknowledged: int = 0
    """Commands that were answered."""
    unanswered: int = 0
    """Commands that the kill came before the answer of: sent again with their ids."""
    carried_out_before: int = 0
    """How many of those the killed host had carried out and written down."""
    asked_again: int = 0
    """Commands that were answered and sent once more, mostly to the next host."""
    lost: int = 0
    """Restarts after which something was not in force that had been acknowledged, or something else was."""
    twice: int = 0
    """Requests whose second reply was another one, or that did something again."""
    recordings: int = 0
    most_lost_s: float = 0.0
    """Of a recording: what is missing between its last frame and the kill."""
    restart_to_audio_ms: dict[str, float] = field(default_factory=dict)
    """From the start of the process to its first block: p50, p99, max."""
    restart_to_answer_ms: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "charts"}


@dataclass(frozen=True, slots=True)
class Sent:
    """A request."""

    id: str
    cmd: str
    params: dict[str, Any]

    def text(self) -> bytes:
        """Return it as it goes over the socket."""
        return json.dumps({"cmd": self.cmd, "params": self.params, "id": self.id}).encode()


class WrongError(Exception):
    """Something does not hold."""


class Soak:
    """One run."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._verdict = Verdict()
        self._belief = Belief(Settings(_slots(), {name: [False, False, 0.0] for name in "12"}))
        self._numbers = 0
        self._pending: Sent | None = None
        self._last: tuple[Sent, dict[str, Any]] | None = None
        self._audio_ms: list[float] = []
        self._answer_ms: list[float] = []
        self._memory: list[tuple[float, float]] = []
        self._killed_s: list[float] = []
        self._began_s = time.monotonic()
        for name in ("run", "state"):
            (folder / name).mkdir(mode=0o700)
        (folder / "rack.toml").write_text(RACK)
        noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (RATE_HZ, 2)).astype(np.float32)
        soundfile.write(folder / "in.wav", noise, RATE_HZ, subtype="FLOAT")

    def run(self, parent: Parent, kills: int | None, seconds: float | None, progress: Callable[[int], object]) -> Verdict:
        """Kill so often, or for so long; then end the last host, and who starts them, in order."""
        until = None if seconds is None else time.monotonic() + seconds
        verdict = self._verdict
        try:
            while (kills is None or verdict.kills < kills) and (until is None or time.monotonic() < until):
                self._life(parent)
                progress(1)
            self._last_life(parent)
        except (WrongError, DiedError) as error:
            verdict.faults.append(f"after {verdict.kills} kills: {error}")
        for name, values in (("restart_to_audio_ms", self._audio_ms), ("restart_to_answer_ms", self._answer_ms)):
            if len(values) > 1:
                cuts = quantiles(values, n=100, method="inclusive")
                setattr(verdict, name, {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1), "max": round(max(values), 1)})
        verdict.charts = [
            Histogram("From the start of the host's process to its first block", "ms", self._audio_ms),
            Histogram("From the start of the host's process to its first answer", "ms", self._answer_ms),
            Curve("Memory of the host when it was first asked", "MB", self._memory),
            Curve("Kills", "", [(at, number) for number, at in enumerate(self._killed_s, 1)], steps=True),
        ]
        return verdict

    def _life(self, parent: Parent) -> None:
        """Start a host, look at it, change it, and kill it at some instant of that."""
        early = self._random.random() < EARLY
        host = parent.next()
        if early:
            host.kill_in(self._random.uniform(0.0, 0.6))
        children: list[int] = []
        first_block_ns = 0
        try:
            first_block_ns = self._look(host)
            if not early:
                host.kill_in(self._random.uniform(0.0, parent.longest_life_s))
            children = host.children()
            while True:
                self._change(host)
        except DiedError:
            pass
        finally:
            if not host.ended:
                host.kill()
            code = host.close()
        if code not in (None, -signal.SIGKILL) or (code is None and not host.killed_ns):
            raise WrongError(f"the host ended by itself, with {code or 'an unknown code'}: {host.log.read_text()[-500:]}")
        if not host.killed_ns:
            host.killed_ns, host.killed_unix_s = time.monotonic_ns(), time.time()
            self._verdict.by_others += 1
        self._verdict.kills += 1
        self._killed_s.append(time.monotonic() - self._began_s)
        self._verdict.early_kills += early
        self._check_children(children)
        self._check_recording(host, first_block_ns)

    def _last_life(self, parent: Parent) -> None:
        """Start a host, look at it, and end it in order: nothing is left of all those before."""
        host = parent.next()
        self._look(host)
        if code := parent.end(host):
            raise WrongError(f"the last host ended with {code}")
        left = [f"run/{path.name}" for path in (self._folder / "run").iterdir() if path.suffix != ".deaths"]
        files = {"rack.toml", "in.wav", "host.log", "run", "state", Supervised.FOLDER} | {
            path.name for path in self._folder.glob("take*.wav")
        }
        left += [path.name for path in self._folder.iterdir() if path.name not in files]
        left += [path.name for path in (self._folder / "state").iterdir() if path.name != f"{NAME}.db"]
        if left:
            raise WrongError(f"left behind: {', '.join(left)}")

    # Looking

    def _look(self, host: Host) -> int:
        """Compare a host with what was acknowledged, send again what was not; return when its first block was."""
        host.ask(b'{"cmd": "PING"}')
        self._answer_ms.append((time.monotonic_ns() - host.began_ns) / 1e6)
        found = self._state(host)
        if (sent := self._pending) is not None:
            wanted = self._belief.after(sent.cmd, sent.params)
            before = found == shown(wanted) != shown(self._belief)
            if found not in (shown(self._belief), shown(wanted)):
                raise self._lost(found)
            reply = host.ask(sent.text())
            if reply["status"] != "ok":
                raise WrongError(f"{sent.cmd} {sent.params}, sent again: {reply['message']}")
            self._verdict.unanswered += 1
            self._verdict.carried_out_before += before
            self._belief, self._pending, self._last = wanted, None, (sent, reply)
            found = self._state(host)
        if found != shown(self._belief):
            raise self._lost(found)
        if self._last:
            self._ask_again(host, *self._last)
        while not (first := (stats := host.data("STATS"))["first_block_monotonic_ns"]):
            time.sleep(0.001)
        self._memory.append((time.monotonic() - self._began_s, stats["memory_mb"]))
        self._audio_ms.append((first - host.began_ns) / 1e6)
        return int(first)

    def _ask_again(self, host: Host, sent: Sent, reply: dict[str, Any]) -> None:
        """Send what was answered once more: the same reply, and nothing happens."""
        again = host.ask(sent.text())
        self._verdict.asked_again += 1
        if again != reply or self._state(host) != shown(self._belief):
            self._verdict.twice += 1
            raise WrongError(f"{sent.cmd} {sent.params} with the id {sent.id} was carried out twice: {reply} and {again}")

    def _lost(self, found: Any) -> WrongError:
        self._verdict.lost += 1
        return WrongError(f"not in force: {differences(shown(self._belief), found)}")

    def _state(self, host: Host) -> Any:
        status, stats = host.data("GET_STATUS"), host.data("STATS")
        if status["held"]:
            raise WrongError(f"held back: {status['held']}")
        slots = [[s["name"], s["plugin"], s["bypass"], s["params"].get("gain_db")] for s in status["slots"]]
        channels = {c["name"]: [c["mute"], c["solo"], c["gain_db"]] for c in stats["channels"]}
        return slots, channels, status["saved"]["side"]

    def _check_children(self, children: list[int]) -> None:
        until = time.monotonic() + 5.0
        while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
            if time.monotonic() > until:
                raise WrongError(f"processes of the killed host are still there: {left}")
            time.sleep(0.01)

    def _check_recording(self, host: Host, first_block_ns: int) -> None:
        """Look at what it has recorded: that can be read, and ends at the kill. The next host may record already."""
        takes = [path for path in self._folder.glob("take*.wav") if path.stat().st_mtime <= host.killed_unix_s + SETTLE_S]
        if first_block_ns and host.killed_ns - first_block_ns > MOST_LOST_S * 1e9 and not takes:
            raise WrongError("nothing was recorded")
        for path in takes:
            if first_block_ns:
                try:
                    frames = soundfile.info(path).frames
                except soundfile.LibsndfileError as error:
                    raise WrongError(f"{path.name} cannot be read: {error}") from None
                lost_s = (host.killed_ns - first_block_ns) / 1e9 - frames / RATE_HZ
                self._verdict.recordings += 1
                self._verdict.most_lost_s = round(max(self._verdict.most_lost_s, lost_s), 3)
                if lost_s > MOST_LOST_S:
                    raise WrongError(f"{path.name} ends {lost_s:.2f} s before the kill")
            path.unlink()

    # Changing

    def _change(self, host: Host) -> None:
        """Send one command; what is not answered waits for the next host."""
        self._numbers += 1
        cmd, params = self._some()
        sent = self._pending = Sent(str(self._numbers), cmd, params)
        reply = host.ask(sent.text())
        self._pending = None
        if reply["status"] != "ok":
            if "too many changes" in reply["message"]:
                return
            raise WrongError(f"{cmd} {params}: {reply['message']}")
        self._verdict.acknowledged += 1
        self._belief, self._last = self._belief.after(cmd, params), (sent, reply)
        if self._random.random() < 0.1:
            self._ask_again(host, sent, reply)

    def _some(self) -> tuple[str, dict[str, Any]]:
        """Return a command that is valid now."""
        rng, belief = self._random, self._belief
        gains = [slot[0] for slot in belief.now.slots if slot[3] is not None]
        gain_db = -rng.randrange(200) / 10
        given: dict[str, Any] = rng.choice([{"mute": rng.random() < 0.5}, {"solo": rng.random() < 0.5}, {"gain_db": gain_db}])
        choices: list[tuple[str, dict[str, Any]]] = [
            ("CHANNEL_SET", {"name": rng.choice("12"), **given}),
            ("PRESET_SAVE", {"name": rng.choice("pqr")}),
            ("COMPARE", {}),
        ]
        if gains:
            setting = ("PARAM_SET", {"slot": rng.choice(gains), "param": "gain_db", "value": gain_db})
            choices += [setting] * 4
            choices += [("BYPASS", {"slot": rng.choice(gains), "on": rng.random() < 0.5})] * 2
            choices += [("UNLOAD", {"name": rng.choice(gains)}), ("SWAP", {"name": rng.choice(gains)})]
        if len(gains) < MOST_LOADED:
            before = rng.choice([None, *(slot[0] for slot in belief.now.slots)])
            params = {"name": f"n{self._numbers}", "plugin": "gain", "params": {"gain_db": gain_db}}
            choices += [("LOAD", params | ({"before": before} if before else {}))] * 2
        if belief.presets:
            choices.append(("PRESET_RECALL", {"name": rng.choice(sorted(belief.presets))}))
        if belief.step:
            choices += [("UNDO", {})] * 4
        if belief.undone:
            choices += [("REDO", {})] * 8
        return rng.choice(choices)


def soak(
    kills: int | None,
    seed: int,
    seconds: float | None = None,
    progress: Callable[[int], object] = lambda kills: None,
    command: Sequence[str] = (sys.executable, "-m", "sigrack"),
    *,
    supervised: bool = False,
) -> Verdict:
    """Kill a host `kills` times, or for so many seconds. [main]

    `command` is the program whose `run` is the host; `supervised`: supervisord starts that, not the soak.
    """
    with tempfile.TemporaryDirectory(prefix="sigrack-") as folder:
        run = Soak(Path(folder), seed)
        parent = (Supervised if supervised else Direct)(Path(folder), NAME, command)
        try:
            return run.run(parent, kills, seconds, progress)
        finally:
            parent.close()
