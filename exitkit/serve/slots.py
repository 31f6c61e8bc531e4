"""The place of one worker among several, and the process that works there now."""

import contextlib
import os
import signal
import time
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from exitkit.serve.settings import Settings
from exitkit.serve.worker import OPEN, Place, work

# Seconds until a worker that died is replaced: the first, doubled each time, up to the last; one
# that lived for so long begins anew.
FIRST_S, LAST_S, STEADY_S = 0.5, 30.0, 60.0
# One that shows no life for so long is taken for hanging.
HANGS_S = 30
# A fork would copy the threads' locks, but not the threads.
SPAWN = get_context("spawn")


class Slot:
    """One worker, and the next one where it died.

    Args:
        number: from 1.
        place: where it works.

    Attributes:
        pipe: to the process; None while there is none.
        loaded: whether it has loaded its models.
        drained: whether it answered everything before it ended.
        again, delay_s: when the next process is to start, and after how many seconds of waiting.
    """

    def __init__(self, number: int, place: Place) -> None:
        self.number, self.place = number, place
        self.pipe: Connection | None = None
        self.loaded = self.drained = False
        self.again, self.delay_s = 0.0, FIRST_S
        self._process: SpawnProcess
        self._began = 0.0
        self._beat = self._still = 0

    def __str__(self) -> str:
        return f"worker {self.number}"

    def start(self, settings: Settings, late: bool) -> None:
        """Start a process here; see `worker.work`."""
        self.pipe, theirs = SPAWN.Pipe()
        told = (settings, self.place, theirs, late)
        self.place.beat.value = 0
        # As daemon: should the parent fail, it takes its workers with it.
        self._process = SPAWN.Process(target=work, args=told, name=f"exitkit-{self}", daemon=True)
        # Ctrl-C reaches all processes of a terminal, and the parent passes it on in its own way:
        # who begins with it blocked never sees it. (The tracker, once started, lets it through.)
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.loaded = self.drained = False
        self._began = time.monotonic()

    def open(self) -> None:
        """Tell the worker that all have loaded."""
        if self.pipe is not None:
            with contextlib.suppress(OSError):  # it is gone, which is noticed elsewhere
                self.pipe.send(OPEN)

    def hangs(self) -> bool:
        """Return whether the worker has shown no life for too long; asked once a second.

        Looks are counted, not seconds: where the whole machine stands still, there are none.
        """
        beat = self.place.beat.value
        self._still = self._still + 1 if beat and beat == self._beat else 0
        self._beat = beat
        return self._still == HANGS_S

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker, if there is one."""
        if self.pipe is not None and self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)

    def bury(self) -> str:
        """Forget a process that has ended; say how it did, and settle when the next one starts."""
        assert self.pipe is not None
        self._process.join()
        code = self._process.exitcode or 0
        self._process.close()
        self.pipe.close()
        self.pipe, now = None, time.monotonic()
        self.delay_s = FIRST_S if now - self._began > STEADY_S else min(LAST_S, 2 * self.delay_s)
        self.again = now + self.delay_s
        return f"by signal {-code}" if code < 0 else f"with exit code {code}"
