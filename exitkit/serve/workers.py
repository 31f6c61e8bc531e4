"""Several processes that answer on one port: start them, watch them, replace those that die.

The parent takes the sockets, loads nothing and answers nobody. Each worker is a whole server with
its own models, its own queues and its share of the cores; connections go to whoever accepts them
first. A worker that died is replaced; the new one takes connections once it has loaded, so that
nobody notices but those whose requests the dead one had.
"""

import contextlib
import dataclasses
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path

from exitkit import machine
from exitkit.errors import ConfigError, EngineError, ExitkitError
from exitkit.serve import pools, process
from exitkit.serve.access import Access
from exitkit.serve.process import Echo
from exitkit.serve.scheduling.scheduler import LAST_RUN_S
from exitkit.serve.settings import Settings
from exitkit.serve.slots import Slot
from exitkit.serve.worker import Place, Said

LOST = (EOFError, OSError)  # the other end of a pipe is gone


def run(settings: Settings, echo: Echo) -> None:
    """Serve with `settings.workers` processes until SIGINT or SIGTERM, then let them finish.

    SIGHUP lets one after the other load its models anew.

    Raises:
        ExitkitError: as `process.run`; or a worker ended before all had loaded.
    """
    if process.HANGUP is None:
        raise ConfigError(
            f"{settings.workers} workers", "this system has no signals to lead them", "take one"
        )
    with (
        process.sockets(settings) as (taken, grpc),
        tempfile.TemporaryDirectory(prefix="exitkit-") as counts,
    ):
        warning = Access(settings).warning()
        if warning is not None:
            echo(warning)
        threads = settings.threads or max(1, machine.cores() // settings.workers)
        told = dataclasses.replace(settings, threads=threads)
        # Once for all: side by side the workers would measure each other.
        pool, _ = pools.choose(told.bundles[0], told)
        crew = _Crew(dataclasses.replace(told, pool=pool), Place(taken, grpc, Path(counts)), echo)
        crew.run(process.where(process.address(taken, settings), grpc))


class _Crew:
    """All workers of a server."""

    def __init__(self, settings: Settings, place: Place, echo: Echo) -> None:
        self.settings, self.place, self.echo = settings, place, echo
        self.slots = [Slot(number + 1) for number in range(settings.workers)]
        self.failure: ExitkitError | None = None
        self.ready = False  # all have loaded once
        self._end: float | None = None  # when those that still work are killed
        self._reloading: list[Slot] = []  # one after the other, so that the others answer
        self._signals, self._wake = socket.socketpair()
        self._terminal = os.isatty(0)

    def run(self, greeting: list[str]) -> None:
        """Work until told to stop; `greeting` is said when all have loaded."""
        with self._listening():
            for slot in self.slots:
                slot.start(self.settings, self.place, late=False)
            while self._end is None or any(slot.pipe is not None for slot in self.slots):
                self._wait()
                if not self.ready and all(slot.loaded for slot in self.slots):
                    self.ready = True
                    for slot in self.slots:
                        slot.open()
                    self._say(*greeting)
        if self.failure is not None:
            raise self.failure
        drained = all(slot.drained or not slot.loaded for slot in self.slots)
        self._say(process.farewell(drained, self.settings.limits))

    def _wait(self) -> None:
        """Wait for what happens next, and see to it."""
        now = time.monotonic()
        times = [slot.again for slot in self.slots if slot.pipe is None and self._end is None]
        times += [] if self._end is None else [self._end]
        pipes = {slot.pipe: slot for slot in self.slots if slot.pipe is not None}
        for one in connection.wait(
            [self._signals, *pipes], max(0.0, min(times) - now) if times else None
        ):
            if one is self._signals:
                for number in self._signals.recv(4096):
                    self._caught(number)
            else:
                self._hear(pipes[one])  # type: ignore[index]  # a pipe
        now = time.monotonic()
        for slot in self.slots:
            if self._end is not None and now >= self._end:
                slot.signal(signal.SIGKILL)
            elif self._end is None and slot.pipe is None and now >= slot.again:
                slot.start(self.settings, self.place, late=self.ready)

    def _hear(self, slot: Slot) -> None:
        """Take what a worker has to say, which may be that it is gone."""
        try:
            said: Said = slot.pipe.recv()  # type: ignore[union-attr]  # there is one
        except LOST:
            self._ended(slot)
            return
        if said.state == "loaded":
            slot.loaded = True
            if self.ready:
                self._say(f"{slot} answers")
            elif slot.number == 1:  # the others serve the same
                self._say(*said.lines)
        elif said.state == "reloaded":
            self._say(*(f"{slot}: {line}" for line in said.lines))
            self._reload_after(slot)
        elif said.state == "failed" and self.ready:
            self._say(f"{slot}: {said.error}")
        elif said.state == "failed":
            self._fail(said.error)
        else:
            slot.drained = said.drained

    def _ended(self, slot: Slot) -> None:
        """Note that a worker is gone; have it replaced unless that was wanted."""
        how = slot.bury()
        self._reload_after(slot)
        if self._end is not None:
            return
        if self.ready:
            self._say(f"{slot} ended {how}; another one starts in {slot.delay_s:g} s")
        else:
            found = f"ended {how} before all had loaded"
            self._fail(EngineError(str(slot), found, "see the log, or start fewer workers"))

    def _reload_after(self, slot: Slot) -> None:
        """Let the next worker reload, once this one is done."""
        if self._reloading and self._reloading[0] is slot:
            self._reloading.pop(0)
            self._reload_first()

    def _reload_first(self) -> None:
        if self._reloading:
            self._reloading[0].signal(signal.SIGHUP)

    def _caught(self, number: int) -> None:
        if number == signal.SIGHUP and not (self._terminal and process.hung_up()):
            idle = not self._reloading
            self._reloading += [slot for slot in self.slots if slot.loaded]
            if idle:
                self._reload_first()
        elif self._end is not None and number == signal.SIGINT:
            self._end = 0.0  # the second Ctrl-C does not wait
        else:
            self._stop()

    def _fail(self, error: ExitkitError | None) -> None:
        self.failure = self.failure or error
        self._stop()

    def _stop(self) -> None:
        if self._end is None:
            # A worker ends by itself long before: what it waits for has the same bounds.
            grace_s = 2 * (self.settings.limits.drain_s + LAST_RUN_S)
            self._end = time.monotonic() + grace_s
        self.place.taken.close()
        for slot in self.slots:
            slot.signal(signal.SIGTERM)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Let signals come through the socket, byte by byte."""
        for end in (self._signals, self._wake):
            end.setblocking(False)
        before = {one: signal.signal(one, lambda *_: None) for one in process.SIGNALS}
        wake = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wake)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._signals.close()
            self._wake.close()

    def _say(self, *lines: str) -> None:
        process.say(self.echo, lines)
