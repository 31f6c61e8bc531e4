"""Clients that go away while their images wait behind a gate that stays closed."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from gates import Held, held
from waiting import wait_for

from exitkit.serve.limits import Limits

Paint = Callable[..., bytes]
Gone = Callable[[str], None]
CLEAR, DULL = (255, 0, 0), (120, 140, 130)


@pytest.fixture(scope="module")
def gated(colours: Path) -> Iterator[Held]:
    with held(colours, Limits(batch=1, queue=256)) as made:
        yield made


@pytest.fixture
def gone(gated: Held) -> Gone:
    """Return what waits until one more client has left a route."""
    before = {route: counted(gated.url, route) for route in ("predict", "infer")}
    return lambda route: wait_for(lambda: counted(gated.url, route) == before[route] + 1)


def ask(url: str, path: str, body: bytes, media: str) -> http.client.HTTPConnection:
    """Send a request and do not wait for its answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("POST", path, body, {"Content-Type": media})
    return connection


def tensors(images: int) -> bytes:
    data = np.zeros((images, 3, 32, 32)).tolist()
    shape = [images, 3, 32, 32]
    tensor = {"name": "images", "datatype": "FP32", "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def counted(url: str, route: str, status: int = 499) -> float:
    """Return how many responses had a status; 499: clients that left before their answer."""
    line = f'exitkit_requests_total{{route="{route}",status="{status}"}} '
    text = httpx.get(f"{url}/metrics").text
    return sum(float(row[len(line) :]) for row in text.splitlines() if row.startswith(line))


@pytest.mark.parametrize("path", ["/predict", "/predict?stream=1", "/v2/models/colours/infer"])
def test_a_client_that_goes_away_stops_costing(
    gated: Held, paint: Paint, gone: Gone, path: str
) -> None:
    gated.gates[0].close()
    with closing(ask(gated.url, "/predict", paint(*CLEAR), "image/png")) as stays:
        gated.gates[0].wait()
        if path.endswith("infer"):
            leaves = ask(gated.url, path, tensors(3), "application/json")
        else:
            leaves = ask(gated.url, path, paint(*CLEAR), "image/png")
        gated.wait_for_queue(3 if path.endswith("infer") else 1)
        leaves.close()
        gated.wait_for_queue(0)  # while the engine still stands before the gate
        gated.gates[0].open.set()
        assert json.loads(stays.getresponse().read())["label"] == "red"
    assert not gated.gates[0].came.acquire(timeout=0.1)  # nothing else was ever run
    route = "infer" if path.endswith("infer") else "predict"
    gone(route)


def test_leaving_a_stream_takes_the_other_images_out_of_the_queues(
    gated: Held, paint: Paint, gone: Gone
) -> None:
    gated.gates[1].close()
    files = [("file", (f"{k}.png", paint(*DULL))) for k in range(3)]
    url = f"{gated.url}/predict?stream=1"
    with httpx.stream("POST", url, files=files, timeout=20) as response:
        assert next(response.iter_lines()) == "event: exit"
        gated.gates[1].wait()
        gated.wait_for_queue(2)  # one stands before the second gate, two wait for the first stage
    gated.wait_for_queue(0)
    gated.gates[1].open.set()
    gone("predict")


def test_a_client_that_leaves_while_it_sends_is_no_error(
    gated: Held, paint: Paint, gone: Gone
) -> None:
    place = urlsplit(gated.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: image/png\r\n"
        connection.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n" + paint(*CLEAR)[:50])
    gone("predict")
    assert [counted(gated.url, "predict", status) for status in (400, 500)] == [0, 0]


@pytest.mark.parametrize("query", ["", "?stream=1"])
def test_who_has_left_holds_the_model_no_longer(colours: Path, paint: Paint, query: str) -> None:
    with held(colours, Limits(batch=1, queue=256, drain_s=60)) as server:
        server.gates[0].close()
        leaves = ask(server.url, f"/predict{query}", paint(*CLEAR), "image/png")
        server.gates[0].wait()
        leaves.close()
        wait_for(lambda: counted(server.url, "predict") == 1)
        server.gates[0].open.set()
        # It would wait for a minute for a request that is not over.
        unload = f"{server.url}/v2/repository/models/colours/unload"
        assert httpx.post(unload, timeout=20).status_code == 200
