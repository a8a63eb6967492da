"""Wakes the main loop."""

from sigrack_engine.core import checked, lib

__all__ = ["Bell"]


class Bell:
    """An eventfd that any thread may ring and one listens to."""

    def __init__(self) -> None:
        self.pointer = checked(lib.core_bell_new(), "a bell")
        self.descriptor: int = lib.core_bell_descriptor(self.pointer)

    def arm(self) -> None:
        """Ask to be woken by the next ring; look for work once more before waiting. [listener]"""
        lib.core_bell_arm(self.pointer)

    def ring(self) -> None:
        """Wake the listener. [any]"""
        lib.core_bell_ring(self.pointer)

    def close(self) -> None:
        """Free it: nobody may ring any more. [control]"""
        lib.core_bell_free(self.pointer)
