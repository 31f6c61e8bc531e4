"""More than the server can do: when to come again, and earlier answers before refusals."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from gates import Held, held
from waiting import wait_for

from exitkit import images
from exitkit.errors import ConfigError
from exitkit.serve import server
from exitkit.serve.limits import Limits

Paint = Callable[..., bytes]
CLEAR, DULL = (255, 0, 0), (120, 140, 130)
PNG = {"Content-Type": "image/png"}


def test_retry_after_is_the_time_in_which_the_queue_drains(slow: Path, paint: Paint) -> None:
    """Twice what fits into the queue, all at once: the rest is told how long that takes."""
    queue = 40
    images = [paint(255, 0, 0), paint(0, 255, 0), paint(0, 0, 255)]

    async def ask(client: httpx.AsyncClient, k: int) -> tuple[int, httpx.Response, float]:
        answer = await client.post("/predict", content=images[k % 3], headers=PNG)
        return k, answer, time.monotonic()

    async def load(url: str) -> tuple[list[tuple[int, httpx.Response, float]], float]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            for k in range(5):  # so that the rate is known
                await ask(client, k)
            began = time.monotonic()
            return await asyncio.gather(*(ask(client, k) for k in range(2 * queue))), began

    with server(slow, limits=Limits(samples=1, batch=1, queue=queue), threads=1) as url:
        answers, began = asyncio.run(load(url))
    accepted = [(k, answer, at) for k, answer, at in answers if answer.status_code == 200]
    refused = [answer for _, answer, _ in answers if answer.status_code == 429]
    assert len(accepted) + len(refused) == 2 * queue
    assert len(accepted) >= queue
    for k, answer, _ in accepted:  # what was accepted is answered, each its own
        assert answer.json()["label"] == ("red", "green", "blue")[k % 3]
    drained_s = max(at for _, _, at in accepted) - began
    for answer in refused:
        assert drained_s / 2.5 < int(answer.headers["retry-after"]) < 2.5 * drained_s + 1


@pytest.fixture
def decoding(colours: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """Decode files only while the first gate is open; two may wait for that."""
    real = images.decode
    with held(colours, Limits(samples=2, queue=2)) as made:

        def waits(*arguments: Any) -> Any:
            assert made.gates[0].open.wait(20)
            return real(*arguments)

        monkeypatch.setattr(images, "decode", waits)
        yield made


def test_a_full_queue_of_files_to_be_decoded_is_told_by_the_decoders_rate(
    decoding: Held, paint: Paint
) -> None:
    url, service = f"{decoding.url}/predict", decoding.service
    service.decoder.rate.add(1, 2.0)  # it took two seconds an image
    decoding.gates[0].close()
    with ThreadPoolExecutor(2) as pool:
        image = {"content": paint(*CLEAR), "headers": PNG}
        sent = [pool.submit(httpx.post, url, **image) for _ in range(2)]
        wait_for(lambda: service.live.decoding == 2)
        refused = httpx.post(url, **image)
        decoding.open()
        assert [one.result().status_code for one in sent] == [200, 200]
    assert refused.status_code == 429
    assert "2 wait to be decoded, at most 2 may" in refused.json()["error"]
    assert refused.headers["retry-after"] == "4"
    assert counted(decoding.url, "exitkit_refused_images_total") == 1
    assert failed(decoding.url) == 1


def test_who_waits_for_decoding_may_be_late_or_leave(decoding: Held, paint: Paint) -> None:
    url = f"{decoding.url}/predict"
    decoding.gates[0].close()
    image = {"content": paint(*CLEAR), "headers": PNG}
    assert httpx.post(url, params={"deadline_ms": 50}, **image).status_code == 504
    assert counted(decoding.url, "exitkit_deadline_hits_total") == 1
    assert failed(decoding.url) == 1
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, timeout=0.3, **image)
    wait_for(lambda: counted(decoding.url, "exitkit_cancelled_requests_total") == 1)
    assert failed(decoding.url) == 1


def counted(url: str, name: str) -> float:
    """Return the value of a counter of the model."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    (line,) = (line for line in lines if line.startswith(f'{name}{{model="colours"}} '))
    return float(line.split()[-1])


def failed(url: str) -> int:
    """Return how many requests have failed, as Triton's statistics say it."""
    (row, *_) = httpx.get(f"{url}/v2/models/colours/stats").json()["model_stats"]
    return int(row["inference_stats"]["fail"]["count"])


@pytest.fixture(scope="module")
def sinking(colours: Path) -> Iterator[Held]:
    """Thresholds 0.6, 0.5 and 0.0 reach 0.9375, 0.875 and 0.75; the floor lies between."""
    with held(colours, Limits(samples=8, queue=16), accuracy_floor=0.8) as made:
        # Gates take as long as a test wants: they say nothing of the machine's pace.
        made.service.depth.ran = lambda expected_s, seconds: None  # type: ignore[union-attr,method-assign]
        yield made


def stats(made: Held) -> dict:
    return httpx.get(f"{made.url}/stats").json()


def test_thresholds_sink_to_the_floor_before_anything_is_refused(
    sinking: Held, paint: Paint
) -> None:
    made, image = sinking, paint(*DULL)
    parts = [("file", ("x.png", image))] * 8

    def ask(**wishes: object) -> list[dict]:
        return httpx.post(f"{made.url}/predict", files=parts, params=wishes, timeout=60).json()

    wait_for(lambda: stats(made)["thresholds"] == [0.6])  # whatever ran before
    made.gates[0].close()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(ask)
        made.gates[0].wait()
        second = pool.submit(ask)
        made.wait_for_queue(8)
        assert stats(made)["thresholds"] == [0.5]  # 16 images, most of what the queue holds
        third = pool.submit(ask)
        made.wait_for_queue(16)
        assert 'exitkit_threshold{exit="2",model="colours"} 0.5' in (
            httpx.get(f"{made.url}/metrics").text
        )
        refused = httpx.post(f"{made.url}/predict", files=parts)
        made.open()
        used = [{row["threshold_used"] for row in one.result()} for one in (first, second, third)]
    assert used == [{0.6}, {0.6}, {0.5}]
    assert refused.status_code == 429
    wait_for(lambda: stats(made)["thresholds"] == [0.6])  # and back


def test_wishes_of_a_request_are_its_own_under_load(sinking: Held, paint: Paint) -> None:
    def ask(**wishes: object) -> dict:
        parts = {"file": paint(*DULL)}
        return httpx.post(f"{sinking.url}/predict", files=parts, params=wishes).json()

    depth = sinking.service.depth
    assert depth is not None
    with depth.holding(100, None):
        assert ask()["threshold_used"] == 0.5
        assert ask(threshold=0.9)["threshold_used"] == 0.9
        assert ask(max_exit=4)["threshold_used"] == 0.6


def test_a_floor_that_the_policy_does_not_reach_is_refused_at_the_start(colours: Path) -> None:
    with (
        pytest.raises(ConfigError, match=r"floor 0.95: the policy in force reaches 0.9375"),
        server(colours, threads=1, accuracy_floor=0.95),
    ):
        pass
