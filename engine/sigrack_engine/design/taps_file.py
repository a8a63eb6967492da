"""Files of taps: WAV (also RF64 and W64), NPZ and raw float32, each with a JSON sidecar."""

import contextlib
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from sigrack_engine.design.designer import Filter
from sigrack_engine.design.errors import DesignError
from sigrack_engine.design.measure import measure, misses
from sigrack_engine.design.sidecar import Sidecar, read_sidecar
from sigrack_engine.design.specification import Specification

__all__ = ["check_target", "load", "read", "read_raw", "save", "sha256"]

Taps = npt.NDArray[np.float32]

_SOUND = (".wav", ".rf64", ".w64")
_KINDS = (*_SOUND, ".npz", ".bin")


def sha256(taps: Taps) -> str:
    """Return the digest of the taps as float32, little-endian. [any]"""
    return hashlib.sha256(taps.astype("<f4").tobytes()).hexdigest()


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise DesignError if `save` would. [any]"""
    _check_kind(path)
    if not path.parent.is_dir():
        raise DesignError(f"{path.parent}: no such folder")
    for target in (path, path.with_suffix(".json")):
        if target.exists() and not overwrite:
            raise DesignError(f"{target}: exists already; give another name, or allow it with overwrite (design: --overwrite)")


def save(made: Filter, path: Path, *, overwrite: bool = False) -> None:
    """Write the taps and, beside them with the ending .json, what they are. The ending of `path` decides how: .wav, .rf64,
    .w64, .npz or .bin. Each file is whole or not there. Raises DesignError, also if one exists without `overwrite`. [worker]
    """
    check_target(path, overwrite=overwrite)
    beside = path.with_suffix(".json")
    try:
        with _whole(path) as part:
            _write(made, part)
        with _whole(beside) as part:
            text = msgspec.json.encode(Sidecar(made.specification, made.measured, sha256(made.taps)))
            part.write_bytes(msgspec.json.format(text) + b"\n")
    except OSError as error:
        raise DesignError(f"{path}: cannot be written: {error.strerror}") from None


def load(path: Path) -> Filter:
    """Read a filter and measure it against its own specification.

    Raises DesignError if it does not meet that, with the figure; or if it cannot be read. [worker]
    """
    found = read(path)
    if missed := misses(found.measured, found.specification):
        raise DesignError(f"{path}: refused: {missed[0]}")
    return found


def read(path: Path) -> Filter:
    """Read a filter and measure it, whatever the figures say. Raises DesignError if it cannot be read. [worker]"""
    _check_kind(path)
    if not path.is_file():
        raise DesignError(f"{path}: no such file")
    sidecar = read_sidecar(path)
    spec = sidecar.specification
    try:
        taps = _read(path, spec)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DesignError(str(error) if isinstance(error, DesignError) else f"{path}: cannot be read: {error}") from None
    if taps.shape != (spec.taps,):
        raise DesignError(f"{path}: holds {taps.size} taps, its specification says {spec.taps}")
    if sidecar.sha256 not in (None, sha256(taps)):
        raise DesignError(f"{path}: not the taps that {path.stem}.json describes: their sha256 differs; copy both again")
    try:
        return Filter(spec, taps, measure(taps, spec))
    except DesignError as error:
        raise DesignError(f"{path}: {error}") from None


def read_raw(path: Path) -> Taps:
    """Return the taps in a raw float32 file, read-only. Raises OSError, ValueError. [any]"""
    return np.frombuffer(path.read_bytes(), "<f4").astype(np.float32, copy=False)


def _check_kind(path: Path) -> None:
    if path.suffix.lower() not in _KINDS:
        raise DesignError(f'{path}: unknown kind of file "{path.suffix}"; use {", ".join(_KINDS)}')


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a name to write to, in the same folder; what is there at the end becomes `path`."""
    part = path.with_name(f".{path.stem}.{threading.get_native_id()}{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write(made: Filter, path: Path) -> None:
    match path.suffix.lower():
        case ".bin":
            path.write_bytes(made.taps.astype("<f4").tobytes())
        case ".npz":
            np.savez(path, taps=made.taps)
        case _:
            _write_sound(made, path)


def _read(path: Path, spec: Specification) -> Taps:
    match path.suffix.lower():
        case ".bin":
            return read_raw(path)
        case ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return np.asarray(archive["taps"], np.float32)
        case _:
            return _read_sound(path, spec)


def _write_sound(made: Filter, path: Path) -> None:
    from sigrack_engine.files import SoundFileError, SoundWriter

    try:
        with contextlib.closing(SoundWriter(path, rate_hz=made.specification.output_rate_hz, channels=1, overwrite=True)) as file:
            file.write(made.taps[:, None])
    except SoundFileError as error:
        raise DesignError(str(error)) from None


def _read_sound(path: Path, spec: Specification) -> Taps:
    from sigrack_engine.files import SoundFileError, SoundReader

    try:
        with contextlib.closing(SoundReader(path)) as file:
            if (file.rate_hz, file.channels) != (spec.output_rate_hz, 1):
                found = f"{file.channels} channels at {file.rate_hz} Hz"
                raise DesignError(f"{path}: {found}; its specification is of one at {spec.output_rate_hz} Hz")
            return file.read(file.frames)[:, 0]
    except SoundFileError as error:
        raise DesignError(str(error)) from None
