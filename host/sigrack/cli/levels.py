"""How loud a rack can become, as data and as text."""

from math import isfinite
from typing import Any

from sigrack.cli.table import table
from sigrack.headroom import measured
from sigrack.rack import Rack
from sigrack.stages import level

__all__ = ["clipping", "levels", "levels_table", "levels_words"]

AUDIBLE_DB = 0.1
"""A rack that raises the level by less gets no warning: the ripple of a filter is no gain."""


def levels(rack: Rack) -> dict[str, Any]:
    """Describe what each group and native slot adds, and all of them. [main]"""
    stages = measured(rack)
    found = [
        {
            "name": stage.name,
            **stage.paths.gains._asdict(),
            "ceiling_db": stage.ceiling_db if isfinite(stage.ceiling_db) else None,
        }
        for stage in stages
    ]
    return {"levels": found, "level": level(stages, rack.bus)._asdict()}


def levels_table(described: dict[str, Any]) -> str:
    """Return what `levels` found under a head. [any]"""
    rows = [
        (one["name"], f"{one['tone_db']:+.1f}", f"{one['worst_db']:+.1f}", "" if one["ceiling_db"] is None else one["ceiling_db"])
        for one in [*described["levels"], {"name": "in all", "ceiling_db": None, **described["level"]}]
    ]
    return table(("adds at most, dB", "to tones", "to any sound", "ceiling"), rows)


def levels_words(described: dict[str, Any]) -> str:
    """Return it in one line. [any]"""
    parts = [f"{one['name']} {one['tone_db']:+.1f} dB" for one in described["levels"]]
    return ", ".join(
        [*parts, "in all {tone_db:+.1f} dB for tones, {worst_db:+.1f} dB for any sound".format(**described["level"])]
    )


def clipping(described: dict[str, Any]) -> list[str]:
    """Return what is to be said of a rack that raises tones above full scale. [any]"""
    if (tone_db := described["level"]["tone_db"]) <= AUDIBLE_DB:
        return []
    return [f'full scale may come out {tone_db:.1f} dB louder, and clip: set limiter = true or headroom = "auto" in [rack]']
