"""The page that a soak writes: its verdict in words, and plots whose marks stand where the numbers are."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sigrack.errors import ConfigError
from sigrack.soak.report import Curve, Histogram, page, write


def pictures(text: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text)]


def test_the_verdict_is_told_in_words_and_escaped() -> None:
    good = page("soak", [("kills", "3 < 4")], [], [])
    bad = page("soak <x>", [], ["a <b> & c"], [])

    assert "Nothing was wrong" in good
    assert "3 &lt; 4" in good
    assert "Nothing was wrong" not in bad
    assert "a &lt;b&gt; &amp; c" in bad
    assert "soak &lt;x&gt;" in bad


def test_bars_are_as_high_as_values_are_many() -> None:
    values = [1.0] * 30 + [2.0] * 60
    (svg,) = pictures(page("soak", [], [], [Histogram("how long", "ms", values)]))
    heights = [float(bar.attrib["height"]) for bar in svg.iter("rect")]

    assert heights[-1] == pytest.approx(2 * heights[0])
    assert sum(height > 0 for height in heights) == 2


def test_a_curve_goes_through_its_points_and_steps_where_it_counts() -> None:
    points = [(0.0, 0.0), (5.0, 10.0), (10.0, 5.0)]
    straight, steps = pictures(page("soak", [], [], [Curve("a", "MB", points), Curve("b", "", points, steps=True)]))
    (line,) = straight.iter("path")
    places = [tuple(map(float, place.split())) for place in re.split("[ML]", line.attrib["d"])[1:]]

    assert places[1][0] == pytest.approx((places[0][0] + places[2][0]) / 2, abs=0.1)
    assert places[2][1] == pytest.approx((places[0][1] + places[1][1]) / 2, abs=0.1)
    assert places[1][1] < places[2][1] < places[0][1]
    (stair,) = steps.iter("path")
    assert re.fullmatch(r"M[\d. ]+(H[\d.]+V[\d.]+){2}", stair.attrib["d"])


@pytest.mark.parametrize("chart", [Histogram("one", "ms", [3.0]), Curve("one", "MB", [(1.0, 2.0)]), Curve("none", "MB", [])])
def test_little_is_no_obstacle(chart: Histogram | Curve) -> None:
    assert "</figure>" in page("soak", [], [], [chart])


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give another --report"):
        write(tmp_path / "no" / "page.html", "soak", [], [], [])
