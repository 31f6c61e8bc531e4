"""Deadlines over HTTP. The gates, not the clock, decide what is finished when one comes."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gates import Held, held

from exitkit.serve.limits import Limits

Paint = Callable[..., bytes]
CLEAR, DULL = (255, 0, 0), (120, 140, 130)
LONG_S = 100.0


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


@pytest.fixture(scope="module")
def deep(colours: Path) -> Iterator[Held]:
    """A server that believes its second stage to take 100 s."""
    with held(colours, seconds=(1e-3, LONG_S)) as made:
        yield made


@pytest.fixture(scope="module")
def gated(colours: Path) -> Iterator[Held]:
    with held(colours, Limits(batch=2)) as made:
        yield made


def send(url: str, *files: bytes, **wishes: object) -> httpx.Response:
    parts = [("file", (f"{k}.png", data)) for k, data in enumerate(files)]
    return httpx.post(f"{url}/predict", files=parts, params=wishes, timeout=30)


def infer(url: str, *colours: tuple[int, int, int], **parameters: object) -> httpx.Response:
    pixels = [[[[(c / 255 - 0.5) / 0.25] * 32] * 32 for c in colour] for colour in colours]
    tensor = {"name": "images", "datatype": "FP32", "shape": [len(colours), 3, 32, 32]}
    body = {"inputs": [{**tensor, "data": pixels}], "parameters": parameters}
    return httpx.post(f"{url}/v2/models/colours/infer", json=body, timeout=30)


def test_the_deepest_finished_exit_answers_at_the_deadline(deep: Held, paint: Paint) -> None:
    answer = send(deep.url, paint(*DULL), deadline_ms=50_000).json()
    assert (answer["exit"], answer["deadline_hit"]) == (2, True)
    assert answer["label"] == "green"
    # Where the policy is sure before it, and where there is none, it changes nothing.
    clear = send(deep.url, paint(*CLEAR), deadline_ms=50_000).json()
    assert (clear["exit"], clear["deadline_hit"]) == (2, False)
    patient = send(deep.url, paint(*DULL)).json()
    assert (patient["exit"], patient["deadline_hit"]) == (4, False)


def test_images_of_one_request_meet_the_deadline_each_for_itself(deep: Held, paint: Paint) -> None:
    rows = send(deep.url, paint(*DULL), paint(*CLEAR), deadline_ms=50_000).json()
    assert [row["deadline_hit"] for row in rows] == [True, False]
    assert [row["exit"] for row in rows] == [2, 2]


def test_a_deadline_before_the_first_exit_is_a_504(
    gated: Held, paint: Paint, pool: ThreadPoolExecutor
) -> None:
    def late(ask: Callable[[], httpx.Response]) -> httpx.Response:
        gated.gates[0].close()
        first = pool.submit(send, gated.url, paint(*CLEAR))
        gated.gates[0].wait()
        second = pool.submit(ask)
        gated.wait_for_queue(1)
        time.sleep(0.7)
        gated.gates[0].open.set()
        assert first.result().status_code == 200
        return second.result()

    for ask in (
        lambda: send(gated.url, paint(*CLEAR), deadline_ms=600),
        lambda: infer(gated.url, CLEAR, deadline_ms=600),
    ):
        answer = late(ask)
        assert answer.status_code == 504
        says = "an answer: no exit had answered in time; allow more time"
        assert answer.json() == {"error": says}


def overtaken(gated: Held, pool: ThreadPoolExecutor, ask: Callable[[], httpx.Response]) -> Future:
    """Ask for three images, of which two are computed while the deadline passes."""
    gated.gates[0].close()
    asked = pool.submit(ask)
    gated.gates[0].wait()
    time.sleep(0.7)
    gated.gates[0].open.set()
    return asked


def test_an_image_without_an_answer_fails_alone_in_predict(
    gated: Held, paint: Paint, pool: ThreadPoolExecutor
) -> None:
    files = (paint(*CLEAR), paint(*DULL), b"broken", paint(*CLEAR))
    answer = overtaken(gated, pool, lambda: send(gated.url, *files, deadline_ms=600)).result()
    assert answer.status_code == 200
    sure, unsure, broken, unseen = answer.json()
    assert (sure["label"], sure["exit"], sure["deadline_hit"]) == ("red", 2, False)
    assert (unsure["label"], unsure["exit"], unsure["deadline_hit"]) == ("green", 2, True)
    assert broken["status"] == 400
    assert unseen == {
        "file": "3.png",
        "error": "an answer: no exit had answered in time; allow more time",
        "status": 504,
    }
    assert unsure["ms"] >= 600


def test_an_image_without_an_answer_fails_an_infer_request(
    gated: Held, pool: ThreadPoolExecutor
) -> None:
    before = ended(gated)
    answer = overtaken(gated, pool, lambda: infer(gated.url, CLEAR, DULL, CLEAR, deadline_ms=600))
    assert answer.result().status_code == 504
    after = ended(gated)
    assert after["fail"] == before["fail"] + 1  # whatever those images got that had an answer
    assert after["success"] == before["success"]


def ended(gated: Held) -> dict[str, int]:
    """Return how many requests have succeeded and failed, as Triton's statistics say it."""
    (row, *_) = httpx.get(f"{gated.url}/v2/models/colours/stats").json()["model_stats"]
    return {name: row["inference_stats"][name]["count"] for name in ("success", "fail")}


def test_a_deadline_counts_from_the_head_of_the_request(gated: Held, paint: Paint) -> None:
    def slowly() -> Iterator[bytes]:
        body = paint(*CLEAR)
        yield body[:20]
        time.sleep(0.15)
        yield body[20:]

    headers = {"Content-Type": "image/png"}
    url = f"{gated.url}/predict"
    answer = httpx.post(url, content=slowly(), headers=headers, params={"deadline_ms": 100})
    assert answer.status_code == 504
    answer = httpx.post(url, content=slowly(), headers=headers)
    assert answer.json()["ms"] >= 150


@pytest.mark.parametrize("text", ["0", "-5", "nan", "inf", "soon", ""])
def test_a_deadline_that_is_no_time_is_refused(url: str, paint: Paint, text: str) -> None:
    answer = send(url, paint(*CLEAR), deadline_ms=text)
    assert answer.status_code == 400
    assert "is no number of milliseconds above zero" in answer.json()["error"]
