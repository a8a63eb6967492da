"""Results and audio reach hooks on the main loop, in order, and nothing is lost in freewheel."""

import ctypes as c
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from racks import freewheel, noise
from sigrack.batches import Post
from sigrack.dispatch import Dispatcher, Snapshot, Source
from sigrack.errors import ConfigError
from sigrack.hooks import Hooked
from sigrack.session import Session
from sigrack.watch import HookWatch
from sigrack_engine.bell import Bell
from sigrack_engine.results import POST_ADDRESS, ResultRing
from sigrack_plugins import SECOND, FactorBatch, Plugin

POST = c.CFUNCTYPE(c.c_int, c.c_uint64, c.c_uint32, c.c_uint64, c.c_void_p, c.c_uint32)(POST_ADDRESS)
COLLECT = '[[slot]]\nname = "ears"\nplugin = "./collector.py"\n'
METER = '[[slot]]\nname = "meter"\nplugin = "level"\n'


def collected(session: Session, name: str = "ears") -> Any:
    """Run the session and return its collector."""
    hooked = session.rack.slot(name).hooked
    assert hooked is not None
    assert 0 == session.run()
    assert 0 == hooked.errors, hooked.last_error
    return hooked.plugin


@pytest.mark.parametrize("block_frames", [64, 256, 1000, 1024, 5000])
def test_blocks_hold_every_frame_once(tmp_path: Path, block_frames: int) -> None:
    """on_block gets each frame exactly once, in blocks of hook_frames whatever the engine's block is; the last one is shorter."""
    sound = noise(10_000)
    ears = collected(freewheel(tmp_path, COLLECT, sound, rack=f"block_frames = {block_frames}"))

    assert [1024] * 9 + [10_000 - 9 * 1024] == [block.frames for block in ears.blocks]
    assert list(range(0, 10_000, 1024)) == [block.frame for block in ears.blocks]
    assert np.array_equal(sound, np.concatenate([block.samples for block in ears.blocks]))


def test_blocks_are_read_only_planar_and_may_be_kept(tmp_path: Path) -> None:
    """A kept block keeps its content although there are more blocks than the pool has arrays; it cannot be written."""
    sound = noise(64 * 1024)
    ears = collected(freewheel(tmp_path, COLLECT, sound))

    assert np.array_equal(sound, np.concatenate([block.samples for block in ears.blocks]))
    assert ears.blocks[0].samples[:, 1].flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        ears.blocks[0].samples[0, 0] = 1.0


def test_hooks_run_on_the_main_thread_between_start_and_stop(tmp_path: Path) -> None:
    """Every hook runs on the thread of the main loop; on_start is the first call, on_stop the last."""
    ears = collected(freewheel(tmp_path, METER + COLLECT, noise(48_000)))

    assert {threading.get_ident()} == ears.threads
    assert ("on_start", "on_stop") == (ears.calls[0], ears.calls[-1])
    assert 1 == ears.calls.count("on_start") == ears.calls.count("on_stop")


def test_hooks_for_one_block_finish_before_the_next(tmp_path: Path) -> None:
    """In freewheel no hook sees results of a block that the engine had yet to run when earlier audio was delivered."""
    ears = collected(freewheel(tmp_path, METER + COLLECT, noise(96_000), rack="block_frames = 480\nhook_frames = 480"))
    frames = [call[1] + call[2] if call[0] == "block" else call[2] for call in ears.calls[1:-1]]

    assert sorted(frames) == frames
    assert {"block", "factors"} == {call[0] for call in ears.calls[1:-1]}


def test_level_factors_match_numpy(tmp_path: Path) -> None:
    """The level plugin's records arrive complete, with rack time, and equal peak and RMS computed by NumPy."""
    sound = noise(48_000)
    ears = collected(freewheel(tmp_path, METER + COLLECT, sound, rack="block_frames = 173"))
    records = [(symbol, ts, list(values)) for batch in ears.batches for symbol, ts, values in batch]
    windows = sound.reshape(10, 4800, 2).astype(np.float64)

    peaks = [values for symbol, _, values in records if symbol == "peak_db"]
    rms = [values for symbol, _, values in records if symbol == "rms_db"]
    assert np.allclose(20 * np.log10(np.abs(windows).max(axis=1)), peaks, atol=1e-6)
    assert np.allclose(10 * np.log10((windows**2).mean(axis=1)), rms, atol=1e-4)
    assert [SECOND // 10 * (i + 1) for i in range(10)] == [ts for symbol, ts, _ in records if symbol == "peak_db"]


def test_counts_are_exact(tmp_path: Path) -> None:
    """posted == delivered + dropped + refused + stale + queued for every source, and in freewheel all was delivered."""
    session = freewheel(tmp_path, METER + COLLECT, noise(48_000 * 4))
    source = session.rack.slot("meter").source
    assert source is not None
    counts = []
    session.rack.slot("ears").hooked.plugin.on_stop = lambda: counts.append(source.ring.counts)  # type: ignore[union-attr]

    session.run()

    assert (80, 80, 0, 0, 0, 0) == tuple(getattr(counts[0], name) for name in counts[0].__slots__)


VANDAL = """
from sigrack_plugins import Plugin
class Vandal(Plugin):
    factors = {"own": ""}
    def on_start(self):
        self.tries = self.refused = 0
        if self.ctx.name == "picky":
            self.ctx.subscribe("meter", "peak_db")
            self.ctx.subscribe("vandal", "own")
    def on_block(self, block):
        self.ctx.post("own", [1.0, 2.0])
    def on_factors(self, batch):
        for name in ("symbol_ids", "ts_ns", "frame", "posted_ns", "counts", "values"):
            self.tries += 1
            try:
                getattr(batch, name)[...] = 0
            except ValueError:
                self.refused += 1
"""


@pytest.mark.parametrize("name", ["vandal", "picky"])
def test_batches_cannot_be_changed(tmp_path: Path, name: str) -> None:
    """What a plugin tries to write into a batch, whole or narrowed by subscriptions, from C or Python, is refused."""
    (tmp_path / "vandal.py").write_text(VANDAL)
    slots = [f'[[slot]]\nname = "{slot}"\nplugin = "./vandal.py"\n' for slot in dict.fromkeys((name, "vandal"))]
    session = freewheel(tmp_path, "".join(slots) + METER + COLLECT, noise(48_000))
    vandal: Any = session.rack.slot(name).hooked.plugin  # type: ignore[union-attr]
    ears = collected(session)
    sources = {batch.source for batch in ears.batches}

    assert {"meter", "vandal"} <= sources
    assert vandal.tries == vandal.refused > 100


def test_who_replaces_a_waiting_source_waits_for_both() -> None:
    """A source whose predecessor has gone with nothing to say, while it waited itself, comes after the one before that."""
    dispatcher = Dispatcher()
    sources = [Source("s", ResultRing(Bell(), ["N"], None), None) for _ in range(3)]
    heard: list[int] = []
    dispatcher.on_batch = lambda batch: heard.extend(batch.frame.tolist())
    for number, source in enumerate(sources):
        source.after = sources[number - 1] if number else None
    sources[1].gone = True
    for frame, source in ((1, sources[0]), (2, sources[2])):
        POST(source.ring.cookie, 0, frame, (c.c_double * 1)(), 1)
    dispatcher.snapshot = Snapshot(sources=tuple(reversed(sources)))
    dispatcher.flush(0)
    before = list(heard)
    sources[0].gone = True
    dispatcher.flush(0)

    assert ([1], [1, 2]) == (before, heard)


RAISER = """
from sigrack_plugins import Plugin
class Raiser(Plugin):
    def on_block(self, block):
        raise RuntimeError("no")
"""


@pytest.mark.parametrize(("block_frames", "rate_hz"), [(65_536, 48_000), (65_536, 8_000), (4_096, 44_100), (64, 48_000)])
def test_a_block_of_any_length_has_room_for_its_records(tmp_path: Path, block_frames: int, rate_hz: int) -> None:
    """A meter that posts each millisecond loses nothing in freewheel, however much falls into one block."""
    meter = '[[slot]]\nname = "meter"\nplugin = "level"\nparams = { interval_ms = 1 }\n'
    session = freewheel(tmp_path, meter, noise(3 * 65_536), rate_hz=rate_hz, rack=f"block_frames = {block_frames}")
    session.run()
    counts = session.rack.accounts.posts()["meter"]

    assert 0 == counts.dropped
    assert 2 * (3 * 65_536 // (rate_hz // 1000)) == counts.posted == counts.delivered


def test_a_raising_hook_is_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    """An exception in a hook is counted and named; audio and other hooks are complete."""
    (tmp_path / "raiser.py").write_text(RAISER)
    sound = noise(8192)
    session = freewheel(tmp_path, '[[slot]]\nname = "bad"\nplugin = "./raiser.py"\n' + COLLECT, sound)
    bad = session.rack.slot("bad").hooked
    assert bad is not None
    ears = collected(session)

    assert 8 == bad.errors
    assert "RuntimeError: no" in bad.last_error
    assert "raiser.py:5" in bad.last_error
    assert 8192 == sum(block.frames for block in ears.blocks)


POSTER = """
import threading
from sigrack_plugins import SECOND, Plugin
class Poster(Plugin):
    factors = {"tick": "", "block": "frames", "late": ""}
    def on_start(self):
        self.ctx.every(SECOND // 10, lambda: self.ctx.post("tick", [self.ctx.now()]))
        self.ctx.at(SECOND // 4, lambda: self.ctx.post("late", [1.0, 2.0]))
        self.cancelled = self.ctx.every(SECOND // 100, lambda: self.ctx.post("late", [-1.0]))
        self.cancelled.cancel()
    def on_block(self, block):
        thread = threading.Thread(target=self.ctx.post, args=("block", [block.frame], block.time_ns))
        thread.start()
        thread.join()
"""


def test_python_results_and_timers(tmp_path: Path) -> None:
    """Records posted from a plugin's thread and by timers in rack time arrive in order; a cancelled timer never runs."""
    (tmp_path / "poster.py").write_text(POSTER)
    slots = '[[slot]]\nname = "poster"\nplugin = "./poster.py"\n' + COLLECT
    ears = collected(freewheel(tmp_path, slots, noise(48_000), rack="block_frames = 480"))
    records = [(symbol, ts, list(values)) for batch in ears.batches for symbol, ts, values in batch]

    assert [[float(SECOND // 10 * i)] for i in range(1, 11)] == [values for symbol, _, values in records if symbol == "tick"]
    assert [[1.0, 2.0]] == [values for symbol, _, values in records if symbol == "late"]
    blocks = [(ts, values) for symbol, ts, values in records if symbol == "block"]
    assert [(f * SECOND // 48_000, [float(f)]) for f in range(0, 48_000, 1024)] == blocks


SUBSCRIBER = """
from sigrack_plugins import Plugin
class Subscriber(Plugin):
    def on_start(self):
        self.seen = set()
        self.ctx.subscribe(source="meter", symbol="rms_db")
        for wrong in ({"source": "metre"}, {"source": "meter", "symbol": "rms"}, {"symbol": "loud"}):
            try:
                self.ctx.subscribe(**wrong)
            except KeyError as error:
                self.seen.add(str(error))
    def on_factor(self, source, symbol, ts, values):
        self.seen.add((source, symbol, len(values)))
"""


def test_subscriptions_filter_and_refuse_the_unknown(tmp_path: Path) -> None:
    """on_factor gets only what was subscribed; an unknown source or symbol is refused with the nearest one."""
    (tmp_path / "subscriber.py").write_text(SUBSCRIBER)
    slots = METER + METER.replace('"meter"', '"other"') + '[[slot]]\nname = "ears"\nplugin = "./subscriber.py"\n'
    ears = collected(freewheel(tmp_path, slots, noise(48_000)))
    records = {seen for seen in ears.seen if isinstance(seen, tuple)}
    errors = sorted(seen for seen in ears.seen if isinstance(seen, str))

    assert {("meter", "rms_db", 2)} == records
    assert 3 == len(errors)
    assert 'did you mean "meter"' in " ".join(errors)
    assert 'did you mean "rms_db"' in " ".join(errors)


WORKER = """
import numpy as np
from sigrack_plugins import Plugin
class Worker(Plugin):
    tap_seconds = 0.05
    def work(self, tap):
        self.frames, self.parts, self.next = [], [], 0
        for samples in tap:
            self.frames.append(tap.frame)
            self.parts.append(samples)
        self.lost = tap.lost
"""


def test_a_worker_gets_every_frame_in_freewheel(tmp_path: Path) -> None:
    """`work` sees the whole file, frame for frame, although its tap holds a twentieth of a second."""
    (tmp_path / "worker.py").write_text(WORKER)
    sound = noise(200_000)
    session = freewheel(tmp_path, '[[slot]]\nname = "w"\nplugin = "./worker.py"\n', sound)
    worker: Any = session.rack.slot("w").hooked.plugin  # type: ignore[union-attr]

    session.run()

    assert 0 == worker.lost
    assert np.array_equal(sound, np.concatenate(worker.parts))
    assert list(np.cumsum([0, *map(len, worker.parts)][:-1])) == worker.frames


def test_a_worker_that_ends_early_does_not_stop_the_audio(tmp_path: Path) -> None:
    """When `work` raises, the engine does not wait for its tap; the file is processed to its end."""
    (tmp_path / "worker.py").write_text(WORKER.replace("self.frames.append(tap.frame)", "raise OSError"))
    session = freewheel(tmp_path, '[[slot]]\nname = "w"\nplugin = "./worker.py"\n' + COLLECT, noise(200_000))

    assert 200_000 == sum(block.frames for block in collected(session).blocks)


BAD_WORDS = """
from sigrack_plugins import Plugin
class Mute(Exception):
    def __str__(self):
        raise IndexError
class Speechless(Plugin):
    def on_block(self, block):
        raise Mute
"""


def test_an_exception_without_words_is_caught_like_any_other(tmp_path: Path) -> None:
    """An exception whose text cannot be had is counted by its kind, and the next hook is called."""
    (tmp_path / "speechless.py").write_text(BAD_WORDS)
    session = freewheel(tmp_path, '[[slot]]\nname = "bad"\nplugin = "./speechless.py"\n' + COLLECT, noise(8192))
    bad = session.rack.slot("bad").hooked
    assert bad is not None
    ears = collected(session)

    assert 8 == bad.errors
    assert "Mute" in bad.last_error
    assert 8192 == sum(block.frames for block in ears.blocks)


def test_nobody_is_called_before_on_start_has_returned(tmp_path: Path) -> None:
    """When one plugin's on_start fails, those that come after it get no hook at all, although factors wait for them."""
    (tmp_path / "raiser.py").write_text(
        "from sigrack_plugins import Plugin\nclass Raiser(Plugin):\n    factors = {'x': ''}\n"
        "    def on_start(self):\n        self.ctx.post('x', [1.0])\n        raise ValueError('no')\n"
        "    def on_factors(self, batch):\n        pass\n"
    )
    session = freewheel(tmp_path, '[[slot]]\nname = "bad"\nplugin = "./raiser.py"\n' + COLLECT, noise(8192))
    hooked = session.rack.slot("ears").hooked
    with pytest.raises(ConfigError, match="bad: on_start: no"):
        session.run()

    assert hooked is not None
    assert 0 == hooked.calls


def test_a_full_inbox_is_delivered_in_rounds() -> None:
    """Even in a turn that is over at once no more than a round's share of the inbox is delivered; what is left is told."""
    calls: list[int] = []

    class Listener(Plugin):
        def on_factors(self, batch: FactorBatch) -> None:
            calls.append(len(batch))

    hooked = Hooked("listener", Listener(), frozenset({"on_factors"}), HookWatch(), lossless=False)
    hooked.closed = False
    dispatcher = Dispatcher(snapshot=Snapshot(factor_hooks=(hooked,)))
    for number in range(2000):
        dispatcher.inbox.post(Post("s", "x", np.array([number]), 0, 0, np.ones((1, 1))))
    more = [dispatcher.drain(0, turn_ns=1) for _ in range(5)]

    assert [512, 512, 512, 464] == calls
    assert [True, True, True, True, False] == more
