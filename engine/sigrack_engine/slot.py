"""One processor in the rack, as the engine sees it."""

from dataclasses import dataclass

from sigrack_engine.core import SlotSetup, checked, lib, quick

__all__ = ["Meters", "Place", "Processor", "SlotCore"]


_tick_ns = quick("core_tick_ns")
_set = quick("core_slot_set")
_activate = quick("core_slot_activate")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slot stands on the bus that does not hear and write all of it in order."""

    bus: int
    """Channels of the bus."""
    inputs: tuple[int, ...]
    """Which it hears, counted from 0."""
    outputs: tuple[int, ...]
    """Which it writes; the others pass, delayed by its latency."""


@dataclass(frozen=True, slots=True)
class Processor:
    """Addresses of native code, and what it has promised."""

    process: int
    reset: int | None
    instance: int
    latency_frames: int = 0
    """Of what goes out."""
    ratio: int = 1
    """Frames that go out for each that comes in; above 1 it cannot be bypassed."""


@dataclass(frozen=True, slots=True)
class Meters:
    """What the engine measured of a slot since it was made."""

    blocks: int
    mean_ns: float
    """Per block."""
    longest_ns: float
    nonfinite: int
    """Blocks whose output was NaN or infinite and was replaced by the dry signal."""
    faults: int
    """Blocks that the processor refused, replaced likewise."""
    wet: float
    """0 bypassed .. 1 active."""


class SlotCore:
    """Parameters, bypass, guard and meters of one processor. Outlives the run lists it stands in."""

    def __init__(
        self, processor: Processor, *, channels: int, max_frames: int, fade_frames: int, active: bool, place: Place | None = None
    ) -> None:
        """`channels`: that come in; all of the bus, unless `place` tells which. Raises CoreError. [control]"""
        setup = SlotSetup(
            process=processor.process,
            reset=processor.reset,
            self=processor.instance,
            channels=channels,
            max_frames=max_frames,
            ratio=processor.ratio,
            latency_frames=processor.latency_frames,
            fade_frames=fade_frames,
            active=active,
        )
        if place:
            setup.bus, setup.outputs = place.bus, len(place.outputs)
            setup.in_[: len(place.inputs)] = place.inputs
            setup.out[: len(place.outputs)] = place.outputs
        self.ratio = processor.ratio
        self.moves = place is not None and place.inputs != place.outputs
        """It writes other channels than it hears."""
        self.told: set[str] = set()
        """What has been said of its meters."""
        self.pointer = checked(lib.core_slot_new(setup), "a slot")
        self._meters = lib.core_slot_meters(self.pointer)

    def set(self, param: int, value: float, frame: int = 0) -> bool:
        """Set parameter number `param` from `frame` on (0: now); False if too many changes wait. [main]"""
        return bool(_set(self.pointer, param, value, frame))

    def activate(self, active: bool) -> None:
        """Cross-fade to the processor, or to what its output channels held before it. [main]"""
        _activate(self.pointer, active)

    @property
    def meters(self) -> Meters:
        """What was measured so far. [any]"""
        m, tick_ns = self._meters.contents, _tick_ns()
        return Meters(
            blocks=m.blocks,
            mean_ns=m.ticks * tick_ns / m.blocks if m.blocks else 0.0,
            longest_ns=m.ticks_longest * tick_ns,
            nonfinite=m.nonfinite,
            faults=m.faults,
            wet=m.wet,
        )

    def close(self) -> None:
        """Free it: no run list holds it any more. [control]"""
        lib.core_slot_free(self.pointer)
