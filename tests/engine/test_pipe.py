"""Raw sample formats."""

import numpy as np
import pytest

from sigrack_engine.pipe import encode

SAMPLES = np.array([[0.0, 0.5], [-1.0, 1.0], [0.25, -2.0]], np.float32)


def test_float32_is_passed_through() -> None:
    """float32 samples are their own bytes, frame by frame."""

    assert SAMPLES.tobytes() == encode(SAMPLES, "float32")


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_integers_are_little_endian_and_clipped(bits: int) -> None:
    """Integers have their width in bytes; full scale and beyond is clipped, not wrapped."""
    raw = encode(SAMPLES, f"int{bits}")
    size = bits // 8
    found = [int.from_bytes(raw[i : i + size], "little", signed=True) for i in range(0, len(raw), size)]
    full = 2 ** (bits - 1)

    assert [0, full // 2, -full, full - 1, full // 4, -full] == found
