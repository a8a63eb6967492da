"""What a plugin author sees: the C headers, the Python API and the bundled plugins."""

import os
from pathlib import Path

from sigrack_plugins.api import (
    HOOKS,
    SECOND,
    AudioBlock,
    Biquad,
    BiquadStage,
    Block,
    Context,
    DataBatch,
    FactorBatch,
    Param,
    Plugin,
    Setup,
    Tap,
    Timer,
)

__all__ = [
    "HOOKS",
    "SECOND",
    "AudioBlock",
    "Biquad",
    "BiquadStage",
    "Block",
    "Context",
    "DataBatch",
    "FactorBatch",
    "Param",
    "Plugin",
    "Setup",
    "Tap",
    "Timer",
    "bundled",
    "include",
    "native",
]


def native(beside: str, name: str) -> Path:
    """Return the path of our library `name` beside a `__file__`, or under $SIGRACK_NATIVE. [any]"""
    folder = Path(beside).parent
    root = os.environ.get("SIGRACK_NATIVE")
    return (Path(root, folder.name) if root else folder) / f"{name}.so"


def include() -> Path:
    """Return the folder that holds `sigrack.h` and `sigrack_signal.h`. [any]"""
    return Path(__file__).parent


def bundled() -> dict[str, Path]:
    """Return the bundled plugins by name: libraries and modules. [any]"""
    folder = Path(__file__).parent
    modules = {path.stem: path for path in folder.glob("[!_]*.py") if path.stem not in ("abi", "api")}
    libraries = {path.stem: path for path in native(__file__, "any").parent.glob("*.so")}
    return dict(sorted({**modules, **libraries}.items()))
