"""Failures that end in one line and an exit code."""

import importlib
import traceback
from pathlib import Path

__all__ = ["CLEAN", "FORCED", "ConfigError", "EngineError", "NoPluginError", "RackError", "nearest", "place", "said", "words"]

CLEAN = 0
FORCED = 103
MOST_NAMES = 10
"""How many valid names a message lists."""
_OURS = (f"{Path(__file__).parent}/", importlib.__file__, "<frozen importlib.")
"""Where the code lies that calls plugins."""


class RackError(Exception):
    """Something that the user can put right; the message is one line that names the thing and the way out."""

    exit_code = 102
    at: tuple[str | int, ...] = ()
    """The key of the configuration that it is about, if that is known: ("slot", 2, "plugin")."""


class ConfigError(RackError):
    """What the user gave is wrong: configuration, arguments, files, plugins. Trying again does not help."""

    exit_code = 101

    def __init__(self, message: str, key: tuple[str, ...] = ()) -> None:
        """`key`: where it stands in the slot's table, if that is known and the message does not tell yet."""
        super().__init__(message)
        self.key = key


class NoPluginError(ConfigError):
    """A library or a module that holds no plugin."""


class EngineError(RackError):
    """A device, a resource or the engine failed. Trying again may help."""

    exit_code = 102


def words(error: BaseException) -> str:
    """Return an exception's message, even if it has none that can be had. [any]"""
    try:
        return str(error)
    except Exception as worse:
        return f"(its text cannot be had: {type(worse).__name__})"


def place(error: BaseException) -> str:
    """Return FILE:LINE of what has failed in a plugin's own file, however deep below it the error was raised, or "". [any]"""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OURS)]
    if frames:
        line = [frame.lineno for frame in frames if frame.filename == frames[0].filename][-1]
        return f"{frames[0].filename}:{line}"
    return f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) and error.filename else ""


def said(error: BaseException) -> str:
    """Return what a plugin's exception says. [any]

    ValueError and OSError are sentences for users; others need their kind, and file and line where that is a plugin's.
    """
    text = words(error)
    if isinstance(error, KeyError) and " " in text and error.args:
        return str(error.args[0])  # a sentence of Context's
    if isinstance(error, ValueError | OSError | RackError):
        return text
    where = place(error)
    return f"{type(error).__name__}: {text} ({where})" if where else f"{type(error).__name__}: {text}"


def nearest(name: str, valid: "list[str] | tuple[str, ...]") -> str:
    """Return '; did you mean "X"?', or valid names if none is near, MOST_NAMES at most, to end an error message with. [any]"""
    import difflib

    if match := difflib.get_close_matches(name, valid, n=1, cutoff=0.5):
        return f'; did you mean "{match[0]}"?'
    more = f" and {len(valid) - MOST_NAMES} more" if len(valid) > MOST_NAMES else ""
    return f"; valid: {', '.join(valid[:MOST_NAMES])}{more}" if valid else ""
