"""Sound files: reading and writing through libsndfile, with errors that name the file and the way out."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

__all__ = ["SoundFileError", "SoundReader", "SoundWriter", "check_target"]

Samples = npt.NDArray[np.float32]

_SUBTYPES = {"float32": "FLOAT", "int16": "PCM_16", "int24": "PCM_24", "int32": "PCM_32"}
_BEST = {"WAV": "FLOAT", "RF64": "FLOAT", "W64": "FLOAT", "FLAC": "PCM_24"}
_TRUNCATED = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_RIFF_LIMIT = 0xF000_0000
"""Bytes; a WAV header cannot count beyond 4 GiB."""


class SoundFileError(Exception):
    """A sound file cannot be used; the message is one line."""


def _reason(error: Exception) -> str:
    return str(error).rpartition(": ")[2].rstrip(".") or "unknown error of libsndfile"


def _kind(path: Path, samples: int) -> str:
    """Return libsndfile's name for the format that the extension stands for."""
    kind = path.suffix.lstrip(".").upper()
    kind = "AIFF" if kind == "AIF" else kind
    if kind not in soundfile.available_formats():
        raise SoundFileError(f'{path}: unknown kind of file "{path.suffix}"; use .wav or .flac')
    return "RF64" if kind == "WAV" and samples * 4 > _RIFF_LIMIT else kind


def check_target(path: Path, samples: str | None, *, overwrite: bool, expected_samples: int = 0) -> tuple[str, str]:
    """Return libsndfile's format and subtype for a new file, without making it. Raises SoundFileError. [any]"""
    kind = _kind(path, expected_samples)
    subtype = _SUBTYPES[samples] if samples else _BEST.get(kind, soundfile.default_subtype(kind))
    if not soundfile.check_format(kind, subtype):
        raise SoundFileError(f"{path}: {kind} cannot hold {samples} samples")
    if path.exists() and not overwrite:
        raise SoundFileError(f"{path}: exists already; give another name, or allow it with overwrite (render: --overwrite)")
    if not path.parent.is_dir():
        raise SoundFileError(f"{path}: {'Not a directory' if path.parent.exists() else 'No such file or directory'}")
    return kind, subtype


class SoundReader:
    """Reads a file from its beginning to its end, or round and round."""

    waits = False

    def __init__(self, path: Path, *, loop: bool = False) -> None:
        """Open and check. Raises SoundFileError."""
        self.path, self._loop = path, loop
        try:
            path.open("rb").close()  # libsndfile says "System error" for every cause
            self._file = soundfile.SoundFile(path)
        except OSError as error:
            raise SoundFileError(f"{path}: {error.strerror}") from None
        except soundfile.LibsndfileError as error:
            raise SoundFileError(f"{path}: not a sound file that can be read: {_reason(error)}") from None
        self.rate_hz: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int = self._file.frames
        self.position = 0
        """Frames read so far, over all rounds."""
        self._check()

    def _check(self) -> None:
        if truncated := _TRUNCATED.search(self._file.extra_info):
            promised, held = int(truncated[1]), int(truncated[2])
            if held < promised:
                raise SoundFileError(
                    f"{self.path}: truncated: its header promises {promised} bytes of sound, it holds {held}; "
                    "copy it again, or let `sox` rewrite it"
                )
        if not self.frames:
            raise SoundFileError(f"{self.path}: holds no sound")

    def read(self, frames: int) -> Samples:
        """Return the next `frames` frames, float32 (frames, channels); fewer at the end. Raises SoundFileError. [worker]"""
        parts = [self._read(frames)]
        while self._loop and (missing := frames - sum(map(len, parts))) > 0:
            self._file.seek(0)
            parts.append(self._read(missing))
        samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not np.isfinite(samples).all():
            frame, channel = np.argwhere(~np.isfinite(samples))[0]
            at = (self.position + int(frame)) % self.frames
            raise SoundFileError(
                f"{self.path}: sample {samples[frame, channel]} at frame {at}, channel {channel + 1}; "
                "export it again, or let `sox` rewrite it"
            )
        self.position += len(samples)
        return samples

    def _read(self, frames: int) -> Samples:
        left = self.frames - self._file.tell()
        try:
            samples: Samples = self._file.read(min(frames, left), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            samples = np.empty((0, self.channels), np.float32)
        if len(samples) < min(frames, left):
            raise SoundFileError(f"{self.path}: truncated or damaged: it ends before frame {self.frames}; copy it again")
        return samples

    def interrupt(self) -> None:
        """Nothing: `read` does not wait."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class SoundWriter:
    """Writes a new file. Its extension decides the format: .wav, .w64, .flac, .aiff, ...

    A .wav that `expected_frames` would take beyond 4 GiB becomes RF64.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate_hz: int,
        channels: int,
        samples: str | None = None,
        overwrite: bool = False,
        expected_frames: int = 0,
    ) -> None:
        """Create the file. `samples`: float32, int16, int24 or int32; by default what the format does best.

        Raises SoundFileError, also when the file exists and `overwrite` is not set.
        """
        self.path = path
        self.clipped = 0
        """Samples beyond full scale, in formats that cannot hold them."""
        kind, subtype = check_target(path, samples, overwrite=overwrite, expected_samples=expected_frames * channels)
        self._bounded = subtype.startswith("PCM")
        try:
            path.open("ab").close()
            self._file = soundfile.SoundFile(path, "w", rate_hz, channels, subtype, format=kind)
        except OSError as error:
            raise SoundFileError(f"{path}: {error.strerror}") from None
        except soundfile.LibsndfileError as error:
            remedy = "; a .wav takes any rate" if kind == "FLAC" else ""
            raise SoundFileError(f"{path}: cannot be written at {rate_hz} Hz: {_reason(error)}{remedy}") from None

    def write(self, samples: Samples) -> None:
        """Append `samples` (frames, channels). Raises SoundFileError. [worker]"""
        if self._bounded:
            self.clipped += int(np.count_nonzero(np.abs(samples) > 1.0))
        try:
            self._file.write(samples)
        except (soundfile.LibsndfileError, OSError) as error:
            raise SoundFileError(f"{self.path}: cannot be written: {_reason(error)}") from None

    def close(self) -> None:
        """Complete the file."""
        self._file.close()
