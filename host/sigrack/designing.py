"""Filters for upsampling, made or taken from the cache."""

from sigrack.errors import ConfigError
from sigrack_engine.design import DesignError, Filter, Progress, cached, specify

__all__ = ["design"]


def design(
    *,
    input_rate_hz: int = 44_100,
    ratio: int = 16,
    phase: str = "minimum",
    taps: int | None = None,
    pass_edge_hz: float | None = None,
    stop_edge_hz: float | None = None,
    attenuation_db: float = 140.0,
    ripple_db: float = 0.01,
    progress: Progress = lambda step: None,
) -> Filter:
    """Return a low pass for upsampling by `ratio`: its `taps` (float32, at the output rate), `specification` and `measured`.

    What is left open is decided by `sigrack_engine.design.specify`: 40,000 taps per phase, a stop band from half the input rate,
    a pass band as near to it as that allows. A filter that was designed before comes from the user's cache directory. `progress`
    is called with the name of each step of a new design. Raises ConfigError. [worker]
    """
    try:
        spec = specify(
            input_rate_hz=input_rate_hz,
            ratio=ratio,
            phase=phase,
            taps=taps,
            pass_edge_hz=pass_edge_hz,
            stop_edge_hz=stop_edge_hz,
            attenuation_db=attenuation_db,
            ripple_db=ripple_db,
        )
        return cached(spec, progress)
    except DesignError as error:
        raise ConfigError(str(error)) from None
