"""What a server counts, over all of its processes.

Counts are nested tables of numbers that add up. A server of several processes has a folder in
which each of them leaves its tables twice a second, in a file of its own; whoever is asked sums
them up. So /metrics and /stats say the same, whatever process answers.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from exitkit.serve import exposition, history
from exitkit.serve.buckets import SECONDS
from exitkit.serve.counts import Counts, Ledger, Live
from exitkit.serve.tables import Table, sums

logger = logging.getLogger(__name__)

BEAT_S = 0.5
# What a process said of its queues is old after so long: it has ended, or hangs.
STALE_S = 3.0


class Metrics:
    """Counters of one server process: of its routes, and of its models by name.

    What reads them (`text`, `models`, `live`, `stats`) may take tens of milliseconds where several
    processes share a folder, and may be called from any thread.

    Args:
        file: of this process, in the folder that all processes of the server share; what stands
            there, of one that has ended, is gone on with. None: there is only this process.
    """

    def __init__(self, file: Path | None = None) -> None:
        before = {} if file is None or not file.exists() else orjson.loads(file.read_bytes())
        self.file, self._began = file, before.get("began", time.monotonic())
        self._publishing, self._failing = threading.Lock(), False
        self._routes: Table = before.get("routes", {})
        self._ledgers = {name: Ledger(table) for name, table in before.get("models", {}).items()}
        self._models: dict[str, Counts] = {}

    def of(
        self,
        model: str,
        exits: Sequence[int],
        macs: Sequence[float],
        plain_macs: float,
        live: Callable[[], Live],
    ) -> Counts:
        """Return the counters of one model; one that is loaded again goes on counting.

        Args:
            model: its name.
            exits: numbers of the kept exits.
            macs: multiply-adds of leaving at each of them.
            plain_macs: of the network without exits.
            live: tells how it stands.
        """
        counts = Counts(exits, macs, plain_macs, live, self._ledgers.get(model))
        self._ledgers[model], self._models[model] = counts.ledger, counts
        return counts

    def forget(self, model: str) -> None:
        """Show a model that was unloaded no more among what is in force; its counters stay."""
        self._models.pop(model, None)

    def responded(self, route: str, status: int, seconds: float) -> None:
        """Count one response of any route; called from the event loop."""
        cells = self._routes.get(route)
        if cells is None:
            cells = self._routes[route] = {"status": {}, "seconds": SECONDS.empty()}
        name = str(status)
        cells["status"][name] = cells["status"].get(name, 0) + 1
        SECONDS.add(cells["seconds"], seconds)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return exposition.text(self._merged(seconds=False))

    def models(self) -> Table:
        """Return what is counted of each model, by its name; `Counts` says what stands there."""
        models: Table = self._merged(seconds=False)["models"]
        return models

    def live(self, model: str, counts: Counts) -> Table:
        """Return how a model stands in all processes; `Live` says what stands there.

        Args:
            model: its name.
            counts: its counters here; it may have been unloaded since they were found.
        """
        live: Table = self._merged(seconds=False)["live"].get(model) or counts.live().to_json()
        return live

    def stats(self, model: str, counts: Counts) -> dict[str, Any]:  # Any: whatever JSON can hold
        """Return the numbers of the page of a model.

        Args:
            model: its name.
            counts: its counters here; it may have been unloaded since they were found.
        """
        merged, now = self._merged(), time.monotonic()
        table = merged["models"][model]
        live = merged["live"].get(model) or counts.live().to_json()
        taken = {str(k): table["exits"][str(k)]["taken"] for k in counts.exits}
        stages = {str(k): live["queued"].get(str(k), 0) for k in counts.exits}
        uptime = now - merged["began"]
        return {
            "uptime_s": round(uptime, 1),
            "images": sum(taken.values()),
            "exits": taken,
            "compute_saved": exposition.saved(table),
            "queue": sum(stages.values()) + live["decoding"],
            "stages": stages,
            "thresholds": live["thresholds"],
            **history.recent(table["seconds"], counts.exits, counts.plain_macs, now, uptime),
        }

    @contextlib.asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Tell the other processes of this server what is counted here, while the block runs."""

        async def beat() -> None:
            while True:
                self.publish()
                await asyncio.sleep(BEAT_S)

        task = None if self.file is None else asyncio.create_task(beat())
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
            self.publish()

    def publish(self) -> bytes:
        """Leave the tables of this process where the others look; return them."""
        with self._publishing:
            told = self._own()
            if self.file is not None:
                self._write(self.file, told)
        return told

    def _write(self, file: Path, told: bytes) -> None:
        # Not flushed to the disk: nobody reads them after a crash of the machine.
        temporary = file.with_suffix(".new")
        try:
            temporary.write_bytes(told)
            temporary.replace(file)
            self._failing = False
        except OSError as error:  # a full disk ends nothing that answers images
            if not self._failing:
                logger.warning("other processes do not learn what is counted here: %s", error)
            self._failing = True

    def _own(self) -> bytes:
        # Written at one go, which no other thread can change: a copy of a moment.
        return orjson.dumps(
            {
                "began": self._began,
                "at": time.monotonic(),
                "routes": self._routes,
                "models": {name: one.table for name, one in list(self._ledgers.items())},
                "live": {name: one.live().to_json() for name, one in list(self._models.items())},
            }
        )

    def _merged(self, seconds: bool = True) -> Table:
        """Return the sum over all processes of this server, with or without the last minute."""
        # Left where others look as well: sums over tables that only grow never fall.
        states = [orjson.loads(self.publish())]
        if self.file is not None:
            others = (path for path in self.file.parent.glob("*.json") if path != self.file)
            states += [orjson.loads(path.read_bytes()) for path in others]
        for state in () if seconds else states:
            for table in state["models"].values():
                del table["seconds"]  # most of the work, for the page alone
        return _merge(states)


def _merge(states: Sequence[Table]) -> Table:
    now = time.monotonic()
    tables = [{name: state[name] for name in ("routes", "models")} for state in states]
    live: dict[str, list[Table]] = {}
    for state in states:
        if now - state["at"] < STALE_S:
            for name, one in state["live"].items():
                live.setdefault(name, []).append(one)
    return {
        "began": min(state["began"] for state in states),
        **(sums(tables) if len(tables) > 1 else tables[0]),
        "live": {name: _united(some) for name, some in live.items()},
    }


def _united(live: Sequence[Table]) -> Table:
    """Return how a model stands in all processes: the sum, but the lowest of the thresholds."""
    added = sums([{k: v for k, v in one.items() if k != "thresholds"} for one in live])
    lowest = map(min, zip(*(one["thresholds"] for one in live), strict=False))
    return {**added, "thresholds": list(lowest)}
