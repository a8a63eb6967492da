"""What a client of the restart soak believes of the host: slots, channels and sides of its own, which share no code with it."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Belief", "Settings", "differences", "shown"]


@dataclass(slots=True)
class Settings:
    """Slots in their order, channels, and which side is in force."""

    slots: list[list[Any]]
    """Name, plugin, bypass, gain_db (None: it has none)."""
    channels: dict[str, list[Any]]
    """Mute, solo, gain_db."""


@dataclass(slots=True)
class Belief:
    """All that the host should have."""

    now: Settings
    side: str = "A"
    other: Settings | None = None
    """None: that side was never in force, and is as this one."""
    presets: dict[str, Settings] = field(default_factory=dict)
    step: "Belief | None" = None
    """Before the last change, if that can be taken back alone."""
    undone: "Belief | None" = None
    """Before it was taken back."""

    def slot(self, name: str) -> list[Any]:
        """Return a slot."""
        return next(slot for slot in self.now.slots if slot[0] == name)

    def after(self, cmd: str, params: dict[str, Any]) -> "Belief":
        """Return what it is after a command."""
        new = Belief(deepcopy(self.now), self.side, self.other, dict(self.presets))
        getattr(new, f"_{cmd.lower()}")(self, **params)
        alone = cmd not in ("PARAM_SET", "CHANNEL_SET", "UNDO", "REDO", "PRESET_SAVE", "SWAP")
        if alone and (new.now, new.side) != (self.now, self.side):
            new.step = self
        return new

    def _param_set(self, old: "Belief", *, slot: str, param: str, value: float) -> None:
        self.slot(slot)[3] = value

    def _bypass(self, old: "Belief", *, slot: str, on: bool) -> None:
        self.slot(slot)[2] = on

    def _channel_set(self, old: "Belief", *, name: str, **given: Any) -> None:
        channel = self.now.channels[name]
        for place, key in enumerate(("mute", "solo", "gain_db")):
            channel[place] = given.get(key, channel[place])

    def _load(self, old: "Belief", *, name: str, plugin: str, params: dict[str, float], before: str | None = None) -> None:
        names = [slot[0] for slot in self.now.slots]
        self.now.slots.insert(names.index(before) if before else len(names), [name, plugin, False, params["gain_db"]])

    def _unload(self, old: "Belief", *, name: str) -> None:
        self.now.slots.remove(self.slot(name))

    def _swap(self, old: "Belief", *, name: str) -> None:
        pass

    def _undo(self, old: "Belief") -> None:
        assert old.step
        self.now, self.side, self.other = deepcopy(old.step.now), old.step.side, old.step.other
        self.undone = Belief(old.now, old.side, old.other)

    def _redo(self, old: "Belief") -> None:
        assert old.undone
        self.now, self.side, self.other = deepcopy(old.undone.now), old.undone.side, old.undone.other

    def _preset_save(self, old: "Belief", *, name: str) -> None:
        self.presets[name] = deepcopy(self.now)

    def _preset_recall(self, old: "Belief", *, name: str) -> None:
        self.now = deepcopy(self.presets[name])

    def _compare(self, old: "Belief") -> None:
        self.now, self.other = deepcopy(self.other or self.now), deepcopy(self.now)
        self.side = "B" if self.side == "A" else "A"


def shown(belief: Belief) -> Any:
    """Return a belief as a host tells it."""
    return belief.now.slots, belief.now.channels, belief.side


def differences(wanted: Any, found: Any) -> str:
    """Return in words how what a host tells is not what it should be."""
    pairs = zip(("slots", "channels", "side"), wanted, found, strict=True)
    return "; ".join(f"{what}: {two} and not {one}" for what, one, two in pairs if one != two)
