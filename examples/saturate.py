"""A processor in Python, for examples/lanes.toml: bends what is loud."""

import numpy as np

from sigrack_plugins import AudioBlock, Param, Plugin


class Saturate(Plugin):
    """Bends what is loud."""

    params = (Param("drive_db", 0.0, 40.0, 6.0, unit="dB"),)

    def process(self, block: AudioBlock) -> None:
        """Write the output. [its own process]"""
        gain = 10 ** (block.values["drive_db"] / 20)
        block.output[:] = np.tanh(gain * block.input) / gain
