"""What signals do to a server: reload, finish, stop at once."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from serving import SCRIPT, serving
from waiting import wait_for

Paint = Callable[..., bytes]
Write = Callable[[Path], Path]


def test_sighup_reloads_and_says_so(tmp_path: Path, bundle_at: Write) -> None:
    one, two = bundle_at(tmp_path / "one"), bundle_at(tmp_path / "two")
    with serving(one, two) as running:
        running.process.send_signal(signal.SIGHUP)
        running.until("reloaded: model 'one'")
        running.until("reloaded: model 'two'")
        (two / "segment_4.onnx").write_bytes(b"")
        running.process.send_signal(signal.SIGHUP)
        running.until("reloaded: model 'one'")
        said = running.until("not reloaded: model 'two'")[-1]
        assert "is truncated or was edited; export it again" in said
        assert said.endswith("what served before goes on")
        for name in ("one", "two"):
            assert httpx.get(f"{running.url}/v2/models/{name}/ready").status_code == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == ["stopped; everything accepted was answered"]
        assert running.process.returncode == 0


def test_a_terminal_that_is_closed_ends_its_server(colours: Path) -> None:
    """Not a reload: the server would keep its port, and nobody could stop it from there."""
    ours, theirs = os.openpty()

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

    words = (
        f'{{"bundles": ["{colours}"], "limits": {{}}, "port": 0, "pool": "private", "threads": 1}}'
    )
    running = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, words], stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=own_terminal, pass_fds=(theirs,),
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while b"ready: " not in said:
        said += os.read(ours, 65536)
    running.send_signal(signal.SIGHUP)  # the terminal is there: a reload
    while b"reloaded: model 'colours'" not in said:
        said += os.read(ours, 65536)
    os.close(ours)
    assert running.wait(30) == 0


@pytest.mark.parametrize("delay_s", [0.0, 0.3, 0.6, 1.0])
def test_a_server_that_is_stopped_while_it_loads_ends_well(slow: Path, delay_s: float) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(slow, port=port, ready=False) as running:
        wait_for(lambda: _live(port))
        time.sleep(delay_s)
        running.process.send_signal(signal.SIGTERM)
        running.end()
        assert running.process.returncode == 0
        assert not _live(port)


def _live(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/health/live", timeout=60).is_success
    except httpx.ConnectError:
        return False


def test_under_load_nothing_that_was_accepted_is_lost(colours: Path, paint: Paint) -> None:
    """Clients that keep their connections see answers until theirs says it is the last."""
    picture = paint(250, 5, 5)
    answered = []
    over = threading.Event()

    def ask(url: str) -> str:
        with httpx.Client(timeout=30) as client:
            while True:
                try:
                    response = client.post(f"{url}/predict", files={"file": picture})
                except httpx.ConnectError:
                    return "refused"
                assert response.status_code == 200
                answered.append(response.json()["label"])
                if over.is_set() and response.headers.get("connection") == "close":
                    return "closed"

    with serving(colours) as running, ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, running.url) for _ in range(8)]
        wait_for(lambda: len(answered) >= 100)
        over.set()
        running.process.send_signal(signal.SIGTERM)
        assert {one.result() for one in asking} == {"closed"}
        assert running.end() == ["stopped; everything accepted was answered"]
        assert running.process.returncode == 0
    assert set(answered) == {"red"}


def test_connections_that_wait_to_be_accepted_are_not_reset(colours: Path) -> None:
    """Closing a listening socket resets what waits there: with many clients, always some."""
    found: Counter[str] = Counter()
    over = threading.Event()

    def ask(place: tuple[str, int]) -> None:
        while not over.is_set():
            try:
                with socket.create_connection(place, timeout=30) as connection:
                    connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
                    found[connection.recv(65536)[:12].decode()] += 1
            except ConnectionRefusedError:
                found["refused"] += 1
                time.sleep(0.01)
            except OSError as error:
                found[type(error).__name__] += 1

    with serving(colours) as running, ThreadPoolExecutor(8) as pool:
        host, port = running.url.removeprefix("http://").split(":")
        asking = [pool.submit(ask, (host, int(port))) for _ in range(8)]
        wait_for(lambda: found.total() >= 200)
        running.process.send_signal(signal.SIGTERM)
        running.end()
        over.set()
        for one in asking:
            one.result()
    assert set(found) == {"HTTP/1.1 200", "refused"}
