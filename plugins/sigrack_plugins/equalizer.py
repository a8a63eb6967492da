"""An equaliser from a text in Equalizer APO's syntax, such as AutoEq's ParametricEQ.txt and GraphicEQ.txt.

Each line is computed exactly or refused by name; nothing is passed over. The filters are those of R. Bristow-Johnson's Audio
EQ Cookbook at the rate at which the slot runs, as Equalizer APO computes them: see `_equalizer.design`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sigrack_plugins._equalizer.parsing import parse, parse_file
from sigrack_plugins._equalizer.response import taps_of
from sigrack_plugins._equalizer.stages import Stage, recursion_of, stages_of
from sigrack_plugins._headroom import LOUDEST_DB, highest_gain_db, highest_recursive_gain_db
from sigrack_plugins.api import BiquadStage, Plugin, Setup

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["Equalizer", "EqualizerConfig"]


@dataclass
class EqualizerConfig:
    """Settings of an equaliser slot: `file` or `text`, one of them."""

    file: Path | None = None
    """A text file in Equalizer APO's syntax."""
    text: str = ""
    """The same in the rack itself."""

    def __post_init__(self) -> None:
        if (self.file is None) == (not self.text):
            raise ValueError("file, text: give one of them, a file in Equalizer APO's syntax or the text itself")


class Equalizer(Plugin):
    """Equalises by a text in Equalizer APO's syntax, such as AutoEq's: parametric and graphic, per channel, exact."""

    id = "equalizer"
    version = "1"
    Config = EqualizerConfig

    config: EqualizerConfig

    def recursive(self, setup: Setup) -> tuple[BiquadStage, ...] | None:
        """Return mixes, delays and biquads; None for a text with GraphicEQ. [worker]

        Raises ValueError in one line if the text is wrong, does not fit the bus, or is too loud.
        """
        recursion = recursion_of(self.stages(setup))
        if recursion:
            gain_db = highest_recursive_gain_db(recursion)
            if not gain_db < LOUDEST_DB:
                raise ValueError(f"{self._name}: the gains add up to more than numbers hold")
            self._tell(gain_db)
        return recursion

    def fir(self, setup: Setup) -> "Samples":
        """Return the taps, float32 of shape (out, in, taps), of any text. [worker]

        Raises ValueError in one line if the text is wrong, does not fit the bus, or rings for more than 1,048,576 taps.
        """
        taps = taps_of(self.stages(setup), setup.rate_hz, self._name)
        self._tell(highest_gain_db(taps))
        return taps

    def stages(self, setup: Setup) -> tuple[Stage, ...]:
        """Return what the text does as data: mixes, gains, delays, biquads and curves. Raises ValueError in one line. [worker]

        It is exact where the taps are cut and rounded, and as short for a filter that rings for minutes as for any other.
        """
        if setup.channels != setup.out_channels:
            raise ValueError(f"writes as many channels as it hears, not {setup.out_channels} of {setup.channels}: route mixes")
        commands = parse(self.config.text) if self.config.file is None else parse_file(self.config.file)
        return stages_of(commands, setup.rate_hz, setup.channels)

    def _tell(self, gain_db: float) -> None:
        if gain_db > 0.1:
            self.ctx.log(f"{self._name} raises some frequency by {gain_db:.1f} dB: leave headroom for it, as by a Preamp")

    @property
    def _name(self) -> str:
        return "text" if self.config.file is None else str(self.config.file)
