"""The JSON beside a file of taps: this system's own, and an earlier system's."""

from pathlib import Path
from typing import Any

import msgspec

from sigrack_engine.design.errors import DesignError
from sigrack_engine.design.measure import Measured
from sigrack_engine.design.specification import Specification

__all__ = ["VERSION", "Sidecar", "read_sidecar"]

VERSION = 1
"""Of the way filters are designed and described; another one makes cached designs invalid."""

_PHASES = {"minimum": "minimum", "linear": "linear", "min_phase": "minimum", "linear_phase": "linear"}


class Sidecar(msgspec.Struct, frozen=True):
    """What the taps must do, what they did, and which they are."""

    specification: Specification
    measured: Measured | None = None
    sha256: str | None = None
    """Of the taps as float32, little-endian."""
    version: int = VERSION


class _Validation(msgspec.Struct):
    actual_taps: int | None = None
    normalization: dict[str, Any] = {}


class _Earlier(msgspec.Struct):
    """Keys of the earlier system that say what the filter must do; the figures it measured are not used."""

    sample_rate_input: int
    upsample_ratio: int
    passband_end_hz: float
    stopband_start_hz: float
    target_stopband_attenuation_db: float
    sample_rate_output: int | None = None
    n_taps_actual: int | None = None
    phase_type: str | None = None
    phase_suffix: str | None = None
    target_dc_gain: float | None = None
    validation_results: _Validation = msgspec.field(default_factory=_Validation)

    def specification(self) -> Specification:
        """Return it in this system's terms; it states no ripple, so the default of 0.01 dB holds."""
        name = self.phase_type or self.phase_suffix or "missing"
        if name not in _PHASES:
            raise DesignError(f"phase_type: {name!r} is not one of minimum, linear")
        taps = self.n_taps_actual or self.validation_results.actual_taps
        if taps is None:
            raise DesignError("n_taps_actual is missing")
        if self.sample_rate_output not in (None, self.sample_rate_input * self.upsample_ratio):
            raise DesignError(f"sample_rate_output: {self.sample_rate_output} is not sample_rate_input times upsample_ratio")
        gain = self.validation_results.normalization.get("normalized_dc_gain", self.target_dc_gain or self.upsample_ratio)
        return Specification(
            input_rate_hz=self.sample_rate_input,
            ratio=self.upsample_ratio,
            phase=_PHASES[name],
            taps=taps,
            pass_edge_hz=self.passband_end_hz,
            stop_edge_hz=self.stopband_start_hz,
            attenuation_db=self.target_stopband_attenuation_db,
            ripple_db=0.01,
            gain=float(gain) / self.upsample_ratio,
        )


def read_sidecar(path: Path) -> Sidecar:
    """Read the JSON beside the taps in `path`, of either kind. Raises DesignError. [any]"""
    beside = path.with_suffix(".json")
    try:
        text = beside.read_bytes()
        if b'"specification"' in text:
            return msgspec.json.decode(text, type=Sidecar)
        return Sidecar(msgspec.json.decode(text, type=_Earlier).specification())
    except FileNotFoundError:
        raise DesignError(f"{beside}: no such file: it says what the taps in {path.name} must do") from None
    except OSError as error:
        raise DesignError(f"{beside}: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise DesignError(f"{beside}: {error}") from None
