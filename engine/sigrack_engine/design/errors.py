"""What can be wrong with a filter."""

__all__ = ["DesignError"]


class DesignError(ValueError):
    """A filter cannot be made, read or used; the message is one line that says what would do."""
