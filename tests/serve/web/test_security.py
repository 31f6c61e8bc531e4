"""Who may ask what: tokens, pages of other sites, the network, and paths that lead nowhere."""

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from exitkit.serve import server, shelf
from exitkit.serve.settings import Settings
from exitkit.serve.web import app, pages
from exitkit.serve.web.bodies import LINGER_BYTES, LINGER_S
from exitkit.serve.web.security import OPEN

Paint = Callable[..., bytes]
TOKEN = "a-long-secret-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
LOAD = "/v2/repository/models/colours/load"
CONTROL = (LOAD, LOAD.replace("/load", "/unload"))
WITHOUT_PAGES = frozenset({"/", "/docs", "/v2/health/live", "/v2/health/ready"})


@pytest.fixture(scope="module")
def guarded(colours: Path) -> Iterator[str]:
    """Serve with a token."""
    with server(colours, token=TOKEN, threads=1) as address:
        yield address


@pytest.fixture(scope="module")
def public(colours: Path) -> Iterator[str]:
    """Serve to the network without a token."""
    with server(colours, host="0.0.0.0", threads=1) as address:
        yield address.replace("0.0.0.0", "127.0.0.1")


def routes(colours: Path) -> list[tuple[str, str]]:
    """Every method and path of the application."""
    settings = Settings((colours,))
    described = app.create(shelf.collect(settings), settings).openapi()["paths"]
    found = [
        (method.upper(), path.format(model="colours", version="1"))
        for path, methods in described.items()
        for method in methods
    ]
    pages_ = [("GET", getattr(route, "path", "")) for route in pages.router.routes]
    assert len(found) > 20
    assert len(pages_) > 10
    return [*found, *pages_, ("GET", "/openapi.json"), ("HEAD", "/metrics"), ("GET", "/nowhere")]


def test_every_route_but_the_page_and_the_probes_wants_the_token(
    guarded: str, colours: Path
) -> None:
    wanted = set()
    with httpx.Client(base_url=guarded) as client:
        for method, path in routes(colours):
            response = client.request(method, path)
            if path in OPEN:
                assert response.status_code == 200, path
                continue
            wanted.add(path)
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"] == 'Bearer realm="exitkit"'
            if method != "HEAD":
                assert response.json()["error"] == (
                    "a request: it brings no token; send the header Authorization: Bearer TOKEN"
                )
    assert {"/metrics", "/stats", "/tradeoff", "/openapi.json", "/predict", "/v2"} < wanted
    assert {path for path in OPEN if not path.startswith("/page/")} == WITHOUT_PAGES


def test_whoever_brings_the_token_is_answered(guarded: str, paint: Paint) -> None:
    files = {"file": paint(250, 5, 5)}
    for scheme in ("Bearer", "bearer", "BEARER"):
        header = {"Authorization": f"{scheme} {TOKEN}"}
        answer = httpx.post(f"{guarded}/predict", files=files, headers=header).raise_for_status()
        assert answer.json()["label"] == "red"
    for path in ("/metrics", "/stats", "/openapi.json", "/v2/models/colours"):
        assert httpx.get(f"{guarded}{path}", headers=BEARER).status_code == 200
    assert httpx.post(f"{guarded}{LOAD}", headers=BEARER, timeout=60).status_code == 200


@pytest.mark.parametrize(
    "value",
    [f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", f"Basic {TOKEN}", TOKEN,
     f"Bearer {TOKEN.upper()}", "Bearer \xe4\xf6", f"Bearer\t{TOKEN}"],
)  # fmt: skip
def test_every_other_token_is_refused(guarded: str, value: str) -> None:
    header = {"Authorization": value.encode("latin-1")}
    assert httpx.get(f"{guarded}/stats", headers=header).status_code == 401


def test_a_path_that_is_written_otherwise_wants_the_token_too(guarded: str) -> None:
    for path in ("//metrics", "/%6detrics", "/page/../metrics", "/metrics/", "/page/%2e%2e/stats",
                 "/v2/health/live/../ready", "/v2/health/live%2f", "/PAGE/app.js"):  # fmt: skip
        assert raw(guarded, f"GET {path} HTTP/1.1\r\nHost: x").startswith("HTTP/1.1 401"), path


def raw(url: str, head: str) -> str:
    """Send a head that no client would send so; return the answer."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode())
        found = b""
        while part := connection.recv(65536):
            found += part
    return found.decode("latin-1")


def send(url: str, *headers: str) -> socket.socket:
    """Begin to send an image without a token."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    head = ["POST /predict HTTP/1.1", "Host: x", "Content-Type: image/png", *headers]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return connection


def test_an_upload_without_end_that_is_refused_is_cut(guarded: str) -> None:
    part, sent = bytes(2**20), 0
    with send(guarded, f"Content-Length: {10**12}") as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while sent < 4 * LINGER_BYTES:
                connection.sendall(part)
                sent += len(part)
    assert sent < 2 * LINGER_BYTES


def test_who_sends_first_and_reads_afterwards_is_told_why(guarded: str) -> None:
    body = bytes(20 * 2**20)
    with send(guarded, f"Content-Length: {len(body)}", "Connection: close") as connection:
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


def test_who_asks_before_sending_is_refused_at_once(guarded: str) -> None:
    began = time.monotonic()
    with send(guarded, "Content-Length: 1000", "Expect: 100-continue") as connection:
        found = b""
        while part := connection.recv(65536):
            found += part
    assert found.startswith(b"HTTP/1.1 401")
    assert time.monotonic() - began < LINGER_S


def test_the_token_stands_in_no_log_and_no_description(
    colours: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = Settings((colours,), token=TOKEN)
    assert TOKEN not in repr(settings)
    with server(colours, token=TOKEN, threads=1) as url:
        for header in (BEARER, {"Authorization": f"Bearer {TOKEN}x"}):
            answer = httpx.get(f"{url}/stats", headers=header)
            assert TOKEN not in answer.text
    ours = [one for one in caplog.records if not one.name.startswith("http")]  # not the client's
    assert not [one for one in ours if TOKEN in one.getMessage()]


def test_nobody_on_the_network_may_unload_a_model_without_a_token(
    public: str, paint: Paint
) -> None:
    for path in CONTROL:
        answer = httpx.post(f"{public}{path}")
        assert answer.status_code == 403
        assert answer.json()["error"] == (
            "loading and unloading models: the server listens on 0.0.0.0 and has no token; "
            "start it with a token, or on 127.0.0.1"
        )
    assert httpx.post(f"{public}/predict", files={"file": paint(1, 2, 3)}).status_code == 200


def test_with_a_token_models_are_loaded_over_the_network_too(colours: Path) -> None:
    with server(colours, host="0.0.0.0", token=TOKEN, threads=1) as url:
        here = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.post(f"{here}{LOAD}", headers=BEARER, timeout=60).status_code == 200
        named = {**BEARER, "Host": "models.example.com"}
        assert httpx.post(f"{here}{LOAD}", headers=named, timeout=60).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        # A name that was pointed at this machine after its page was loaded.
        {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"},
        {"Host": "evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example:80"},
    ],
)
def test_a_page_of_another_site_cannot_unload_models(url: str, headers: dict[str, str]) -> None:
    for path in CONTROL:
        answer = httpx.post(f"{url}{path}", headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"].startswith("loading and unloading models")
    assert httpx.get(f"{url}/v2/models/colours/ready").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "exitkit.localhost", "[::1]"])
def test_this_machines_own_pages_and_programs_may(url: str, host: str) -> None:
    place = f"{host}:{url.rsplit(':', 1)[1]}"
    own = {"Host": place, "Origin": f"http://{place}", "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(f"{url}{LOAD}", headers=own, timeout=60).status_code == 200
    assert httpx.post(f"{url}{LOAD}", headers={"Host": place}, timeout=60).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/page/../../settings.py", "/page/%2e%2e/%2e%2e/settings.py", "/page//etc/passwd",
     "/page/..%2fprocess.py", "/page/app.js%00.html", "/page/", "/../../../etc/passwd",
     "/v2/models/..%2f..%2fetc/ready", "/v2/models/../../../etc/passwd"],
)  # fmt: skip
def test_no_path_of_a_request_reaches_a_file(url: str, path: str) -> None:
    answer = raw(url, f"GET {path} HTTP/1.1\r\nHost: x")
    assert answer.startswith("HTTP/1.1 404")
    assert "root:" not in answer


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2fcolours", "%2fetc", "colours%00", ".%2fcolours", "%5c%5chost"]
)
def test_no_name_of_a_model_is_a_path(url: str, name: str) -> None:
    for verb in ("load", "unload"):
        path = f"/v2/repository/models/{name}/{verb}"
        answer = raw(url, f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0")
        assert answer.startswith("HTTP/1.1 404"), answer
