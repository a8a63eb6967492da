"""What linear slots were compiled into, and what that saves by the core's cost model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sigrack.cli.measure import ns_per_frame
from sigrack.cli.table import table
from sigrack.groups import Group
from sigrack.rack import Rack
from sigrack.slot import Slot
from sigrack.wording import rates
from sigrack_engine.core import FirStage
from sigrack_engine.fir import Fir

__all__ = ["groups", "groups_table"]


def groups(rack: Rack, *, measured: bool = False) -> list[dict[str, Any]]:
    """Describe the groups of a rack that does not run, in their order. [main]

    `model_ns` is the work for one of the group's output frames by the core's cost model, in nanoseconds of the processor that the
    model knows; `model_ns_apart` the same for its members, each in a convolver of its own. Only proportions travel. `measured`:
    `measured_ns` is what that frame took on this machine, and `load` the share of a core that the group needs.
    """
    return [_described(rack, group) | (_measured(rack, group) if measured else {}) for group in rack.groups]


def _measured(rack: Rack, group: Group) -> dict[str, float]:
    rate_hz = group.setup.rate_hz
    ns = ns_per_frame(group.convolver.filter, rack.block_at(rate_hz))
    return {"measured_ns": ns / group.linear.ratio, "load": ns * rate_hz * 1e-9}


def _described(rack: Rack, group: Group) -> dict[str, Any]:
    playing = group.convolver.filter
    assert isinstance(playing, Fir)
    stages = playing.stages
    out_rate_hz = group.setup.rate_hz * group.linear.ratio
    together = _ns_per_s(stages, group.setup.rate_hz)
    apart = sum(_alone(rack, slot) for slot in group.members) if len(group.members) > 1 else together
    return {
        "members": [slot.name for slot in group.members],
        "in": group.setup.inputs,
        "out": group.setup.outputs,
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
    head: tuple[str, ...] = (
        "group",
        "rate",
        "taps",
        "stages: partition x number",
        "latency",
        "memory",
        "model ns",
        "apart",
        "saves",
    )
    if described and "load" in described[0]:
        head = (*head, "measured ns", "load")
    return table(head, map(_row, described))


def _row(group: dict[str, Any]) -> tuple[object, ...]:
    together, apart = group["model_ns"], group["model_ns_apart"]
    compiled = len(group["members"]) > 1
    measured = (f"{group['measured_ns']:.3g}", f"{100 * group['load']:.1f} %") if "load" in group else ()
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
        *measured,
    )
