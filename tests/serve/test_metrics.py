"""What is counted, worked out by hand; and two processes that count together."""

import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from exitkit.engine.engine import Answers
from exitkit.serve.buckets import Buckets
from exitkit.serve.counts import Live
from exitkit.serve.metrics import Metrics

EXITS, MACS, PLAIN = (2, 4), (1000, 3000), 5000


def answers(exits: list[int], confidences: list[float]) -> Answers:
    n = len(exits)
    return Answers(
        np.zeros(n, np.int64), np.asarray(confidences, np.float32), np.asarray(exits, np.int64),
        np.zeros((n, 3), np.float32),
    )  # fmt: skip


def live(queued: dict[int, int] | None = None, threshold: float = 0.6) -> Live:
    return Live(queued or {2: 0, 4: 0}, 1, 250.0, (threshold,))


def values(metrics: Metrics) -> dict[str, float]:
    rows = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (row.rsplit(" ", 1) for row in rows)}


def test_a_histogram_counts_up_to_each_bound() -> None:
    buckets = Buckets(1, 2, 4)
    cells = buckets.empty()
    buckets.add(cells, 2.0)  # a bound belongs to its own bucket
    buckets.add(cells, 3.0, times=2)
    buckets.add_all(cells, [0.5, 9.0])
    series, total = buckets.series(cells)
    assert series == [("1.0", 1), ("2.0", 2), ("4.0", 4), ("+Inf", 5)]
    assert total == pytest.approx(17.5)


def test_answers_are_counted_by_exit() -> None:
    metrics = Metrics()
    counts = metrics.of("m", EXITS, MACS, PLAIN, live)
    counts.answered(answers([2, 4, 2], [0.9, 0.7, 0.97]), 0.003)
    counts.answered(answers([4], [0.5]), 0.0003, late=2)
    counts.ran(2, 3, 0.0002)
    found = values(metrics)
    assert found['exitkit_exits_taken_total{exit="2",model="m"}'] == 2
    assert found['exitkit_exits_taken_total{exit="4",model="m"}'] == 2
    assert found['exitkit_spent_macs_total{model="m"}'] == 2 * 1000 + 2 * 3000
    assert found['exitkit_plain_macs_total{model="m"}'] == 4 * 5000
    assert found['exitkit_compute_saved_ratio{model="m"}'] == pytest.approx(0.6)
    assert found['exitkit_exit_latency_seconds_count{exit="2",model="m"}'] == 2
    assert found['exitkit_exit_latency_seconds_sum{exit="4",model="m"}'] == pytest.approx(0.0033)
    assert found['exitkit_exit_latency_seconds_bucket{exit="4",le="0.0005",model="m"}'] == 1
    assert found['exitkit_confidence_ratio_bucket{exit="2",le="0.95",model="m"}'] == 1
    assert found['exitkit_confidence_ratio_sum{exit="2",model="m"}'] == pytest.approx(1.87)
    assert found['exitkit_batch_images_bucket{exit="2",le="2.0",model="m"}'] == 0
    assert found['exitkit_batch_images_bucket{exit="2",le="4.0",model="m"}'] == 1
    assert found['exitkit_batch_duration_seconds_count{exit="4",model="m"}'] == 0
    assert found['exitkit_deadline_hits_total{model="m"}'] == 2


def test_what_is_turned_away_is_counted() -> None:
    metrics = Metrics()
    counts = metrics.of("m", EXITS, MACS, PLAIN, live)
    counts.refused(8)
    counts.late(3)
    counts.cancelled()
    found = values(metrics)
    assert found['exitkit_refused_images_total{model="m"}'] == 8
    assert found['exitkit_deadline_hits_total{model="m"}'] == 3
    assert found['exitkit_cancelled_requests_total{model="m"}'] == 1


def test_gauges_say_how_a_model_stands_now() -> None:
    metrics, state = Metrics(), live()
    counts = metrics.of("m", EXITS, MACS, PLAIN, lambda: state)
    state = live({2: 5, 4: 1}, threshold=0.4)
    found = values(metrics)
    assert found['exitkit_queue_images{exit="2",model="m"}'] == 5
    assert found['exitkit_queue_images{exit="4",model="m"}'] == 1
    assert found['exitkit_decoding_images{model="m"}'] == 1
    assert found['exitkit_drain_images_per_second{model="m"}'] == 250
    assert found['exitkit_threshold{exit="2",model="m"}'] == 0.4
    assert 'exitkit_threshold{exit="4",model="m"}' not in found  # the deepest has none
    assert found["exitkit_models_loaded"] == 1
    table = metrics.stats("m", counts)
    assert (table["queue"], table["stages"], table["thresholds"]) == (7, {"2": 5, "4": 1}, [0.4])


def test_an_unloaded_model_keeps_its_counters_and_goes_on_with_them() -> None:
    metrics = Metrics()
    counts = metrics.of("m", EXITS, MACS, PLAIN, live)
    counts.answered(answers([2], [0.9]), 0.01)
    metrics.forget("m")
    assert metrics.stats("m", counts)["images"] == 1  # who had found it before may still ask
    found = values(metrics)
    assert found['exitkit_exits_taken_total{exit="2",model="m"}'] == 1
    assert found["exitkit_models_loaded"] == 0
    assert not [name for name in found if name.startswith("exitkit_queue_images")]
    # Loaded again from a bundle that keeps another exit.
    again = metrics.of("m", (2, 3, 4), (1000, 2000, 3000), PLAIN, live)
    again.answered(answers([2, 3], [0.9, 0.9]), 0.01)
    found = values(metrics)
    assert found['exitkit_exits_taken_total{exit="2",model="m"}'] == 2
    assert found['exitkit_exits_taken_total{exit="3",model="m"}'] == 1
    assert metrics.stats("m", again)["exits"] == {"2": 2, "3": 1, "4": 0}


def test_routes_are_counted_by_status() -> None:
    metrics = Metrics()
    for status in (200, 200, 429):
        metrics.responded("predict", status, 0.0007)
    found = values(metrics)
    assert found['exitkit_requests_total{route="predict",status="200"}'] == 2
    assert found['exitkit_requests_total{route="predict",status="429"}'] == 1
    assert found['exitkit_request_duration_seconds_bucket{le="0.0005",route="predict"}'] == 0
    assert found['exitkit_request_duration_seconds_bucket{le="0.001",route="predict"}'] == 3


def test_every_name_follows_the_conventions() -> None:
    kinds = re.findall(r"^# TYPE (\w+) (\w+)", Metrics().text().decode(), re.MULTILINE)
    assert len(kinds) > 15
    for name, kind in kinds:
        assert name.startswith("exitkit_")
        assert name.endswith("_total") == (kind == "counter"), name


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_metrics import EXITS, MACS, PLAIN, answers, live
from exitkit.serve.metrics import Metrics
metrics = Metrics(Path({folder!r}, "theirs.json"))
counts = metrics.of("m", EXITS, MACS, PLAIN, lambda: live({{2: 3, 4: 0}}, threshold=0.3))
for line in sys.stdin:
    counts.answered(answers([2, 2], [0.9, 0.8]), 0.5)
    metrics.responded("predict", 200, 0.5)
    metrics.publish()
    print("told", flush=True)
"""


def test_processes_of_one_server_count_together(tmp_path: Path) -> None:
    code = WORKER.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    ours = Metrics(tmp_path / "ours.json")
    counts = ours.of("m", EXITS, MACS, PLAIN, live)
    counts.answered(answers([2, 4], [0.6, 0.6]), 0.001)
    ours.responded("predict", 200, 0.001)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for _ in range(2):
            worker.stdin.write("go\n")
            worker.stdin.flush()
            assert worker.stdout.readline() == "told\n"
        found, table = values(ours), ours.stats("m", counts)
        worker.stdin.close()
        worker.wait(20)
    assert worker.returncode == 0
    assert found['exitkit_requests_total{route="predict",status="200"}'] == 3
    assert found['exitkit_exits_taken_total{exit="2",model="m"}'] == 5
    assert found['exitkit_exit_latency_seconds_count{exit="2",model="m"}'] == 5
    assert found['exitkit_queue_images{exit="2",model="m"}'] == 3
    assert found['exitkit_threshold{exit="2",model="m"}'] == 0.3  # the lowest of both
    assert found["exitkit_models_loaded"] == 1
    assert (table["images"], table["exits"], table["queue"]) == (6, {"2": 5, "4": 1}, 3 + 2)
    assert table["now"]["confidence"] == pytest.approx((1.2 + 2 * 1.7) / 6)
    assert table["latency_ms"]["requests"] == 3
    assert table["latency_ms"]["p95"] == pytest.approx(500, rel=0.03)


def test_a_process_goes_on_counting_for_one_that_has_ended(tmp_path: Path) -> None:
    """So that nothing is lost, and a place where many die does not fill with their files."""
    for _ in range(2):
        one = Metrics(tmp_path / "1.json")
        counts = one.of("m", EXITS, MACS, PLAIN, live)
        counts.answered(answers([2], [0.9]), 0.01)
        one.responded("predict", 200, 0.01)
        one.publish()
    found = values(one)
    assert found['exitkit_exits_taken_total{exit="2",model="m"}'] == 2
    assert found['exitkit_requests_total{route="predict",status="200"}'] == 2
    assert one.stats("m", counts)["latency_ms"]["requests"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["1.json"]


class Interrupted(float):
    """A number that lets another thread count while it is being added."""

    def __new__(cls, number: float, other: threading.Thread) -> "Interrupted":
        made = super().__new__(cls, number)
        made.other = other  # type: ignore[attr-defined]
        return made

    def __radd__(self, before: float) -> float:
        self.other.start()  # type: ignore[attr-defined]
        self.other.join(0.2)
        return before + float(self)


def test_a_model_that_is_loaded_anew_and_the_one_before_count_together() -> None:
    metrics = Metrics()
    old = metrics.of("m", EXITS, MACS, PLAIN, live)
    new = metrics.of("m", EXITS, MACS, PLAIN, live)
    other = threading.Thread(target=new.worked, args=("queue", 2.0))
    old.worked("queue", Interrupted(1.0, other))
    other.join()
    assert metrics.models()["m"]["spans"]["queue"][1] == 3.0


def test_a_folder_that_cannot_be_written_is_said_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Metrics(tmp_path / "gone" / "1.json")
    one.responded("predict", 200, 0.01)
    assert values(one)['exitkit_requests_total{route="predict",status="200"}'] == 1
    assert values(one)['exitkit_requests_total{route="predict",status="200"}'] == 1
    assert len(caplog.records) == 1
    assert "do not learn what is counted here" in caplog.text


def test_an_ended_process_leaves_its_counters_and_no_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Metrics(tmp_path / "gone.json")
    gone.of("m", EXITS, MACS, PLAIN, lambda: live({2: 9, 4: 0})).answered(answers([2], [0.9]), 1.0)
    gone.publish()
    monkeypatch.setattr("exitkit.serve.metrics.STALE_S", -1.0)
    ours = Metrics(tmp_path / "ours.json")
    ours.of("m", EXITS, MACS, PLAIN, live)
    found = values(ours)
    assert found['exitkit_exits_taken_total{exit="2",model="m"}'] == 1
    assert not [name for name in found if name.startswith("exitkit_queue_images")]
