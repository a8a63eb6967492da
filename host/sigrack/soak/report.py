"""What came of a soak, as one HTML page with its plots in it."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sigrack.errors import ConfigError

__all__ = ["Chart", "Curve", "Histogram", "page", "write"]

WIDTH, HEIGHT = 720, 220
LEFT, BOTTOM, EDGE = 64, 34, 12
"""Room for numbers at the left and below, and for nothing at the other sides."""
BINS = 40
TICKS = 5
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 760px; margin: 2em auto; padding: 0 1em; color: #1c2833 }
table { border-collapse: collapse }
td { padding: 2px 18px 2px 0; vertical-align: top }
figure { margin: 1.6em 0 }
figcaption { font-weight: 600; margin-bottom: 4px }
svg { width: 100%; height: auto }
svg text { font: 11px system-ui, sans-serif; fill: #4d5b66 }
.grid { stroke: #e3e7ea }
.mark { fill: #2471a3 }
.line { fill: none; stroke: #2471a3; stroke-width: 1.5 }
.good { color: #1e7b34 }
.bad { color: #b03a2e }
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """Something over time."""

    title: str
    unit: str
    points: Sequence[tuple[float, float]]
    """Seconds since the beginning, and the value."""
    steps: bool = False
    """It stays what it was until it changes, as counts do."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often something took how long."""

    title: str
    unit: str
    values: Sequence[float]


Chart = Curve | Histogram


def write(path: Path, title: str, rows: Sequence[tuple[str, str]], faults: Sequence[str], charts: Sequence[Chart]) -> None:
    """Write the page. Raises ConfigError. [main]"""
    try:
        path.write_text(page(title, rows, faults, charts), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give another --report") from None


def page(title: str, rows: Sequence[tuple[str, str]], faults: Sequence[str], charts: Sequence[Chart]) -> str:
    """Return the page. [any]"""
    found = "".join(f"<li>{html.escape(fault)}</li>" for fault in faults)
    verdict = f'<ul class="bad">{found}</ul>' if faults else '<p class="good">Nothing was wrong.</p>'
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    figures = "".join(_figure(chart) for chart in charts)
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style>'
        f"<h1>{name}</h1>{verdict}<table>{cells}</table>{figures}</html>\n"
    )


def _figure(chart: Chart) -> str:
    values = chart.points if isinstance(chart, Curve) else chart.values
    drawn = (_curve(chart) if isinstance(chart, Curve) else _histogram(chart)) if len(values) else "<p>nothing was measured</p>"
    return f"<figure><figcaption>{html.escape(chart.title)}</figcaption>{drawn}</figure>"


def _curve(chart: Curve) -> str:
    frame = _Frame([x for x, _ in chart.points], [0.0, *(y for _, y in chart.points)])
    first, *others = (frame.at(x, y) for x, y in chart.points)
    to = "H{:.1f}V{:.1f}" if chart.steps else "L{:.1f} {:.1f}"
    path = "M{:.1f} {:.1f}".format(*first) + "".join(to.format(*place) for place in others)
    return frame.around(f'<path class="line" d="{path}"/>', "s", chart.unit)


def _histogram(chart: Histogram) -> str:
    low, high = min(chart.values), max(chart.values)
    width = (high - low) / BINS or 1.0
    counts = [0] * BINS
    for value in chart.values:
        counts[min(int((value - low) / width), BINS - 1)] += 1
    frame = _Frame([low, low + BINS * width], [0.0, max(counts)])
    bars = ""
    for number, count in enumerate(counts):
        left, top = frame.at(low + number * width, count)
        right, floor = frame.at(low + (number + 1) * width, 0)
        size = f'width="{max(right - left - 1, 0.5):.1f}" height="{floor - top:.1f}"'
        bars += f'<rect class="mark" x="{left:.1f}" y="{top:.1f}" {size}/>'
    return frame.around(bars, chart.unit, "times")


class _Frame:
    """Axes, and where a point lies between them."""

    def __init__(self, across: Sequence[float], up: Sequence[float]) -> None:
        self._x0, self._x1 = min(across), max(across)
        self._y0, self._y1 = min(up), max(up)
        self._x1 += self._x1 == self._x0
        self._y1 += self._y1 == self._y0

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - self._x0) / (self._x1 - self._x0) * (WIDTH - LEFT - EDGE)
        return across, EDGE + (self._y1 - y) / (self._y1 - self._y0) * (HEIGHT - EDGE - BOTTOM)

    def around(self, drawn: str, x_unit: str, y_unit: str) -> str:
        """Return the picture with its axes."""
        lines = ""
        for y in _ticks(self._y0, self._y1):
            _, down = self.at(self._x0, y)
            lines += f'<line class="grid" x1="{LEFT}" x2="{WIDTH - EDGE}" y1="{down:.1f}" y2="{down:.1f}"/>'
            lines += f'<text x="{LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{_number(y)}</text>'
        for x in _ticks(self._x0, self._x1):
            across, _ = self.at(x, self._y0)
            lines += f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_number(x)}</text>'
        lines += f'<text x="{WIDTH - EDGE}" y="{HEIGHT - 3}" text-anchor="end">{html.escape(x_unit)}</text>'
        lines += f'<text x="2" y="{EDGE}">{html.escape(y_unit)}</text>'
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{lines}{drawn}</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
