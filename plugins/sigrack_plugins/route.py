"""Mixes channels: each one that the slot writes becomes a sum of those that it hears.

It is a filter of one tap for each path: the host compiles it together with filters beside it that stand on the same channels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from sigrack_plugins.api import Plugin, Setup

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["Route", "RouteConfig"]

Sums = dict[str, dict[str, float]]
MOST_DB, MOST_FACTOR = 60.0, 1000.0


@dataclass
class RouteConfig:
    """Settings of a route slot: for each channel that it writes those that it is the sum of."""

    gains_db: Sums = field(default_factory=dict)
    """In dB, up to 60: `{ left = { left = 0.0, mic = -6.0 } }`."""
    factors: Sums = field(default_factory=dict)
    """As factors, which may be negative: `{ side = { left = 0.5, right = -0.5 } }`."""

    def __post_init__(self) -> None:
        for output, input_, gain_db in _paths(self.gains_db):
            if not -np.inf < gain_db <= MOST_DB:
                raise ValueError(f"gains_db: {output} from {input_}: {gain_db:g} dB is out of range: up to {MOST_DB:g} dB")
        for output, input_, factor in _paths(self.factors):
            if not abs(factor) <= MOST_FACTOR:
                raise ValueError(
                    f"factors: {output} from {input_}: {factor:g} is out of range: -{MOST_FACTOR:g} to {MOST_FACTOR:g}"
                )
        for output in self.gains_db.keys() & self.factors.keys():
            raise ValueError(f'factors: the channel "{output}" is in gains_db as well: give it to one of the two')


class Route(Plugin):
    """Mixes channels: each that it writes is a sum of those that it hears; one that is not named stays as it is."""

    id = "route"
    version = "1"
    Config = RouteConfig

    config: RouteConfig

    def fir(self, setup: Setup) -> "Samples":
        """Return one tap for each path, float32 of shape (out, in, 1). Raises ValueError. [worker]"""
        taps = np.zeros((setup.out_channels, setup.channels, 1), np.float32)
        for name, sums in (("gains_db", self.config.gains_db), ("factors", self.config.factors)):
            for output, input_, value in _paths(sums):
                at = _number(f"{name}: out", output, setup.outputs), _number(f"{name}: in", input_, setup.inputs)
                taps[at] = 10 ** (value / 20) if name == "gains_db" else value
        for output in set(setup.outputs) - self.config.gains_db.keys() - self.config.factors.keys():
            if output not in setup.inputs:
                raise ValueError(f'nothing is said of the channel "{output}", which the slot writes and does not hear')
            taps[setup.outputs.index(output), setup.inputs.index(output)] = 1.0
        return taps


def _paths(sums: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, str, float]]:
    """Yield channel out, channel in and the gain between them."""
    for output, inputs in sums.items():
        for input_, value in inputs.items():
            yield output, input_, value


def _number(what: str, name: str, names: tuple[str, ...]) -> int:
    if name in names:
        return names.index(name)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    raise ValueError(
        f'{what} has no channel "{name}"' + (f'; did you mean "{near[0]}"?' if near else f"; it has: {', '.join(names)}")
    )
