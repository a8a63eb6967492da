"""Failures that end in one line and an exit code."""

__all__ = ["CLEAN", "FORCED", "ConfigError", "EngineError", "RackError", "nearest"]

CLEAN = 0
FORCED = 103


class RackError(Exception):
    """Something that the user can put right; the message is one line that names the thing and the way out."""

    exit_code = 102


class ConfigError(RackError):
    """What the user gave is wrong: configuration, arguments, files, plugins. Trying again does not help."""

    exit_code = 101


class EngineError(RackError):
    """A device, a resource or the engine failed. Trying again may help."""

    exit_code = 102


def nearest(name: str, valid: "list[str] | tuple[str, ...]") -> str:
    """Return '; did you mean "X"?', or the valid names if none is near, to end an error message with. [any]"""
    import difflib

    if match := difflib.get_close_matches(name, valid, n=1, cutoff=0.5):
        return f'; did you mean "{match[0]}"?'
    return f"; valid: {', '.join(valid)}" if valid else ""
