"""What linear slots were compiled into, and what that saves by the core's cost model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sigrack.cli.table import table
from sigrack.groups import Group
from sigrack.rack import Rack
from sigrack.slot import Slot
from sigrack.wording import rates
from sigrack_engine.core import FirStage
from sigrack_engine.fir import Fir

__all__ = ["groups", "groups_table"]


def groups(rack: Rack) -> list[dict[str, Any]]:
    """Describe the groups of a rack, in their order. [main]

    `model_ns` is the work for one of the group's output frames by the core's cost model, in nanoseconds of the processor that the
    model knows; `model_ns_apart` the same for its members, each in a convolver of its own. Only proportions travel.
    """
    return [_described(rack, group) for group in rack.groups]


def _described(rack: Rack, group: Group) -> dict[str, Any]:
    stages = group.convolver.fir.stages
    out_rate_hz = group.setup.rate_hz * group.linear.ratio
    together = _ns_per_s(stages, group.setup.rate_hz)
    apart = sum(_alone(rack, slot) for slot in group.members) if len(group.members) > 1 else together
    return {
        "members": [slot.name for slot in group.members],
        "in_rate_hz": group.setup.rate_hz,
        "out_rate_hz": out_rate_hz,
        "taps": group.linear.taps.shape[2],
        "stages": [{"partition": stage.partition, "partitions": stage.partitions} for stage in stages],
        "latency_frames": group.linear.latency_frames,
        "memory_bytes": group.memory_bytes,
        "model_ns": together / out_rate_hz,
        "model_ns_apart": apart / out_rate_hz,
    }


def _alone(rack: Rack, slot: Slot) -> float:
    """Return what a slot would take in a convolver of its own, in nanoseconds for a second of audio."""
    assert slot.linear is not None
    taps = slot.linear.taps.astype(np.float32, copy=False)
    fir = Fir(taps, phases=slot.ratio, block=rack.block_at(slot.setup.rate_hz))
    try:
        return _ns_per_s(fir.stages, slot.setup.rate_hz)
    finally:
        fir.close()


def _ns_per_s(stages: Sequence[FirStage], rate_hz: int) -> float:
    return float(sum(stage.ns for stage in stages)) * rate_hz


def groups_table(described: Sequence[dict[str, Any]]) -> str:
    """Return what `groups` found as text. [any]"""
    head = ("group", "rate", "taps", "stages: partition x number", "latency", "memory", "model ns", "apart", "saves")
    return table(head, map(_row, described))


def _row(group: dict[str, Any]) -> tuple[object, ...]:
    together, apart = group["model_ns"], group["model_ns_apart"]
    compiled = len(group["members"]) > 1
    return (
        " + ".join(group["members"]),
        rates(group["in_rate_hz"], group["out_rate_hz"]),
        group["taps"],
        ", ".join(f"{stage['partition']} x {stage['partitions']}" for stage in group["stages"]),
        group["latency_frames"],
        f"{group['memory_bytes'] / 1e6:.1f} MB",
        f"{together:.3g}",
        f"{apart:.3g}" if compiled else "",
        f"{100 - 100 * together / apart:.0f} %" if compiled and apart else "",
    )
