"""What can be wrong with a feed."""

from pathlib import Path

from sigrack_engine.data import DataError

__all__ = ["EndpointInUseError", "FeedError", "check_regular"]


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


class EndpointInUseError(FeedError):
    """Another socket has the endpoint: later it may be free."""


def check_regular(path: Path) -> None:
    """Raise FeedError unless `path` is a file: to open a pipe could take for ever. [any]"""
    try:
        path.stat()
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror}") from None
    if path.is_dir():
        raise FeedError(f"{path}: is a folder; name the file in it")
    if not path.is_file():
        raise FeedError(f"{path}: is not a regular file; write what it brings into one")
