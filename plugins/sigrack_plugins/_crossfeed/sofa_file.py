"""Variables of a SOFA file (AES69), read by sofar and checked: each complaint is one line with the file and the variable."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from sigrack_plugins._crossfeed.responses import Array

__all__ = ["SofaFile", "unit_vectors"]

_reading = threading.Lock()
"""The HDF5 library below is used by one thread at a time."""


def unit_vectors(spherical: Array) -> Array:
    """Return directions of shape (rows, 3), front, left and up, for azimuths and elevations in degrees. [any]"""
    azimuth, elevation = np.radians(spherical[:, 0]), np.radians(spherical[:, 1])
    level = np.cos(elevation)
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], axis=1)


class SofaFile:
    """One file's variables by their names in sofar: `Data_IR`, `SourcePosition`, `GLOBAL_DataType`, ..."""

    def __init__(self, path: Path) -> None:
        """Read all of it. Raises ValueError in one line. [worker]"""
        self.source = f"file: {path}"
        if path.suffix != ".sofa":
            raise ValueError(f"{self.source}: the name must end in .sofa, in small letters")
        try:
            path.open("rb").close()
        except OSError as error:
            raise ValueError(f"{self.source}: {error.strerror}") from None
        try:
            import sofar
        except ImportError as error:
            raise ValueError(f"{self.source}: SOFA files need the extra `sofa`: pip install 'sigrack[sofa]' ({error})") from None
        try:
            with _reading:
                self._sofa = sofar.read_sofa_as_netcdf(str(path))
        except Exception as error:  # whatever netCDF makes of what is no netCDF
            lines = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()
            raise ValueError(f"{self.source} is no SOFA file that can be read: {lines[0]}") from None

    def text(self, name: str) -> str:
        """Return an attribute. Raises ValueError. [any]"""
        value = self._value(name)
        if not isinstance(value, str):
            raise ValueError(f"{self.source}: {_dotted(name)} is no text")
        return value

    def numbers(self, name: str, dimensions: int, *, finite: bool = True) -> Array:
        """Return a variable with so many dimensions. Raises ValueError. [any]"""
        value = self._value(name)
        try:
            with np.errstate(invalid="ignore"):  # a signalling NaN in float32
                numbers = np.ma.filled(np.ma.asarray(value, np.float64), np.nan)
        except (TypeError, ValueError):
            raise ValueError(f"{self.source}: {_dotted(name)} is not made of numbers") from None
        if numbers.ndim > dimensions or not numbers.size:
            raise ValueError(f"{self.source}: {_dotted(name)} has the shape {numbers.shape}, not {dimensions} dimensions")
        if finite and not np.isfinite(numbers).all():
            raise ValueError(f"{self.source}: {_dotted(name)} has a value that is missing or not finite")
        return numbers.reshape(numbers.shape + (1,) * (dimensions - numbers.ndim))  # sofar may leave out the last if they are 1

    def rows(self, name: str, values: Array, shape: tuple[int, int]) -> Array:
        """Return `values` of a variable, one row for all or one for each, with one for each. Raises ValueError. [any]"""
        if values.shape[1:] != shape[1:] or len(values) not in (1, shape[0]):
            wanted, found = (" x ".join(map(str, numbers)) for numbers in (shape, values.shape))
            raise ValueError(f"{self.source}: {_dotted(name)} is {found}, not {wanted}")
        return np.broadcast_to(values, shape)

    def positions(self, name: str, count: int, *, dimensions: int = 2, typed_by: str = "") -> Array:
        """Return a variable's places or directions as x, y, z, of shape (count, 3). Raises ValueError. [any]

        `typed_by`: the variable whose Type and Units hold, if it has none of its own.
        """
        places = self.numbers(name, dimensions)
        places = places[..., 0] if dimensions == 3 else places
        if places.shape[1] != 3:
            raise ValueError(f"{self.source}: {_dotted(name)} has {places.shape[1]} coordinates, not 3")
        kind = self.text(f"{typed_by or name}_Type").lower()
        if kind == "spherical":
            units = self.text(f"{typed_by or name}_Units").lower()
            if units.count("degree") != 2:
                raise ValueError(f'{self.source}: {_dotted(name)} is in "{units}", not in degree, degree, metre')
            places = unit_vectors(places) * places[:, 2:]
        elif kind != "cartesian":
            raise ValueError(f'{self.source}: {_dotted(name)} is of the type "{kind}", not spherical or cartesian')
        return self.rows(name, places, (count, 3))

    def _value(self, name: str) -> Any:
        try:
            return getattr(self._sofa, name)
        except AttributeError:
            raise ValueError(f"{self.source} lacks {_dotted(name)}") from None


def _dotted(name: str) -> str:
    """Return a variable's or attribute's name as AES69 writes it."""
    return name.replace("GLOBAL_", "").replace("Data_", "Data.").replace("_", ":")
