"""One run of the host: from the configuration to the exit code."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigrack import leftovers
from sigrack.config import Document, load
from sigrack.crash import CrashLog
from sigrack.drivers import make_driver
from sigrack.ends import open_source
from sigrack.errors import CLEAN, FORCED, EngineError, RackError, said
from sigrack.notify import Notify
from sigrack.places import RackLock
from sigrack.rack import Rack
from sigrack.realtime import ClockDriver
from sigrack.saved.database import Database, database_path
from sigrack.saved.desired import Call, Desired
from sigrack.subscriptions import posted
from sigrack.supervised import outlast_start
from sigrack.wording import bus, rates
from sigrack_engine.crash import DUE_BLOCKS, DUE_TURNS, READY
from sigrack_engine.errors import CoreError
from sigrack_plugins import Setup

if TYPE_CHECKING:
    import janus

    from sigrack.control.server import ControlServer
    from sigrack.publish import Publisher

__all__ = ["Session", "check_no_loop", "open_desired", "run_rack"]

log = logging.getLogger("sigrack")


LOOK_S = 1.0
"""How often it is looked what signal engines and slots have done that they must not."""
STATES_S = 5.0
"""How often the plugins' states are written down."""
STOP_S = 4.0
"""Below stopwaitsecs in supervisord.conf, so that the log names what hangs."""


class Session:
    """Starts a rack, keeps its main loop, stops it in order. One per process when it has a control socket."""

    def __init__(
        self,
        document: Document,
        progress: Callable[[int], None] | None = None,
        crashes: CrashLog | None = None,
        desired: Desired | None = None,
    ) -> None:
        """Load everything. Raises ConfigError, EngineError; then nothing is left behind. [main]

        `desired`: what control wants of the rack; by default as `document` says, and nothing is kept.
        """
        self.desired = desired or Desired(document, why="this program keeps nothing")
        self.document = document
        self._crashes = crashes
        self.started = time.time()
        self.state = "starting"
        self.server: ControlServer | None = None
        check_no_loop()
        live = document.config.live
        with ExitStack() as undo:
            reader = open_source(document)
            undo.callback(reader.close)
            notes = crashes.notes if crashes else None
            custody = crashes.custody if crashes else None
            ends, states = Setup(reader.rate_hz, reader.channels), self.desired.states
            self.rack = Rack(document, ends, live=live, notes=notes, custody=custody, states=states)
            undo.callback(self.rack.close)
            self._publisher = self._open_publisher()
            if self._publisher:
                undo.callback(self._publisher.close)
            self.driver = make_driver(document, self.rack, reader, progress)
            undo.pop_all()
        self._live = live
        self._beats = self.rack.notes.beats
        self._notify = Notify()
        self._blocks = 0
        """That the engine had made at the last look."""
        self.rack.on_event = self.publish
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._interrupts = 0
        self.stop_limit_s: float | None = None
        """How long a stop by signal may take before the process is ended; None: as long as it needs."""
        self._on_main_thread = threading.current_thread() is threading.main_thread()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: threading.Timer | None = None
        self._again: asyncio.Handle | None = None
        self._reloads: set[asyncio.Task[None]] = set()

    def run(self, beside: Callable[[], Coroutine[Any, Any, None]] | None = None) -> int:
        """Run to the end of the stream or until told to stop; return the exit code. Raises ConfigError, EngineError. [main]

        `beside` runs on the same loop; when it returns, the run ends.
        """
        with ExitStack() as undo:
            if self._on_main_thread:
                undo.callback(_restore, self._answer_signals())
            undo.callback(self._close)
            self.rack.watch.start(interrupting=self._live and self._on_main_thread)
            undo.callback(self.rack.watch.stop)
            self.rack.start()
            self.driver.start()
            asyncio.run(self._main(beside))
        return FORCED if self.rack.left_behind else CLEAN

    async def _main(self, beside: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        import janus

        loop = self._loop = asyncio.get_running_loop()
        self.rack.attach(loop)
        if self._live:
            loop.add_reader(self.rack.bell.descriptor, self._turn)
        bell: janus.Queue[None] = janus.Queue()
        self.rack.dispatcher.inbox.attach(bell)
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._answer_doorbell(bell))]
        try:
            if self.document.config.control.enabled:
                tasks.append(asyncio.create_task(self._open_control().serve()))
                tasks[-1].add_done_callback(_report)
            self.state = "running"
            self._announce()
            self._show_custody()
            self._notify.say("READY=1")
            self._beats.due = READY | (DUE_TURNS | DUE_BLOCKS if self._live else 0)  # else it waits for hooks, however long
            if self._live:
                self.rack.dispatcher.timers.on_earlier = self._set_timer
            self._turn()
            tasks += [asyncio.create_task(self._look_after()), asyncio.create_task(self._keep_states())]
            guest = asyncio.create_task(beside() if beside else self._stop.wait())
            tasks.append(guest)
            await self._until_done(guest)
        finally:
            self.state = "stopping"
            self._notify.say("STOPPING=1")
            self._beats.due = 0
            self._loop = None
            self.driver.stop()
            loop.remove_reader(self.rack.bell.descriptor)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.rack.dispatcher.inbox.attach(None)
            await bell.aclose()
            await self._keep_now()
            await self.rack.end()

    async def _until_done(self, guest: "asyncio.Task[Any]") -> None:
        """Wait for the end of the stream, of `guest`, or for a request to stop; what driver and guest raise passes through."""
        stream = asyncio.create_task(self.driver.run())
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait((stream, stop, guest), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        await self.driver.fade_out()
        self.driver.stop()
        await stream
        if guest.done():
            guest.result()

    def _answer_signals(self) -> dict[int, Any]:
        """Take over the signals; return who had them. SIGHUP means nothing unless the loop runs, and must not end the host."""
        handlers: dict[int, Any] = {n: signal.signal(n, self._interrupted) for n in (signal.SIGTERM, signal.SIGINT)}
        return handlers | {signal.SIGHUP: signal.signal(signal.SIGHUP, self._hung_up)}

    @property
    def last_death(self) -> dict[str, Any] | None:
        """What the host before this one died of, if it did not end in order. [main]"""
        return self._crashes.described if self._crashes else None

    @property
    def heartbeats(self) -> dict[str, int]:
        """Engine blocks, and signs of life of the main loop: a host whose numbers do not rise hangs. [main]"""
        return {"blocks": self.rack.engine.stats.blocks, "turns": self._beats.turns}

    # The main loop's work

    def _turn(self) -> None:
        """Drain for one turn; come back at once if there is more, else when the bell or a timer rings. [main]"""
        self._beats.turns += 1
        if not self._live:
            return  # freewheel drains between blocks
        if self._again:  # one turn waits at most, however often the bell rings meanwhile
            self._again.cancel()
            self._again = None
        self.rack.bell.arm()
        if self.rack.drain():
            self._again = asyncio.get_running_loop().call_soon(self._turn)
        else:
            self._set_timer()

    def _set_timer(self) -> None:
        """Come back when the next timer is due. [main]"""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._loop and (due := self.rack.dispatcher.timers.next_ns) is not None:
            delay = max((due - self.rack.now_ns) * 1e-9, 0.001)
            self._timer = self._loop.call_later(delay, self._turn)

    async def _answer_doorbell(self, bell: "janus.Queue[None]") -> None:
        while True:
            await bell.async_q.get()
            try:
                self._turn()
            except Exception:  # a fault of ours must not silence the inbox for good
                log.exception("the main loop's turn failed")

    async def _look_after(self) -> None:
        """Tell what signal engines have posted that they must not, and what slots had to be replaced: neither wakes anybody."""
        while True:
            await asyncio.sleep(min(LOOK_S, self._notify.every_s or LOOK_S))
            self._beats.turns += 1
            self._sign_of_life()
            for engine in self.rack.signals:
                engine.warn()
            self.rack.tell_failures()

    async def _keep_states(self) -> None:
        """Write the plugins' states down now and then."""
        while True:
            await asyncio.sleep(STATES_S)
            await self._keep_now()

    async def _keep_now(self) -> None:
        try:
            await self.desired.keep(self.rack)
        except Exception:  # a fault of ours must not end this for good, nor keep the host from ending
            log.exception("keeping the plugins' states failed")

    def _sign_of_life(self) -> None:
        """Tell systemd that both heartbeats go on: the loop has turned, else this would not run."""
        blocks = self.rack.engine.stats.blocks
        if self._notify.every_s and (blocks != self._blocks or not self._live):
            self._notify.say("WATCHDOG=1")
        self._blocks = blocks

    # Control

    def _open_publisher(self) -> "Publisher | None":
        table = self.document.config.publish
        if table is None:
            return None
        from sigrack.publish import Publisher, check_factors

        check_factors(self.document, posted(self.rack.things))
        publisher = Publisher(table.endpoint, table.factors)
        self.rack.dispatcher.on_batch = publisher.send
        return publisher

    def _open_control(self) -> "ControlServer":
        from sigrack.commands import Commands
        from sigrack.control.server import ControlServer
        from sigrack.places import default_endpoint

        endpoint = self.document.config.control.endpoint or default_endpoint(self.document.name)
        self.server = ControlServer(endpoint, Commands(self).handle)
        return self.server

    def _announce(self) -> None:
        setup, rack = self.rack.setup, self.rack
        log.info(
            'rack "%s" runs: %s, %s, %s, blocks of %d frames (%.2f ms), latency %.2f ms%s',
            self.document.name,
            "real time" if self._live else "replay" if self.document.config.replay else "freewheel",
            rates(setup.rate_hz, rack.out_setup.rate_hz),
            bus(rack.bus.channels, rack.bus.out),
            rack.block_frames,
            1000 * rack.block_frames / setup.rate_hz,
            1000 * rack.latency_frames / rack.out_setup.rate_hz,
            f"; control {self.server.endpoint}" if self.server else "",
        )
        if isinstance(self.driver, ClockDriver) and self.driver.fifo < 0:
            log.warning(
                "the engine thread got no real-time priority (%s): blocks may be late; `sigrack doctor` tells how to allow it",
                os.strerror(-self.driver.fifo),
            )

    def _show_custody(self) -> None:
        """Tell the clients who is not loaded."""
        custody = self.rack.custody
        for name, facts in custody.held.items():
            self.publish("held", name=name, why=facts["why"])
        if custody.safe_mode:
            self.publish("safe_mode", why=custody.safe_mode)

    def publish(self, kind: str, **data: object) -> None:
        """Send an event to the clients. [main]"""
        if self.server:
            self.server.publish(kind, data)

    async def reload(self, call: Call | None = None) -> list[str]:
        """Read the file again and change what has changed. Raises ConfigError; then nothing has. [main]"""
        document = await asyncio.to_thread(load, self.document.path, self.document.play)
        changed = await self.desired.reload(self.rack, document, call or Call())
        self.document = self.rack.document
        log.info("reloaded %s: %s", document.path, ", ".join(changed) or "nothing has changed")
        self.publish("reloaded", changed=changed)
        return changed

    async def save(self, call: Call) -> None:
        """Write what control has changed into the rack's file. Raises ConfigError; then nothing is written. [main]"""
        await self.desired.save(call)
        self.document = self.rack.document = self.desired.document
        log.info("%s: %s", self.document.path, call.reply.message)

    # Ending

    @property
    def interrupted(self) -> bool:
        """Whether a signal asked it to stop. [main]"""
        return self._interrupts > 0

    def stop(self) -> None:
        """End the run in an orderly way. [main]"""
        self._stop.set()

    def _interrupted(self, *_: object) -> None:
        """Answer SIGTERM and SIGINT in the middle of whatever the main thread does, be it a hook that hangs. [main]"""
        self._interrupts += 1
        if self._interrupts > 1:
            os._exit(FORCED)
        log.info("stopping; a second signal ends it by force")
        if self.stop_limit_s is not None:
            self._deadline = threading.Timer(self.stop_limit_s, self._force)
            self._deadline.daemon = True
            self._deadline.start()
        if self._loop:
            self._loop.call_soon_threadsafe(self.stop)
        else:
            self.stop()

    def stopped(self) -> None:
        """Force nothing any more: the run has come to its end, and another host may begin. [main]"""
        if self._deadline:
            self._deadline.cancel()

    def _force(self) -> None:
        """End the process: the stop has taken too long. [any]"""
        current = self.rack.watch.current
        hook = f"a hook of {current[0].name}" if current else None
        culprit = hook or self.rack.control.busy_with or ", ".join(leftovers.threads()) or "something"
        log.error("%s did not return within %g s: ending by force", culprit, self.stop_limit_s)
        logging.shutdown()
        if self._crashes:
            self._crashes.close()
        os._exit(FORCED)

    def _hung_up(self, *_: object) -> None:
        """Answer SIGHUP. [main]"""
        if self._loop:
            self._loop.call_soon_threadsafe(self._reload_beside)

    def _reload_beside(self) -> None:
        task = asyncio.create_task(self._reload_quietly())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload_quietly(self) -> None:
        try:
            await self.reload()
        except RackError as error:
            log.error("%s; nothing was changed", error)
            self.publish("failed", cmd="RELOAD", name=None, message=str(error))
        except Exception as error:
            log.exception("the reload failed")
            self.publish("failed", cmd="RELOAD", name=None, message=said(error))

    def _close(self) -> None:
        """Stop in order: driver and its files, plugins' threads, what waits, hooks, native objects, sockets."""
        self.driver.stop()
        self.driver.close()
        self.rack.close()
        if self._publisher:
            self._publisher.close()
        if self.server:
            self.publish("stopped")
            self.server.close()
        if self.rack.left_behind:
            log.error("left behind, did not stop in time: %s", ", ".join(self.rack.left_behind))


def check_no_loop() -> None:
    """Raise EngineError where a rack could not run."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise EngineError("an asyncio loop runs on this thread: run the rack on another one, as by asyncio.to_thread(render, ...)")


def _restore(handlers: dict[int, Any]) -> None:
    """Give the signals back."""
    for number, handler in handlers.items():
        signal.signal(number, handler or signal.SIG_DFL)


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("the control server ended: %s; restart the host to control it", said(error))


def run_rack(path: Path, play: Path | None = None, *, fresh: bool = False) -> int:
    """Run the rack described by a file until it ends; return the exit code. `play`: what to play instead of the rack's source.

    `fresh`: as the file says, whatever is kept; and nothing is kept of this run.
    When something did not stop in time, the process ends here and now (103). Raises ConfigError, EngineError. [main]
    """
    leftovers.end_with_host()
    with outlast_start() as end:
        document = load(path, play)
        lock = RackLock(document.name)
        crashes = CrashLog(document)
        unforeseen = False
        try:
            desired = open_desired(document, fresh=fresh)
            try:
                session, code = _run(desired, crashes)
            finally:
                desired.close()
            end.at_once = session.interrupted
        except Exception as error:
            unforeseen = not isinstance(error, RackError | CoreError)
            raise
        finally:
            if not unforeseen:  # else the next host tells that this one did not end in order
                crashes.close()
            lock.close()
    if code == FORCED:  # what has not stopped would keep the interpreter from ending, or crash it on its way out
        logging.shutdown()
        os._exit(code)
    return code


def open_desired(document: Document, *, fresh: bool = False) -> Desired:
    """Return what control wants of a rack. A file that is played as fast as it can gives the same each time. [main]"""
    if fresh:
        log.info("--fresh: the rack starts as its file says, and what is changed now is not kept")
        return Desired(document, why="the host was started with --fresh")
    if not document.config.live:
        return Desired(document, why="only racks that run in real time keep anything")
    return Desired(document, Database(database_path(document)))


def _run(desired: Desired, crashes: CrashLog) -> tuple[Session, int]:
    """Run what control wants, without those overrides that keep it from starting. Raises RackError."""
    while True:
        session = None
        try:
            session = Session(desired.document, crashes=crashes, desired=desired)
            session.stop_limit_s = STOP_S
            return session, session.run()
        except RackError as error:
            if (session and session.state != "starting") or not desired.set_aside(error):
                raise
        finally:
            if session:
                session.stopped()
