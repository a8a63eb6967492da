"""Plugins come and go while everything calls and posts; at the end every record and every instance is accounted for."""

import asyncio
import contextlib
import ctypes as c
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sigrack.config import load
from sigrack.errors import ConfigError, RackError
from sigrack.loading.libraries import listing
from sigrack.rack import Rack
from sigrack.session import Session
from sigrack.tables import SignalTable, SlotTable
from sigrack_engine.core import lib
from sigrack_plugins import native

__all__ = ["Verdict", "soak"]

log = logging.getLogger("sigrack")

MOST_SLOTS = 12
MOST_SIGNALS = 4
CONTENTS = 6
"""Different contents that the plugin's file takes in turn."""
PLACES = (None, None, ["1"], ["2"], ["2", "1"])
"""Channels that slots hear and write."""
RETIRING = 32
"""Instances on their way out, before the next change waits."""

RACK = """\
[rack]
block_frames = 64
hook_frames = 64
fade_ms = 0
[source]
driver = "none"
rate_hz = 48000
[control]
enabled = false
[[slot]]
name = "listener"
plugin = "./listener.py"
"""

LISTENER = '''
"""Stays, and counts what it is given."""
from sigrack_plugins import Plugin

class Listener(Plugin):
    def on_start(self):
        self.records = 0

    def on_factors(self, batch):
        self.records += len(batch)
'''

MAYFLY = '''
"""Lives for a moment; notices a hook after its end, and does inside a hook what the soak asks for."""
import asyncio
from sigrack.soak.lifetimes import ASKED, MAYFLIES
from sigrack_plugins import Plugin

class Mayfly(Plugin):
    """Number NUMBER."""

    factors = {"born": ""}

    def __init__(self):
        MAYFLIES["made"] += 1

    def __del__(self):
        MAYFLIES["gone"] += 1

    def on_start(self):
        self.ended, self.calls = False, 0

    def check(self):
        MAYFLIES["use_after_free"] += self.ended
        self.calls += 1

    def on_block(self, block):
        self.check()
        if self.calls % 16 == 0:
            MAYFLIES["attempts"] += 1
            self.ctx.post("born", [self.calls])
        if ASKED:
            ASKED.pop()(self.ctx)

    async def on_factors(self, batch):
        self.check()
        with self.ctx.pinned():
            await asyncio.sleep(0)
            self.check()

    def on_state_save(self):
        return self.calls

    def on_state_restore(self, state, version):
        self.check()
        self.calls = state

    def on_stop(self):
        self.check()
        MAYFLIES["attempts"] += 3
        self.ctx.post_many("born", [[1], [2], [3]], [1, 2, 3])
        self.ended = True
'''

FILTER = '''
"""Filters the audio: it becomes part of a group, whose filter fades over each time that somebody comes or goes."""
import random
import numpy as np
from sigrack.soak.lifetimes import MAYFLIES
from sigrack_plugins import Plugin

class Filter(Plugin):
    """Another one each time."""

    def __init__(self):
        MAYFLIES["made"] += 1

    def __del__(self):
        MAYFLIES["gone"] += 1

    def fir(self, setup):
        taps = np.zeros((setup.channels, setup.channels, random.randrange(1, 3000)), np.float32)
        taps[:, :, [0, -1]] = 0.4
        return taps
'''

MAYFLIES = {"attempts": 0, "use_after_free": 0, "made": 0, "gone": 0}
"""What the mayflies of a run count; here, since their own modules go with them."""
ASKED: list[Callable[[Any], object]] = []
"""What the next mayfly shall do inside a hook."""


class Ledger(c.Structure):
    """`struct ledger` of poison.c."""

    _fields_ = [
        (name, c.c_uint64) for name in ("attempts", "use_after_free", "created", "destroyed", "ghosts", "resting", "rest", "bury")
    ]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it. posted == delivered + dropped + refused + stale + queued, each counted by somebody else."""

    ops: int
    use_after_free: int
    posted: int
    """By those who post: attempts."""
    delivered: int
    """By a plugin that listens to everything, all along."""
    dropped: int
    refused: int
    """Too long, unknown, or for an instance that is gone."""
    stale: int
    queued: int
    leaked_handles: int
    leaked_instances: int
    mappings: int
    """Libraries of the soak that are still mapped."""
    contents: int
    """Different contents that were loaded."""
    failed_changes: int
    seed: int

    @property
    def faults(self) -> list[str]:
        """Return what is wrong, in words."""
        sums = self.delivered + self.dropped + self.refused + self.stale + self.queued
        checks = {
            f"{self.use_after_free} calls into instances that were gone": self.use_after_free,
            f"{self.posted} records were posted and {sums} are accounted for": self.posted != sums,
            f"{self.queued} records are queued in a rack that has ended": self.queued,
            f"{self.leaked_handles} handles are still open": self.leaked_handles,
            f"{self.leaked_instances} instances were not destroyed exactly once": self.leaked_instances,
            f"{self.mappings} libraries are mapped for {self.contents} contents": self.mappings > self.contents,
            f"{self.failed_changes} changes failed": self.failed_changes,
        }
        return [text for text, wrong in checks.items() if wrong]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"faults": self.faults}


class _Soak:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, ops: int, seed: int, *, bury: bool, progress: Callable[[int], None]) -> None:
        self._folder, self._ops, self._progress = folder, ops, progress
        self._seed = seed
        self._random = random.Random(seed)
        self._ledger = Ledger(bury=bury)
        c.pythonapi.Py_IncRef(c.py_object(self._ledger))  # immortal: threads of the libraries know its address
        self._done = 0
        self._named = 0
        self._failed = 0
        self._contents: set[bytes] = set()
        MAYFLIES.update(dict.fromkeys(MAYFLIES, 0))
        ASKED.clear()
        for name, text in (("rack.toml", RACK), ("listener.py", LISTENER), ("filter.py", FILTER)):
            (folder / name).write_text(text)
        for name in ("plugin", "unloadable", "engine"):
            self._rewrite(name)
        self._rewrite_python()
        self._handles = lib.core_handle_count()
        self._late = lib.core_handle_late()
        self._session = Session(load(folder / "rack.toml"))
        self._rack: Rack = self._session.rack
        listener = self._rack.slot("listener").hooked
        assert listener is not None
        self._listener: Any = listener.plugin

    # The files

    def _rewrite(self, name: str) -> None:
        """Give a library another content, in place or by another file under the same name."""
        variant = "poison_unloadable" if name == "unloadable" else "poison"
        number = self._random.randrange(CONTENTS)
        content = native(__file__, variant).read_bytes() + f"{name} {number}".encode()
        self._contents.add(content)
        path = self._folder / f"{name}.so"
        if self._random.random() < 0.5 and path.exists():
            path.write_bytes(content)
        else:
            (self._folder / "new").write_bytes(content)
            os.replace(self._folder / "new", path)

    def _rewrite_python(self) -> None:
        text = MAYFLY.replace("NUMBER", str(self._random.randrange(CONTENTS)))
        (self._folder / "mayfly.py").write_text(text)

    # What happens

    async def work(self) -> None:
        """Carry out the operations, then let everything come to rest."""
        choices: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (40, self._dispatch),
            (14, self._load),
            (14, self._unload),
            (16, self._swap),
            (4, self._reload),
            (6, self._set),
            (6, self._ask),
        ]
        weights, calls = zip(*choices, strict=True)
        while self._done < self._ops and not self._session.interrupted:
            for call in self._random.choices(calls, weights, k=64):
                await call()
                self._done += 1
            self._progress(64)
        ASKED.clear()
        for name in [thing.name for thing in self._rack.things if thing.name != "listener"]:
            await self._change(self._rack.changes.unload(name))
        await self._rack.reaper.idle()
        await self._rest()

    async def _rest(self) -> None:
        """Wait until the ghosts have ended and all is delivered."""
        self._ledger.rest = 1
        while self._ledger.resting < self._ledger.ghosts:
            await asyncio.sleep(0.001)
        while any(counts.queued for counts in self._rack.accounts.posts().values()) or self._rack.dispatcher.inbox.queued:
            await asyncio.sleep(0.001)

    async def _change(self, change: Awaitable[None]) -> None:
        try:
            await change
        except (RackError, KeyError) as error:
            if isinstance(error, KeyError):
                return  # a hook was faster
            self._failed += 1
            log.error("%s", error)
        if len(self._rack.reaper) > RETIRING:
            await self._rack.reaper.idle()

    def _some(self) -> str | None:
        """Return the name of something that may go."""
        names = [thing.name for thing in self._rack.things if thing.name != "listener"]
        return self._random.choice(names) if names else None

    async def _dispatch(self) -> None:
        self._rack.turn()
        if self._random.random() < 0.1:
            await asyncio.sleep(0)

    async def _load(self) -> None:
        if len(self._rack.things) - 1 >= MOST_SLOTS:
            return await self._dispatch()
        self._named += 1
        kind = self._random.choices(("plugin", "unloadable", "mayfly", "filter", "engine"), (30, 3, 30, 20, 17))[0]
        if kind == "engine" and len(self._rack.signals) < MOST_SIGNALS:
            await self._change(self._rack.changes.load(self._signal_table()))
        else:
            await self._change(self._rack.changes.load(self._slot_table("mayfly" if kind == "engine" else kind)))
        return None

    def _signal_table(self) -> SignalTable:
        return SignalTable(
            name=f"n{self._named}",
            library="engine.so",
            lane="inline",  # the ledger lies in this process
            symbols=["A", "B", "C"],
            config=self._config(),
            feed=self._random.choice(["none", "audio"]),
            queue=self._random.choice([16, 1024]),
        )

    def _slot_table(self, kind: str) -> SlotTable:
        name, heard = f"n{self._named}", self._random.choice(PLACES)
        if kind in ("mayfly", "filter"):
            return SlotTable(name=name, plugin=f"./{kind}.py", inputs=heard)
        return SlotTable(name=name, plugin=f"./{kind}.so", lane="inline", config=self._config(), inputs=heard)

    def _config(self) -> dict[str, Any]:
        return {"ledger": c.addressof(self._ledger)}

    async def _unload(self) -> None:
        if name := self._some():
            await self._change(self._rack.changes.unload(name, drain=self._random.random() < 0.5))

    async def _swap(self) -> None:
        if name := self._some():
            await self._change(self._rack.changes.swap(name, drain=self._random.random() < 0.5))

    async def _reload(self) -> None:
        """Swap something after its file has changed."""
        if self._random.random() < 0.3:
            self._rewrite_python()
        else:
            self._rewrite(self._random.choice(["plugin", "unloadable", "engine"]))
        await self._swap()

    async def _set(self) -> None:
        slots = [slot for slot in self._rack.slots if not slot.unbypassable]
        if slots:
            slot = self._random.choice(slots)
            slot.set_bypass(self._random.random() < 0.5)
            if slot.core:
                with contextlib.suppress(ValueError):  # too many wait
                    slot.set_param("x", self._random.random())

    async def _ask(self) -> None:
        """Let a hook ask for a change, perhaps of its own slot."""
        name = self._some()
        if name and len(ASKED) < 8:
            ASKED.append(lambda ctx: ctx.swap(ctx.name if self._random.random() < 0.5 else name))
            ASKED.append(lambda ctx: ctx.unload(name))

    # What came of it

    def run(self) -> Verdict:
        """Run it and count. [main]"""
        self._session.run(self.work)
        counts = list(self._rack.accounts.past.values())
        inbox = self._rack.dispatcher.inbox

        def total(name: str) -> int:
            return sum(int(getattr(count, name)) for count in counts)

        return Verdict(
            ops=self._done,
            use_after_free=self._ledger.use_after_free + MAYFLIES["use_after_free"],
            posted=self._ledger.attempts + MAYFLIES["attempts"],
            delivered=self._listener.records,
            dropped=total("dropped") + inbox.dropped,
            refused=total("refused") + inbox.refused + lib.core_handle_late() - self._late,
            stale=total("stale"),
            queued=total("queued") + inbox.queued,
            leaked_handles=lib.core_handle_count() - self._handles,
            leaked_instances=abs(self._ledger.created - self._ledger.destroyed) + abs(MAYFLIES["made"] - MAYFLIES["gone"]),
            mappings=sum(library["path"].startswith(str(self._folder)) for library in listing()),
            contents=len(self._contents),
            failed_changes=self._failed,
            seed=self._seed,
        )


def soak(ops: int, seed: int, *, bury: bool = True, progress: Callable[[int], None] = lambda _: None) -> Verdict:
    """Run `ops` operations drawn from `seed`. `bury`: keep the memory of what was destroyed for a while, to find its users
    without a sanitizer. Raises ConfigError, EngineError. [main]"""
    if ops < 1:
        raise ConfigError(f"--ops {ops}: at least one operation")
    folder = Path(tempfile.mkdtemp(prefix="sigrack-soak-"))
    try:
        return _Soak(folder, ops, seed, bury=bury, progress=progress).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
