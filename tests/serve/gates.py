"""A real server whose stages wait at gates, so that a test and not the time says what runs when."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from exitkit.engine.engine import Engine, Segment
from exitkit.engine.model import Model
from exitkit.serve import server, warmup
from exitkit.serve.limits import Limits
from exitkit.serve.scheduling.stages import Stages
from exitkit.serve.service import Service

PATIENCE_S = 20


class Gated:
    """A segment that runs when its gate is open, and tells when it stands before it."""

    def __init__(self, segment: Segment) -> None:
        self.segment, self.exit = segment, segment.exit
        self.input_shape, self.classes = segment.input_shape, segment.classes
        self.pool, self.threads = segment.pool, segment.threads
        self.open, self.came = threading.Event(), threading.Semaphore(0)
        self.open.set()

    def run(self, hidden: Any) -> Any:
        self.came.release()
        assert self.open.wait(PATIENCE_S)
        return self.segment.run(hidden)

    def close(self) -> None:
        """Hold whatever comes next."""
        while self.came.acquire(blocking=False):
            pass
        self.open.clear()

    def wait(self) -> None:
        """Wait until something stands before the gate."""
        assert self.came.acquire(timeout=PATIENCE_S)


@dataclass
class Held:
    """A server and its gates, one a stage."""

    url: str
    gates: Sequence[Gated]
    service: Service

    def open(self) -> None:
        """Let everything run."""
        for gate in self.gates:
            gate.open.set()

    def wait_for_queue(self, images: int) -> None:
        """Wait until as many images are queued."""
        wait_for(lambda: self.service.scheduler.waiting == images)


@contextlib.contextmanager
def held(
    folder: Path,
    limits: Limits | None = None,
    seconds: Sequence[float] = (1e-3, 1e-3),
    **settings: Any,
) -> Iterator[Held]:
    """Serve a bundle behind gates; `seconds` is what the scheduler thinks that stages take."""
    made: list[Held] = []
    real, limits = warmup.prepare, limits or Limits()

    def prepare(*arguments: Any) -> Service:
        ready = real(*arguments)
        gates = [Gated(segment) for segment in ready.model.engine.segments]
        model = Model(ready.model.folder, ready.model.manifest, Engine(gates, ready.policy))
        stages = Stages([[one] * limits.batch for one in seconds])
        service = Service(model, limits, ready.tradeoff, stages, depth=ready.depth)
        made.append(Held("", gates, service))
        return service

    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(warmup, "prepare", prepare)
            url = stack.enter_context(server(folder, threads=1, limits=limits, **settings))
        made[0].url = url
        try:
            yield made[0]
        finally:
            made[0].open()
