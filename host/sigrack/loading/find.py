"""From the text in `plugin = "..."` to a loaded plugin."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from sigrack.errors import ConfigError, nearest
from sigrack.loading.native import NativePlugin
from sigrack.loading.python import PythonPlugin
from sigrack_plugins import bundled

__all__ = ["find_plugin", "load_plugin"]


def find_plugin(text: str, resolve: Callable[[str], Path]) -> Path | str:
    """Return the file or module that `text` names: a bundled plugin, a path, or a dotted module. Raises ConfigError. [any]"""
    if "/" in text or text.endswith((".so", ".py")):
        path = resolve(text)
        if not path.exists():
            raise ConfigError(f"{path}: no such plugin file")
        if path.suffix not in (".so", ".py"):
            raise ConfigError(f"{path}: a plugin is a .so or a .py file")
        return path
    known = bundled()
    if text in known:
        return known[text]
    try:
        found = "." in text and importlib.util.find_spec(text) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise ConfigError(f'unknown plugin "{text}"{nearest(text, list(known))}')
    return text


def load_plugin(target: Path | str) -> NativePlugin | PythonPlugin:
    """Load what `find_plugin` has found. Raises ConfigError. [control for libraries, main for Python]"""
    if isinstance(target, Path) and target.suffix == ".so":
        return NativePlugin(target)
    return PythonPlugin(target)
