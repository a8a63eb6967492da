"""Crossfeed for headphones: each ear also hears the other channel, later and duller, as it would from loudspeakers.

The responses come from a model of a head, from a file or ready made. In all cases, with * for convolution:

    Out_L = In_L * LL + In_R * RL
    Out_R = In_L * LR + In_R * RR
"""

from typing import TYPE_CHECKING

from sigrack_plugins._crossfeed.combined import read_combined
from sigrack_plugins._crossfeed.config import CrossfeedConfig
from sigrack_plugins._crossfeed.model import model_paths
from sigrack_plugins._crossfeed.raw import read_raw, read_size
from sigrack_plugins._crossfeed.resample import PASS_BAND, at_rate
from sigrack_plugins._crossfeed.responses import Responses, as_taps, rate_family
from sigrack_plugins._crossfeed.sofa import read_sofa
from sigrack_plugins._crossfeed.sound import read_sound
from sigrack_plugins._headroom import highest_gain_db
from sigrack_plugins.api import Plugin, Setup

if TYPE_CHECKING:
    from sigrack_plugins.api import Samples

__all__ = ["Crossfeed", "CrossfeedConfig"]

AUDIBLE_DB = 0.1
"""A response that raises no frequency by more needs no headroom."""


class Crossfeed(Plugin):
    """Lets each ear hear the other channel too, as from loudspeakers: stereo for headphones without fatigue."""

    id = "crossfeed"
    version = "2"
    Config = CrossfeedConfig

    config: CrossfeedConfig

    def fir(self, setup: Setup) -> "Samples":
        """Return the taps, float32 of shape (ear, channel, taps). [worker]

        Raises ValueError in one line if the slot is not stereo or the responses are not what they should be.
        """
        if setup.channels != 2:
            raise ValueError(f"crossfeed needs 2 channels, the slot hears {setup.channels}: name two by in, or take the slot out")
        family = rate_family(setup.rate_hz)
        if self.config.rate_family not in ("", family):
            raise ValueError(f"rate_family: {self.config.rate_family}, but the rack runs at {setup.rate_hz} Hz, family {family}")
        if self.config.source == "model":
            return as_taps(model_paths(self.config, setup.rate_hz))
        return self._fit(self._read(setup.rate_hz), setup.rate_hz)

    def _read(self, rate_hz: int) -> Responses:
        config = self.config
        if config.source == "combined":
            return read_combined(config, rate_hz)
        if config.folder is not None:
            return read_size(config.folder, config.head_size, rate_hz)
        assert config.file is not None
        if config.source == "sofa":
            return read_sofa(config.file, config.azimuth_deg, config.elevation_deg, config.within_deg)
        return read_raw(config.file) if config.file.suffix.lower() == ".bin" else read_sound(config.file)

    def _fit(self, responses: Responses, rate_hz: int) -> "Samples":
        """Bring responses to the rack's rate, and tell what that and they do."""
        responses.check()
        paths, delay = at_rate(responses, rate_hz)
        for note in responses.notes:
            self.ctx.log(note)
        if delay:
            top_hz = PASS_BAND * min(responses.rate_hz, rate_hz)
            self.ctx.log(
                f"{responses.source}: resampled from {responses.rate_hz} to {rate_hz} Hz: "
                f"the same up to {top_hz / 1000:.1f} kHz, {1000 * delay / rate_hz:.2f} ms later"
            )
        taps = as_taps(paths)
        if (gain_db := highest_gain_db(taps)) > AUDIBLE_DB:
            self.ctx.log(f"{responses.source} raises some frequency by {gain_db:.1f} dB: leave headroom for it")
        return taps
