"""Files through a rack: equal to the float64 reference, aligned, to the last frame."""

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from factories import MakeWav
from oracles.chain import Signal, error_db, gain, matrix_fir
from sigrack.config import load
from sigrack.errors import EngineError
from sigrack.rendering import render
from sigrack.tables import SlotTable
from sigrack_plugins import Setup
from sigrack_plugins.crossfeed import Crossfeed

DEMO = Path(__file__).parents[2] / "examples" / "demo.toml"
RECORDINGS = Path("/usr/share/sounds/alsa")


@pytest.fixture(scope="module")
def speech() -> tuple[Signal, int]:
    """A voice left and a voice right, recorded: (frames, 2) and the rate."""
    names = ("Front_Left.wav", "Front_Right.wav")
    if not all((RECORDINGS / name).exists() for name in names):
        pytest.skip(f"no recordings in {RECORDINGS}: install Debian's alsa-utils")
    (left, rate_hz), (right, _) = (soundfile.read(RECORDINGS / name) for name in names)
    frames = max(len(left), len(right))
    both = np.zeros((frames, 2))
    both[: len(left), 0], both[: len(right), 1] = left, right
    return both, rate_hz


def reference(slots: list[SlotTable], signal: Signal, rate_hz: int) -> Signal:
    """What the demo's slots do, slot by slot."""
    for slot in slots:
        match slot.plugin:
            case "gain":
                signal = gain(signal, slot.params.get("gain_db", 0.0))
            case "crossfeed":
                plugin = Crossfeed()
                plugin.config = Crossfeed.Config(**slot.config)
                signal = matrix_fir(signal, plugin.fir(Setup(rate_hz, 2)))
            case "level" | "loudness":
                pass
            case other:
                raise AssertionError(f"the reference does not know {other}")
    return signal


@pytest.mark.parametrize("block_frames", [64, 256, 1000])
@pytest.mark.parametrize(("name", "subtype"), [("in.wav", "PCM_16"), ("in.flac", "PCM_16"), ("in24.wav", "PCM_24")])
def test_demo_on_recordings(tmp_path: Path, speech: tuple[Signal, int], name: str, subtype: str, block_frames: int) -> None:
    """The demo rack's output equals the float64 reference within -120 dB peak at any block size and for any file format."""
    source, rate_hz = speech
    soundfile.write(tmp_path / name, source, rate_hz, subtype=subtype)
    signal, _ = soundfile.read(tmp_path / name)
    rack = tmp_path / "rack.toml"
    demo = DEMO.read_text()
    assert "block_frames = 256" in demo
    rack.write_text(demo.replace("block_frames = 256", f"block_frames = {block_frames}"))

    result = render(rack, tmp_path / name, tmp_path / "out.wav")
    found, found_rate_hz = soundfile.read(tmp_path / "out.wav")
    wanted = reference(load(rack).config.slot, signal, rate_hz)

    assert (len(signal), rate_hz) == (result.frames, found_rate_hz)
    assert error_db(found, wanted) <= -120.0
    assert error_db(found[1:], wanted[:-1]) > -60.0, "a reference that is one frame late must not pass"


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    """The progress callback adds up to the file's length and knows total and rate."""
    soundfile.write(tmp_path / "in.wav", np.full((50_001, 1), 0.25), 48_000)
    (tmp_path / "rack.toml").write_text('[source]\ndriver = "file"\npath = "-"\n')
    calls: list[tuple[int, int, int]] = []

    render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav", progress=lambda *call: calls.append(call))

    assert 50_001 == sum(frames for frames, _, _ in calls)
    assert {(50_001, 48_000)} == {call[1:] for call in calls}


LATE = """
#include <stdlib.h>
#include "sigrack.h"
struct late { float line[SIGRACK_MAX_CHANNELS][LATENCY]; unsigned at; };
static void *create(const struct sigrack_host *h, const char *c, char *e, uint32_t n) {
    (void)h; (void)c; (void)e; (void)n;
    return calloc(1, sizeof(struct late));
}
static int activate(void *self, const struct sigrack_setup *setup, struct sigrack_contract *contract) {
    (void)self; (void)setup;
    contract->latency_frames = LATENCY;
    return 0;
}
static int process(void *self, const struct sigrack_block *b) {
    struct late *late = self;
    for (uint32_t i = 0; i < b->frames; i++) {
        for (uint32_t c = 0; c < b->channels; c++) {
            b->out[c][i] = 2.0f * late->line[c][late->at];
            late->line[c][late->at] = b->in[c][i];
        }
        late->at = (late->at + 1) % LATENCY;
    }
    return 0;
}
const struct sigrack_plugin *sigrack_plugin_entry(void) {
    static const struct sigrack_plugin plugin = {.size = sizeof plugin, .abi = SIGRACK_ABI, .id = "late",
        .create = create, .activate = activate, .process = process, .destroy = free};
    return &plugin;
}
"""


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("latency", [1, 700, 20_000])
def test_latency_is_trimmed_and_flushed(tmp_path: Path, cc: Callable[[str, str], Path], latency: int, bypass: bool) -> None:
    """A slot that delays is heard in time, active or bypassed: head trimmed, tail flushed, nothing lost."""
    signal = np.random.default_rng(1).uniform(-0.4, 0.4, (30_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", signal, 44_100, subtype="FLOAT")
    library = cc(LATE.replace("LATENCY", str(latency)), "late")
    (tmp_path / "rack.toml").write_text(
        f'[source]\ndriver = "file"\npath = "-"\n[[slot]]\nname = "late"\nplugin = "{library}"\nlane = "inline"\n'
        f"bypass = {str(bypass).lower()}\n"
    )

    render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    found, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")

    assert np.array_equal(signal * (1 if bypass else 2), found)


def test_failure_leaves_no_target(tmp_path: Path) -> None:
    """A file that turns out bad half way leaves no output file behind."""
    signal = np.zeros((60_000, 1), np.float32)
    signal[50_000] = np.nan
    soundfile.write(tmp_path / "in.wav", signal, 48_000, subtype="FLOAT")
    (tmp_path / "rack.toml").write_text('[source]\ndriver = "file"\npath = "-"\n')

    with pytest.raises(Exception, match="nan at frame 50000, channel 1"):
        render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav")

    assert not (tmp_path / "out.wav").exists()


def test_overwriting_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """With overwrite, a bad input leaves the old output as it was, byte for byte; a good one replaces it."""
    bad = np.zeros((60_000, 1), np.float32)
    bad[50_000] = np.nan
    soundfile.write(tmp_path / "bad.wav", bad, 48_000, subtype="FLOAT")
    soundfile.write(tmp_path / "good.wav", bad[:1000], 48_000, subtype="FLOAT")
    (tmp_path / "out.wav").write_bytes(b"precious")
    (tmp_path / "rack.toml").write_text('[source]\ndriver = "file"\npath = "-"\n')

    with pytest.raises(Exception, match="nan at frame 50000"):
        render(tmp_path / "rack.toml", tmp_path / "bad.wav", tmp_path / "out.wav", overwrite=True)
    assert b"precious" == (tmp_path / "out.wav").read_bytes()
    render(tmp_path / "rack.toml", tmp_path / "good.wav", tmp_path / "out.wav", overwrite=True)

    assert 1000 == soundfile.info(tmp_path / "out.wav").frames
    assert [] == list(tmp_path.glob(".*part*"))


def test_renders_run_on_any_thread(tmp_path: Path) -> None:
    """The library renders on a thread that is not the main one, where no signal handler can be set."""
    soundfile.write(tmp_path / "in.wav", np.full((5000, 1), 0.25), 48_000)
    (tmp_path / "rack.toml").write_text('[source]\ndriver = "file"\npath = "-"\n')

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(render, tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav").result(10)

    assert 5000 == result.frames


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 32])
@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 768_000])
@pytest.mark.parametrize("block_frames", [1, 3, 63, 64, 65, 255, 4097, 65_536])
def test_any_block_size_rate_and_width(tmp_path: Path, block_frames: int, rate_hz: int, channels: int) -> None:
    """A gain and a filter of 700 taps in every path equal the reference at the extremes of block size, rate and width."""
    width = min(channels, 8)
    taps = np.random.default_rng(2).normal(0, 0.02, (width, width, 700)).astype(np.float32)
    np.save(tmp_path / "taps.npy", taps)
    (tmp_path / "fir.py").write_text(
        "from pathlib import Path\nimport numpy as np\nfrom sigrack_plugins import Plugin\n"
        "class Filter(Plugin):\n    def fir(self, setup):\n"
        f"        taps = np.load({str(tmp_path / 'taps.npy')!r})\n        return taps\n"
    )
    sound = np.random.default_rng(3).uniform(-0.5, 0.5, (9_999, channels)).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", sound, rate_hz, subtype="FLOAT")
    slots = '[[slot]]\nname = "volume"\nplugin = "gain"\nparams = { gain_db = -3.5 }\n'
    slots += '[[slot]]\nname = "filter"\nplugin = "./fir.py"\n' if channels <= 8 else ""
    (tmp_path / "rack.toml").write_text(f'[rack]\nblock_frames = {block_frames}\n[source]\ndriver = "file"\npath = "-"\n{slots}')

    render(tmp_path / "rack.toml", tmp_path / "in.wav", tmp_path / "out.wav")
    found, _ = soundfile.read(tmp_path / "out.wav", always_2d=True)
    wanted = gain(sound.astype(np.float64), -3.5)
    wanted = matrix_fir(wanted, taps) if channels <= 8 else wanted

    assert error_db(found, wanted) <= -120.0


def test_where_a_loop_runs_nothing_is_begun(wav: MakeWav, tmp_path: Path) -> None:
    """render on a thread whose asyncio loop runs says what to do instead, and touches neither files nor signals."""
    rack = tmp_path / "rack.toml"
    rack.write_text('[source]\ndriver = "file"\npath = "-"\n')
    sound = wav()
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]

    async def inside() -> None:
        render(rack, sound, tmp_path / "out.wav")

    with pytest.raises(EngineError, match="an asyncio loop runs on this thread"):
        asyncio.run(inside())
    elsewhere = asyncio.run(asyncio.to_thread(render, rack, sound, tmp_path / "out.wav"))

    assert elsewhere.frames == soundfile.info(tmp_path / "out.wav").frames
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
