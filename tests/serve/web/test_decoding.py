"""Requests take turns at the decoders: many large files hold up nobody, and stop when asked to."""

import base64
import http.client
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from waiting import wait_for

from exitkit import images, machine
from exitkit.serve import decoding, server

Paint = Callable[..., bytes]
Files = list[bytes]
CLEAR, DULL = (255, 0, 0), (120, 140, 130)
PATIENCE_S = 20
# Longer than a turn, and than what a decoder would need for all that is let go.
WHILE_S = 0.1


class Decoders:
    """Real decoding, but a file of the kind `large` needs a word for each time."""

    def __init__(self, large: bytes) -> None:
        self.large, self.words = large, threading.Semaphore(0)
        self.inside = self.decoded = 0  # of the large ones
        self._real, self._lock = images.decode, threading.Lock()

    def __call__(self, source: bytes, *told: Any, **named: Any) -> Any:
        if source == self.large:
            with self._lock:
                self.inside += 1
            assert self.words.acquire(timeout=PATIENCE_S)
            with self._lock:
                self.inside -= 1
                self.decoded += 1
        return self._real(source, *told, **named)

    def wait_for(self, inside: int) -> None:
        """Wait until so many threads stand before a large file."""
        wait_for(lambda: self.inside == inside)


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch, url: str, paint: Paint) -> Iterator[Decoders]:
    made = Decoders(paint(0, 0, 255))
    monkeypatch.setattr(images, "decode", made)
    yield made
    made.words.release(10_000)
    wait_for(lambda: gauge(url) == made.inside == 0)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as made:
        yield made


def predict(url: str, files: Files, **wishes: object) -> httpx.Response:
    parts = [("file", (f"{k}.png", data)) for k, data in enumerate(files)]
    return httpx.post(f"{url}/predict", files=parts, params=wishes, timeout=30)


def infer(url: str, files: Files, **parameters: object) -> httpx.Response:
    data = b"".join(struct.pack("<I", len(file)) + file for file in files)
    size = {"binary_data_size": len(data)}
    tensor = {"name": "images", "datatype": "BYTES", "shape": [len(files)], "parameters": size}
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    path = f"{url}/v2/models/colours/infer"
    return httpx.post(path, content=head + data, headers=headers, timeout=30)


def gauge(url: str, name: str = "exitkit_decoding_images") -> float:
    """Return the sum of what a metric says of all models."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))


def occupy(
    decoders: Decoders, pool: ThreadPoolExecutor, ask: Callable[[Files], Any]
) -> list[Future[Any]]:
    """Let every decoder stand before the first of many large files."""
    asked = [pool.submit(ask, [decoders.large] * 50) for _ in range(machine.cores())]
    decoders.wait_for(machine.cores())
    return asked


@pytest.mark.parametrize("ask", [predict, infer])
def test_a_small_request_waits_for_one_file_of_a_large_one(
    url: str, paint: Paint, decoders: Decoders, pool: ThreadPoolExecutor, ask: Callable[..., Any]
) -> None:
    large = occupy(decoders, pool, lambda files: ask(url, files))
    small = pool.submit(predict, url, [paint(*CLEAR)])
    wait_for(lambda: gauge(url) == 50 * len(large) + 1)
    time.sleep(WHILE_S)  # so that the turns are over
    decoders.words.release()
    assert small.result(PATIENCE_S).json()["label"] == "red"
    assert decoders.decoded == 1
    decoders.words.release(10_000)
    assert [one.result().status_code for one in large] == [200] * len(large)


def test_nothing_more_is_decoded_for_who_has_left(
    url: str, decoders: Decoders, pool: ThreadPoolExecutor
) -> None:
    body = json.dumps({"images": [coded(decoders.large)] * 50})
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)) as leaves:
        leaves.request("POST", "/predict", body, {"Content-Type": "application/json"})
        decoders.wait_for(1)
    wait_for(lambda: gauge(url) == 0)
    decoders.words.release(10_000)
    time.sleep(WHILE_S)
    assert decoders.decoded == 1


@pytest.mark.parametrize("ask", [predict, infer])
def test_nothing_more_is_decoded_after_the_deadline(
    url: str, decoders: Decoders, ask: Callable[..., Any]
) -> None:
    before = gauge(url, "exitkit_deadline_hits_total")
    assert ask(url, [decoders.large] * 50, deadline_ms=50).status_code == 504
    assert gauge(url, "exitkit_deadline_hits_total") == before + 50
    decoders.words.release(10_000)
    time.sleep(WHILE_S)
    assert decoders.decoded <= 1


def test_what_is_decoded_at_the_deadline_is_answered_in_predict(
    url: str, paint: Paint, decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the exits have time enough on any machine.
    monkeypatch.setattr(decoding, "SHARE", 0.05)
    before = gauge(url, "exitkit_deadline_hits_total")
    files = [paint(*CLEAR), b"broken", paint(*DULL), decoders.large, paint(*CLEAR)]
    wishes = {"deadline_ms": 8000, "threshold": [0.9, 0.5, 0.1, 0.2, 0.3]}
    answer = predict(url, files, **wishes)
    assert answer.status_code == 200
    first, broken, second, *late = answer.json()
    assert (first["label"], first["threshold_used"]) == ("red", pytest.approx(0.9))
    assert (second["label"], second["threshold_used"]) == ("green", pytest.approx(0.1))
    assert broken["status"] == 400
    says = "an answer: no exit had answered in time; allow more time"
    assert late == [{"file": f"{k}.png", "error": says, "status": 504} for k in (3, 4)]
    assert gauge(url, "exitkit_deadline_hits_total") == before + 2


def test_an_infer_request_fails_where_one_file_is_late(
    url: str, paint: Paint, decoders: Decoders
) -> None:
    files = [paint(*CLEAR), decoders.large]
    answer = infer(url, files, deadline_ms=200)
    assert answer.status_code == 504
    assert answer.json()["error"] == "an answer: no exit had answered in time; allow more time"


def test_all_models_together_decode_one_file_a_core(
    colours: Path, bundle_at: Callable[[Path], Path], tmp_path: Path, paint: Paint,
    monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor,
) -> None:  # fmt: skip
    decoders, each = Decoders(paint(0, 0, 255)), machine.cores() + 1
    with server(colours, bundle_at(tmp_path / "others"), threads=1) as url:
        monkeypatch.setattr(images, "decode", decoders)
        asked = [
            pool.submit(predict, url, [decoders.large], model=model)
            for model in ("colours", "others")
            for _ in range(each)
        ]
        wait_for(lambda: gauge(url) == 2 * each)
        time.sleep(WHILE_S)
        assert decoders.inside == machine.cores()
        decoders.words.release(10_000)
        assert {one.result().json()["label"] for one in asked} == {"blue"}


def coded(file: bytes) -> str:
    return base64.b64encode(file).decode()
