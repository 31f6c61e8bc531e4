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
import time
from collections.abc import Iterator
from multiprocessing import connection

from exitkit import machine
from exitkit.errors import ConfigError, EngineError, ExitkitError
from exitkit.serve import pools, process, scratch, signals
from exitkit.serve.access import Access
from exitkit.serve.process import Echo
from exitkit.serve.scheduling.scheduler import LAST_RUN_S
from exitkit.serve.settings import Settings
from exitkit.serve.slots import SPAWN, Slot
from exitkit.serve.worker import Place, Said

LOOK_S = 1.0  # how often it is looked whether any hangs
LOST = (EOFError, OSError)  # the other end of a pipe is gone


def run(settings: Settings, echo: Echo) -> None:
    """Serve with `settings.workers` processes until SIGINT or SIGTERM, then let them finish.

    SIGHUP lets one after the other load its models anew.

    Raises:
        ExitkitError: as `process.run`; or a worker ended before all had loaded.
    """
    if signals.HANGUP is None:
        raise ConfigError(
            f"{settings.workers} workers", "this system has no signals to lead them", "take one"
        )
    with (
        process.sockets(settings) as (taken, grpc),
        scratch.folder() as counts,
    ):
        warning = Access(settings).warning()
        if warning is not None:
            echo(warning)
        threads = settings.threads or max(1, machine.cores() // settings.workers)
        told = dataclasses.replace(settings, threads=threads)
        # Once for all: side by side the workers would measure each other.
        pool, _ = pools.choose(told.bundles[0], told)
        slots = [
            Slot(n, Place(taken, grpc, counts / f"{n}.json", SPAWN.RawValue("L", 0)))
            for n in range(1, settings.workers + 1)
        ]
        crew = _Crew(dataclasses.replace(told, pool=pool), taken, slots, echo)
        crew.run(process.where(process.address(taken, settings), grpc))


class _Crew:
    """All workers of a server."""

    def __init__(
        self, settings: Settings, taken: socket.socket, slots: list[Slot], echo: Echo
    ) -> None:
        self.settings, self.taken, self.slots, self.echo = settings, taken, slots, echo
        self.failure: ExitkitError | None = None
        self.ready = False  # all have loaded once
        self._end: float | None = None  # when those that still work are killed
        self._forced = False  # nobody waits for what was accepted
        self._look = 0.0  # when to look next whether any hangs
        self._reloading: list[Slot] = []  # one after the other, so that the others answer
        self._signals, self._wake = socket.socketpair()
        self._terminal = os.isatty(0)

    def run(self, greeting: list[str]) -> None:
        """Work until told to stop; `greeting` is said when all have loaded."""
        with self._listening():
            for slot in self.slots:
                slot.start(self.settings, late=False)
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
        self._say(process.farewell(drained, self.settings.limits, self._forced))

    def _wait(self) -> None:
        """Wait for what happens next, and see to it."""
        now = time.monotonic()
        times = [self._look, *(slot.again for slot in self.slots if slot.pipe is None)]
        until = min(times) if self._end is None else self._end
        pipes = {slot.pipe: slot for slot in self.slots if slot.pipe is not None}
        for one in connection.wait([self._signals, *pipes], max(0.0, until - now)):
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
                slot.start(self.settings, late=self.ready)
        if self._end is None and now >= self._look:
            self._look = now + LOOK_S
            self._end_hanging()

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

    def _end_hanging(self) -> None:
        """End those that live but show no life; they are replaced as others that died."""
        for slot in self.slots:
            if slot.hangs():
                self._say(f"{slot} lives, but hangs; it is ended")
                slot.signal(signal.SIGKILL)

    def _reload_after(self, slot: Slot) -> None:
        """Let the next worker reload, once this one is done."""
        if self._reloading and self._reloading[0] is slot:
            self._reloading.pop(0)
            self._reload_first()

    def _reload_first(self) -> None:
        if self._reloading:
            self._reloading[0].signal(signal.SIGHUP)

    def _caught(self, number: int) -> None:
        if number == signal.SIGHUP and not (self._terminal and signals.hung_up()):
            idle = not self._reloading
            self._reloading += [slot for slot in self.slots if slot.loaded]
            if idle:
                self._reload_first()
        elif self._end is not None and number == signal.SIGINT:
            self._end, self._forced = 0.0, True  # the second Ctrl-C does not wait
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
        self.taken.close()
        for slot in self.slots:
            slot.signal(signal.SIGTERM)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Let signals come through the socket, byte by byte."""
        for end in (self._signals, self._wake):
            end.setblocking(False)
        wake = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        try:
            with signals.handled(lambda *_: None):
                yield
        finally:
            signal.set_wakeup_fd(wake)
            self._signals.close()
            self._wake.close()

    def _say(self, *lines: str) -> None:
        process.say(self.echo, lines)
