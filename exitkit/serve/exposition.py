"""Counted tables as Prometheus reads them: one prefix, base units, few labels."""

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import exitkit
from exitkit.serve.buckets import CONFIDENCE, IMAGES, SECONDS, Buckets
from exitkit.serve.tables import Table

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Of the tables of an exit: name, help, histogram.
OF_EXIT: tuple[tuple[str, str, str, Buckets], ...] = (
    ("latency", "exitkit_exit_latency_seconds", "From a request's arrival to the answer of its "
     "images that left at this exit.", SECONDS),
    ("confidence", "exitkit_confidence_ratio", "Calibrated confidence of the answers.",
     CONFIDENCE),
    ("batch", "exitkit_batch_images", "Images per run of the stage before this exit.", IMAGES),
    ("run", "exitkit_batch_duration_seconds", "Of one run of the stage before this exit.",
     SECONDS),
)  # fmt: skip
OF_MODEL = (
    ("spent", "exitkit_spent_macs", "Multiply-adds computed."),
    ("plain", "exitkit_plain_macs", "Multiply-adds of the network without exits."),
    ("refused", "exitkit_refused_images", "Images that a queue had no room for (429)."),
    ("late", "exitkit_deadline_hits", "Images that their deadline ended."),
    ("cancelled", "exitkit_cancelled_requests", "Requests whose client went away."),
)


def text(merged: Table) -> bytes:
    """Return the sum of all processes' tables in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Collector(merged))
    return generate_latest(registry)


def saved(table: Table) -> float:
    """Return 1 - spent / plain multiply-adds of a model; 0 before the first image."""
    return 1 - table["spent"] / table["plain"] if table["plain"] else 0.0


class _Collector(Collector):
    def __init__(self, merged: Table) -> None:
        self.merged = merged

    def collect(self) -> Iterator[Metric]:
        routes, models, live = (self.merged[name] for name in ("routes", "models", "live"))
        yield _counter(
            "exitkit_requests", "Requests by route and status.", ["route", "status"],
            [((route, status), count) for route, cells in routes.items()
             for status, count in cells["status"].items()],
        )  # fmt: skip
        yield _histogram(
            "exitkit_request_duration_seconds", "From the request's head to its answer's end.",
            ["route"], SECONDS,
            [((route,), cells["seconds"]) for route, cells in routes.items()],
        )  # fmt: skip
        exits = [
            ((name, exit_), cells)
            for name, table in models.items()
            for exit_, cells in table["exits"].items()
        ]
        yield _counter(
            "exitkit_exits_taken", "Images by the exit that answered.", ["model", "exit"],
            [(labels, cells["taken"]) for labels, cells in exits],
        )  # fmt: skip
        for key, name, about, buckets in OF_EXIT:
            rows = [(labels, cells[key]) for labels, cells in exits]
            yield _histogram(name, about, ["model", "exit"], buckets, rows)
        for key, name, about in OF_MODEL:
            values = [((model,), table[key]) for model, table in models.items()]
            yield _counter(name, about, ["model"], values)
        yield from _standing(models, live)


def _standing(models: Table, live: Table) -> Iterator[Metric]:
    """Yield gauges: how the models that are loaded stand at this moment."""
    model, exit_ = ["model"], ["model", "exit"]
    yield _gauge(
        "exitkit_compute_saved_ratio", "1 - spent / plain, since the start.", model,
        [((name,), saved(models[name])) for name in live],
    )  # fmt: skip
    yield _gauge(
        "exitkit_queue_images", "Images that wait for the stage before this exit.", exit_,
        [((name, k), n) for name, one in live.items() for k, n in one["queued"].items()],
    )  # fmt: skip
    yield _gauge(
        "exitkit_decoding_images", "Image files that wait to be decoded, or are.", model,
        [((name,), one["decoding"]) for name, one in live.items()],
    )  # fmt: skip
    yield _gauge(
        "exitkit_drain_images_per_second", "Images answered while the engine works.", model,
        [((name,), one["rate"]) for name, one in live.items()],
    )  # fmt: skip
    yield _gauge(
        "exitkit_threshold", "Threshold in force, by exit; the deepest has none.", exit_,
        [((name, k), value) for name, one in live.items()
         for k, value in zip(one["queued"], one["thresholds"], strict=False)],
    )  # fmt: skip
    yield _gauge("exitkit_models_loaded", "Models that answer.", [], [((), len(live))])
    about = ((exitkit.__version__,), 1)
    yield _gauge("exitkit_build_info", "Version of exitkit; always 1.", ["version"], [about])


Rows = Iterable[tuple[tuple[str, ...], Any]]  # Any: a number, or the cells of a histogram


def _counter(name: str, about: str, labels: list[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _gauge(name: str, about: str, labels: list[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _histogram(name: str, about: str, labels: list[str], buckets: Buckets, rows: Rows) -> Metric:
    family = HistogramMetricFamily(name, about, labels=labels)
    for values, cells in rows:
        counts, total = buckets.series(cells)
        family.add_metric(values, counts, total)
    return family
