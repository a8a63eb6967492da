"""From the text in `plugin = "..."` to a loaded plugin."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TypeGuard

from sigrack.errors import ConfigError, nearest
from sigrack.loading.modules import module_file
from sigrack.loading.native import NativePlugin
from sigrack.loading.python import PythonPlugin
from sigrack.quarantine import admit, content_hash
from sigrack_plugins import bundled

__all__ = ["admit_plugin", "find_plugin", "is_native", "is_trusted", "load_plugin"]


def _is_module(text: str) -> bool:
    """Whether a dotted name stands for a module; its packages are imported."""
    if "." not in text or not all(part.isidentifier() for part in text.split(".")):
        return False
    try:
        return importlib.util.find_spec(text) is not None
    except ModuleNotFoundError as error:
        return not f"{text}.".startswith(f"{error.name}.")  # else it is not the plugin that is missing
    except (Exception, SystemExit):
        return True  # what its package raises is told when it is loaded


def find_plugin(text: str, resolve: Callable[[str], Path]) -> Path | str:
    """Return the file or module that `text` names: a bundled plugin, a path, or a dotted module. Raises ConfigError. [any]"""
    if "/" in text or text.endswith((".so", ".py")):
        path = resolve(text)
        if not path.exists():
            raise ConfigError(f"{path}: no such plugin file")
        if path.suffix not in (".so", ".py"):
            raise ConfigError(f"{path}: a plugin is a .so or a .py file")
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; a plugin is a .so or a .py file")
        return path
    known = bundled()
    if text in known:
        return known[text]
    if not _is_module(text):
        raise ConfigError(f'unknown plugin "{text}"{nearest(text, list(known))}')
    return text


def is_native(target: Path | str) -> TypeGuard[Path]:
    """Whether what `find_plugin` has found is a shared library. [any]"""
    return isinstance(target, Path) and target.suffix == ".so"


def is_trusted(target: Path | str) -> bool:
    """Whether it came with the host. [any]"""
    return target in bundled().values()


def admit_plugin(target: Path | str) -> None:
    """Raise QuarantinedError if what `find_plugin` has found may not be loaded. Loading it does the same. [any]"""
    if file := target if isinstance(target, Path) else module_file(target):
        admit(file, content_hash(file))


def load_plugin(target: Path | str) -> NativePlugin | PythonPlugin:
    """Load what `find_plugin` has found. Raises ConfigError. [control for libraries, main for Python]"""
    if is_native(target):
        return NativePlugin(target)
    return PythonPlugin(target)
