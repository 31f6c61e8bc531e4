"""The load generator of benchmarks/serve.py: what it sends, counts and works out."""

import contextlib
import importlib
import io
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exitkit.report import results
from exitkit.report.serving import SERVING

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("__main__", "bare", "drive", "pictures", "rows", "samples", "targets", "wire")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the modules of the generator, the program itself as `main`."""
    monkeypatch.syspath_prepend(str(FOLDER))
    found = {name: importlib.import_module(f"load.{name}") for name in NAMES}
    return SimpleNamespace(main=found.pop("__main__"), **found)


@pytest.fixture
def job(colours: Path, url: str, tmp_path: Path, load: SimpleNamespace) -> dict[str, Any]:
    """Return a short job for the real server, with pictures and the engine's own answers."""
    names = [("red", (250, 20, 20)), ("green", (90, 160, 90)), ("blue", (120, 120, 130))] * 7
    files = []
    for place, (_, colour) in enumerate(names):
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), (colour[0], colour[1], colour[2] + place)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    truth = [name for name, _ in names]
    folder = load.pictures.write(
        tmp_path / "pictures", load.pictures.Pictures(files, truth), colours
    )
    asked = {"bundle": str(colours), "pictures": str(folder), "thresholds": [None]}
    found = load.bare.prepare(asked)
    expected = tmp_path / "expected.json"
    expected.write_text(json.dumps({**found["of"][0], "truth": found["truth"]}))
    assert set(found["of"][0]["exits"]) == {2, 4}
    return {
        "url": url, "kind": "tensor", "model": colours.name, "pictures": str(folder),
        "bundle": str(colours), "expected": str(expected), "images": 1, "seed": 0,
        "loop": "closed", "clients": 2, "seconds": 0.2, "warm": 0.05,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "images"), [("tensor", 1), ("tensor", 5), ("json", 2), ("file", 1)]
)
def test_answers_of_the_server_are_held_against_the_engine(
    load: SimpleNamespace, job: dict[str, Any], kind: str, images: int
) -> None:
    found = load.main.run({**job, "kind": kind, "images": images})
    assert found["answered"] >= images
    assert (found["wrong"], found["status"]) == (0, {})
    assert set(found["left"]) <= {"2", "4"}
    expected = Path(job["expected"])
    table = json.loads(expected.read_text())
    table["exits"] = [6 - exit_ for exit_ in table["exits"]]
    expected.write_text(json.dumps(table))
    found = load.main.run({**job, "kind": kind, "images": images})
    assert found["wrong"] == found["answered"] > 0


def test_an_open_loop_sends_what_is_due_and_keeps_every_sample(
    load: SimpleNamespace, job: dict[str, Any]
) -> None:
    found = load.main.run({**job, "loop": "constant", "rate": 100})
    assert (found["requests"], found["answered"], found["wrong"]) == (20, 20, 0)
    latency = load.samples.unpack(found["samples"])
    assert len(latency) == 20
    assert found["p50_ms"] == pytest.approx(np.sort(latency)[9], abs=0.001)


def test_refusals_are_counted_and_are_no_answers(
    load: SimpleNamespace, job: dict[str, Any]
) -> None:
    found = load.main.run({**job, "model": "nobody"})
    assert (found["answered"], found["per_s"]) == (0, 0)
    assert set(found["status"]) == {"404"}
    assert found["status"]["404"] >= found["requests"] > 0
    assert np.isnan(load.samples.unpack(found["samples"])).all()


class _Reluctant(socketserver.ThreadingTCPServer):
    """Answers nobody before `n` requests are there."""

    request_queue_size = 64

    def __init__(self, n: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.missing, self.change = n, threading.Condition()


class _Answer(socketserver.StreamRequestHandler):
    server: _Reluctant

    def handle(self) -> None:
        while self.rfile.readline():
            with self.server.change:
                self.server.missing -= 1
                self.server.change.notify_all()
                assert self.server.change.wait_for(lambda: self.server.missing <= 0, 20)
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@contextlib.contextmanager
def reluctant(n: int) -> Iterator[int]:
    """Run such a server while the block runs; yield its port."""
    with _Reluctant(n) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("connections", [12, 40])
def test_an_open_loop_does_not_wait_for_answers(
    load: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, connections: int
) -> None:
    monkeypatch.setattr(load.drive, "CONNECTIONS", connections)
    due = np.linspace(0, 0.02, 12)
    with reluctant(12) as port:
        log = load.drive.open_loop("127.0.0.1", port, [b"ask\n"], due)
    assert [reply.body for reply in log.replies] == [b"ok"] * 12
    # Nobody was answered before the last was sent, and that time counts for everybody.
    assert (log.answered >= due[-1]).all()
    np.testing.assert_array_equal(log.due, due)


def test_who_finds_no_free_connection_waits_and_that_time_counts(
    load: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load.drive, "CONNECTIONS", 3)
    with reluctant(3) as port:
        log = load.drive.open_loop("127.0.0.1", port, [b"ask\n"], np.zeros(9))
    assert not np.isnan(log.answered).any()
    assert (log.sent[3:] >= np.sort(log.answered)[0]).all()
    np.testing.assert_array_equal(log.due, np.zeros(9))


def test_arrivals_come_from_the_seed(load: SimpleNamespace) -> None:
    one = load.main.arrivals("poisson", 1000.0, 2.0, 5)
    np.testing.assert_array_equal(one, load.main.arrivals("poisson", 1000.0, 2.0, 5))
    assert (np.diff(one) > 0).all()
    assert one[-1] < 2.0
    # The number of arrivals is Poisson: 2000 with a deviation of 45.
    assert 1800 < len(one) < 2200
    np.testing.assert_allclose(load.main.arrivals("constant", 4.0, 1.0, 0), [0, 0.25, 0.5, 0.75])


def test_a_percentile_is_a_sample_and_what_is_unanswered_comes_last(load: SimpleNamespace) -> None:
    percentile = load.samples.percentile
    hundred = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    assert [percentile(hundred, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile(np.array([1.0, np.nan, 3.0]), 0.5) == 3.0
    assert percentile(np.array([1.0, np.nan, 3.0]), 0.99) == np.inf


def test_samples_are_kept_to_the_microsecond(load: SimpleNamespace) -> None:
    kept = load.samples.unpack(load.samples.pack(np.array([0.1234, 12.3456, np.nan])))
    np.testing.assert_array_equal(kept, [0.123, 12.346, np.nan])


def test_an_infer_request_is_made_of_a_header_and_the_raw_tensor(load: SimpleNamespace) -> None:
    request = load.wire.tensor("net", np.full((1, 3, 1, 1), 0.5, np.float32))
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v2/models/net/infer HTTP/1.1"
    assert f"Content-Length: {len(body)}".encode() in lines
    size = len(body) - 12
    assert f"Inference-Header-Content-Length: {size}".encode() in lines
    assert body[size:] == np.full(3, 0.5, "<f4").tobytes()
    assert json.loads(body[:size])["inputs"][0]["parameters"] == {"binary_data_size": 12}


def test_answers_are_read_in_binary_and_in_json(load: SimpleNamespace) -> None:
    outputs = [
        {"name": name, "datatype": datatype, "parameters": {"binary_data_size": size}}
        for name, datatype, size in (("label", "BYTES", 12), ("exit_index", "INT64", 16))
    ]
    head = json.dumps({"outputs": outputs}).encode()
    raw = b"\x01\0\0\0a\x03\0\0\0bcd" + np.array([2, 4], "<i8").tobytes()
    lines = f"http/1.1 200 ok\r\ninference-header-content-length: {len(head)}".encode()
    read, reply = load.wire.read, load.wire.Reply
    assert read(reply(200, lines, head + raw)) == (["a", "bcd"], [2, 4])
    plain = {"outputs": [{"name": "exit_index", "data": [4]}, {"name": "label", "data": ["a"]}]}
    assert read(reply(200, b"http/1.1 200 ok", json.dumps(plain).encode())) == (["a"], [4])
    assert read(reply(200, b"http/1.1 200 ok", b'{"label": "a"}')) == (["a"], [0])


def test_ratios_are_taken_within_rounds(load: SimpleNamespace) -> None:
    static = [{"per_s": 100.0}, {"per_s": 50.0}, {"per_s": 10.0}]
    exits = [{"per_s": 200.0}, {"per_s": 150.0}, {"per_s": 40.0}]
    found = load.rows.gains(static, exits, macs_share=0.3)
    # Rounds say 2, 3 and 4; the medians alone would say 150 / 50.
    assert (found["gain"], found["gain_over_saved"]) == (3.0, pytest.approx(0.9))
    assert (found["static_per_s"], found["exits_per_s"]) == (50.0, 150.0)


def test_the_cost_of_a_request_is_added_to_every_row_of_the_first_stage(
    load: SimpleNamespace,
) -> None:
    stages = load.rows.dearer([[0.001, 0.002], [0.003, 0.004]], beside_ms=0.5)
    assert [stages.seconds(0, 1), stages.seconds(0, 2)] == pytest.approx([0.0015, 0.003])
    assert [stages.seconds(1, 1), stages.seconds(1, 2)] == [0.003, 0.004]


def test_the_tracked_percentiles_are_those_of_the_tracked_samples(load: SimpleNamespace) -> None:
    path = results.ROOT / "results" / "serve.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["benchmark"] for row in rows} == set(SERVING)
    for row in rows:
        for name, text in row.get("samples", {}).items():
            prefix = f"{name}_" if f"{name}_p50_ms" in row else ""
            every = load.samples.unpack(text)
            for key, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
                told = row[f"{prefix}{key}"]
                assert load.samples.percentile(every, share) == pytest.approx(told, rel=1e-3)
