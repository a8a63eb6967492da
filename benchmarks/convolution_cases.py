"""What is convolved: filters, rates, blocks; the noise that goes in, and what must come out, in float64."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

__all__ = ["CASES", "LONGEST_PARTITION", "Case", "Samples", "Task", "error_db", "gain_of", "task_of"]

Samples = npt.NDArray[np.float32]
Reference = npt.NDArray[np.float64]

LONGEST_PARTITION = 65_536
"""Of our stages."""
PEDALBOARD, ZITA_64K, ZITA_640K, SCIPY = 10.0, 2.0, 2.7, 2.0


@dataclass(frozen=True, slots=True)
class Case:
    """Stereo through filters of one length."""

    name: str
    rate_hz: int
    """Of the output."""
    taps: int
    block: int
    """Input frames that come at once."""
    paths: int = 2
    """2: left to left, right to right. 4: also across."""
    phases: int = 1
    floors: Mapping[str, float] = field(default_factory=dict)
    """What a peer's CPU time divided by ours must at least be."""
    rtf_floor: float | None = None
    quick: bool = False
    """Whether it is also measured in a quick run."""

    @property
    def period_us(self) -> float:
        """How often a block comes."""
        return 1e6 * self.block * self.phases / self.rate_hz

    def real_time_factor(self, ns_per_frame: float) -> float:
        """Return the seconds of audio that a second of CPU time is worth."""
        return 1e9 / (ns_per_frame * self.rate_hz)

    @property
    def peers(self) -> tuple[str, ...]:
        """Who takes turns with ours."""
        return ("scipy", "zita", "stuffed") if self.phases > 1 else ("scipy", "pedalboard", "zita", "ffmpeg")


def _upsampler(name: str, taps: int, block: int, rtf_floor: float | None = None, *, quick: bool = False) -> Case:
    return Case(name, 705_600, taps, block, phases=16, floors={"zita": 6}, rtf_floor=rtf_floor, quick=quick)


CASES = (
    Case("64k_b512_p2", 48_000, 65_536, 512, 2, floors={"scipy": SCIPY, "pedalboard": PEDALBOARD, "zita": ZITA_64K}, quick=True),
    Case("64k_b512_p4", 48_000, 65_536, 512, 4, floors={"scipy": SCIPY, "zita": ZITA_64K}),
    Case("64k_b64_p2", 48_000, 65_536, 64, 2, floors={"pedalboard": PEDALBOARD, "zita": ZITA_64K}),
    Case("64k_b64_p4", 48_000, 65_536, 64, 4, floors={"zita": ZITA_64K}, quick=True),
    Case("640k_b4096_p2", 705_600, 640_000, 4096, 2, floors={"pedalboard": PEDALBOARD, "zita": ZITA_640K}),
    Case("640k_b4096_p4", 705_600, 640_000, 4096, 4, floors={"zita": ZITA_640K}),
    Case("2m_b8192_p2", 705_600, 2_097_152, 8192, 2, floors={"pedalboard": PEDALBOARD}),
    _upsampler("up16_640k_b256", 640_000, 256, 25, quick=True),
    _upsampler("up16_640k_b4096", 640_000, 4096, 70),
    _upsampler("up16_2m_b256", 2_097_152, 256),
    _upsampler("up16_2m_b4096", 2_097_152, 4096),
)


def _filters(case: Case, generator: np.random.Generator) -> Samples:
    """Return decaying noise of shape (2, 2, taps); an upsampler has the same filter for both channels."""
    fall = 0.02 * np.exp(-6.0 * np.arange(case.taps) / case.taps)
    taps = np.zeros((2, 2, case.taps), np.float32)
    for output, source in ((0, 0), (1, 1)) if case.paths == 2 else ((0, 0), (0, 1), (1, 0), (1, 1)):
        taps[output, source] = fall * generator.standard_normal(case.taps)
    if case.phases > 1:
        taps[1, 1] = taps[0, 0]
    return taps


def _reference(samples: Samples, taps: Samples) -> Reference:
    """Convolve in float64, by one transform over everything."""
    frames = samples.shape[1]
    length = 1 << (frames + taps.shape[2] - 1).bit_length()
    spectra = np.fft.rfft(samples.astype(np.float64), length)
    wanted = np.zeros((2, frames))
    for output, row in enumerate(taps):
        sums = sum(np.fft.rfft(path.astype(np.float64), length) * spectra[i] for i, path in enumerate(row) if path.any())
        wanted[output] = np.fft.irfft(sums, length)[:frames]
    return wanted


def _stuffed(samples: Samples, phases: int) -> Samples:
    """Return the samples with phases - 1 zeros after each frame."""
    stuffed = np.zeros((2, phases * samples.shape[1]), np.float32)
    stuffed[:, ::phases] = samples
    return stuffed


@dataclass(frozen=True, slots=True)
class Task:
    """A case with its filters, an input that meets every partition of them, and the right output."""

    case: Case
    taps: Samples
    samples: Samples
    wanted: Reference

    def without_phases(self, most_frames: int = LONGEST_PARTITION) -> "Task":
        """Return the same for a convolver that gets the zeros, too, and as many frames at once or fewer."""
        case = replace(self.case, phases=1, block=min(self.case.block * self.case.phases, most_frames))
        return replace(self, case=case, samples=_stuffed(self.samples, self.case.phases))


def task_of(case: Case) -> Task:
    """Make up what a case needs."""
    generator = np.random.default_rng(case.taps + case.block)
    taps = _filters(case, generator)
    partitions = -(-case.taps // (case.phases * LONGEST_PARTITION)) + 1
    samples: Samples = (0.1 * generator.standard_normal((2, partitions * LONGEST_PARTITION))).astype(np.float32)
    return Task(case, taps, samples, _reference(_stuffed(samples, case.phases), taps))


def gain_of(found: Samples, wanted: Reference) -> float:
    """Return the one factor that brings `found` nearest to `wanted`."""
    power = float(np.vdot(found, found))
    return float(np.vdot(found, wanted)) / power if power else 0.0


def error_db(found: Samples, wanted: Reference, gain: float = 1.0) -> float:
    """Return the largest error over the largest wanted value, in dB."""
    return float(20 * np.log10(np.abs(gain * found.astype(np.float64) - wanted).max() / np.abs(wanted).max()))
