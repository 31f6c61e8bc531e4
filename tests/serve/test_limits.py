"""What a server refuses to take: long bodies, many images, more than its queue holds."""

import gzip
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gates import held
from waiting import wait_for

from exitkit.errors import ConfigError
from exitkit.serve import server
from exitkit.serve.limits import Limits

Paint = Callable[..., bytes]
BODY = 100_000
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def small(colours: Path) -> Iterator[str]:
    """Serve with small limits."""
    limits = Limits(body_bytes=BODY, samples=2, batch=2, pixels=1024)
    with server(colours, limits=limits, threads=1) as address:
        yield address


def test_a_body_that_announces_too_much_is_refused(small: str) -> None:
    response = httpx.post(f"{small}/predict", content=bytes(2_000_000), headers=PNG)
    assert response.status_code == 413
    assert response.json()["error"].startswith(
        "request body: 2000000 bytes or more, the limit is 100000"
    )


def test_a_body_that_announces_nothing_is_counted(small: str) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(50_000)

    response = httpx.post(f"{small}/predict", content=chunks(), headers=PNG)
    assert response.status_code == 413
    assert "the limit is 100000" in response.json()["error"]
    assert httpx.post(f"{small}/v2/models/colours/infer", content=chunks()).status_code == 413


def test_a_client_that_asks_first_is_told_before_it_sends(small: str) -> None:
    host, port = small.removeprefix("http://").split(":")
    head = (
        "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        "Expect: 100-continue\r\nContent-Length: 5000000\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_of_just_the_limit_is_read(small: str) -> None:
    response = httpx.post(f"{small}/predict", content=bytes(BODY), headers=PNG)
    assert response.status_code == 400
    assert "cannot be decoded" in response.json()["error"]


def test_more_images_than_the_limit_are_refused(small: str, paint: Paint) -> None:
    for count in (3, 30):
        parts = [("file", ("x.png", paint(1, 2, 3)))] * count
        response = httpx.post(f"{small}/predict", files=parts)
        assert response.status_code == 413
        assert response.json()["error"] == "files: the limit is 2 a request; send fewer"


def test_the_limit_of_pixels_is_the_servers(small: str, paint: Paint) -> None:
    response = httpx.post(f"{small}/predict", files={"file": paint(1, 2, 3, side=33)})
    assert response.status_code == 413
    assert "33x33 pixels, the limit is 1024" in response.json()["error"]


@pytest.mark.parametrize("name", ["body_bytes", "samples", "batch", "queue", "drain_s", "pixels"])
def test_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ConfigError, match=f"limit {name}=0: is not above zero"):
        Limits(**{name: 0})


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_limits_are_numbers(value: float) -> None:
    with pytest.raises(ConfigError, match=f"limit drain_s={value}: is no bound; give a number"):
        Limits(drain_s=value)


def test_a_request_must_fit_into_the_queue() -> None:
    with pytest.raises(ConfigError, match="the queue holds 8, such a request would never fit"):
        Limits(samples=9, queue=8)


def test_bodies_together_must_have_room_for_one() -> None:
    with pytest.raises(ConfigError, match="raise bodies_bytes or lower body_bytes"):
        Limits(body_bytes=10, bodies_bytes=9)


def test_bodies_of_all_requests_together_are_bounded(colours: Path, paint: Paint) -> None:
    """What one request holds until it is answered, another one cannot have."""
    limits = Limits(body_bytes=BODY, bodies_bytes=BODY + 1000)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {BODY}"
    with server(colours, limits=limits, threads=1) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as holding:
            holding.sendall(head.encode() + b"\r\n\r\n" + bytes(BODY - 1))
            wait_for(
                lambda: (
                    httpx.post(f"{url}/predict", content=bytes(2000), headers=PNG).status_code
                    == 429
                )
            )
            refused = httpx.post(f"{url}/predict", content=bytes(2000), headers=PNG)
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            assert "are held for other requests, the limit is 101000" in refused.json()["error"]
        wait_for(
            lambda: (
                httpx.post(f"{url}/predict", content=bytes(2000), headers=PNG).status_code != 429
            )
        )
        answer = httpx.post(f"{url}/predict", files={"file": paint(250, 5, 5)})
        assert answer.json()["label"] == "red"


@pytest.mark.parametrize("route", ["predict", "v2/models/colours/infer"])
def test_packed_bodies_count_among_all_as_what_they_become(colours: Path, route: str) -> None:
    limits = Limits(body_bytes=BODY, bodies_bytes=BODY + 1000)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {BODY}"
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    packed = gzip.compress(bytes(BODY))
    assert len(packed) < 500
    with server(colours, limits=limits, threads=1) as url:

        def status() -> int:
            return httpx.post(f"{url}/{route}", content=packed, headers=headers).status_code

        assert status() == 400  # nothing but zeros, and room for them
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as holding:
            holding.sendall(head.encode() + b"\r\n\r\n" + bytes(2000))
            wait_for(lambda: status() == 429)
        wait_for(lambda: status() == 400)


@pytest.mark.parametrize(
    ("route", "start", "end"),
    [
        ("predict", b'{"images":[', b"[]]}"),
        ("v2/models/colours/infer", b'{"inputs":[', b"{}]}"),
        ("v2/repository/index", b'{"ready":[', b"[]]}"),
    ],
)
@pytest.mark.parametrize("part", [b"[],", b'{"":0},', b"1,1,", b'"","",', b"[[[0]]],"])
def test_json_that_takes_long_to_parse_is_refused_before(
    url: str, route: str, start: bytes, end: bytes, part: bytes
) -> None:
    body = start + part * 1_200_000 + end
    response = httpx.post(
        f"{url}/{route}", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 413
    assert "values in JSON, the limit is 2097152" in response.json()["error"]


def test_a_large_file_in_base64_is_one_value(url: str) -> None:
    body = b'{"image":"' + b"A" * 40_000_000 + b'"}'
    response = httpx.post(
        f"{url}/predict", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert "image of 30000000 bytes: cannot be decoded" in response.json()["error"]


def test_as_many_numbers_as_a_request_may_have_images_are_read(url: str) -> None:
    """In JSON, as flat as it can be and nested."""
    shape = [256, 3, 32, 32]
    nested = [[[[0.5] * 32] * 32] * 3] * 256
    for data in (nested, [0.5] * (256 * 3 * 32 * 32)):
        tensor = {"name": "images", "datatype": "FP32", "shape": shape, "data": data}
        answer = httpx.post(f"{url}/v2/models/colours/infer", json={"inputs": [tensor]}, timeout=60)
        assert answer.status_code == 200


def test_a_full_queue_answers_429_and_says_when_to_come_again(colours: Path, paint: Paint) -> None:
    parts = [("file", ("x.png", paint(255, 0, 0)))] * 8
    with (
        held(colours, Limits(samples=8, batch=1, queue=8)) as made,
        ThreadPoolExecutor(1) as pool,
    ):
        made.gates[0].close()
        first = pool.submit(httpx.post, f"{made.url}/predict", files=parts, timeout=60)
        made.gates[0].wait()
        made.wait_for_queue(7)
        refused = httpx.post(f"{made.url}/predict", files=parts)
        made.open()
        assert [row["label"] for row in first.result().json()] == ["red"] * 8
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "7 wait already, the queue holds 8" in refused.json()["error"]
