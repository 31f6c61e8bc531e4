"""`exitkit serve --ray` on a cluster of its own, with replicas in processes of their own.

One server serves all tests of this file; when they are done, its end is looked at.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from bundles import picture, segment, write_bundle
from clusters import AUTHORIZED, CLIENTS, HEADERS, Started, asking, folder, serving
from tritonclient import http as triton
from waiting import wait_for

from exitkit import bundle

Paint = Callable[..., bytes]
DULL = (120, 140, 130)  # goes on to exit 4
SLOW = "model=crawl"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


@dataclass(frozen=True)
class Served:
    """A server on Ray: where it is, and its processes."""

    url: str
    processes: Started


@pytest.fixture(scope="module")
def served(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve two models; the second stage of `crawl` takes about a twentieth of a second."""
    crawl = write_bundle(tmp_path_factory.mktemp("bundles") / "crawl")
    model = segment(4, deepest=True, loops=100)
    (crawl / "segment_4.onnx").write_bytes(model.SerializeToString())
    bundle.write_manifest(crawl, bundle.read_manifest(crawl, verify=False))
    words = (str(colours), str(crawl), "--replicas", "2")
    with folder() as place, serving(place, *words) as (url, processes):
        yield Served(url, processes)
        with asking(f"{url}/predict?{SLOW}", picture(*DULL)) as clients:
            processes.end()
        for client in clients:
            statuses = [status for _, status, _ in client.noted]
            answered = statuses.count(200)
            # What was accepted is answered. Then Ray knows no such application, then it has ended.
            assert statuses[answered] == 404
            assert statuses == sorted(statuses, key=[200, 404, 0].index)
            assert "/-/routes" in client.noted[answered][2]


def ask(url: str, image: bytes, **query: Any) -> httpx.Response:
    """Ask /predict."""
    return httpx.post(f"{url}/predict", params=query, content=image, headers=HEADERS, timeout=60)


def counted(url: str, start: str) -> float:
    """Return the sum of the counters whose lines start so."""
    lines = httpx.get(f"{url}/metrics", headers=AUTHORIZED).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def test_image_files_get_the_answers_of_a_server_without_ray(
    served: Served, url: str, paint: Paint
) -> None:
    generator = np.random.default_rng(5)
    seen = set()
    for colour in generator.integers(0, 256, (20, 3)).tolist():
        answer, plain = (ask(one, paint(*colour)).json() for one in (served.url, url))
        assert set(answer) == set(plain)
        assert (answer["label"], answer["exit"]) == (plain["label"], plain["exit"])
        assert answer["confidence"] == pytest.approx(plain["confidence"], abs=1e-6)
        seen.add(answer["exit"])
    assert seen == {2, 4}


@pytest.mark.parametrize("binary", [True, False])
def test_tensors_get_the_answers_of_a_server_without_ray(
    served: Served, url: str, binary: bool
) -> None:
    images = np.random.default_rng(6).normal(size=(40, 3, 32, 32)).astype(np.float32)
    images += np.random.default_rng(7).normal(size=(40, 3, 1, 1)).astype(np.float32)
    tensor = triton.InferInput("images", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images, binary_data=binary)
    answers = []
    for one in (served.url, url):
        with triton.InferenceServerClient(one.removeprefix("http://")) as client:
            answers.append(client.infer("colours", [tensor], headers=dict(AUTHORIZED)))
    for name in ("label", "exit_index"):
        np.testing.assert_array_equal(*(answer.as_numpy(name) for answer in answers))
    confidences = [answer.as_numpy("confidence") for answer in answers]
    np.testing.assert_allclose(*confidences, atol=1e-6)


def test_errors_pass_unchanged(served: Served, paint: Paint) -> None:
    missing = httpx.post(f"{served.url}/predict", content=paint(*DULL))
    assert missing.status_code == 401
    wrong = ask(served.url, paint(*DULL), max_exit=3)
    assert wrong.status_code == 400
    assert wrong.json()["error"].endswith("no such exit; choose one of: 2, 4")
    large = ask(served.url, bytes(70_000_000))
    assert large.status_code == 413
    assert len(wrong.headers.get_list("x-request-id")) == 1


def test_events_come_one_by_one_and_who_hangs_up_stops_costing(
    served: Served, paint: Paint
) -> None:
    url = f"{served.url}/predict?stream=1&{SLOW}"
    with httpx.stream("POST", url, content=paint(*DULL), headers=HEADERS) as response:
        names = [line for line in response.iter_lines() if line.startswith("event")]
    assert names == ["event: exit", "event: exit", "event: answer"]
    left = 'exitkit_requests_total{route="predict",status="499"}'
    cancelled = 'exitkit_cancelled_requests_total{model="crawl"}'
    before = counted(served.url, left), counted(served.url, cancelled)

    def cancels() -> bool:
        """Hang up after the first event. Did it come with the last, nothing would be left."""
        with httpx.stream("POST", url, content=paint(*DULL), headers=HEADERS) as response:
            assert next(response.iter_lines()) == "event: exit"
        time.sleep(1)  # twice as long as replicas take to tell each other
        return counted(served.url, cancelled) > before[1]

    assert any(cancels() for _ in range(10))  # the first, unless this process is kept waiting
    assert counted(served.url, left) >= before[0] + 1


def test_models_stay_as_they_are(served: Served) -> None:
    load = httpx.post(f"{served.url}/v2/repository/models/colours/load", headers=AUTHORIZED)
    assert load.status_code == 403
    assert "one replica on Ray" in load.json()["error"]


def test_the_counts_are_those_of_all_replicas(served: Served, paint: Paint) -> None:
    start = 'exitkit_exits_taken_total{exit="4",model="colours"}'
    before = counted(served.url, start)
    for _ in range(12):
        ask(served.url, paint(*DULL))
    # A replica leaves its counts where the others look twice a second.
    wait_for(lambda: counted(served.url, start) >= before + 12)
    assert counted(served.url, start) == before + 12


def test_a_killed_replica_costs_what_it_had_in_hand_and_is_replaced(
    served: Served, paint: Paint
) -> None:
    old = served.processes.replicas()
    killed, other = sorted(old)
    with asking(f"{served.url}/predict?{SLOW}", paint(*DULL)) as clients:
        os.kill(killed, signal.SIGKILL)
        when = time.monotonic()
        wait_for(lambda: len(served.processes.replicas() - {killed}) == 2)
    noted = [row for client in clients for row in client.noted]
    lost = [(began, text) for began, status, text in noted if status != 200]
    assert len(lost) <= CLIENTS
    assert all(began < when for began, _ in lost)  # nothing that came later
    assert {text for _, text in lost} <= {"Internal Server Error"}
    answers = [text for _, status, text in noted if status == 200]
    assert all('"label":"green"' in text and '"exit":4' in text for text in answers)
    # The new one answers where the other is killed as well.
    os.kill(other, signal.SIGKILL)
    assert ask(served.url, paint(*DULL)).status_code == 200
    wait_for(lambda: len(served.processes.replicas() - old) == 2)
