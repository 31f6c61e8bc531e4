"""Clients that are slow, silent, garbled or many, on raw sockets; others are answered meanwhile."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from exitkit.serve import server
from exitkit.serve.limits import Limits
from exitkit.serve.web.connections import PIPELINE
from exitkit.serve.web.listener import LOOK_S

HEAD_S, STALL_S, CONNECTIONS = 0.3, 0.5, 12
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
LATEST_S = 30


@pytest.fixture(scope="module")
def hasty(colours: Path) -> Iterator[str]:
    """Serve with little patience."""
    limits = Limits(
        head_s=HEAD_S, stall_s=STALL_S, connections=CONNECTIONS, head_bytes=4096, body_bytes=100_000
    )
    with server(colours, limits=limits, threads=1) as address:
        yield address


@pytest.fixture(scope="module")
def patient(colours: Path) -> Iterator[str]:
    """Serve with short heads and the usual patience: a busy machine may come late with a part."""
    with server(colours, limits=Limits(head_bytes=4096), threads=1) as address:
        yield address


@contextlib.contextmanager
def connect(url: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=LATEST_S) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def answer(connection: socket.socket) -> tuple[int, str]:
    """Read until the server closes; return the status and the error."""
    head, _, body = read_all(connection).partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]


def closes(connection: socket.socket, drop: bytes) -> bool:
    """Send drops; return whether the server closes at last."""
    end = time.monotonic() + LATEST_S
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while time.monotonic() < end:
            connection.sendall(drop)
            time.sleep(0.02)
        return False
    return True


def test_a_connection_that_says_nothing_is_closed(hasty: str) -> None:
    began = time.monotonic()
    with connect(hasty) as silent:
        assert read_all(silent) == b""
        assert time.monotonic() - began >= HEAD_S


def test_a_head_that_comes_drop_by_drop_is_refused_and_others_are_answered(hasty: str) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(hasty)) for _ in range(CONNECTIONS - 2)]
        for one in slow:
            one.sendall(b"GET /v2/health/live HTTP/1.1\r\nX-")
        ended = time.monotonic() + HEAD_S + 1
        while time.monotonic() < ended:
            with contextlib.suppress(OSError):
                for one in slow:
                    one.sendall(b"a")
            assert httpx.get(f"{hasty}/v2/health/live").status_code == 200
            time.sleep(0.05)
        for one in slow:
            assert read_all(one).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_a_head_that_begins_with_empty_lines_has_no_more_time(hasty: str) -> None:
    with connect(hasty) as client:
        client.sendall(LIVE)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert closes(client, b"\r\n")
        assert time.monotonic() - began >= HEAD_S


def test_a_body_that_does_not_come_is_answered_with_408(hasty: str) -> None:
    with connect(hasty) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Content-Length: 5000\r\n\r\n" + bytes(100)
        )
        status, error = answer(client)
    assert status == 408
    assert error == (
        "a request body of 5000 bytes: 100 came in 1 s; send it faster, or send smaller images"
    )


def test_a_body_in_drops_has_no_more_time_than_none(hasty: str) -> None:
    with connect(hasty) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() < began + STALL_S + 1:
                client.sendall(b"1\r\nx\r\n")
                time.sleep(0.05)
        assert read_all(client).startswith(b"HTTP/1.1 408")


def test_a_body_that_nobody_wants_does_not_hold_the_connection(hasty: str) -> None:
    began = time.monotonic()
    with connect(hasty) as client:
        client.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 404")
        assert closes(client, b"1\r\nx\r\n")
    assert time.monotonic() - began >= STALL_S


def test_an_answer_that_nobody_reads_is_given_up(hasty: str) -> None:
    with connect(hasty) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Answers of several megabytes, until the server waits for us.
        client.sendall(LIVE.replace(b"/v2/health/live", b"/openapi.json") * PIPELINE)
        assert closes(client, LIVE)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 5000,
        b"GET /v2/health/live HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_a_head_that_is_too_long_is_refused(patient: str, head: bytes) -> None:
    with connect(patient) as client:
        for part in (head[:100], head[100:]):
            client.sendall(part)
            time.sleep(0.02)
        status, error = answer(client)
    assert status == 431
    assert error == ("a request's head: is longer than 4096 bytes; send fewer or shorter headers")


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"hello\r\n\r\n",
     b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_gets_one_error_body(hasty: str, garbage: bytes) -> None:
    with connect(hasty) as client:
        client.sendall(garbage)
        status, error = answer(client)
    assert (status, error) == (400, "a request: is no HTTP/1.1; see its specification, RFC 9112")


@pytest.mark.parametrize(
    "refused",
    [b"\x00\x00\x00garbage\r\n\r\n", LIVE.replace(b"Host", b"A: " + b"a" * 5000 + b"\r\nHost")],
)
def test_what_is_refused_behind_requests_leaves_their_answers_whole(
    hasty: str, refused: bytes
) -> None:
    with connect(hasty) as client:
        client.sendall(LIVE * 3 + refused + LIVE)
        found = read_all(client)
    assert found.count(b"HTTP/1.1 200 OK") == found.count(b'{"live":true}') == 3
    assert found.count(b"HTTP/1.1") == 3
    assert found.endswith(b'{"live":true}')


def test_more_connections_than_the_limit_are_refused_until_one_closes(hasty: str) -> None:
    def open_() -> int:
        return httpx.get(f"{hasty}/v2/health/live").status_code

    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            one = stack.enter_context(connect(hasty))
            one.sendall(LIVE)
            assert one.recv(65536).startswith(b"HTTP/1.1 200")
        with connect(hasty) as refused:
            status, error = answer(refused)
        assert status == 503
        assert error == "a connection: 12 are open already; use those again"
    ended = time.monotonic() + LATEST_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            if open_() == 200:
                return
        assert time.monotonic() < ended


LAST = LIVE.replace(b"Host", b"Connection: close\r\nHost")


def test_requests_in_a_row_are_answered_in_a_row(hasty: str) -> None:
    with connect(hasty) as client:
        client.sendall(LIVE * 20 + LAST)
        assert read_all(client).count(b"HTTP/1.1 200 OK") == 21


def test_heads_that_come_in_parts_are_measured_one_by_one(patient: str) -> None:
    """Each part begins and ends inside a head; all heads are short."""
    row = LIVE.replace(b"Host", b"A: " + b"a" * 100 + b"\r\nHost") * 90 + LAST
    with connect(patient) as client:
        for begin in range(0, len(row), 5000):
            client.sendall(row[begin : begin + 5000])
            time.sleep(0.05)
        assert read_all(client).count(b"HTTP/1.1 200 OK") == 91


def test_requests_without_end_do_not_pile_up(hasty: str) -> None:
    with connect(hasty) as client:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(LIVE * 50_000)
        found = read_all(client)
    assert 0 < found.count(b"HTTP/1.1 200 OK") <= 3 * PIPELINE


def test_a_connection_may_stay_idle_for_longer_than_a_head_may_take(hasty: str) -> None:
    with connect(hasty) as client:
        for _ in range(2):
            client.sendall(LIVE)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(max(HEAD_S, STALL_S) + 2 * LOOK_S)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_that_offers_another_protocol_is_read_whole(patient: str, chunked: bool) -> None:
    """As Java's client does, and curl --http2."""
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    )
    body = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    request = head + (body if chunked else b"Content-Length: 5\r\n\r\nhello")
    with connect(patient) as client:
        for parts in ([request], [head, request[len(head) : -3], request[-3:]]):
            for part in parts:
                client.sendall(part)
                time.sleep(0.02)
            found = client.recv(65536)
            assert found.startswith(b"HTTP/1.1 400")
            assert b"image of 5 bytes" in found
        client.sendall(LIVE.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: websocket\r\nHost"))
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_offers_in_a_row_are_all_passed_over(hasty: str) -> None:
    offer = LIVE.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: websocket\r\nHost")
    with connect(hasty) as client:
        client.sendall(offer * 90 + LAST)
        assert read_all(client).count(b"HTTP/1.1 200 OK") == 91


def test_it_is_no_proxy(hasty: str) -> None:
    with connect(hasty) as client:
        client.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")
        assert answer(client) == (405, "CONNECT: this server is no proxy; send a request to itself")
