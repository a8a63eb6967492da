"""What can be wrong with a feed."""

from sigrack_engine.data import DataError

__all__ = ["FeedError"]


class FeedError(ValueError):
    """A file or a socket does not deliver what it should; the message begins with its place.

    `name` was not among `valid`, if that is what is wrong.
    """

    def __init__(self, message: str, *, name: str = "", valid: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name, self.valid = name, valid

    @classmethod
    def at(cls, place: object, error: DataError) -> "FeedError":
        """Return `error` with its place in front. [any]"""
        return cls(f"{place}: {error}", name=error.name, valid=error.valid)
