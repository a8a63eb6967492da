"""Raw float32 with a JSON file beside it: the format `channel_major_v1`, and the family of five head sizes kept in it.

The .bin holds float32, little-endian, all taps of LL, then all of LR, RL and RR. Of the .json these keys count:

| key | value |
|---|---|
| storage_format | "channel_major_v1" |
| n_channels | 4 |
| n_taps | taps of each path |
| sample_rate | Hz |
| channel_order | ["LL", "LR", "RL", "RR"], if it is there |
| rate_family | "44k" or "48k", that of `sample_rate`, if it is there |
| size_category | the head size, if it is there: checked in a folder |

All others (subject_id, phase_type, normalization, source_azimuth_left, license, ...) tell where the taps come from and change
nothing.
"""

import json
from pathlib import Path
from typing import Any

from sigrack_plugins._crossfeed.responses import PATHS, Responses, check_rate, doubles, rate_family

__all__ = ["read_raw", "read_size"]

STORAGE = "channel_major_v1"


def read_size(folder: Path, head_size: str, rate_hz: int) -> Responses:
    """Read `hrtf_SIZE_FAMILY.bin` of a folder, for the family of `rate_hz`. Raises ValueError in one line. [worker]"""
    path = folder / f"hrtf_{head_size}_{rate_family(rate_hz)}.bin"
    if not path.exists():
        raise ValueError(f"folder: {path} is not there: it is what head_size {head_size} needs at {rate_hz} Hz")
    sidecar, facts = _read_sidecar(path)
    category = facts.get("size_category", head_size)
    if not isinstance(category, str) or category.lower() != head_size:
        raise ValueError(f'file: {sidecar}: size_category is {json.dumps(category)}, not "{head_size}"')
    return read_raw(path)


def read_raw(path: Path) -> Responses:
    """Read a .bin and its sidecar. Raises ValueError in one line. [worker]"""
    source = f"file: {path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{source}: {error.strerror}") from None
    sidecar, facts = _read_sidecar(path)
    _check_fact(sidecar, facts, "storage_format", STORAGE)
    _check_fact(sidecar, facts, "n_channels", len(PATHS))
    if "channel_order" in facts:
        _check_fact(sidecar, facts, "channel_order", list(PATHS))
    count, rate_hz = (_whole(sidecar, facts, key) for key in ("n_taps", "sample_rate"))
    check_rate(f"file: {sidecar}: sample_rate", rate_hz)
    if "rate_family" in facts:
        _check_fact(sidecar, facts, "rate_family", rate_family(rate_hz))
    size = 4 * len(PATHS) * count
    if len(content) != size:
        raise ValueError(f"{source} has {len(content)} bytes, but {count} taps x 4 paths in {sidecar.name} are {size}")
    return Responses(source, doubles(content).reshape(len(PATHS), count), rate_hz)


def _read_sidecar(path: Path) -> tuple[Path, dict[str, Any]]:
    sidecar = path.with_suffix(".json")
    try:
        facts = json.loads(sidecar.read_bytes())
    except OSError as error:
        raise ValueError(f"file: {sidecar}: {error.strerror}; a .bin needs it to say what is inside") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"file: {sidecar} is not JSON: {error}") from None
    if not isinstance(facts, dict):
        raise ValueError(f"file: {sidecar} is not a JSON object")
    return sidecar, facts


def _check_fact(sidecar: Path, facts: dict[str, Any], key: str, wanted: object) -> None:
    if facts.get(key) != wanted:
        raise ValueError(f"file: {sidecar}: {key} is {json.dumps(facts.get(key))[:80]}, not {json.dumps(wanted)}")


def _whole(sidecar: Path, facts: dict[str, Any], key: str) -> int:
    """Return a count that is at least 0."""
    value = facts.get(key)
    if type(value) is not int or value < 0:
        raise ValueError(f"file: {sidecar}: {key} is {json.dumps(value)[:80]}, not a whole number")
    return value
