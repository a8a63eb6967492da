"""Settings of a crossfeed slot, and which of them belong together."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from sigrack_plugins._crossfeed.responses import PATHS

__all__ = ["HEAD_SIZES", "RADIUS_OF_SIZE_M", "CrossfeedConfig"]

HEAD_SIZES = ("xs", "s", "m", "l", "xl")
WIDTH_CM, HEIGHT_CM, DEPTH_CM = (14.49, 0.95), (21.46, 1.24), (19.96, 1.29)
"""Of the heads of the CIPIC database, mean and standard deviation (V. R. Algazi et al., "The CIPIC HRTF Database", IEEE WASPAA
2001, Table 1)."""


def _radius_m(deviations: float) -> float:
    """Radius of the sphere whose delays fit best a head so many standard deviations larger than the mean in all dimensions.

    Its regression over half the width, height and depth is that of V. R. Algazi, C. Avendano, R. O. Duda, "Estimation of a
    Spherical-Head Model from Anthropometry", J. Audio Eng. Soc. 49(6), 2001.
    """
    width, height, depth = ((mean + deviations * sigma) / 2.0 for mean, sigma in (WIDTH_CM, HEIGHT_CM, DEPTH_CM))
    return (0.51 * width + 0.019 * height + 0.18 * depth + 3.2) / 100.0


RADIUS_OF_SIZE_M = {size: round(_radius_m(deviations), 4) for deviations, size in enumerate(HEAD_SIZES, -2)}
"""xs is two standard deviations below the mean head, s one, and so on: 8.15, 8.53, 8.9, 9.27 and 9.64 cm."""


@dataclass
class CrossfeedConfig:
    """Settings of a crossfeed slot: where the responses come from, and what that source needs."""

    file: Path | None = None
    """A SOFA file (.sofa); raw float32 (.bin) with its .json beside it; or a sound file with the channels LL, LR, RL, RR."""
    folder: Path | None = None
    """Holds `hrtf_SIZE_FAMILY.bin` and .json for `head_size` and the rack's rate family."""
    head_size: str = ""
    """xs, s, m, l or xl: a file of `folder`, or the radius of the head model."""
    azimuth_deg: float = 30.0
    """Where the loudspeakers are: degrees from the front, to both sides. Model: 10 to 90; SOFA: 0 to 180."""
    elevation_deg: float = 0.0
    """Of the loudspeakers in a SOFA file, -90 to 90."""
    within_deg: float = 5.0
    """How far from there the nearest measurement of a SOFA file may be, 0 to 180."""
    head_radius_m: float = 0.0875
    """0.05 to 0.15."""
    ear_spacing_m: float | None = None
    """From ear to ear, straight through the head. Less than the diameter (default): the ears lie behind the widest place."""
    level_db: float = -6.0
    """Level of the cross paths against the direct ones at low frequencies, -40 to 0 dB. 0 is a loudspeaker's, less is subtler."""
    far_shadow_db: float | None = None
    """How much more of that the head takes at the highest frequencies, -40 to 0 dB. Default: what the model says."""
    diffuse_tilt_db: float = 0.0
    """Level of high frequencies against low ones in all that is heard, -12 to 12 dB; half of it at 1 kHz."""
    combined_ll: str = ""
    combined_lr: str = ""
    combined_rl: str = ""
    combined_rr: str = ""
    """Ready-made responses in base64."""
    combined_format: Literal["float32", "complex64"] = "float32"
    """float32: taps; complex64: their spectra, pairs (real, imaginary) as an rfft of an even length gives them."""
    combined_rate_hz: int | None = None
    """What they are made for; default: the rack's rate."""
    rate_family: Literal["", "44k", "48k"] = ""
    """The rates that the settings are meant for; a rack of the other family is refused."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "azimuth_deg": (10.0, 90.0),
        "elevation_deg": (-90.0, 90.0),
        "within_deg": (0.0, 180.0),
        "head_radius_m": (0.05, 0.15),
        "level_db": (-40.0, 0.0),
        "far_shadow_db": (-40.0, 0.0),
        "diffuse_tilt_db": (-12.0, 12.0),
    }
    SOFA_AZIMUTHS_DEG: ClassVar[tuple[float, float]] = (0.0, 180.0)
    FURTHEST_BACK_DEG: ClassVar[float] = 30.0
    """By how much the ears may lie behind the widest place of the head."""
    KEYS: ClassVar[dict[str, tuple[str, ...]]] = {
        "model": (
            *("head_size", "azimuth_deg", "head_radius_m", "ear_spacing_m"),
            *("level_db", "far_shadow_db", "diffuse_tilt_db"),
        ),
        "sofa": ("file", "azimuth_deg", "elevation_deg", "within_deg"),
        "file": ("file",),
        "folder": ("folder", "head_size"),
        "combined": (*(f"combined_{path.lower()}" for path in PATHS), "combined_format", "combined_rate_hz"),
    }
    """What each source takes, beside `rate_family`."""
    WORDS: ClassVar[dict[str, str]] = {
        "model": "the head model",
        "sofa": "a SOFA file",
        "file": "a file of four paths",
        "folder": "a folder",
        "combined": "ready-made responses",
    }

    def __post_init__(self) -> None:
        self.head_size = self.head_size.lower()
        self._check_keys()
        self._check_ranges()
        if self.head_size:
            self._check_size()
        elif self.source == "folder":
            raise ValueError(f"folder needs `head_size`: {', '.join(HEAD_SIZES)}")
        if self.ear_spacing_m is not None:
            self._check_spacing(self.ear_spacing_m)

    @property
    def source(self) -> str:
        """Which of the sources in KEYS the responses come from."""
        if self.file is not None:
            return "sofa" if self.file.suffix.lower() == ".sofa" else "file"
        if self.folder is not None:
            return "folder"
        return "combined" if any(getattr(self, f"combined_{path.lower()}") for path in PATHS) else "model"

    @property
    def radius_m(self) -> float:
        """Of the head model."""
        return RADIUS_OF_SIZE_M[self.head_size] if self.head_size else self.head_radius_m

    @property
    def ears_back(self) -> float:
        """By how much the ears of the head model lie behind the widest place, in radians."""
        spacing = 2.0 * self.radius_m if self.ear_spacing_m is None else self.ear_spacing_m
        return math.acos(min(1.0, spacing / (2.0 * self.radius_m)))

    def _check_keys(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default or field.name in (*self.KEYS[self.source], "rate_family"):
                continue
            owners = " and ".join(self.WORDS[source] for source, keys in self.KEYS.items() if field.name in keys)
            shown = f"{value:g}" if isinstance(value, float) else str(value)[:40]
            raise ValueError(f"{field.name}: {shown} belongs to {owners}, not to {self.WORDS[self.source]}: leave it out")
        missing = [f"combined_{path.lower()}" for path in PATHS if not getattr(self, f"combined_{path.lower()}")]
        if self.source == "combined" and missing:
            raise ValueError(f"{missing[0]} is missing: the four responses belong together")

    def _check_ranges(self) -> None:
        for key, (low, high) in self.RANGES.items():
            if key == "azimuth_deg" and self.source == "sofa":
                low, high = self.SOFA_AZIMUTHS_DEG
            value = getattr(self, key)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{key}: {value:g} is not within {low:g} to {high:g}")

    def _check_size(self) -> None:
        if self.head_size not in HEAD_SIZES:
            import difflib

            near = difflib.get_close_matches(self.head_size, HEAD_SIZES, n=1, cutoff=0.3)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise ValueError(f'head_size: "{self.head_size}" is none of {", ".join(HEAD_SIZES)}{hint}')
        if self.source == "model" and self.head_radius_m != CrossfeedConfig.head_radius_m:
            raise ValueError(f"head_radius_m: {self.head_radius_m:g} and head_size: give one of the two")

    def _check_spacing(self, spacing_m: float) -> None:
        most = 2.0 * self.radius_m
        least = most * math.cos(math.radians(self.FURTHEST_BACK_DEG))
        if not least <= spacing_m <= most * (1.0 + 1e-9):
            raise ValueError(
                f"ear_spacing_m: {spacing_m:g} is not within {least:.4g} to {most:.4g}, for a head of radius {self.radius_m:g}"
            )
