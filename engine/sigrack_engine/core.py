"""The native core, loaded by ctypes: every function of engine/core's headers with its signature."""

import ctypes as c
from collections.abc import Callable
from typing import Any

from sigrack_engine.errors import CoreError
from sigrack_plugins import native
from sigrack_plugins.abi import MAX_CHANNELS, Event

__all__ = [
    "ABI",
    "BiquadsSpec",
    "BiquadsStage",
    "Books",
    "ChildSetup",
    "ClockSetup",
    "ClockStats",
    "CoreError",
    "CoverSetup",
    "CoverStats",
    "EngineStats",
    "ExchangeProgress",
    "ExchangeShape",
    "ExchangeSizes",
    "ExchangeStruct",
    "FirSpec",
    "FirStage",
    "GroupSetup",
    "ResultsStats",
    "SinkSetup",
    "SinkStats",
    "SlotMeters",
    "SlotSetup",
    "SourceSetup",
    "SourceStats",
    "Span",
    "StepStruct",
    "address",
    "checked",
    "lib",
    "quick",
]

ABI = 9  # CORE_ABI in engine/core/core.h
LATENESS_BINS = 32
FIR_STAGES = 4  # FIR_MAX_STAGES


class SlotSetup(c.Structure):
    """`struct core_slot_setup`."""

    _fields_ = [
        ("process", c.c_void_p),
        ("reset", c.c_void_p),
        ("self", c.c_void_p),
        ("channels", c.c_uint32),
        ("max_frames", c.c_uint32),
        ("ratio", c.c_uint32),
        ("latency_frames", c.c_uint32),
        ("fade_frames", c.c_uint32),
        ("active", c.c_uint32),
        ("bus", c.c_uint32),
        ("outputs", c.c_uint32),
        ("in_", c.c_uint8 * MAX_CHANNELS),
        ("out", c.c_uint8 * MAX_CHANNELS),
    ]


class SlotMeters(c.Structure):
    """`struct core_slot_meters`."""

    _fields_ = [
        ("blocks", c.c_uint64),
        ("ticks", c.c_uint64),
        ("ticks_longest", c.c_uint64),
        ("nonfinite", c.c_uint64),
        ("faults", c.c_uint64),
        ("wet", c.c_float),
    ]


class StepStruct(c.Structure):
    """`struct core_step`."""

    _fields_ = [("slot", c.c_void_p), ("tap", c.c_void_p), ("faders", c.c_void_p)]


class EngineStats(c.Structure):
    """`struct core_engine_stats`."""

    _fields_ = [
        ("frame", c.c_uint64),
        ("blocks", c.c_uint64),
        ("progress", c.c_uint64),
        ("applied", c.c_uint64),
        ("running", c.c_uint64),
        ("bad_input", c.c_uint64),
        ("clipped", c.c_uint64),
        ("silent", c.c_uint64),
        ("first_block_ns", c.c_int64),
    ]


class SourceSetup(c.Structure):
    """`struct core_source_setup`."""

    _fields_ = [
        ("ring", c.c_void_p),
        ("block_frames", c.c_uint32),
        ("producer_frames", c.c_uint32),
        ("fade_frames", c.c_uint32),
        ("residue_frames", c.c_uint32),
    ]


class SourceStats(c.Structure):
    """`struct core_source_stats`."""

    _fields_ = [
        ("read", c.c_uint64),
        ("underrun", c.c_uint64),
        ("waiting", c.c_uint64),
        ("underruns", c.c_uint64),
        ("fill", c.c_uint32),
    ]


class SinkSetup(c.Structure):
    """`struct core_sink_setup`."""

    _fields_ = [(name, c.c_uint32) for name in ("channels", "limit_frames", "block_frames", "fade_frames", "overflow")]


class SinkStats(c.Structure):
    """`struct core_sink_stats`."""

    _fields_ = [
        ("pushed", c.c_uint64),
        ("read", c.c_uint64),
        ("dropped", c.c_uint64),
        ("overruns", c.c_uint64),
        ("fill", c.c_uint32),
    ]


class ClockSetup(c.Structure):
    """`struct core_clock_setup`."""

    _fields_ = [
        ("engine", c.c_void_p),
        ("source", c.c_void_p),
        ("sink", c.c_void_p),
        ("bell", c.c_void_p),
        ("rate_hz", c.c_uint32),
        ("frames", c.c_uint32),
        ("priority", c.c_uint32),
    ]


class ClockStats(c.Structure):
    """`struct core_clock_stats`."""

    _fields_ = [
        ("blocks", c.c_uint64),
        ("late", c.c_uint64),
        ("resyncs", c.c_uint64),
        ("lateness", c.c_uint64 * LATENESS_BINS),
        ("latest_ns", c.c_int64),
        ("fifo", c.c_int32),
        ("running", c.c_int32),
    ]


class ResultsStats(c.Structure):
    """`struct core_results_stats`."""

    _fields_ = [(name, c.c_uint64) for name in ("posted", "dropped", "refused", "queued")]


class Books(c.Structure):
    """`struct core_books`."""

    _fields_ = [
        ("posted", c.c_uint64),
        ("dropped", c.c_uint64),
        ("refused", c.c_uint64),
        ("too_long", c.c_uint64),
        ("unknown_state", c.c_uint32),
        ("unknown", c.c_char * 64),
        ("padding", c.c_uint8 * 28),
    ]


class Span(c.Structure):
    """`struct core_span`."""

    _fields_ = [("start", c.c_uint32), ("count", c.c_uint32), ("strange", c.c_uint32)]


class FirSpec(c.Structure):
    """`struct core_fir_spec`."""

    _fields_ = [
        ("inputs", c.c_uint32),
        ("outputs", c.c_uint32),
        ("phases", c.c_uint32),
        ("count", c.c_uint32),
        ("taps", c.c_void_p),
        ("block", c.c_uint32),
        ("partitions", c.c_uint32 * FIR_STAGES),
    ]


class BiquadsStage(c.Structure):
    """`struct core_biquads_stage`."""

    _fields_ = [
        ("inputs", c.c_uint32),
        ("outputs", c.c_uint32),
        ("mix", c.c_void_p),
        ("delay_frames", c.c_void_p),
        ("sections", c.c_void_p),
        ("coefficients", c.c_void_p),
    ]


class BiquadsSpec(c.Structure):
    """`struct core_biquads_spec`."""

    _fields_ = [("inputs", c.c_uint32), ("outputs", c.c_uint32), ("count", c.c_uint32), ("stages", c.c_void_p)]


class GroupSetup(c.Structure):
    """`struct core_group_setup`."""

    _fields_ = [(name, c.c_uint32) for name in ("inputs", "outputs", "max_frames", "ratio", "history_frames", "fade_frames")]


class FirStage(c.Structure):
    """`struct core_fir_stage`."""

    _fields_ = [
        ("partition", c.c_uint32),
        ("partitions", c.c_uint32),
        ("from_tap", c.c_uint32),
        ("steps", c.c_uint32),
        ("ns", c.c_double),
    ]


class ExchangeShape(c.Structure):
    """`struct core_exchange_shape`."""

    _fields_ = [(name, c.c_uint32) for name in ("channels", "outputs", "ratio", "quantum", "quanta")]


class ExchangeSizes(c.Structure):
    """`struct core_exchange_sizes`."""

    _fields_ = [("host", c.c_uint64), ("child", c.c_uint64)]


class ExchangeStruct(c.Structure):
    """`struct core_exchange`."""

    _fields_ = [
        ("host", c.c_void_p),
        ("child", c.c_void_p),
        ("in_", c.c_void_p),
        ("out", c.c_void_p),
        ("channels", c.c_uint32),
        ("outputs", c.c_uint32),
        ("ratio", c.c_uint32),
        ("quantum", c.c_uint32),
        ("capacity", c.c_uint32),
        ("wake", c.c_int),
        ("lost", c.c_uint32),
    ]


class ExchangeProgress(c.Structure):
    """`struct core_exchange_progress`."""

    _fields_ = [
        ("written", c.c_uint64),
        ("done", c.c_uint64),
        ("ticks", c.c_uint64),
        ("refused", c.c_uint64),
        ("phase", c.c_uint32),
        ("member", c.c_uint32),
    ]


class ChildSetup(c.Structure):
    """`struct core_child_setup`."""

    _fields_ = [("process", c.c_void_p), ("self", c.c_void_p)]


class CoverSetup(c.Structure):
    """`struct core_cover_setup`."""

    _fields_ = [
        ("fallback", c.c_void_p),
        ("reset", c.c_void_p),
        ("self", c.c_void_p),
        ("channels", c.c_uint32),
        ("outputs", c.c_uint32),
        ("ratio", c.c_uint32),
        ("max_frames", c.c_uint32),
        ("latency_frames", c.c_uint32),
        ("late_frames", c.c_uint32),
        ("fade_frames", c.c_uint32),
        ("patient", c.c_uint32),
        ("silent", c.c_uint32),
        ("warm_frames", c.c_uint32),
    ]


class CoverStats(c.Structure):
    """`struct core_cover_stats`."""

    _fields_ = [
        *((name, c.c_uint64) for name in ("wet", "dry", "misses", "lives", "stuck", "lies", "bad", "unset", "soundless")),
        ("is_wet", c.c_uint32),
    ]


_P, _U32, _U64, _INT = c.c_void_p, c.c_uint32, c.c_uint64, c.c_int

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "core_level": (c.c_char_p, []),
    "core_tick_ns": (c.c_double, []),
    "core_bell_new": (_P, []),
    "core_bell_free": (None, [_P]),
    "core_bell_descriptor": (_INT, [_P]),
    "core_bell_arm": (None, [_P]),
    "core_bell_ring": (None, [_P]),
    "core_ring_new": (_P, [_U32, _U32]),
    "core_ring_free": (None, [_P]),
    "core_ring_level": (_U32, [_P]),
    "core_ring_write_interleaved": (_U32, [_P, _P, _U32]),
    "core_ring_close": (None, [_P]),
    "core_source_new": (_P, [c.POINTER(SourceSetup)]),
    "core_source_free": (None, [_P]),
    "core_source_stats": (None, [_P, c.POINTER(SourceStats)]),
    "core_sink_new": (_P, [c.POINTER(SinkSetup)]),
    "core_sink_free": (None, [_P]),
    "core_sink_read_interleaved": (_U32, [_P, _P, _U32]),
    "core_sink_closed": (_INT, [_P]),
    "core_sink_stats": (None, [_P, c.POINTER(SinkStats)]),
    "core_tap_new": (_P, [_U32, _U32, _U32, _P]),
    "core_tap_free": (None, [_P]),
    "core_tap_map": (None, [_P, c.c_char_p]),
    "core_tap_close": (None, [_P]),
    "core_tap_space": (_U32, [_P]),
    "core_tap_peek": (_U32, [_P, _U32, c.POINTER(_INT)]),
    "core_tap_read": (_U64, [_P, _P, _U32, _U32]),
    "core_tap_read_interleaved": (_U64, [_P, _P, _U32]),
    "core_tap_ended": (_INT, [_P]),
    "core_tap_lost": (_U64, [_P]),
    "core_tap_written": (_U64, [_P]),
    "core_handle_open": (_U64, [_P]),
    "core_handle_close": (_INT, [_U64]),
    "core_handle_release": (_INT, [_U64]),
    "core_handle_count": (_U32, []),
    "core_handle_late": (_U64, []),
    "core_symbols_new": (_P, [c.POINTER(c.c_char_p), _U32]),
    "core_symbols_free": (None, [_P]),
    "core_results_new": (_P, [_U32, _U32, _P, _P, _P]),
    "core_results_free": (None, [_P]),
    "core_results_set_books": (None, [_P, _P]),
    "core_results_append": (_U32, [_U64, c.c_char_p, _U32, _U32]),
    "core_results_patient": (None, [_P, _INT]),
    "core_results_peek": (_U32, [_P, _U64, _U32, c.POINTER(Span)]),
    "core_results_release": (None, [_P, _U32]),
    "core_results_memory": (_P, [_P]),
    "core_results_stats": (None, [_P, c.POINTER(ResultsStats)]),
    "core_results_unknown": (c.c_char_p, [_P]),
    "core_results_too_long": (_INT, [_P, c.POINTER(_U32), c.POINTER(_U32)]),
    "core_fir_new": (_P, [c.POINTER(FirSpec)]),
    "core_fir_stages": (_U32, [_P, c.POINTER(FirStage)]),
    "core_fir_model": (c.c_double, [c.POINTER(FirSpec), _U32, _U32, _U32, _U32]),
    "core_filter_free": (None, [_P]),
    "core_filter_process": (_INT, [_P, _P]),
    "core_filter_prime": (None, [_P, _P, _U32]),
    "core_filter_catch_up": (None, [_P]),
    "core_filter_reset": (None, [_P]),
    "core_filter_bytes": (c.c_size_t, [_P]),
    "core_biquads_new": (_P, [c.POINTER(BiquadsSpec)]),
    "core_group_new": (_P, [c.POINTER(GroupSetup), _P]),
    "core_group_free": (None, [_P]),
    "core_group_process": (_INT, [_P, _P]),
    "core_group_reset": (None, [_P]),
    "core_group_written": (_U64, [_P]),
    "core_group_oldest": (_U64, [_P]),
    "core_group_feed": (_U64, [_P, _P, _U64, _U32, _INT]),
    "core_group_offer": (_U64, [_P, _P, _U64]),
    "core_group_offered": (_INT, [_P]),
    "core_group_busy": (_INT, [_P]),
    "core_group_withdraw": (_INT, [_P]),
    "core_group_collect": (_P, [_P]),
    "core_group_changes": (_U64, [_P]),
    "core_exchange_sizes": (ExchangeSizes, [c.POINTER(ExchangeShape)]),
    "core_exchange_open": (_INT, [c.POINTER(ExchangeStruct), _P, _P, c.POINTER(ExchangeShape), _INT]),
    "core_exchange_close": (None, [c.POINTER(ExchangeStruct)]),
    "core_exchange_lose": (None, [c.POINTER(ExchangeStruct)]),
    "core_exchange_look": (None, [c.POINTER(ExchangeStruct), c.POINTER(ExchangeProgress)]),
    "core_map_guarded": (_P, [_INT, _U64, _INT]),
    "core_unmap_guarded": (None, [_P, _U64]),
    "core_child_run": (_INT, [c.POINTER(ExchangeStruct), c.POINTER(ChildSetup)]),
    "core_child_wait": (c.c_int64, [c.POINTER(ExchangeStruct)]),
    "core_child_frame": (_U64, [c.POINTER(ExchangeStruct)]),
    "core_child_events": (_U32, [c.POINTER(ExchangeStruct), c.POINTER(Event)]),
    "core_child_done": (None, [c.POINTER(ExchangeStruct), _INT, _U64]),
    "core_chain_new": (_P, [c.POINTER(ExchangeStruct), c.POINTER(_P), _U32]),
    "core_chain_free": (None, [_P]),
    "core_chain_process": (_INT, [_P, _P]),
    "core_cover_latency": (_U32, [_U32, _U32, _INT]),
    "core_cover_new": (_P, [c.POINTER(CoverSetup)]),
    "core_cover_free": (None, [_P]),
    "core_cover_fits": (_INT, [_P, c.POINTER(ExchangeStruct)]),
    "core_cover_give": (_P, [_P, c.POINTER(ExchangeStruct)]),
    "core_cover_collect": (_P, [_P]),
    "core_cover_process": (_INT, [_P, _P]),
    "core_cover_reset": (None, [_P]),
    "core_cover_stats": (None, [_P, c.POINTER(CoverStats)]),
    "core_slot_new": (_P, [c.POINTER(SlotSetup)]),
    "core_slot_free": (None, [_P]),
    "core_slot_set": (_INT, [_P, _U32, c.c_double, _U64]),
    "core_slot_activate": (None, [_P, _INT]),
    "core_slot_meters": (c.POINTER(SlotMeters), [_P]),
    "core_faders_new": (_P, [_U32, _U32, _P]),
    "core_faders_free": (None, [_P]),
    "core_faders_set": (None, [_P, _P]),
    "core_faders_gain": (c.c_float, [_P, _U32]),
    "core_engine_new": (_P, [_U32, _U32, _U32]),
    "core_engine_set_ends": (_INT, [_P, _U32, _U32, c.c_char_p]),
    "core_engine_set_ratio": (_INT, [_P, _U32]),
    "core_engine_fade_in": (None, [_P]),
    "core_engine_fade_out": (None, [_P]),
    "core_engine_free": (None, [_P]),
    "core_run_list_new": (_P, [c.POINTER(StepStruct), _U32]),
    "core_run_list_free": (None, [_P]),
    "core_engine_publish": (_P, [_P, _P, _INT]),
    "core_engine_collect": (_P, [_P]),
    "core_engine_block": (None, [_P, _P, _P, _U32]),
    "core_engine_skip": (_INT, [_P, _U64]),
    "core_engine_stats": (None, [_P, c.POINTER(EngineStats)]),
    "core_engine_frame": (_P, [_P]),
    "core_feed": (_U64, [_P, _P, _P, _U32, _P]),
    "core_crash_open": (_P, [c.c_char_p, c.POINTER(c.c_int)]),
    "core_crash_close": (None, []),
    "core_crash_thread": (None, [_U32]),
    "core_crash_watch": (None, [_P]),
    "core_crash_owner": (None, [_U32]),
    "core_crash_beats": (_P, []),
    "core_clock_new": (_P, [c.POINTER(ClockSetup)]),
    "core_clock_start": (_INT, [_P]),
    "core_clock_stop": (None, [_P]),
    "core_clock_join": (_INT, [_P, _U32]),
    "core_clock_free": (_INT, [_P]),
    "core_clock_stats": (None, [_P, c.POINTER(ClockStats)]),
}


def _load() -> c.CDLL:
    path = native(__file__, "_core")
    try:
        library = c.CDLL(str(path))
    except OSError as error:
        raise CoreError(f"no native core at {path}: run `make build`") from error
    library.core_abi.restype = c.c_uint32
    if (found := library.core_abi()) != ABI:
        raise CoreError(f"{path} has ABI {found}, this code needs {ABI}: run `make build`")
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


lib = _load()
"""The loaded library. Its functions release the GIL while they run."""


def checked(pointer: int | None, what: str) -> int:
    """Return `pointer`, or raise CoreError if it is NULL. [any]"""
    if not pointer:
        raise CoreError(f"out of memory for {what}")
    return pointer


def address(function: str) -> int:
    """Return the address of a core function, to be called by C. [any]"""
    return c.cast(getattr(lib, function), c.c_void_p).value or 0


def quick(function: str) -> Callable[..., Any]:
    """Return a core function that keeps the GIL: for calls so short that getting it back could take far longer. [any]"""
    result, arguments = _SIGNATURES[function]
    return c.PYFUNCTYPE(result, *arguments)(address(function))
