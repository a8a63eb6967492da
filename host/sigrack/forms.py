"""The forms of linear slots: taps, which are multiplied with those beside them, or a recursion, which runs by itself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sigrack.errors import ConfigError, said
from sigrack.loading import PythonPlugin
from sigrack_engine.compiler import Linear
from sigrack_engine.costs import cheaper, cost_ns
from sigrack_engine.folding import folded
from sigrack_engine.recursion import Recursion, checked_stages
from sigrack_plugins import Plugin, Setup
from sigrack_plugins._headroom import LOUDEST_DB, highest_recursive_gain_db

if TYPE_CHECKING:
    from sigrack.rack import Rack
    from sigrack.slot import Slot

__all__ = ["MOST_FIR_CHANNELS", "alone", "ask_forms", "cost_alone_ns", "counts"]

MOST_RATIO = 32
MOST_FIR_CHANNELS = 8
"""Limits of the core's convolver."""


def ask_forms(plugin: PythonPlugin, instance: Plugin, setup: Setup) -> tuple[Linear | None, Recursion | None]:
    """Ask a plugin for its filter, and fold it if it is a recursion; it has at least one form. Raises ConfigError. [worker]"""

    def ask(name: str, otherwise: object = None) -> object:
        try:
            return getattr(instance, name)(setup) if name in plugin.methods else otherwise
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{plugin.id}: {said(error)}") from error

    few = max(setup.channels, setup.out_channels) <= MOST_FIR_CHANNELS
    if recursion := _recursion(plugin, ask("recursive"), setup):
        _check_timing(plugin, ask("ratio", 1), ask("latency_frames", 0))
        return folded(recursion) if few else None, recursion
    if not few:
        raise ConfigError(
            f"{plugin.id}: a filter takes up to {MOST_FIR_CHANNELS} channels, but {counts(setup)}: give it fewer by in and out",
            ("in",),
        )
    if "fir" not in plugin.methods:
        raise ConfigError(f"{plugin.id}: recursive gave None, and there is no fir")
    return _linear(plugin, ask("fir"), ask("ratio", 1), ask("latency_frames", 0), setup), None


def counts(setup: Setup) -> str:
    """Say how many channels a slot hears and writes."""
    heard, written = ", ".join(setup.inputs), ", ".join(setup.outputs)
    return f"the slot hears {setup.channels} ({heard}) and writes {setup.out_channels} ({written})"


def _uneven(setup: Setup) -> str:
    """What to add to a message about shapes."""
    return f"; {counts(setup)}" if setup.channels != setup.out_channels else ""


def _recursion(plugin: PythonPlugin, stages: object, setup: Setup) -> Recursion | None:
    if stages is None:
        return None
    if not isinstance(stages, Sequence):
        raise ConfigError(f"{plugin.id}: recursive gave no sequence of BiquadStage")
    try:
        recursion = checked_stages(stages, setup.channels, setup.out_channels)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{plugin.id}: recursive {error}{_uneven(setup)}") from None
    if not highest_recursive_gain_db(recursion.stages) < LOUDEST_DB:
        raise ConfigError(f"{plugin.id}: recursive gave gains that add up to more than numbers hold: make them smaller")
    return recursion


def _check_timing(plugin: PythonPlugin, rise: Any, late: Any) -> None:
    ratio, latency_frames = _whole(plugin, rise, late)
    if (ratio, latency_frames) != (1, 0):
        wrong = f"ratio is {ratio}" if ratio != 1 else f"latency_frames is {latency_frames}"
        raise ConfigError(
            f"{plugin.id}: {wrong}, but what recursive gives runs at the slot's rate without latency: "
            "let recursive return None, so that fir is asked, or leave it away"
        )


def _whole(plugin: PythonPlugin, rise: Any, late: Any) -> tuple[int, int]:
    try:
        return int(rise), int(late)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{plugin.id}: {said(error)}") from error


def _linear(plugin: PythonPlugin, given: Any, rise: Any, late: Any, setup: Setup) -> Linear:
    try:
        taps = np.asarray(given, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{plugin.id}: {said(error)}") from error
    ratio, latency_frames = _whole(plugin, rise, late)
    shape = (setup.out_channels, setup.channels)
    if taps.ndim != 3 or taps.shape[:2] != shape or not taps.shape[2]:
        raise ConfigError(f"{plugin.id}: fir gave taps of shape {taps.shape}, not ({shape[0]}, {shape[1]}, taps){_uneven(setup)}")
    if not np.isfinite(taps).all():
        raise ConfigError(f"{plugin.id}: fir gave taps that are not finite")
    if not 1 <= ratio <= MOST_RATIO:
        raise ConfigError(f"{plugin.id}: a ratio of {ratio}; 1 to {MOST_RATIO} can be had")
    if not 0 <= latency_frames < taps.shape[2]:
        raise ConfigError(f"{plugin.id}: a latency of {latency_frames} frames is not within its {taps.shape[2]} taps")
    return Linear(taps, ratio, latency_frames)


def alone(slot: "Slot", rack: "Rack") -> Linear | Recursion:
    """Return the form in which a slot takes less by itself. [any]"""
    return cheaper(slot.forms, rack.block_at(slot.setup.rate_hz))


def cost_alone_ns(slot: "Slot", rack: "Rack") -> float:
    """Return what that takes by the cost model, in nanoseconds for a second of audio. [any]"""
    return cost_ns(alone(slot, rack), rack.block_at(slot.setup.rate_hz)) * slot.setup.rate_hz
