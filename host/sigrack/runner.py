"""What stands in the run list for several slots: a group of filters, or a shared lane."""

__all__ = ["Runner"]


class Runner:
    """Ends like a slot, when the engine has left it; itself it has no hooks, no taps, no thread, and posts nothing."""

    __slots__ = ()
    hooked = hook_tap = source = None
    occupied = False
    taps: tuple[()] = ()

    def begin(self) -> None:
        """Nothing. [main]"""

    def end_streams(self) -> None:
        """Nothing. [main, when the engine has left it]"""

    def hurry(self) -> None:
        """Nothing. [main]"""

    def join(self, limit_s: float) -> bool:
        """Nobody is at work on it. [main]"""
        return True

    def close_hooks(self) -> None:
        """It has none. [main]"""

    def stop(self) -> None:
        """Nothing. [main]"""
