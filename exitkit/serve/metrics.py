"""What the server counts: Prometheus metrics, and the few numbers that its page shows.

Names follow Prometheus practice: one prefix, base units, `_total` counters, few labels.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from exitkit.engine.engine import Answers
from exitkit.serve import history

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Seconds; an answer takes from a fraction of a millisecond to seconds under load.
BUCKETS = (
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2, 4, 8,
)  # fmt: skip
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server, in a registry of their own; those of its models by name."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=True)
        model, exit_ = ["model"], ["model", "exit"]
        self._requests = Counter(
            "exitkit_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "exitkit_request_duration_seconds",
            "From the request's head to its answer's end.",
            ["route"],
            buckets=BUCKETS,
            registry=registry,
        )
        self.taken = Counter(
            "exitkit_exits_taken", "Images by the exit that answered.", exit_, registry=registry
        )
        self.spent = Counter(
            "exitkit_spent_macs", "Multiply-adds computed.", model, registry=registry
        )
        self.whole = Counter(
            "exitkit_plain_macs",
            "Multiply-adds of the network without exits.",
            model,
            registry=registry,
        )
        self.saved = Gauge(
            "exitkit_compute_saved_ratio",
            "1 - spent / plain, since the start.",
            model,
            registry=registry,
        )
        self.queue = Gauge("exitkit_queue_images", "Images that wait.", model, registry=registry)
        self.sizes = Histogram(
            "exitkit_batch_images",
            "Images per run of the engine.",
            model,
            buckets=SIZES,
            registry=registry,
        )
        self.compute = Histogram(
            "exitkit_batch_duration_seconds",
            "Of one run of the engine.",
            model,
            buckets=BUCKETS,
            registry=registry,
        )
        self.threshold = Gauge(
            "exitkit_threshold", "Threshold in force, by exit.", exit_, registry=registry
        )

    def of(
        self,
        model: str,
        exits: Sequence[int],
        macs: Sequence[float],
        plain_macs: float,
        thresholds: Sequence[float],
        waiting: Callable[[], float],
    ) -> "Counts":
        """Return the counters of one model; one that is loaded again goes on counting.

        Args:
            model: its name.
            exits: numbers of the kept exits.
            macs: multiply-adds of leaving at each of them.
            plain_macs: of the network without exits.
            thresholds: in force, one per exit but the deepest.
            waiting: tells how many images wait.
        """
        return Counts(self, model, exits, macs, plain_macs, thresholds, waiting)

    def forget(self, model: str) -> None:
        """Show a model that was unloaded no more among what is in force; its counters stay."""
        for gauge in (self.saved, self.queue, self.threshold):
            gauge.remove_by_labels({"model": model})

    def responded(self, route: str, status: int, seconds: float) -> None:
        """Count one response of any route."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class Counts:
    """Counters of one model; see `Metrics.of`."""

    def __init__(
        self,
        metrics: Metrics,
        model: str,
        exits: Sequence[int],
        macs: Sequence[float],
        plain_macs: float,
        thresholds: Sequence[float],
        waiting: Callable[[], float],
    ) -> None:
        self._model, self._metrics, self._waiting = model, metrics, waiting
        self._exits, self._macs, self._plain = tuple(exits), np.asarray(macs), plain_macs
        self._began = time.monotonic()
        self._history = history.History()
        self._taken = {k: metrics.taken.labels(model, k) for k in exits}
        self._spent, self._whole = metrics.spent.labels(model), metrics.whole.labels(model)
        self._sizes, self._compute = metrics.sizes.labels(model), metrics.compute.labels(model)
        metrics.saved.labels(model).set_function(self._saved)
        metrics.queue.labels(model).set_function(waiting)
        for exit_, value in zip(exits, thresholds, strict=False):  # the deepest has none
            metrics.threshold.labels(model, exit_).set(value)

    def answered(self, answers: Answers, seconds: float) -> None:
        """Count the images of one request that was answered in `seconds`."""
        left, spent = {}, 0.0
        for exit_, macs in zip(self._exits, self._macs, strict=True):
            count = int((answers.exit == exit_).sum())
            if count:
                left[str(exit_)] = count
                self._taken[exit_].inc(count)
                spent += count * float(macs)
        self._spent.inc(spent)
        self._whole.inc(len(answers.exit) * self._plain)
        confidence = float(answers.probability.sum())
        self._history.add(time.monotonic(), seconds, left, spent, confidence)

    def ran(self, images: int, seconds: float) -> None:
        """Count one run of the engine."""
        self._sizes.observe(images)
        self._compute.observe(seconds)

    def snapshot(self, queued: Mapping[int, int]) -> dict[str, Any]:  # Any: whatever JSON can hold
        """Return the numbers of the page.

        Args:
            queued: images that wait at each stage, by the number of its exit.
        """
        now = time.monotonic()
        taken = {str(k): int(self._value("exitkit_exits_taken_total", exit=k)) for k in self._exits}
        return {
            "uptime_s": round(now - self._began, 1),
            "images": sum(taken.values()),
            "exits": taken,
            "compute_saved": self._saved(),
            "queue": int(self._waiting()),
            "stages": {str(k): n for k, n in queued.items()},
            **history.recent(self._history.rows, self._exits, self._plain, now, now - self._began),
        }

    def _saved(self) -> float:
        plain = self._value("exitkit_plain_macs_total")
        return 1 - self._value("exitkit_spent_macs_total") / plain if plain else 0.0

    def _value(self, name: str, **labels: int) -> float:
        texts = {"model": self._model, **{k: str(v) for k, v in labels.items()}}
        return self._metrics.registry.get_sample_value(name, texts) or 0.0
