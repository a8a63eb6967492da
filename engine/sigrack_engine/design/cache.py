"""Designs that are kept in the user's cache directory, each under the digest of its specification."""

import hashlib
import logging
import os
from pathlib import Path

import msgspec

from sigrack_engine.design.designer import Filter, Progress, design
from sigrack_engine.design.errors import DesignError
from sigrack_engine.design.sidecar import VERSION, read_sidecar
from sigrack_engine.design.specification import Specification, specify
from sigrack_engine.design.taps_file import read_raw, save, sha256

__all__ = ["cache_folder", "cache_path", "cached", "filter_for"]

log = logging.getLogger("sigrack")


def filter_for(input_rate_hz: int, ratio: int, phase: str = "minimum") -> Filter:
    """Return the default filter for an input rate, from the cache if it is there. [worker]

    The taps of one ratio differ between rates by rounding alone, for the stop band begins at half the input rate: so each rate of
    the 44.1 kHz and the 48 kHz family, and any other, has its filter. Raises DesignError.
    """
    return cached(specify(input_rate_hz=input_rate_hz, ratio=ratio, phase=phase))


def cached(spec: Specification, progress: Progress = lambda step: None) -> Filter:
    """Return the filter for a specification: as it was designed once, if the cache has it whole, else designed now and kept.

    Raises DesignError. [worker]
    """
    path = cache_path(spec)
    try:
        return _kept(path, spec)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        log.warning("%s: damaged (%s): designed anew", path, error)
    made = design(spec, progress)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(made, path, overwrite=True)
    except (OSError, DesignError) as error:
        log.warning("the filter is not kept: %s; set XDG_CACHE_HOME to a folder of your own", error)
    return made


def cache_folder() -> Path:
    """Return $XDG_CACHE_HOME/sigrack/filters, or the same under ~/.cache. [any]"""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sigrack" / "filters"


def cache_path(spec: Specification) -> Path:
    """Return where a filter's taps are kept. [any]"""
    digest = hashlib.sha256(msgspec.json.encode((VERSION, spec))).hexdigest()
    return cache_folder() / f"{digest[:32]}.bin"


def _kept(path: Path, spec: Specification) -> Filter:
    """Return a filter without measuring it again. Raises OSError, ValueError."""
    taps = read_raw(path)
    sidecar = read_sidecar(path)
    if sidecar.measured is None or sidecar.specification != spec:
        raise ValueError(f"{path.stem}.json does not describe it")
    if sidecar.sha256 != sha256(taps):
        raise ValueError("its sha256 differs")
    return Filter(spec, taps, sidecar.measured)
