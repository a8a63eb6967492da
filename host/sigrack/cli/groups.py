"""What linear slots were compiled into, and what that saves by the core's cost model."""

from collections.abc import Sequence
from typing import Any

from sigrack.cli.table import table
from sigrack.forms import MOST_FIR_CHANNELS, cost_alone_ns
from sigrack.groups import Group
from sigrack.measuring import ns_per_frame
from sigrack.rack import Rack
from sigrack.slot import Slot
from sigrack.wording import rates
from sigrack_engine.core import FirStage
from sigrack_engine.costs import cost_ns
from sigrack_engine.fir import Fir
from sigrack_engine.recursion import Recursion

__all__ = ["groups", "groups_table"]


def groups(rack: Rack, *, measured: bool = False) -> list[dict[str, Any]]:
    """Describe the groups of a rack that does not run, in their order. [main]

    `model_ns` is the work for one of the group's output frames by the cost models, in nanoseconds of the processor that they
    know; `model_ns_apart` the same for its members, each by itself. Only proportions travel. One that runs as biquads has
    `sections` in place of `taps` and `stages`, and `why`. `measured`: `measured_ns` is what that frame took on this machine, and
    `load` the share of a core that the group needs. Of one that runs on a GPU all that is told of the CPU that covers for it.
    """
    return [_described(rack, group) | (_measured(rack, group) if measured else {}) for group in rack.groups]


def _measured(rack: Rack, group: Group) -> dict[str, float]:
    rate_hz = group.setup.rate_hz
    ns = ns_per_frame(group.convolver.filter, rack.block_at(rate_hz))
    return {"measured_ns": ns / group.linear.ratio, "load": ns * rate_hz * 1e-9}


def _described(rack: Rack, group: Group) -> dict[str, Any]:
    linear = group.linear
    out_rate_hz = group.setup.rate_hz * linear.ratio
    if isinstance(linear, Recursion):
        form: dict[str, Any] = {"taps": None, "stages": [], "sections": linear.sections, "why": _why(rack, group.members[0])}
        together = linear.ns * group.setup.rate_hz
    else:
        stages = _stages(rack, group)
        form = {
            "taps": linear.taps.shape[2],
            "stages": [{"partition": stage.partition, "partitions": stage.partitions} for stage in stages],
            "sections": None,
            "why": None,
        }
        together = float(sum(stage.ns for stage in stages)) * group.setup.rate_hz
    apart = sum(cost_alone_ns(slot, rack) for slot in group.members) if len(group.members) > 1 else together
    return {
        "members": [slot.name for slot in group.members],
        "in": group.setup.inputs,
        "out": group.setup.outputs,
        "in_rate_hz": group.setup.rate_hz,
        "out_rate_hz": out_rate_hz,
        **form,
        "backend": group.backend,
        "device": group.lane.device if group.lane else None,
        "latency_frames": group.latency_frames,
        "memory_bytes": group.memory_bytes,
        "model_ns": together / out_rate_hz,
        "model_ns_apart": apart / out_rate_hz,
    }


def _stages(rack: Rack, group: Group) -> list[FirStage]:
    playing = group.convolver.filter
    assert isinstance(playing, Fir)
    return playing.stages


def _why(rack: Rack, slot: Slot) -> str:
    """Say why a slot runs as biquads."""
    if max(slot.setup.channels, slot.setup.out_channels) > MOST_FIR_CHANNELS:
        return f"a convolver takes {MOST_FIR_CHANNELS} channels"
    if slot.linear is None:
        return "its response is too long for taps"
    ns = cost_ns(slot.linear, rack.block_at(slot.setup.rate_hz))
    return f"its {slot.linear.taps.shape[2]} taps would take {ns:.3g} ns"


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
    if any(group["device"] for group in described):
        return table((*head, "runs on"), [(*_row(group), group["device"] or "CPU") for group in described])
    return table(head, map(_row, described))


def _row(group: dict[str, Any]) -> tuple[object, ...]:
    together, apart = group["model_ns"], group["model_ns_apart"]
    compiled = len(group["members"]) > 1
    measured = (f"{group['measured_ns']:.3g}", f"{100 * group['load']:.1f} %") if "load" in group else ()
    stages = ", ".join(f"{stage['partition']} x {stage['partitions']}" for stage in group["stages"])
    return (
        " + ".join(group["members"]),
        rates(group["in_rate_hz"], group["out_rate_hz"]),
        group["taps"] or "",
        stages if group["why"] is None else f"biquads x {group['sections']}: {group['why']}",
        group["latency_frames"],
        f"{group['memory_bytes'] / 1e6:.1f} MB",
        f"{together:.3g}",
        f"{apart:.3g}" if compiled else "",
        f"{100 - 100 * together / apart:.0f} %" if compiled and apart else "",
        *measured,
    )
