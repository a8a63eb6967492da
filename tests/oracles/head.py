"""A head between two loudspeakers, in float64, from the formulas as published."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Head"]

Doubles = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

SOUND_M_PER_S = 343.0


def alpha(angle_deg: float) -> float:
    """Brown and Duda 1998, equation 5, with alpha_min = 0.1 and theta_min = 150 degrees."""
    return (1 + 0.1 / 2) + (1 - 0.1 / 2) * math.cos(angle_deg / 150 * math.pi)


@dataclass
class Head:
    """A sphere with ears; angles in degrees from the front."""

    azimuth_deg: float
    radius_m: float = 0.0875
    ears_deg: float = 90.0
    shadow_db: float | None = None
    tilt_db: float = 0.0

    def path_m(self, angle_deg: float) -> float:
        """Woodworth 1938: what a ray from far away travels to a point of the sphere, against its centre: straight to the side
        that it lights, along the surface from the terminator to the dark one."""
        if angle_deg <= 90:
            return -self.radius_m * math.cos(math.radians(angle_deg))
        return self.radius_m * math.radians(angle_deg - 90)

    @property
    def near_deg(self) -> float:
        """Between the loudspeaker and the ear on its side."""
        return self._between(self.ears_deg)

    @property
    def far_deg(self) -> float:
        """Between the loudspeaker and the other ear."""
        return self._between(-self.ears_deg)

    def _between(self, ear_deg: float) -> float:
        one, two = (np.exp(1j * math.radians(angle)) for angle in (self.azimuth_deg, ear_deg))
        return math.degrees(abs(np.angle(one / two)))

    @property
    def itd_us(self) -> float:
        """How much later the far ear hears high frequencies."""
        return 1e6 * (self.path_m(self.far_deg) - self.path_m(self.near_deg)) / SOUND_M_PER_S

    @property
    def _times_s(self) -> tuple[float, float]:
        """Time constants of zero and pole of the shadow: Brown and Duda's alpha / (2 w0), w0 = c / a."""
        half_transit = self.radius_m / SOUND_M_PER_S / 2
        near = alpha(self.near_deg)
        far = alpha(self.far_deg) if self.shadow_db is None else near * 10 ** (self.shadow_db / 20)
        return far * half_transit, near * half_transit

    def shadow(self, hz: Doubles) -> Complex:
        """Far ear over near ear, Brown and Duda 1998, equation 4."""
        zero, pole = self._times_s
        turn = 2j * np.pi * hz
        ratio: Complex = (1 + turn * zero) / (1 + turn * pole)
        return ratio

    def delay_us(self, hz: Doubles) -> Doubles:
        """Group delay of the far ear against the near one: each factor 1 + j w t advances by t / (1 + (w t)^2)."""
        zero, pole = (time_s / (1 + np.square(2 * np.pi * hz * time_s)) for time_s in self._times_s)
        return self.itd_us + 1e6 * (pole - zero)

    def tilt(self, hz: Doubles) -> Complex:
        """A first-order shelf from 1 to `tilt_db` with half of it at 1 kHz."""
        gain = 10 ** (self.tilt_db / 20)
        shelf: Complex = (1 + 1j * hz / 1000 * gain**0.5) / (1 + 1j * hz / 1000 / gain**0.5)
        return shelf
