"""Mute, solo and level of the channels that go out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sigrack.bus import Bus
from sigrack.errors import ConfigError, nearest
from sigrack.hooks import nothing
from sigrack_engine.faders import Faders

__all__ = ["Channels"]

SILENT_DB, MOST_DB = -120.0, 24.0
"""Bounds of a level; the lower one is silence, as with the plugin `gain`."""


@dataclass(slots=True)
class _Setting:
    mute: bool = False
    solo: bool = False
    gain_db: float = 0.0


class Channels:
    """One fader for each channel that goes out, behind all slots but those that the host itself puts at the end.

    While any channel is solo, those that are not are muted. What changes together moves together.
    """

    def __init__(self, bus: Bus, muted: Sequence[str], given: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """`given`: what control has set earlier. Raises ConfigError if it is of no channel that goes out."""
        self._bus = bus
        self._settings = {name: _Setting(mute=name in muted) for name in bus.out}
        self.faders: Faders | None = None
        self.on_level: Callable[[], object] = nothing
        """Called when a level was set. [main]"""
        for name, state in (given or {}).items():
            try:
                self.set(name, **state)
            except (KeyError, ValueError) as error:
                failure = ConfigError(str(error.args[0]))
                failure.at = ("channel", name)
                raise failure from None

    def begin(self, fade_frames: int) -> None:
        """Make the faders. `fade_frames`: length of a change, in frames that go out. Raises CoreError. [main]"""
        self.faders = Faders(self._gains(), fade_frames)

    def set(
        self, name: str, *, mute: bool | None = None, solo: bool | None = None, gain_db: float | None = None
    ) -> dict[str, Any]:
        """Change what is given, from the next block on; return the channel's state. Raises KeyError, ValueError. [main]"""
        if name not in self._settings:
            if name in self._bus.channels:
                raise KeyError(f'the channel "{name}" does not go out; those that do: {", ".join(self._bus.out)}')
            raise KeyError(f'there is no channel "{name}"{nearest(name, self._bus.out)}')
        if gain_db is not None and not SILENT_DB <= gain_db <= MOST_DB:
            raise ValueError(f"gain_db = {gain_db:g} is out of range: {SILENT_DB:g} to {MOST_DB:g}")
        setting = self._settings[name]
        setting.mute = setting.mute if mute is None else mute
        setting.solo = setting.solo if solo is None else solo
        setting.gain_db = setting.gain_db if gain_db is None else gain_db
        if self.faders:
            self.faders.set(self._gains())
        self.on_level()
        return self._state(name)

    @property
    def states(self) -> list[dict[str, Any]]:
        """Name, mute, solo, gain_db of each channel that goes out, and whether it is heard. [main]"""
        return [self._state(name) for name in self._settings]

    @property
    def gains_db(self) -> dict[str, float]:
        """The level of each channel that goes out, muted or not. [main]"""
        return {name: setting.gain_db for name, setting in self._settings.items()}

    def close(self) -> None:
        """Free the faders: the engine has gone. [main]"""
        faders, self.faders = self.faders, None
        if faders:
            faders.close()

    def _state(self, name: str) -> dict[str, Any]:
        return {"name": name, **asdict(self._settings[name]), "heard": self._heard(name)}

    def _heard(self, name: str) -> bool:
        setting = self._settings[name]
        return not setting.mute and (setting.solo or not any(other.solo for other in self._settings.values()))

    def _gains(self) -> list[float]:
        """Return the gain of each channel of the bus, linear."""
        return [self._gain(name) if name in self._settings else 1.0 for name in self._bus.channels]

    def _gain(self, name: str) -> float:
        gain_db = self._settings[name].gain_db
        return 10 ** (gain_db / 20) if self._heard(name) and gain_db > SILENT_DB else 0.0
