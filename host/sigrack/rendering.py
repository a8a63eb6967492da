"""Files through a rack, as fast as the machine can."""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from sigrack.backends import is_worth
from sigrack.checks import check_feeds
from sigrack.config import Document, load
from sigrack.drivers import built
from sigrack.ends import check_sink, open_source
from sigrack.errors import FORCED, ConfigError, EngineError, RackError
from sigrack.freewheel import FileDriver
from sigrack.lanes.files import GpuFiles
from sigrack.lanes.gpu import NoGpuError
from sigrack.lanes.messages import Message
from sigrack.onefilter import may_be_one_filter, only_group
from sigrack.session import Session, check_no_loop
from sigrack.tables import ControlTable, SinkTable, SourceTable
from sigrack_engine.compiler import Linear

__all__ = ["RenderResult", "StoppedError", "render", "render_files"]

log = logging.getLogger("sigrack")


class StoppedError(EngineError):
    """Somebody has asked for the end."""


@dataclass(frozen=True, slots=True)
class RenderResult:
    """What came of it."""

    frames: int
    rate_hz: int
    elapsed_s: float
    """Of files that went through a GPU together: since their beginning."""

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio per second of work."""
        return self.frames / self.rate_hz / self.elapsed_s if self.elapsed_s else 0.0


@dataclass(eq=False, slots=True)
class _File:
    """One file to render."""

    document: Document
    target: Path
    made: Path
    """What becomes `target` when it is whole."""
    rate_hz: int = 0
    channels: int = 0
    frames: int = 0
    result: RenderResult | RackError | None = None

    @property
    def source(self) -> Path:
        return Path(self.document.config.source.path)


Count = Callable[[int, int], object]
"""Is told (frames done since the last call, rate in Hz); fewer than none when some must be done again."""


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
    rate in Hz); fewer than none are done when a GPU has failed and the CPU begins anew. Raises ConfigError, EngineError; no
    half-written target is left, and with `overwrite` the old one stays until the new one is whole. [main]
    """
    file = _file(load(Path(rack)), source, target, overwrite, samples, backend)
    _measure(file)
    _render([file], lambda frames, rate_hz: progress(frames, file.frames, rate_hz) if progress else None)
    if isinstance(file.result, RenderResult):
        return file.result
    assert file.result
    raise file.result


def render_files(
    rack: Path | str,
    files: Sequence[tuple[Path | str, Path | str]],
    *,
    overwrite: bool = False,
    samples: str | None = None,
    backend: str | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> list[RenderResult | RackError]:
    """Render each (source, target) as `render` does; return what came of each. `progress`: (seconds of sound since then, in all).

    On a GPU, files go side by side through a rack that is one filter. A file that fails does not keep others from being
    rendered. Raises ConfigError for a rack or targets that are wrong, EngineError when it was told to stop. [main]
    """
    base = load(Path(rack))
    jobs = [_file(base, source, target, overwrite, samples, backend) for source, target in files]
    _check_targets(jobs)
    for job in jobs:
        try:
            _measure(job)
        except RackError as error:
            job.result = error
    total_s = sum(job.frames / job.rate_hz for job in jobs if job.rate_hz)
    _render(jobs, lambda frames, rate_hz: progress(frames / rate_hz, total_s) if progress else None)
    return [job.result for job in jobs if job.result]


def _file(
    base: Document, source: Path | str, target: Path | str, overwrite: bool, samples: str | None, backend: str | None
) -> _File:
    """Return what is to be done. Raises ConfigError."""
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
    return _File(document, target, made)


def _check_targets(files: Sequence[_File]) -> None:
    """Raise ConfigError if one file would take another one's place."""
    sources, targets = {file.source.resolve(): file for file in files}, dict[Path, _File]()
    for file in files:
        place = file.target.resolve()
        if (other := targets.setdefault(place, file)) is not file:
            raise ConfigError(f"{file.target}: would be made of {other.source} and of {file.source}; render one of them apart")
        if sources.get(place, file) is not file:
            raise ConfigError(f"{file.target}: is one of the sources as well; give another folder")


def _measure(file: _File) -> None:
    """Look whether source and target can be had, and how long it is. Raises ConfigError."""
    reader = open_source(file.document)
    file.rate_hz, file.channels, file.frames = reader.rate_hz, reader.channels, reader.frames
    reader.close()
    check_sink(file.document)


def _render(files: Sequence[_File], count: Count) -> None:
    """Give each file its result. Raises StoppedError, and ConfigError for the rack."""
    check_no_loop()
    left = [file for file in files if not file.result]
    if left and left[0].document.config.rack.backend != "cpu" and not _by_gpu(left, count):
        for file in left:
            file.document = _on_cpu(file.document)
    for file in left:
        try:
            file.result = file.result or _through_rack(file, count)
        except StoppedError:
            raise
        except RackError as error:
            file.result = error


# A rack that is one filter, on a GPU


def _by_gpu(files: Sequence[_File], count: Count) -> bool:
    """Render what can go through a GPU without an engine; False: there is none that works, also for those that are left."""
    alike: dict[tuple[int, int], list[_File]] = {}
    for file in files:
        alike.setdefault((file.rate_hz, file.channels), []).append(file)
    try:
        for those in alike.values():
            _through_gpu(those, count)
        return True
    except NoGpuError as error:
        log.warning("there is no GPU to run on: %s; the CPU runs", error)
    except StoppedError:
        raise
    except EngineError as error:
        left = sum(not file.result for file in files)
        log.warning(
            "the GPU failed: %s; the CPU renders %s", error, "the file" if left == 1 else f"the {left} files that are left"
        )
    return False


def _through_gpu(files: Sequence[_File], count: Count) -> None:
    """Render files of one rate and as many channels in one batch, unless they need an engine, or a GPU would not pay.

    Raises NoGpuError, EngineError: what has no result then is left.
    """
    document = files[0].document
    found: tuple[str, Linear] | None = None
    if may_be_one_filter(document):
        try:
            with built(_on_cpu(document)) as rack:
                if (group := only_group(rack)) and isinstance(group.linear, Linear):
                    found = group.name, group.linear
                    auto = document.config.rack.backend == "auto"
                    if auto and not is_worth(rack, group.members, group.linear, group.convolver.filter):
                        return
        except RackError:
            return  # each file tells why
    if found:
        _send(*found, files, count)
    elif len(files) > 1:
        log.info("%s is more than one filter: files go through it one after the other", document.path)


def _on_cpu(document: Document) -> Document:
    config = document.config
    rack = msgspec.structs.replace(config.rack, backend="cpu", fallback=True)
    return Document(document.path, document.text, msgspec.structs.replace(config, rack=rack), given=document.given)


def _send(name: str, linear: Linear, files: Sequence[_File], count: Count) -> None:
    """Let a child render files. Raises NoGpuError, EngineError."""
    taps, sink, rate_hz = np.ascontiguousarray(linear.taps, np.float32), files[0].document.config.sink, files[0].rate_hz
    order = {
        "taps": taps.tobytes(),
        "paths": taps.shape,
        "phases": linear.ratio,
        "latency_frames": linear.latency_frames,
        "rate_hz": rate_hz,
        "samples": sink.format,
        "overwrite": sink.overwrite,
        "files": [(str(file.source), str(file.made), file.frames) for file in files],
    }
    done, begun = 0, time.perf_counter()

    def hear(note: Message) -> None:
        nonlocal done
        if note["note"] == "device":
            log.info("%s: runs on %s, %s", name, note["name"], "one file" if len(files) == 1 else f"{len(files)} files")
        elif note["note"] == "progress":
            done += note["frames"]
            count(note["frames"], rate_hz)
        elif note["note"] == "done":
            file = files[note["file"]]
            file.made.replace(file.target)
            file.result = RenderResult(note["frames"], rate_hz, time.perf_counter() - begun)
            if note["clipped"]:
                log.warning(
                    "%s: %d samples were beyond full scale and clipped: lower the gain or write float32",
                    file.target,
                    note["clipped"],
                )
        else:
            file = files[note["file"]]
            if note["begun"]:
                file.made.unlink(missing_ok=True)
            file.result = ConfigError(note["why"])

    batch = GpuFiles()
    try:
        with _stopped_by(batch.stop):
            batch.render(order, hear)
    except EngineError:
        count(sum(file.frames for file in files if isinstance(file.result, RenderResult)) - done, rate_hz)
        if batch.stopped:
            left = sum(not file.result for file in files)
            raise StoppedError(f"stopped: {left} of {len(files)} files were not made") from None
        raise
    finally:
        batch.close()
        for file in files:
            if not file.result:
                file.made.unlink(missing_ok=True)


@contextmanager
def _stopped_by(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM and SIGINT call `stop` meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = {number: signal.signal(number, lambda *_: stop()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)


# Any rack, one file after the other


def _through_rack(file: _File, count: Count) -> RenderResult:
    """Let a session render a file. Raises ConfigError, EngineError, StoppedError."""
    done = 0

    def progress(frames: int) -> None:
        nonlocal done
        done += frames
        count(frames, rate_hz)

    session = Session(file.document, progress)
    rate_hz = session.rack.setup.rate_hz
    driver = session.driver
    assert isinstance(driver, FileDriver)
    total = driver.total_frames
    begun = time.perf_counter()
    finished = False
    try:
        if session.run() == FORCED:
            raise EngineError(f"did not end in time: {', '.join(session.rack.left_behind)}; {file.target} was not made")
        finished = driver.finished
    finally:
        if not finished:
            file.made.unlink(missing_ok=True)
    if not finished:
        kind = StoppedError if session.interrupted else EngineError
        raise kind(f"stopped after {done} of {total} frames; {file.target} was not made")
    file.made.replace(file.target)
    return RenderResult(total, rate_hz, time.perf_counter() - begun)
