"""A picture of a filter: magnitude, slope, pass band, impulse, group delay."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sigrack_engine.design.designer import Filter
from sigrack_engine.design.errors import DesignError
from sigrack_engine.design.homomorphic import fft_length
from sigrack_engine.design.specification import Specification

__all__ = ["check_picture", "draw"]

Curve = npt.NDArray[np.float64]

_KINDS = (".png", ".pdf", ".svg")
_COLUMNS = 600
"""What a panel resolves; a curve with more points is drawn as its least and largest value in each column."""
_FLOOR_DB, _TOP_DB = -190.0, 10.0
_LINE, _MASK = "#1f4e79", "#c0392b"


def check_picture(path: Path, *, overwrite: bool) -> None:
    """Raise DesignError if `draw` could not write to `path`, or matplotlib is not there. [any]"""
    if importlib.util.find_spec("matplotlib") is None:
        raise DesignError("a picture needs matplotlib: pip install 'sigrack[plot]'")
    if path.suffix.lower() not in _KINDS:
        raise DesignError(f'{path}: unknown kind of picture "{path.suffix}"; use {", ".join(_KINDS)}')
    if not path.parent.is_dir():
        raise DesignError(f"{path.parent}: no such folder")
    if path.exists() and not overwrite:
        raise DesignError(f"{path}: exists already; give another name, or allow it with overwrite (design: --overwrite)")


def draw(made: Filter, path: Path) -> None:
    """Write a picture; the ending of `path` decides the format. Raises DesignError if that fails. [worker]"""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 9.0), dpi=90, layout="constrained")
    panels = figure.subplots(3, 2)
    spec = made.specification
    figure.suptitle(
        f"{spec.input_rate_hz / 1000:g} kHz to {spec.output_rate_hz / 1000:g} kHz, {spec.taps:,} taps, {spec.phase} phase: "
        f"stop band {made.measured.stop_db:.1f} dB, -6 dB at {made.measured.half_hz:.1f} Hz"
    )
    taps = made.taps.astype(np.float64) / made.measured.dc_gain
    spectrum = np.fft.rfft(taps, fft_length(len(taps)))
    frequencies = np.arange(len(spectrum), dtype=np.float64) * (spec.output_rate_hz / fft_length(len(taps)))
    level = _db(np.abs(spectrum))
    _whole_band(panels[0, 0], frequencies, level, spec)
    _slope(panels[0, 1], frequencies, level, spec)
    _pass_band(panels[1, 0], frequencies, level, spec)
    _group_delay(panels[1, 1], frequencies, _delay_ms(taps, spectrum, spec), spec)
    _peak(panels[2, 0], made)
    _decay(panels[2, 1], made)
    for panel in panels.flat:
        panel.grid(visible=True, linewidth=0.4, alpha=0.6)
    try:
        figure.savefig(path)
    except OSError as error:
        raise DesignError(f"{path}: the picture cannot be written: {error.strerror}") from None


def _db(level: Curve) -> Curve:
    return 20.0 * np.log10(np.maximum(level, 1e-12))


def _delay_ms(taps: Curve, spectrum: npt.NDArray[np.complex128], spec: Specification) -> Curve:
    """Return the group delay up to the pass band's edge: the transform of n h(n) over that of h(n)."""
    inside = int(spec.pass_edge_hz / spec.output_rate_hz * fft_length(len(taps))) + 1
    ramped = np.fft.rfft(taps * np.arange(len(taps)), fft_length(len(taps)))[:inside]
    delay: Curve = (ramped / spectrum[:inside]).real
    return delay * (1000.0 / spec.output_rate_hz)


def _plot(panel: Any, x: Curve, y: Curve) -> None:
    """Draw a curve as it looks: each column of the panel from its least to its largest value."""
    if len(x) > 4 * _COLUMNS:
        starts = np.linspace(0, len(x), _COLUMNS, endpoint=False).astype(int)
        least, most = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
        panel.fill_between(x[starts], least, most, color=_LINE, linewidth=0.8)
    else:
        panel.plot(x, y, color=_LINE, linewidth=1.0)


def _mask(panel: Any, spec: Specification, unit: float = 1.0, origin: float = 0.0) -> None:
    """Shade what the specification forbids."""
    start, edge, stop, end = (
        (hz - origin) / unit for hz in (0.0, spec.pass_edge_hz, spec.stop_edge_hz, spec.output_rate_hz / 2.0)
    )
    look = {"facecolor": _MASK, "edgecolor": _MASK, "alpha": 0.18}
    panel.fill_between([start, edge], _FLOOR_DB, -spec.ripple_db, **look)
    panel.fill_between([start, edge], spec.ripple_db, _TOP_DB, **look)
    if not spec.passes_all:
        panel.fill_between([stop, end], -spec.attenuation_db, _TOP_DB, **look)
    panel.set_ylim(_FLOOR_DB, _TOP_DB)


def _labels(panel: Any, title: str, x: str, y: str) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_xlabel(x, fontsize=9)
    panel.set_ylabel(y, fontsize=9)
    panel.tick_params(labelsize=8)


def _whole_band(panel: Any, frequencies: Curve, level: Curve, spec: Specification) -> None:
    _plot(panel, frequencies / 1000.0, np.maximum(level, _FLOOR_DB))
    _mask(panel, spec, 1000.0)
    panel.set_xlim(0.0, spec.output_rate_hz / 2000.0)
    _labels(panel, "magnitude, whole band (red: forbidden)", "frequency / kHz", "level / dB")


def _slope(panel: Any, frequencies: Curve, level: Curve, spec: Specification) -> None:
    width = max(spec.stop_edge_hz - spec.pass_edge_hz, 4.0 * float(frequencies[1]))
    low, high = spec.pass_edge_hz - 0.5 * width, spec.stop_edge_hz + 2.0 * width
    inside = (frequencies >= low) & (frequencies <= high)
    _plot(panel, frequencies[inside] - spec.stop_edge_hz, np.maximum(level[inside], _FLOOR_DB))
    _mask(panel, spec, origin=spec.stop_edge_hz)
    panel.set_xlim(low - spec.stop_edge_hz, high - spec.stop_edge_hz)
    _labels(
        panel,
        f"slope from {spec.pass_edge_hz:.1f} Hz (red: forbidden)",
        f"frequency - {spec.stop_edge_hz:g} Hz / Hz",
        "level / dB",
    )


def _pass_band(panel: Any, frequencies: Curve, level: Curve, spec: Specification) -> None:
    inside = frequencies <= spec.pass_edge_hz
    deviation = level[inside] * 1e6
    _plot(panel, frequencies[inside] / 1000.0, deviation)
    panel.set_xlim(0.0, spec.pass_edge_hz / 1000.0)
    largest = max(float(np.abs(deviation).max()), 1.0)
    panel.set_ylim(-1.3 * largest, 1.3 * largest)
    title = f"pass band (allowed: +-{spec.ripple_db * 1e6:,.0f} millionths)"
    _labels(panel, title, "frequency / kHz", "deviation / millionths of a dB")


def _group_delay(panel: Any, frequencies: Curve, delay_ms: Curve, spec: Specification) -> None:
    _plot(panel, frequencies[: len(delay_ms)] / 1000.0, delay_ms)
    panel.set_xlim(0.0, spec.pass_edge_hz / 1000.0)
    least, most = float(delay_ms.min()), float(delay_ms.max())
    if most > 10.0 * least > 0.0:
        panel.set_yscale("log")
    elif most - least < 0.01:  # flat: show that, not the rounding
        panel.set_ylim(least - 1.0, least + 1.0)
    _labels(panel, "group delay, pass band", "frequency / kHz", "delay / ms")


def _peak(panel: Any, made: Filter) -> None:
    """Draw 1.5 ms on both sides of the largest tap."""
    rate_hz, peak = made.specification.output_rate_hz, made.measured.peak_index
    reach = int(1.5e-3 * rate_hz)
    first, last = max(0, peak - reach), min(len(made.taps), peak + reach + 1)
    panel.plot(np.arange(first, last) * (1000.0 / rate_hz), made.taps[first:last], color=_LINE, linewidth=1.0)
    _labels(panel, "impulse around its largest tap", "time / ms", "tap")


def _decay(panel: Any, made: Filter) -> None:
    starts = np.arange(0, len(made.taps), max(1, len(made.taps) // _COLUMNS))
    envelope = np.maximum.reduceat(np.abs(made.taps), starts).astype(np.float64)
    panel.plot(starts * (1000.0 / made.specification.output_rate_hz), _db(envelope), color=_LINE, linewidth=1.0)
    panel.set_ylim(-160.0, 5.0)
    panel.set_xlim(0.0, max(1000.0 * len(made.taps) / made.specification.output_rate_hz, 1e-3))
    _labels(panel, "impulse, envelope", "time / ms", "largest |tap| / dB")
