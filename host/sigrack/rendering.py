"""Files through a rack, as fast as the machine can."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sigrack.checks import check_feeds
from sigrack.config import Document, load
from sigrack.errors import FORCED, ConfigError, EngineError
from sigrack.freewheel import FileDriver
from sigrack.session import Session
from sigrack.tables import ControlTable, SinkTable, SourceTable

__all__ = ["RenderResult", "render"]


@dataclass(frozen=True, slots=True)
class RenderResult:
    """What came of it."""

    frames: int
    rate_hz: int
    elapsed_s: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio per second of work."""
        return self.frames / self.rate_hz / self.elapsed_s if self.elapsed_s else 0.0


def render(
    rack: Path | str,
    source: Path | str,
    target: Path | str,
    *,
    overwrite: bool = False,
    samples: str | None = None,
    backend: str | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> RenderResult:
    """Send the file `source` through the rack described in the file `rack` into the new file `target`.

    The rack's own [source], [sink], [control] and [publish] are not used. `samples`: float32, int16, int24 or int32. `backend`:
    cpu, cuda or auto, in place of the one in [rack]. `progress` is called with (frames done since the last call, frames in all,
    rate in Hz). Raises ConfigError, EngineError; no half-written target is left, and with `overwrite` the old one stays until the
    new one is whole. [main]
    """
    base = load(Path(rack))
    source, target = Path(source).absolute(), Path(target).absolute()
    made = target
    if overwrite and target.is_file():  # the old file goes when the new one is whole
        if source.exists() and target.samefile(source):
            raise ConfigError(f"{target}: is the source as well; give another name")
        made = target.with_name(f".{target.stem}.part{target.suffix}")
    config = msgspec.structs.replace(
        base.config,
        source=SourceTable(driver="file", path=str(source)),
        sink=SinkTable(driver="file", path=str(made), overwrite=overwrite, format=samples),  # type: ignore[arg-type]
        control=ControlTable(enabled=False),
        publish=None,
    )
    if backend:
        config = msgspec.structs.replace(config, rack=msgspec.structs.replace(config.rack, backend=backend))
    document = Document(base.path, base.text, config, given=("source", "sink", "control"))
    check_feeds(document)
    done = 0

    def count(frames: int) -> None:
        nonlocal done
        done += frames
        if progress:
            progress(frames, total, rate_hz)

    session = Session(document, count)
    rate_hz = session.rack.setup.rate_hz
    driver = session.driver
    assert isinstance(driver, FileDriver)
    total = driver.total_frames
    begun = time.perf_counter()
    finished = False
    try:
        if session.run() == FORCED:
            raise EngineError(f"did not end in time: {', '.join(session.rack.left_behind)}; {target} was not made")
        finished = driver.finished
    finally:
        if not finished:
            made.unlink(missing_ok=True)
    if not finished:
        raise EngineError(f"stopped after {done} of {total} frames; {target} was not made")
    made.replace(target)
    return RenderResult(total, rate_hz, time.perf_counter() - begun)
