"""How much louder a filter can make a signal."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["highest_gain_db"]


FINE = 1 << 19
"""Up to this many points the spectrum is computed finer, eight to a tap: between two points a peak reads low."""


def highest_gain_db(taps: "Samples") -> float:
    """The most that any frequency can be raised, whatever its phase in the channels; `taps` has shape (out, in, taps). [any]"""
    length = taps.shape[2]
    span = 1 << (max(2 * length, min(8 * length, FINE)) - 1).bit_length()
    highest = 1e-30
    for inputs in taps:
        gain = sum(np.abs(np.fft.rfft(path, span)) for path in inputs if path.any())
        highest = max(highest, float(np.max(gain)))
    return float(20.0 * np.log10(highest))
