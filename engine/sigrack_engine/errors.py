"""What can be wrong with the core itself."""

__all__ = ["CoreError"]


class CoreError(RuntimeError):
    """The native core is missing, does not fit this Python code, or ran out of memory."""
