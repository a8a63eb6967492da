"""The processors of a shared lane, one behind the other, in the child."""

import ctypes as c
from collections.abc import Sequence

from sigrack_engine.core import address, checked, lib
from sigrack_engine.exchange import ChildExchange
from sigrack_engine.slot import SlotCore

__all__ = ["MOST_MEMBERS", "Chain", "change_of", "switch_of"]

MOST_MEMBERS = 32  # CHAIN_MOST
PARAMS = 65_536  # CHAIN_PARAMS


def change_of(member: int, param: int) -> int:
    """Return the number under which a lane knows a parameter of the member at a place. [any]"""
    return member * PARAMS + param


def switch_of(member: int) -> int:
    """Return the number of what switches a member: 0 bypasses it. [any]"""
    return member * PARAMS + PARAMS - 1


class Chain:
    """Runs slots as one processor of a child."""

    process_address = address("core_chain_process")

    def __init__(self, exchange: ChildExchange, cores: Sequence[SlotCore]) -> None:
        """Each takes and gives all channels of the exchange. Raises CoreError. [child]"""
        self._exchange, self._cores = exchange, tuple(cores)
        pointers = (c.c_void_p * len(cores))(*(core.pointer for core in cores))
        self.pointer = checked(lib.core_chain_new(exchange.struct, pointers, len(cores)), f"a lane of {len(cores)} processors")

    def close(self) -> None:
        """Free it and its slots: the audio thread has ended. [child]"""
        lib.core_chain_free(self.pointer)
        for core in self._cores:
            core.close()
