"""What a running host tells about itself: GET_STATUS for what it is, STATS for how it goes."""

import os
import resource
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sigrack.ends import STANDARD
from sigrack.hooks import Hooked
from sigrack.lanes.lane import Lane
from sigrack.loading.libraries import kept
from sigrack.slot import Slot
from sigrack.tally import Tally
from sigrack_engine.core import lib
from sigrack_engine.pool import BlockPool
from sigrack_engine.slot import SlotCore

if TYPE_CHECKING:
    from sigrack.config import Document
    from sigrack.rack import Rack
    from sigrack.session import Session

__all__ = ["lane_name", "stats", "status"]


def status(session: "Session") -> dict[str, Any]:
    """Return what runs. [main]"""
    rack, config = session.rack, session.document.config
    return {
        "state": session.state,
        "rack": session.document.name,
        "file": str(session.document.path.resolve()),
        "pid": os.getpid(),
        "uptime_s": time.time() - session.started,
        "last_death": session.last_death,
        "safe_mode": rack.custody.safe_mode or None,
        "held": rack.custody.held,
        "heartbeats": session.heartbeats,
        "driver": config.source.driver,
        "source": _source(session.document),
        "rate_hz": rack.setup.rate_hz,
        "out_rate_hz": rack.out_setup.rate_hz,
        "channels": len(rack.bus.channels),
        "bus": {"channels": rack.bus.channels, "out": rack.bus.out},
        "block_frames": rack.block_frames,
        "latency_frames": rack.latency_frames,
        "core": lib.core_level().decode(),
        "slots": [
            {
                "name": slot.name,
                "plugin": slot.plugin.id,
                "version": slot.plugin.version,
                "lane": lane_name(slot),
                "group": slot.group.name if slot.group else None,
                "in": slot.setup.inputs,
                "out": slot.written,
                "bypass": slot.bypass,
                "held": slot.held or None,
                "latency_frames": slot.latency_frames,
                "params": slot.values,
            }
            for slot in rack.slots
        ],
        "groups": [
            {"name": group.name, "backend": group.backend, "latency_frames": group.latency_frames} for group in rack.groups
        ],
        "saved": session.desired.facts,
        "signals": [
            {"name": s.table.name, "library": s.table.library, "lane": s.table.lane, "symbols": s.table.symbols}
            for s in rack.signals
        ],
    }


def _source(document: "Document") -> str | None:
    path = document.config.source.path
    if path == STANDARD:
        return "standard input"
    return str(document.resolve(path)) if path else None


def stats(session: "Session") -> dict[str, Any]:
    """Return counters and meters. [main]"""
    rack = session.rack
    engine = rack.engine.stats
    dispatcher = rack.dispatcher
    period_ns = rack.block_frames * 1e9 / rack.setup.rate_hz
    tallies = rack.accounts.tallies()
    slots = [_slot_stats(slot, period_ns, tallies[slot.name]) for slot in rack.slots]
    return {
        "frame": engine.frame,
        "blocks": engine.blocks,
        "bad_input_blocks": engine.bad_input,
        "clipped_samples": engine.clipped,
        "rack_time_s": rack.now_ns * 1e-9,
        "first_block_monotonic_ns": engine.first_block_ns,
        "load": sum(core.meters.mean_ns for core in {_core(slot) for slot in rack.slots} if core) / period_ns,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "driver": session.driver.stats,
        "channels": rack.channels.states,
        "slots": slots,
        "factors": dispatcher.latest.read(),
        "results": {name: asdict(counts) for name, counts in rack.accounts.posts().items()},
        "totals": {name: asdict(tally) for name, tally in tallies.items()},
        "signals": _signal_stats(rack, tallies),
        "inbox": {
            "posted": dispatcher.inbox.posted,
            "delivered": dispatcher.inbox.delivered,
            "dropped": dispatcher.inbox.dropped,
            "refused": dispatcher.inbox.refused,
            "queued": dispatcher.inbox.queued,
        },
        "heartbeats": session.heartbeats,
        "loop": {"turns": dispatcher.turns, "blocks": dispatcher.blocks, "records": dispatcher.records},
        "lingering": sorted(rack.reaper.lingering),
        "late_calls": lib.core_handle_late(),
        "libraries": kept(),
        "control_calls_abandoned": rack.control.abandoned,
        "builds_abandoned": rack.changes.beside.abandoned,
    }


def _core(slot: Slot) -> SlotCore | None:
    """Return what runs a slot: its group's or its shared lane's, which has all members' time."""
    if slot.place:
        return slot.place.lane.core
    return slot.group.core if slot.group else slot.core


def _lane(slot: Slot) -> Lane | None:
    """Return the process in which it runs: its own, or its group's."""
    return slot.lane or (slot.group.lane if slot.group else None)


def lane_name(slot: Slot) -> str | None:
    """Return what its table may say of where it runs; None: it is hooks alone. [main]"""
    if slot.place:
        return slot.table.lane
    return "process" if _lane(slot) else "inline" if slot.core or slot.is_linear else None


def _slot_stats(slot: Slot, period_ns: float, total: Tally) -> dict[str, Any]:
    meters = core.meters if (core := _core(slot)) else None
    hooked = slot.hooked
    return {
        "name": slot.name,
        "plugin": slot.plugin.id,
        "bypass": slot.bypass,
        "held": bool(slot.held),
        "group": slot.group.name if slot.group else None,
        "load": meters.mean_ns / period_ns if meters else 0.0,
        "meters": asdict(meters) if meters else None,
        "lane": lane.facts if (lane := _lane(slot)) else None,
        "lost_frames": total.lost_frames,
        "hooks": _hook_stats(hooked, total) if hooked else None,
        "pool": _pool_stats(slot.hook_tap.pool) if slot.hook_tap else None,
    }


def _hook_stats(hooked: Hooked, total: Tally) -> dict[str, Any]:
    """Return the counts of all instances, and how it goes with the one in the rack."""
    return {
        "calls": total.calls,
        "errors": total.errors,
        "over_budget": total.over_budget,
        "dropped": total.dropped,
        "mean_us": hooked.spent_ns / hooked.calls / 1000 if hooked.calls else 0.0,
        "longest_us": hooked.longest_ns / 1000,
        "last_error": hooked.last_error,
        "blocked_at": hooked.blocked_at,
        "resting": hooked.resting,
    }


def _pool_stats(pool: BlockPool) -> dict[str, int]:
    return {
        "capacity": pool.capacity,
        "free": pool.free,
        "leased": pool.leased,
        "escapes": pool.escapes,
        "fallbacks": pool.fallbacks,
    }


def _signal_stats(rack: "Rack", tallies: dict[str, Tally]) -> dict[str, Any]:
    data = rack.accounts.data()
    return {
        signal.table.name: {
            "fed_frames": signal.fed,
            "lost_frames": tallies[signal.name].lost_frames,
            "data": asdict(data[signal.name]) if signal.data else None,
            "unknown_symbol": signal.ring.unknown,
            "too_long": signal.ring.too_long,
            "lane": signal.lane.facts if signal.lane else None,
        }
        for signal in rack.signals
    }
