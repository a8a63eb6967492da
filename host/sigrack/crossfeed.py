"""What the crossfeed commands ask of the plugin: they change its `[slot.config]`, nothing else."""

from collections.abc import Mapping
from typing import Any

import msgspec

from sigrack.control import schema as s

__all__ = ["Change", "source", "wanted"]

Change = s.CrossfeedSetSize | s.CrossfeedSetCombined | s.CrossfeedGenerateWoodworth


def source(config: Mapping[str, Any]) -> str:
    """Return where the responses come from: file, folder, combined or model. [any]"""
    if "combined_ll" in config:
        return "combined"
    return next((key for key in ("file", "folder") if key in config), "model")


def wanted(command: Change, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configuration that a command makes of the present one, and what its reply tells of it. [any]

    It is the plugin that checks it.
    """
    match command:
        case s.CrossfeedSetSize(head_size=size):
            rest = {key: value for key, value in config.items() if key != "head_radius_m"}
            return {**rest, "head_size": size}, {"head_size": size.lower()}
        case s.CrossfeedSetCombined():
            given = msgspec.structs.asdict(command)
            renamed = {"format": "combined_format", "rate_hz": "combined_rate_hz"}
            settings = {renamed.get(key, key): value for key, value in given.items() if value is not None}
        case s.CrossfeedGenerateWoodworth():
            kept = {key: config[key] for key in ("level_db",) if key in config}
            settings = {**kept, "azimuth_deg": command.azimuth_deg, **msgspec.to_builtins(command.model)}
            if command.rate_family:
                settings["rate_family"] = command.rate_family
    return settings, {"rate_family": command.rate_family}
