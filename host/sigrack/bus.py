"""The bus: the named channels that run through a rack, which come in, which go out, and where a slot stands on them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sigrack.config import Document
from sigrack.errors import ConfigError, nearest
from sigrack.tables import SlotTable
from sigrack_engine.slot import Place
from sigrack_plugins import Setup

__all__ = ["Bus", "bus_of"]


@dataclass(frozen=True, slots=True)
class Bus:
    """The channels of one rack. They stay as they are while it runs."""

    channels: tuple[str, ...]
    sources: int
    """So many of them, from the first on, carry the source's; the others begin silent."""
    out: tuple[str, ...]
    """What goes to the sink."""

    def setup(self, table: SlotTable, rate_hz: int) -> Setup:
        """Return what a slot hears and writes. Raises ConfigError, without file and line, for names that are wrong. [any]"""
        inputs = _checked("in", table.inputs or self.channels, self.channels)
        outputs = _checked("out", table.outputs or inputs, self.channels)
        return Setup(rate_hz, len(inputs), inputs, outputs)

    def whole(self, setup: Setup) -> bool:
        """Whether a slot hears and writes all channels in their order. [any]"""
        return setup.inputs == setup.outputs == self.channels

    def place(self, setup: Setup) -> Place | None:
        """Return where a slot stands, for the core; None: it hears and writes all in order. [any]"""
        if self.whole(setup):
            return None
        return Place(len(self.channels), self.numbers(setup.inputs), self.numbers(setup.outputs))

    def heard(self, names: tuple[str, ...]) -> tuple[int, ...] | None:
        """Return which channels a tap copies, for the core; None: all in order. [any]"""
        return None if names == self.channels else self.numbers(names)

    def numbers(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the channels' numbers, from 0. [any]"""
        return tuple(map(self.channels.index, names))


def bus_of(document: Document, sources: int) -> Bus:
    """Make the bus of a rack whose source has `sources` channels. Raises ConfigError with file and line. [any]"""
    table = document.config.bus
    channels = tuple(table.channels or map(str, range(1, sources + 1)))
    if twice := _twice(channels):
        document.fail(("bus", "channels"), f'channels: the name "{twice}" is there twice')
    if len(channels) < sources:
        document.fail(
            ("bus", "channels"),
            f"channels: {_counted(len(channels))} named ({', '.join(channels)}), but the source has {sources}: name each of them",
        )
    try:
        out = _checked("out", table.out or channels, channels)
        for name in _checked("mute", table.mute, channels):
            if name not in out:
                raise ConfigError(f'mute: the channel "{name}" does not go out; [bus] out: {", ".join(out)}', ("mute",))
    except ConfigError as error:
        document.fail(("bus", *error.key), str(error))
    return Bus(channels, sources, out)


def _checked(key: str, names: Sequence[str], channels: tuple[str, ...]) -> tuple[str, ...]:
    """Return `names`, if they are different ones of `channels`."""
    for name in names:
        if name not in channels:
            raise ConfigError(f'{key}: there is no channel "{name}"{nearest(name, channels)}', (key,))
    if twice := _twice(names):
        raise ConfigError(f'{key}: the channel "{twice}" is there twice', (key,))
    return tuple(names)


def _twice(names: Sequence[str]) -> str | None:
    return next((name for index, name in enumerate(names) if name in names[:index]), None)


def _counted(count: int) -> str:
    return "1 channel is" if count == 1 else f"{count} channels are"
