"""The rack that benchmarks/fused_chain.py measures: upsampler, equaliser, crossfeed; its filters, and runs of it."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from sigrack.config import load
from sigrack.drivers import built
from sigrack.errors import CLEAN
from sigrack.session import Session
from sigrack_engine.compiler import Linear

__all__ = ["CHANNELS", "RATE_HZ", "RATIO", "alike", "filters", "run", "write_rack", "write_sounds"]

CHANNELS, RATE_HZ, RATIO = 2, 44_100, 16
PATH_TAPS = 16_384
"""Of the crossfeed, at the rate that goes out: 23 ms."""
PRE_DELAYS = {"LL": 0, "LR": 190, "RL": 180, "RR": 0}
"""In frames of that rate: a far ear is 0.3 ms later."""

RACK = f"""
[rack]
block_frames = {{block}}

[source]
driver = "file"
path = "noise.wav"

[control]
enabled = false

[[slot]]
name = "upsample"
plugin = "upsample"
config = {{{{ ratio = {RATIO} }}}}

[[slot]]
name = "equalizer"
plugin = "equalizer"

[slot.config]
text = '''
Preamp: -7 dB
Filter: ON LSC Fc 105 Hz Gain 6 dB Q 0.7
Filter: ON PK Fc 60 Hz Gain -2 dB Q 1
Filter: ON PK Fc 180 Hz Gain -3 dB Q 0.6
Filter: ON PK Fc 1200 Hz Gain 1.5 dB Q 1.4
Filter: ON PK Fc 3100 Hz Gain -2.5 dB Q 2
Filter: ON PK Fc 5600 Hz Gain -4 dB Q 4
Filter: ON PK Fc 7900 Hz Gain 3 dB Q 3
Filter: ON HSC Fc 10000 Hz Gain -2 dB Q 0.7
'''

[[slot]]
name = "crossfeed"
plugin = "crossfeed"
config = {{{{ file = "ears.wav" }}}}
"""


def write_sounds(folder: Path, seconds: float) -> None:
    """Write what the racks play, and four different responses that fall by 60 dB, as measured ones are."""
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (round(seconds * RATE_HZ), CHANNELS))
    soundfile.write(folder / "noise.wav", noise, RATE_HZ, subtype="FLOAT")
    fall = 10.0 ** (-3.0 * np.arange(PATH_TAPS) / PATH_TAPS)
    ears = np.random.default_rng(2).standard_normal((PATH_TAPS, len(PRE_DELAYS))) * fall[:, None]
    for path, delay in enumerate(PRE_DELAYS.values()):
        ears[:delay, path] = 0.0
    soundfile.write(folder / "ears.wav", ears / np.abs(ears).sum(axis=0).max(), RATE_HZ * RATIO, subtype="FLOAT")


def write_rack(folder: Path, block: int) -> Path:
    """Write the rack with blocks of so many input frames."""
    path = folder / f"fused-{block}.toml"
    path.write_text(RACK.format(block=block))
    return path


def filters(rack: Path) -> list[Linear]:
    """Return what the plugins of a rack give the host, one filter a slot."""
    with built(load(rack)) as found:
        return [slot.linear for slot in found.slots if slot.linear]


def alike(parts: list[Linear]) -> list[Linear]:
    """Return the same with a head whose ears are alike, as the head model's: both direct paths equal, and both cross paths."""
    *others, crossfeed = parts
    (direct, cross), _ = crossfeed.taps
    return [*others, replace(crossfeed, taps=np.stack([np.stack([direct, cross]), np.stack([cross, direct])]))]


def run(rack: Path) -> tuple[float, float]:
    """Send the noise through a rack; return seconds of audio per second of CPU time, and the longest block / its period.

    The CPU time is the whole process's; loading and compiling are not in it. A block's time is the real time of its groups, the
    longest of each.
    """
    done, longest_ns = 0, 0.0

    def look(frames: int) -> None:
        nonlocal done, longest_ns
        done, longest_ns = done + frames, sum(group.core.meters.longest_ns for group in session.rack.groups)

    session = Session(load(rack), look)
    period_ns = 1e9 * session.rack.block_frames / RATE_HZ
    begun = time.process_time_ns()
    if session.run() != CLEAN:
        raise RuntimeError("the rack did not end well")
    return 1e9 * done / RATE_HZ / (time.process_time_ns() - begun), longest_ns / period_ns
