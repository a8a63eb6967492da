"""Loudness in LUFS by ITU-R BS.1770-4 and EBU R 128: momentary, short-term, integrated.

Full scale is 1.0; "energy" is the channel-weighted square of the K-weighted samples; loudness in LUFS is
-0.691 + 10 log10 of its mean, as in BS.1770-4. All of it runs in float64.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from sigrack_plugins.api import SECOND, Block, Plugin

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["FLOOR_LUFS", "GatedMean", "KWeighting", "Loudness", "LoudnessConfig", "k_weighting", "lufs", "weights_for"]

Array = npt.NDArray[np.float64]
Polynomial = tuple[float, float, float]
"""Coefficients in falling powers."""
Biquad = tuple[Polynomial, Polynomial]
"""Numerator and denominator in z; the latter begins with 1."""

FLOOR_LUFS = -120.0
"""Stands for silence and for "not enough signal yet": JSON knows no infinity, and no 24 bit recording is as quiet."""

MIN_RATE_HZ = 8000
"""Below it the shelf of the K-weighting comes too close to the Nyquist frequency to keep its shape."""

SURROUND_WEIGHTS = [1.0, 1.0, 1.0, 0.0, 1.41, 1.41]
"""ITU-R BS.1770-4, Annex 1, Table 3, for 5.1 in the order L R C LFE Ls Rs."""

STEPS_PER_S = 10
MOMENTARY_STEPS = 4
SHORT_TERM_STEPS = 30

SHELF_48K: Biquad = (
    (1.53512485958697, -2.69169618940638, 1.19839281085285),
    (1.0, -1.69065929318241, 0.73248077421585),
)
HIGH_PASS_48K: Biquad = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
"""ITU-R BS.1770-4, Annex 1, Tables 1 and 2: the two stages of the K-weighting at 48 kHz."""


@dataclass
class LoudnessConfig:
    """Settings of a loudness slot."""

    weights: list[float] = field(default_factory=list)
    """Weight of each channel's energy, 0 to leave it out. Empty: those of BS.1770-4 for the number of channels."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights):
            raise ValueError(f"weights: {self.weights} must be finite and not negative")


class Loudness(Plugin):
    """Posts `[momentary, short-term, integrated]` loudness each 100 ms of audio, in LUFS.

    The steps of 100 ms lie on the grid of rack time, and a record carries the rack time of its step's end. Momentary is
    over the last 4 steps, short-term over the last 30, integrated is gated as in BS.1770-4 and runs since `on_start`. A
    value is `FLOOR_LUFS` until its window is full, and never less than that. A burst of just 400 ms that lies across
    the grid reads up to 0.6 LU too low in momentary.

    A step with lost frames is left out, as if the audio before and after it were adjacent, and posts nothing: so a late
    main loop does not look like silence. The same holds for a step with a sample that is not finite.
    """

    id = "loudness"
    version = "1"
    factors: ClassVar[Mapping[str, str]] = {"loudness_lufs": "LUFS"}
    Config = LoudnessConfig

    config: LoudnessConfig

    def on_start(self) -> None:
        """Design the filters for the slot's rate. Raises ValueError on a rate or weights that do not fit. [main]"""
        setup = self.ctx.setup
        weights = np.array(self.config.weights or weights_for(setup.channels))
        if len(weights) != setup.channels:
            raise ValueError(f"weights: {len(weights)} given, but the slot has {setup.channels} channels")
        self._rate_hz = setup.rate_hz
        self._heard = np.flatnonzero(weights)
        self._weights = weights[self._heard]
        self._filter = KWeighting(setup.rate_hz, len(self._heard))
        self._steps: deque[tuple[float, int]] = deque(maxlen=SHORT_TERM_STEPS)
        self._integrated = GatedMean()
        self._frame: int | None = None
        self._begin_step(whole=False)

    def on_block(self, block: Block) -> None:
        """Measure one block of any length. [main]"""
        if block.frame != self._frame:
            self._frame = block.frame
            self._begin_step(whole=self._starts_step(block.frame))
        power = self._power(block.samples)
        while len(power):
            left = self._step_end(self._frame) - self._frame
            self._advance(power[:left])
            power = power[left:]

    def _power(self, samples: "Samples") -> Array:
        """Energy of each frame."""
        with np.errstate(over="ignore", invalid="ignore"):  # infinite samples are found at the end of their step
            return self._weights @ np.square(self._filter(samples.T[self._heard]))

    def _step_end(self, frame: int) -> int:
        """First frame after the step that holds `frame`. Step n begins at frame n * rate / 10, rounded up."""
        step = frame * STEPS_PER_S // self._rate_hz
        return -(-(step + 1) * self._rate_hz // STEPS_PER_S)

    def _starts_step(self, frame: int) -> bool:
        return frame == 0 or self._step_end(frame - 1) == frame

    def _begin_step(self, *, whole: bool) -> None:
        """`whole`: no frame of the step was missed so far."""
        self._whole = whole
        self._energy = 0.0
        self._frames = 0

    def _advance(self, power: Array) -> None:
        """Take the energies of frames that all belong to the current step."""
        assert self._frame is not None
        self._energy += float(power.sum())
        self._frames += len(power)
        self._frame += len(power)
        if self._starts_step(self._frame):
            self._end_step(self._frame)
            self._begin_step(whole=True)

    def _end_step(self, frame: int) -> None:
        if not math.isfinite(self._energy):
            self._filter.reset()
        elif self._whole:
            self._steps.append((self._energy, self._frames))
            self._post(frame * SECOND // self._rate_hz)

    def _post(self, ts_ns: int) -> None:
        momentary = self._window(MOMENTARY_STEPS)
        if momentary is not None:
            self._integrated.add(momentary)
        means = (momentary, self._window(SHORT_TERM_STEPS), self._integrated.mean())
        self.ctx.post("loudness_lufs", [lufs(mean) for mean in means], ts_ns)

    def _window(self, steps: int) -> float | None:
        """Mean energy of the last `steps` steps, None while there are fewer."""
        if len(self._steps) < steps:
            return None
        window = list(self._steps)[-steps:]
        return sum(energy for energy, _ in window) / sum(frames for _, frames in window)


class GatedMean:
    """Mean energy of gating blocks by BS.1770-4, in memory that does not grow. [main]

    Blocks are sorted into bins of 0.01 LU, each of which keeps its count and the sum of its energies. So the result is
    that of the standard with a relative gate that is at most 0.01 LU too low; nothing else is rounded.
    """

    ABSOLUTE_GATE_LUFS = -70.0
    RELATIVE_GATE_LU = -10.0
    BINS_PER_LU = 100
    TOP_LUFS = 50.0

    def __init__(self) -> None:
        bins = round((self.TOP_LUFS - self.ABSOLUTE_GATE_LUFS) * self.BINS_PER_LU)
        self._counts = np.zeros(bins, np.int64)
        self._energies = np.zeros(bins)

    def add(self, energy: float) -> None:
        """Take one gating block's mean energy; what is not above the absolute gate is left out."""
        loudness = lufs(energy)
        if loudness > self.ABSOLUTE_GATE_LUFS:
            index = self._bin(loudness)
            self._counts[index] += 1
            self._energies[index] += energy

    def mean(self) -> float | None:
        """Mean energy of the blocks above both gates, None without any."""
        ungated = self._mean_from(0)
        if ungated is None:
            return None
        return self._mean_from(self._bin(lufs(ungated) + self.RELATIVE_GATE_LU))

    def _bin(self, loudness: float) -> int:
        index = math.floor((loudness - self.ABSOLUTE_GATE_LUFS) * self.BINS_PER_LU)
        return min(max(index, 0), len(self._counts) - 1)

    def _mean_from(self, index: int) -> float | None:
        count = int(self._counts[index:].sum())
        return float(self._energies[index:].sum()) / count if count else None


class KWeighting:
    """The K-weighting filter of BS.1770-4, exact and without a loop over samples. [any], one thread at a time

    With the state x in front of a segment of 32 samples u, the output is O x + H u and the next state is A^32 x + C u.
    The states in front of up to 32 segments are, likewise, one product with the first state and one with all C u.
    """

    SEGMENT = 32
    SEGMENTS = 32

    def __init__(self, rate_hz: int, channels: int) -> None:
        a, b, c, d = _state_space(*k_weighting(rate_hz))
        length = self.SEGMENT
        powers = [np.linalg.matrix_power(a, n) for n in range(length + 1)]
        impulse = np.array([d, *(c @ powers[n] @ b for n in range(length - 1))])
        self._powers_t = [power.T for power in powers]
        self._observe_t = np.array([c @ powers[n] for n in range(length)]).T
        self._control_t = np.array([powers[length - 1 - n] @ b for n in range(length)])
        self._impulse_t = _toeplitz(impulse[:, None, None])
        jumps = np.array([np.linalg.matrix_power(powers[length], n).T for n in range(self.SEGMENTS + 1)])
        self._jumps = np.concatenate(jumps, axis=1)
        self._carry = _toeplitz(jumps[:-1])
        self._order = len(a)
        self._state = np.zeros((channels, self._order))

    def reset(self) -> None:
        """Forget the past."""
        self._state[:] = 0.0

    def __call__(self, samples: npt.NDArray[np.floating]) -> Array:
        """Filter the next frames, shape (channels, frames), any number of them."""
        result = np.empty(samples.shape)
        chunk = self.SEGMENT * self.SEGMENTS
        whole = samples.shape[1] - samples.shape[1] % self.SEGMENT
        for start in range(0, whole, chunk):
            run = slice(start, min(start + chunk, whole))
            result[:, run] = self._segments(samples[:, run].astype(np.float64))
        if whole < samples.shape[1]:
            result[:, whole:] = self._rest(samples[:, whole:].astype(np.float64))
        return result

    def _segments(self, samples: Array) -> Array:
        """Filter 1 to 32 whole segments."""
        channels = len(samples)
        driven = samples.reshape(channels, -1, self.SEGMENT)
        count, order = driven.shape[1], self._order
        end = count * order
        pushes = (driven @ self._control_t).reshape(channels, end)
        states = self._state @ self._jumps[:, : end + order]
        states[:, order:] += pushes @ self._carry[:end, :end]
        self._state = states[:, end:].copy()
        before = states[:, :end].reshape(channels, count, order)
        result: Array = driven @ self._impulse_t + before @ self._observe_t
        return result.reshape(samples.shape)

    def _rest(self, samples: Array) -> Array:
        """Filter less than one segment."""
        count = samples.shape[1]
        result: Array = samples @ self._impulse_t[:count, :count] + self._state @ self._observe_t[:, :count]
        self._state = self._state @ self._powers_t[count] + samples @ self._control_t[self.SEGMENT - count :]
        return result


def k_weighting(rate_hz: int) -> tuple[Biquad, Biquad]:
    """The two stages of the K-weighting at a rate: the high shelf and the high pass.

    BS.1770-4 tabulates them at 48 kHz only, and asks of other rates for the same frequency response. So the tabulated
    ones are taken back through the bilinear transform to their analogue prototypes, and these forth to the new rate,
    each with its pole frequency (1682 Hz and 38 Hz) prewarped. At 48 kHz the result is the table.

    Raises ValueError below 8 kHz.
    """
    if rate_hz < MIN_RATE_HZ:
        raise ValueError(f"loudness needs a rate of {MIN_RATE_HZ} Hz or more, not {rate_hz} Hz")
    return _at_rate(SHELF_48K, rate_hz), _at_rate(HIGH_PASS_48K, rate_hz)


def weights_for(channels: int) -> list[float]:
    """Weights by BS.1770-4 for 5.1, 1 for each channel of anything else."""
    return SURROUND_WEIGHTS if channels == len(SURROUND_WEIGHTS) else [1.0] * channels


def lufs(energy: float | None) -> float:
    """Loudness of a mean energy in LUFS, `FLOOR_LUFS` at least and for None."""
    if not energy:
        return FLOOR_LUFS
    return max(-0.691 + 10.0 * math.log10(energy), FLOOR_LUFS)


def _at_rate(biquad: Biquad, rate_hz: int) -> Biquad:
    """Move a biquad from 48 kHz to another rate; its pole frequency keeps its place."""
    numerator, denominator = (_to_analogue(polynomial) for polynomial in biquad)
    warped = math.sqrt(denominator[2] / denominator[0])
    scale = warped / math.tan(math.atan(warped) * 48000 / rate_hz)
    (b0, b1, b2), (a0, a1, a2) = (_to_digital((p[0] * scale**2, p[1] * scale, p[2])) for p in (numerator, denominator))
    return (b0 / a0, b1 / a0, b2 / a0), (1.0, a1 / a0, a2 / a0)


def _to_analogue(polynomial: Polynomial) -> Polynomial:
    """Put z = (1 + p) / (1 - p) into a polynomial in z, times (1 - p)^2. A frequency f is at p = j tan(pi f / rate)."""
    z2, z1, z0 = polynomial
    return z2 - z1 + z0, 2.0 * (z2 - z0), z2 + z1 + z0


def _to_digital(polynomial: Polynomial) -> Polynomial:
    """Put p = (z - 1) / (z + 1) into a polynomial in p, times (z + 1)^2."""
    p2, p1, p0 = polynomial
    return p2 + p1 + p0, 2.0 * (p0 - p2), p2 - p1 + p0


def _state_space(first: Biquad, second: Biquad) -> tuple[Array, Array, Array, float]:
    """A, b, c, d of two biquads in a row, each in transposed direct form II."""
    (a1, b1, c1, d1), (a2, b2, c2, d2) = _biquad_state_space(first), _biquad_state_space(second)
    a = np.block([[a1, np.zeros((2, 2))], [np.outer(b2, c1), a2]])
    return a, np.concatenate([b1, b2 * d1]), np.concatenate([c1 * d2, c2]), d1 * d2


def _biquad_state_space(biquad: Biquad) -> tuple[Array, Array, Array, float]:
    (b0, b1, b2), (_, a1, a2) = biquad
    return np.array([[-a1, 1.0], [-a2, 0.0]]), np.array([b1 - a1 * b0, b2 - a2 * b0]), np.array([1.0, 0.0]), b0


def _toeplitz(blocks: Array) -> Array:
    """The matrix by which a row vector is convolved with a row of square blocks, shape (count, order, order)."""
    count, order, _ = blocks.shape
    result = np.zeros((count, order, count, order))
    for row in range(count):
        result[row, :, row:, :] = blocks[: count - row].transpose(1, 0, 2)
    return result.reshape(count * order, count * order)
