"""Finds plugins and loads them: shared libraries by ctypes, Python modules by importlib."""

from sigrack.loading.find import admit_plugin, find_plugin, is_native, is_trusted, load_plugin
from sigrack.loading.native import NativePlugin, ParamInfo
from sigrack.loading.none import NoPlugin
from sigrack.loading.python import PythonPlugin

__all__ = [
    "NativePlugin",
    "NoPlugin",
    "ParamInfo",
    "PythonPlugin",
    "admit_plugin",
    "find_plugin",
    "is_native",
    "is_trusted",
    "load_plugin",
]
