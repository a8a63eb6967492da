"""The demo piece: twelve bars for two plucked strings, a pad and a bass, made of numbers."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sigrack.errors import EngineError

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["DEMO", "make_piece", "provide"]

log = logging.getLogger("sigrack")

Array = npt.NDArray[np.float64]

DEMO = "demo.flac"
"""A source of this name is made when it is missing."""

RATE_HZ = 48_000
EIGHTH_S = 0.3125
"""96 beats a minute."""
BAR_S = 8 * EIGHTH_S
CHORDS = ("D A D F# A C#", "B F# B D F# A", "G D G B D F#", "A E A C# E G") * 3
"""Six voices for each bar, from the bass up."""
LEFT = (2, 3, 4, 3, 5, 3, 4, 3)
RIGHT = (5, 4, 5, 3, 4, 5, 3, 2)
"""Which voice each string plays in each eighth of a bar."""
SECTIONS = ((1.0, 0.0, 0.8), (0.8, 0.9, 0.9), (1.0, 1.0, 1.0))
"""Loudness of left string, right string and pad, for each four bars."""
NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
PEAK = 10 ** (-1.5 / 20)
TARGET_LUFS = -14.0


def provide(path: Path) -> None:
    """Make the demo piece if `path` is its name and there is no such file. Raises EngineError if it cannot be written. [main]"""
    if path.name != DEMO or path.exists():
        return
    import soundfile

    part = path.with_name(f".{os.getpid()}.{path.name}")
    piece = make_piece()
    try:
        soundfile.write(part, piece, RATE_HZ, "PCM_24", format="FLAC")
        part.replace(path)
    except (OSError, soundfile.LibsndfileError):
        part.unlink(missing_ok=True)
        raise EngineError(f"{path}: the demo piece cannot be written here; name another file with --input") from None
    log.info("made the demo piece %s (%.0f s)", path, len(piece) / RATE_HZ)


def make_piece() -> Array:
    """Return the piece, shape (frames, 2), always the same. It ends where it begins: what still rings is mixed into the start."""
    mix = np.zeros((round(len(CHORDS) * BAR_S * RATE_HZ), 2))
    random = np.random.default_rng(2024)
    cache: dict[int, Array] = {}
    for bar, chord in enumerate(CHORDS):
        left, right, pad = SECTIONS[bar // 4]
        notes = _voicing(chord)
        _add(mix, bar * BAR_S, _bass(notes[0]), (0.5, 0.5))
        _add(mix, bar * BAR_S, _pad(notes[1], random), (0.13 * pad, 0.0))
        _add(mix, bar * BAR_S, _pad(notes[3], random), (0.0, 0.13 * pad))
        for eighth in range(8):
            accent = 1.0 if eighth % 4 == 0 else 0.75
            start_s = bar * BAR_S + eighth * EIGHTH_S + random.normal(0.0, 0.004)
            _add(mix, start_s, _string(notes[LEFT[eighth]] + 12, cache), (left * accent * random.uniform(0.85, 1.0), 0.0))
            if eighth % 2:
                _add(mix, start_s, _string(notes[RIGHT[eighth]] + 12, cache), (0.0, right * random.uniform(0.85, 1.0)))
    return _mastered(mix)


def _voicing(chord: str) -> list[int]:
    """Return rising MIDI notes from the bass up."""
    notes = [33]
    for name in chord.split():
        notes.append(notes[-1] + 1 + (NAMES.index(name) - notes[-1] - 1) % 12)
    return notes[1:]


def _times(seconds: float) -> Array:
    return np.arange(round(seconds * RATE_HZ)) / RATE_HZ


def _partials(note: int, seconds: float, strengths: Array, decays_s: Array) -> Array:
    """Return a sum of decaying partials."""
    times = _times(seconds)
    sound = np.zeros(len(times))
    for number, (strength, decay_s) in enumerate(zip(strengths, decays_s, strict=True), 1):
        frequency = 440.0 * 2 ** ((note - 69) / 12) * number
        if frequency < 10_000:
            sound += strength * np.sin(2 * np.pi * frequency * times) * np.exp(-times / decay_s)
    return sound * np.clip((seconds - times) / 0.1, 0, 1)


def _string(note: int, cache: dict[int, Array]) -> Array:
    """Pluck a string at a fifth of its length: the fifth, tenth ... partial is missing."""
    if note not in cache:
        numbers = np.arange(1.0, 15.0)
        strengths = 0.4 * np.sin(np.pi * numbers / 5) / numbers
        cache[note] = _partials(note, 2.2, strengths, 0.9 / (1 + 0.35 * numbers))
    return cache[note]


def _bass(note: int) -> Array:
    numbers = np.arange(1.0, 6.0)
    return _partials(note, BAR_S, 0.5 / numbers**1.5, 1.4 / numbers)


def _pad(note: int, random: "Generator") -> Array:
    """Three voices, a little out of tune, that swell and go."""
    seconds = 1.4 * BAR_S
    times = _times(seconds)
    sound = np.zeros(len(times))
    for cents in (-6, 0, 6):
        frequency = 440.0 * 2 ** ((note - 69 + cents / 100) / 12)
        phase = random.uniform(0, 2 * np.pi)
        for number in range(1, 7):
            sound += np.sin(number * (2 * np.pi * frequency * times + phase)) / number**1.3
    swell: Array = np.sin(np.pi * times / seconds) ** 2
    return sound * swell


def _add(mix: Array, start_s: float, sound: Array, gains: tuple[float, float]) -> None:
    """Mix a sound in, round the end into the beginning."""
    start = round(start_s * RATE_HZ) % len(mix)
    head = sound[: len(mix) - start]
    mix[start : start + len(head)] += head[:, None] * gains
    rest = sound[len(head) :]
    mix[: len(rest)] += rest[:, None] * gains


def _mastered(mix: Array) -> Array:
    """Bring the mix to the target loudness, or as near as its peaks allow."""
    from sigrack_plugins.loudness import KWeighting, lufs

    energy = float(np.square(KWeighting(RATE_HZ, 2)(mix.T)).sum(0).mean())
    gain = 10 ** ((TARGET_LUFS - lufs(energy)) / 20)
    return np.asarray(mix * min(gain, PEAK / np.abs(mix).max()))
