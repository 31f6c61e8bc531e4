"""The last minute, second by second, worked out by hand."""

import pytest

from exitkit.serve.history import GROWTH, History, percentiles, recent
from exitkit.serve.tables import sums


def told(history: History, now: float, uptime_s: float = 100.0) -> dict:
    return recent(history.rows, (2, 4), plain_macs=5000, now=now, uptime_s=uptime_s)


def test_seconds_hold_what_was_answered_in_them() -> None:
    history = History()
    history.add(100.2, 0.010, {"2": 2, "4": 1}, macs=5000, confidence=2.7)
    history.add(100.9, 0.030, {"4": 1}, macs=3000, confidence=0.9)
    history.add(103.0, 0.001, {"2": 1}, macs=1000, confidence=0.6)
    table = told(history, now=103.5)
    assert [row["age_s"] for row in table["history"]] == list(range(59, -1, -1))
    then, between, last = table["history"][-4], table["history"][-3], table["history"][-1]
    assert (then["requests"], then["images"], then["exits"]) == (2, 4, {"2": 2, "4": 2})
    assert then["p50_ms"] == pytest.approx(10, rel=0.02)
    assert then["p99_ms"] == pytest.approx(30, rel=0.02)
    assert (between["images"], between["p50_ms"], between["exits"]) == (0, None, {"2": 0, "4": 0})
    assert (last["images"], last["exits"]) == (1, {"2": 1, "4": 0})


def test_the_point_measured_now_is_of_the_last_ten_seconds() -> None:
    history = History()
    history.add(100.0, 0.5, {"4": 7}, macs=21000, confidence=7.0)  # eleven seconds ago
    history.add(102.0, 0.010, {"2": 2, "4": 1}, macs=5000, confidence=2.7)
    table = told(history, now=111.0)
    point = table["now"]
    assert (point["seconds"], point["images"]) == (10, 3)
    assert point["macs_fraction"] == pytest.approx(5000 / 15000)
    assert point["confidence"] == pytest.approx(0.9)
    assert point["p50_ms"] == pytest.approx(10, rel=0.02)
    assert table["latency_ms"]["requests"] == 2  # of the minute
    assert told(history, now=113.0)["now"] is None


def test_rates_are_of_ten_seconds_or_of_a_younger_servers_life() -> None:
    history = History()
    for k in range(20):
        history.add(100.0 + k / 10, 0.01, {"2": 3}, macs=3000, confidence=2.0)
    old, young = told(history, now=101.95, uptime_s=50), told(history, now=101.95, uptime_s=2.0)
    assert old["requests_per_s"] == pytest.approx(20 / 9.95)
    assert young["requests_per_s"] == pytest.approx(10)
    assert young["images_per_s"] == pytest.approx(30)


def test_a_minute_is_kept_and_no_more() -> None:
    history = History()
    for second in range(200):
        history.add(second, 0.01, {"2": 1}, macs=1000, confidence=1.0)
    assert len(history.rows) == 60
    assert sum(row["images"] for row in told(history, now=199.5)["history"]) == 60
    assert sum(row["images"] for row in told(history, now=229.5)["history"]) == 30


def test_percentiles_are_right_to_two_hundredths() -> None:
    history = History()
    for k in range(1, 1001):
        history.add(7.0, k / 1000, {"2": 1}, macs=0, confidence=0)
    spread = {int(bucket): n for bucket, n in history.rows["7"]["latency"].items()}
    assert len(spread) < 200
    found = percentiles(spread)
    assert found == pytest.approx({"p50": 500, "p95": 950, "p99": 990}, rel=GROWTH / 2 + 1e-3)
    assert set(percentiles({}).values()) == {None}
    assert len(set(percentiles({5: 1}).values())) == 1


def test_tables_of_several_processes_add_up_name_by_name() -> None:
    one = {"a": 1, "b": {"x": 2}, "c": [1, 2]}
    other = {"b": {"x": 3, "y": 4.5}, "c": [10, 20], "d": 1}
    assert sums([one, other]) == {"a": 1, "b": {"x": 5, "y": 4.5}, "c": [11, 22], "d": 1}
    assert one == {"a": 1, "b": {"x": 2}, "c": [1, 2]}  # what was summed stays as it was
