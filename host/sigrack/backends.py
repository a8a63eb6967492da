"""Where a group's filter runs: on this CPU, or on a GPU with the CPU beside it."""

import logging
from typing import TYPE_CHECKING

from sigrack.errors import RackError
from sigrack.lanes.gpu import GpuGroup, NoGpuError, Room
from sigrack.lanes.lane import Orders
from sigrack.lanes.plugin import extent
from sigrack.measuring import ns_per_frame
from sigrack_engine.compiler import Linear, length
from sigrack_engine.costs import MOST_TAPS, cost_ns
from sigrack_engine.exchange import Shape
from sigrack_engine.filter import Filter
from sigrack_engine.group import GroupCore
from sigrack_engine.recursion import Recursion
from sigrack_plugins import Setup

if TYPE_CHECKING:
    from sigrack.rack import Rack
    from sigrack.slot import Slot

__all__ = ["Backends", "is_worth", "uncovered"]

log = logging.getLogger("sigrack")

MARGIN_S = 0.5
"""Input that a group keeps beyond the length of its filter, for another one to catch up in peace."""
LEAST_S = 2.0
"""Input that one keeps in any case that runs as biquads: those that follow may ring longer."""
WORTH = 0.25
"""Share of a core from which `auto` takes a GPU. Below, a block's latency and a process more buy little; above, the worst
block, which takes up to three times the mean, comes near what a core can do beside others."""
MOST = 0.7
"""Share of a core that the fallbacks of a rack may take by the cost model: the engine has more to do, and the model errs."""
DOUBT = 4.0
"""By how much the cost model is off at most: what is cheaper by more is not measured."""


def _share(linear: Linear | Recursion, rate_hz: int, block: int) -> float:
    """Return the share of a core that a filter takes by the cost model. [any]"""
    return cost_ns(linear, block) * rate_hz * 1e-9


def is_worth(rack: "Rack", run: "tuple[Slot, ...]", linear: Linear, playing: Filter) -> bool:
    """Return whether `auto` takes a GPU for a group, by what it takes here, and tell. [main, worker]"""
    rate_hz = run[0].setup.rate_hz
    block = rack.block_at(rate_hz)
    share = _share(linear, rate_hz, block)
    if share * DOUBT >= WORTH:
        share = ns_per_frame(playing, block) * rate_hz * 1e-9
    worth = share >= WORTH
    log.info(
        "%s: it takes about %.2g %% of a core, and a GPU is worth it from %.0f %% on: %s",
        _name(run),
        100 * share,
        100 * WORTH,
        "it is to have one" if worth else "it stays on the CPU",
    )
    return worth


class Backends:
    """Chooses for each group that is made, and tells what it chose. [main, worker]"""

    def __init__(self, rack: "Rack") -> None:
        self._rack = rack
        self._no_gpu = ""
        """Why there is none: it is not asked for again."""

    def convolver(self, run: "tuple[Slot, ...]", linear: Linear | Recursion, playing: Filter) -> GroupCore | GpuGroup:
        """Return what runs a group's filter; `playing`, the one on the CPU, is taken over. Raises CoreError."""
        rack = self._rack.document.config.rack
        if rack.backend == "cpu" or isinstance(linear, Recursion):
            return self._core(run[0].setup, linear, playing)
        if rack.backend == "auto" and not is_worth(self._rack, run, linear, playing):
            return self._core(run[0].setup, linear, playing)
        core = self._core(run[0].setup, linear, playing) if self._rack.live and rack.fallback else None
        return self._on_gpu(run, linear, playing, core) or core or self._core(run[0].setup, linear, playing)

    def _core(self, setup: Setup, linear: Linear | Recursion, playing: Filter) -> GroupCore:
        least = round(LEAST_S * setup.rate_hz) if isinstance(linear, Recursion) else 0
        return GroupCore(
            playing,
            max_frames=self._rack.block_at(setup.rate_hz),
            history_frames=max(linear.memory_frames, least) + round(MARGIN_S * setup.rate_hz),
            fade_frames=self._rack.fade_at(setup.rate_hz) * linear.ratio,
        )

    def _on_gpu(self, run: "tuple[Slot, ...]", linear: Linear, playing: Filter, fallback: GroupCore | None) -> GpuGroup | None:
        """Return it with the lane at work; None: the CPU must do, and why is told."""
        if self._no_gpu:
            return None
        rack, name = self._rack, _name(run)
        setup, ratio, fade_frames = run[0].setup, linear.ratio, rack.fade_at(run[0].setup.rate_hz) * linear.ratio
        frames = rack.block_at(setup.rate_hz)
        quantum, quanta, latency_frames = extent(frames, setup.rate_hz)
        orders = Orders(
            name=name,
            shape=Shape(setup.channels, setup.out_channels, ratio, quantum, quanta),
            rate_hz=setup.rate_hz,
            memory_mb=0,
            budget=0,
            priority=max(rack.document.config.rack.priority - 1, 0) if rack.live else 0,
            patient=not rack.live,
            soundless_blocks=max(setup.rate_hz // frames, 1),
        )
        linears = [slot.linear for slot in run if slot.linear]
        room = Room(max(linear.taps.shape[2], min(length(linears), MOST_TAPS)), any(map(_couples, linears)), fade_frames)
        try:
            group = GpuGroup(rack.minder, orders, linear.taps, room, playing=playing, fallback=fallback)
        except NoGpuError as error:
            self._no_gpu = str(error)
            log.warning("there is no GPU to run on: %s; the CPU runs", error)
        except RackError as error:
            log.warning("%s: cannot run on the GPU: %s; it runs on the CPU", name, error)
        else:
            group.lane.tell = rack.tell
            try:
                group.begin(max_frames=frames, latency_frames=latency_frames, fade_frames=fade_frames)
            except BaseException:
                group.destroy()
                group.close()
                raise
            log.info("%s: runs on %s%s", name, group.lane.device, ", and on the CPU, which covers for it" if fallback else "")
            return group
        return None


def uncovered(rack: "Rack") -> list[str]:
    """Return what is to be said of a live rack of which not all is heard when a GPU fails, be there one here or not. [main]"""
    config = rack.document.config
    if config.rack.backend == "cpu" or not config.live:
        return []
    shares = [
        _share(group.linear, group.setup.rate_hz, rack.block_at(group.setup.rate_hz))
        for group in rack.groups
        if isinstance(group.linear, Linear)
    ]
    share = sum(each for each in shares if config.rack.backend == "cuda" or each >= WORTH)
    if share and not config.rack.fallback:
        return ["silence is heard when the GPU fails: set fallback = true in [rack]"]
    if share > MOST:
        return [
            f"the CPU cannot cover for the GPU: that would take {100 * share:.0f} % of a core, {100 * MOST:.0f} % is the most: "
            "take shorter filters, or set fallback = false in [rack] for silence when it fails"
        ]
    return []


def _name(run: "tuple[Slot, ...]") -> str:
    return " + ".join(slot.name for slot in run)


def _couples(linear: Linear) -> bool:
    """Whether it sends channels into others."""
    outputs, inputs, _ = linear.taps.shape
    return any(linear.taps[o, i].any() for o in range(outputs) for i in range(inputs) if o != i)
