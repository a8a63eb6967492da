"""sigrack info"""

import argparse
import json
from pathlib import Path
from typing import Any

from sigrack.cli.groups import groups, groups_table
from sigrack.cli.levels import levels, levels_table
from sigrack.cli.table import table
from sigrack.config import load
from sigrack.drivers import built
from sigrack.errors import ConfigError
from sigrack.loading import NativePlugin, PythonPlugin, find_plugin, load_plugin
from sigrack.rack import Rack
from sigrack.slot import Slot
from sigrack.status import lane_name
from sigrack.wording import bus, rates

__all__ = ["arguments", "run"]


WORKERS = {"fir", "ratio", "latency_frames", "recursive", "work"}
"""Methods that do not run on the main loop."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", metavar="PLUGIN|RACK.toml")
    parser.add_argument("--json", action="store_true", help="print the description as JSON")
    parser.add_argument(
        "--measure", action="store_true", help="of a rack: run each convolver for a moment and tell what it takes"
    )


def run(options: argparse.Namespace) -> int:
    """Describe a plugin or a rack."""
    if options.what.endswith(".toml"):
        _show_rack(_rack(Path(options.what), measured=options.measure), as_json=options.json)
    elif options.measure:
        raise ConfigError(f"--measure is for racks, whose filters it runs; {options.what} is none")
    else:
        plugin = load_plugin(find_plugin(options.what, lambda path: Path(path).expanduser().resolve()))
        _show_plugin(_plugin(plugin), as_json=options.json)
    return 0


def _plugin(plugin: NativePlugin | PythonPlugin) -> dict[str, Any]:
    return {
        "plugin": plugin.id,
        "name": plugin.name,
        "version": plugin.version,
        "kind": plugin.kind,
        "path": str(plugin.path),
        "description": plugin.description,
        "params": [
            {name: getattr(info, name) for name in ("id", "name", "unit", "minimum", "maximum", "initial")}
            for info in plugin.params
        ],
        "config": plugin.options if isinstance(plugin, PythonPlugin) else {},
        "factors": plugin.factors,
        "hooks": sorted(plugin.methods) if isinstance(plugin, PythonPlugin) else [],
    }


def _show_plugin(plugin: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(plugin))
        return
    print(f"{plugin['plugin']} {plugin['version']} ({plugin['kind']}): {plugin['description']}\n{plugin['path']}")
    if plugin["params"]:
        rows = [(p["id"], f"{p['minimum']:g}", f"{p['maximum']:g}", f"{p['initial']:g}", p["unit"]) for p in plugin["params"]]
        print("\n" + table(("[slot.params]", "least", "most", "default", "unit"), rows))
    if plugin["config"]:
        print("\n" + table(("[slot.config]", "type and default"), plugin["config"].items()))
    if plugin["factors"]:
        print("\n" + table(("posts", "unit"), plugin["factors"].items()))
    if plugin["hooks"]:
        print(f"\ndefines {', '.join(plugin['hooks'])}")


def _rack(path: Path, *, measured: bool) -> dict[str, Any]:
    document = load(path)
    with built(document) as rack:
        return {
            "rack": document.name,
            "rate_hz": rack.setup.rate_hz,
            "out_rate_hz": rack.out_setup.rate_hz,
            "channels": len(rack.bus.channels),
            "bus": {"channels": rack.bus.channels, "out": rack.bus.out},
            "block_frames": rack.block_frames,
            "latency_frames": rack.latency_frames,
            "slots": _slots(rack),
            "groups": groups(rack, measured=measured),
            **levels(rack),
            "signals": [{"name": signal.name, "runs": signal.table.lane} for signal in rack.signals],
        }


def _slots(rack: Rack) -> list[dict[str, Any]]:
    return [
        {
            "name": slot.name,
            "plugin": slot.plugin.id,
            "runs": _runs(slot),
            "in": slot.setup.inputs,
            "out": slot.written,
            "bypass": slot.bypass,
            "latency_frames": slot.latency_frames,
            "params": slot.values,
        }
        for slot in rack.slots
    ]


def _channels(slot: dict[str, Any]) -> str:
    heard, written = ", ".join(slot["in"]), ", ".join(slot["out"])
    return heard if written in ("", heard) else f"{heard} -> {written}"


def _runs(slot: Slot) -> str:
    parts = [] if (lane := lane_name(slot)) is None else ["engine" if lane == "inline" else lane]
    parts += ["main loop"] if slot.hooked and slot.hooked.methods - WORKERS else []
    return ", ".join([*parts, "worker"] if slot.worker_tap else parts)


def _show_rack(rack: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rack))
        return
    latency = rack["latency_frames"]
    print(
        f"{rack['rack']}: {rates(rack['rate_hz'], rack['out_rate_hz'])}, {bus(**rack['bus'])}, "
        f"blocks of {rack['block_frames']} frames, latency {latency} frames ({1000 * latency / rack['out_rate_hz']:.2f} ms)\n"
    )
    partial = any(slot["in"] != rack["bus"]["channels"] for slot in rack["slots"]) or any(
        slot["out"] not in ((), slot["in"]) for slot in rack["slots"]
    )
    rows = [
        (
            slot["name"],
            slot["plugin"],
            slot["runs"],
            *([_channels(slot)] if partial else []),
            "bypassed" if slot["bypass"] else "active",
            slot["latency_frames"],
            ", ".join(f"{name} = {value:g}" for name, value in slot["params"].items()),
        )
        for slot in rack["slots"]
    ]
    head = ("slot", "plugin", "runs on", *(["channels"] if partial else []), "state", "latency", "parameters")
    print(table(head, rows))
    if rack["groups"]:
        print(f"\n{groups_table(rack['groups'])}")
    if rack["levels"]:
        print(f"\n{levels_table(rack)}")
    if rack["signals"]:
        print("\nsignal engines: " + ", ".join(f"{signal['name']} ({signal['runs']})" for signal in rack["signals"]))
