"""A rack for signal plugins. Names are imported on first use (PEP 562)."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigrack.control.client import Client as Client
    from sigrack.control.schema import CommandError as CommandError
    from sigrack.designing import design as design
    from sigrack.errors import ConfigError as ConfigError
    from sigrack.errors import EngineError as EngineError
    from sigrack.errors import RackError as RackError
    from sigrack.rendering import render as render
    from sigrack.rendering import render_files as render_files
    from sigrack.session import run_rack as run_rack

_HOMES = {
    "Client": "sigrack.control.client",
    "CommandError": "sigrack.control.schema",
    "ConfigError": "sigrack.errors",
    "EngineError": "sigrack.errors",
    "RackError": "sigrack.errors",
    "design": "sigrack.designing",
    "render": "sigrack.rendering",
    "render_files": "sigrack.rendering",
    "run_rack": "sigrack.session",
}

__version__ = "0.1.0"
__all__ = ["Client", "CommandError", "ConfigError", "EngineError", "RackError", "design", "render", "render_files", "run_rack"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
