"""`sigrack.h` for ctypes: the same structs, field for field."""

import ctypes as c

__all__ = [
    "ABI",
    "ENTRY",
    "MAX_CHANNELS",
    "UNIFORM",
    "UNLOADABLE",
    "Block",
    "Contract",
    "Event",
    "Factor",
    "Host",
    "Param",
    "PluginStruct",
    "Post",
    "SetupStruct",
]

ABI = 1
ENTRY = "sigrack_plugin_entry"
MAX_CHANNELS = 32
UNIFORM = 2  # SIGRACK_UNIFORM
UNLOADABLE = 1  # SIGRACK_UNLOADABLE

Post = c.CFUNCTYPE(c.c_int, c.c_uint64, c.c_uint32, c.c_uint64, c.c_void_p, c.c_uint32)


class Param(c.Structure):
    """`struct sigrack_param`."""

    _fields_ = [
        ("size", c.c_uint32),
        ("flags", c.c_uint32),
        ("id", c.c_char_p),
        ("name", c.c_char_p),
        ("unit", c.c_char_p),
        ("minimum", c.c_double),
        ("maximum", c.c_double),
        ("initial", c.c_double),
    ]


class Factor(c.Structure):
    """`struct sigrack_factor`."""

    _fields_ = [("size", c.c_uint32), ("flags", c.c_uint32), ("symbol", c.c_char_p), ("unit", c.c_char_p)]


class Host(c.Structure):
    """`struct sigrack_host`; `post` is the address of a C function."""

    _fields_ = [("size", c.c_uint32), ("abi", c.c_uint32), ("cookie", c.c_uint64), ("post", c.c_void_p)]


class SetupStruct(c.Structure):
    """`struct sigrack_setup`."""

    _fields_ = [
        ("size", c.c_uint32),
        ("rate_hz", c.c_uint32),
        ("max_frames", c.c_uint32),
        ("channels", c.c_uint32),
        ("values", c.POINTER(c.c_double)),
    ]


class Contract(c.Structure):
    """`struct sigrack_contract`."""

    _fields_ = [
        ("size", c.c_uint32),
        ("flags", c.c_uint32),
        ("latency_frames", c.c_uint32),
        ("tail_frames", c.c_uint32),
    ]


class Event(c.Structure):
    """`struct sigrack_event`."""

    _fields_ = [("offset", c.c_uint32), ("param", c.c_uint32), ("value", c.c_double)]


class Block(c.Structure):
    """`struct sigrack_block`."""

    _fields_ = [
        ("size", c.c_uint32),
        ("frames", c.c_uint32),
        ("frame", c.c_uint64),
        ("in_", c.c_void_p),
        ("out", c.c_void_p),
        ("channels", c.c_uint32),
        ("event_count", c.c_uint32),
        ("events", c.POINTER(Event)),
    ]


class PluginStruct(c.Structure):
    """`struct sigrack_plugin`. `process` and `reset` stay addresses: only the engine calls them.

    What stands after `destroy` came later: a plugin that was built without it is read as if it were 0.
    """

    _fields_ = [
        ("size", c.c_uint32),
        ("abi", c.c_uint32),
        ("id", c.c_char_p),
        ("name", c.c_char_p),
        ("version", c.c_char_p),
        ("description", c.c_char_p),
        ("params", c.POINTER(Param)),
        ("param_count", c.c_uint32),
        ("factors", c.POINTER(Factor)),
        ("factor_count", c.c_uint32),
        ("create", c.CFUNCTYPE(c.c_void_p, c.POINTER(Host), c.c_char_p, c.c_void_p, c.c_uint32)),
        ("activate", c.CFUNCTYPE(c.c_int, c.c_void_p, c.POINTER(SetupStruct), c.POINTER(Contract))),
        ("process", c.c_void_p),
        ("reset", c.c_void_p),
        ("destroy", c.CFUNCTYPE(None, c.c_void_p)),
        ("flags", c.c_uint32),
        ("reserved", c.c_uint32),
        ("state_save", c.CFUNCTYPE(c.c_uint32, c.c_void_p, c.c_void_p, c.c_uint32)),
        (
            "state_load",
            c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_char_p, c.c_char_p, c.c_uint32, c.c_void_p, c.c_uint32),
        ),
    ]
