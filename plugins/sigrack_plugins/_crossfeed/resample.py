"""Impulse responses at another sample rate, in float64.

The taps are those of the same filter: up to 0.45 times the lower of the two rates its frequency response is kept within -115 dB
of its largest value, above 0.55 times that rate nothing is left (-110 dB). Between the two it falls; what is there may fold, but
not below 0.45. At 44.1 kHz these are 19.8 and 24.3 kHz.

Each new tap is a sum over the old ones under a sinc with a Kaiser window (J. F. Kaiser, R. W. Schafer, IEEE Trans. ASSP 28(1),
1980). A sinc begins before its centre, so all four paths come later by the same time, 0.9 ms at the lower rate of 44.1 kHz.
"""

import math

import numpy as np

from sigrack_plugins._crossfeed.responses import Array, Responses

__all__ = ["PASS_BAND", "at_rate"]

PASS_BAND = 0.45
"""Up to where a response is kept, in multiples of the lower rate."""
ATTENUATION_DB = 120.0
BETA = 0.1102 * (ATTENUATION_DB - 8.7)
"""Of the Kaiser window, by its authors' formula for this attenuation."""
HALF = math.ceil((ATTENUATION_DB - 7.95) / (2.285 * 2.0 * math.pi * (1.0 - 2.0 * PASS_BAND)) / 2.0)
"""Half the window's length in samples of the lower rate, by their formula for the transition from 0.45 to 0.55."""
CHUNK = 1024
"""New taps at a time: the old taps that each needs are in memory at once."""


def at_rate(responses: Responses, rate_hz: int) -> tuple[Array, int]:
    """Return the paths at `rate_hz`, and by how many samples they all come later than they should. [any]

    Delays of whole samples at an equal rate are exact, and add nothing.
    """
    whole = np.floor(responses.late).astype(int)
    paths = np.zeros((len(responses.paths), responses.paths.shape[1] + int(whole.max())))
    for path, response, late in zip(paths, responses.paths, whole, strict=True):
        path[late : late + len(response)] = response
    fractions = responses.late - whole
    if responses.rate_hz == rate_hz and not fractions.any():
        return paths, 0
    grid = _Grid(responses.rate_hz, rate_hz)
    moved = np.empty((len(paths), grid.count(paths.shape[1])))
    for fraction in np.unique(fractions):
        moved[fractions == fraction] = grid.move(paths[fractions == fraction], float(fraction))
    return moved, grid.delay


class _Grid:
    """New taps between old ones: tap n lies at (n - delay) * down / up."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self.up, self.down = to_hz // divisor, from_hz // divisor
        low = min(from_hz, to_hz)
        self.low = low / from_hz
        self.scale = low / to_hz
        self.delay = math.ceil(HALF * to_hz / low)
        reach = math.ceil(HALF * from_hz / low) + 1
        self.steps = np.arange(-reach, reach + 1)

    def count(self, taps: int) -> int:
        """Return how many new taps hold all that `taps` old ones make, moved by one at most."""
        return math.ceil((taps + 1) * self.up / self.down) + 2 * self.delay

    def move(self, paths: Array, late: float) -> Array:
        """Return the new taps of paths that come `late` old samples later, 0 to 1."""
        count = self.count(paths.shape[1])
        whole, phase = np.divmod((np.arange(count) - self.delay) * self.down, self.up)
        before = int(self.steps[-1] - whole[0])
        padded = np.pad(paths, ((0, 0), (before, max(0, int(whole[-1] + self.steps[-1]) + 1 - paths.shape[1]))))
        result = np.empty((len(paths), count))
        for start in range(0, count, CHUNK):
            part = slice(start, start + CHUNK)
            phases, which = np.unique(phase[part], return_inverse=True)
            kernel = self._kernel(phases[:, None] / self.up - late - self.steps)
            old = padded[:, whole[part, None] + before + self.steps]
            result[:, part] = np.einsum("pij,ij->pi", old, kernel[which])
        return result

    def _kernel(self, offset: Array) -> Array:
        """Return the windowed sinc at offsets in old samples, with the sum that keeps a filter's gain."""
        position = offset * self.low
        window = np.i0(BETA * np.sqrt(np.maximum(0.0, 1.0 - np.square(position / HALF)))) / np.i0(BETA)
        kernel: Array = np.where(np.abs(position) < HALF, np.sinc(position) * window, 0.0) * self.scale
        return kernel
