"""Failures that end in one line and an exit code."""

__all__ = ["CLEAN", "FORCED", "ConfigError", "EngineError", "RackError", "nearest", "said", "words"]

CLEAN = 0
FORCED = 103
MOST_NAMES = 10
"""How many valid names a message lists."""


class RackError(Exception):
    """Something that the user can put right; the message is one line that names the thing and the way out."""

    exit_code = 102


class ConfigError(RackError):
    """What the user gave is wrong: configuration, arguments, files, plugins. Trying again does not help."""

    exit_code = 101

    def __init__(self, message: str, key: tuple[str, ...] = ()) -> None:
        """`key`: where it stands in the slot's table, if that is known and the message does not tell yet."""
        super().__init__(message)
        self.key = key


class EngineError(RackError):
    """A device, a resource or the engine failed. Trying again may help."""

    exit_code = 102


def words(error: BaseException) -> str:
    """Return an exception's message, even if it has none that can be had. [any]"""
    try:
        return str(error)
    except Exception as worse:
        return f"(its text cannot be had: {type(worse).__name__})"


def said(error: BaseException) -> str:
    """Return what a plugin's exception says: ValueError and OSError are sentences for users, others need their kind. [any]"""
    text = words(error)
    if isinstance(error, KeyError) and " " in text and error.args:
        return str(error.args[0])  # a sentence of Context's
    return text if isinstance(error, ValueError | OSError | RackError) else f"{type(error).__name__}: {text}"


def nearest(name: str, valid: "list[str] | tuple[str, ...]") -> str:
    """Return '; did you mean "X"?', or valid names if none is near, MOST_NAMES at most, to end an error message with. [any]"""
    import difflib

    if match := difflib.get_close_matches(name, valid, n=1, cutoff=0.5):
        return f'; did you mean "{match[0]}"?'
    more = f" and {len(valid) - MOST_NAMES} more" if len(valid) > MOST_NAMES else ""
    return f"; valid: {', '.join(valid[:MOST_NAMES])}{more}" if valid else ""
