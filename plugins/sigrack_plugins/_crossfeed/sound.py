"""Sound files whose four channels are the responses."""

import io
import re
from pathlib import Path

from sigrack_plugins._crossfeed.responses import PATHS, Responses, check_rate

__all__ = ["read_sound"]

UNKNOWN_LENGTH = 0x7F000000
"""What programs that write into a pipe put into a header is at least as long."""


def read_sound(path: Path) -> Responses:
    """Read the channels LL, LR, RL, RR of a sound file. Raises ValueError in one line. [worker]"""
    import soundfile

    source = f"file: {path}"
    try:
        content = path.read_bytes()
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.channels != len(PATHS):
                raise ValueError(f"{source} has {file.channels} channels, not the 4 paths {', '.join(PATHS)}")
            _check_length(source, file.extra_info)
            rate_hz, taps = check_rate(source, file.samplerate), file.read(dtype="float64", always_2d=True)
    except OSError as error:
        raise ValueError(f"{source}: {error.strerror}") from None
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise ValueError(f"{source} is no sound file that can be read: {reason}") from None
    return Responses(source, taps.T, rate_hz)


def _check_length(source: str, log: str) -> None:
    """Raise ValueError for a file shorter than its header says: libsndfile notes that in its log, and reads what there is."""
    note = re.search(r": (\d+) \(should be (\d+)\)", log)
    if note and int(note[2]) < int(note[1]) < UNKNOWN_LENGTH:
        raise ValueError(f"{source} is cut off: {note[1]} bytes by its header, {note[2]} are there")
