"""What probes are told while a server loads, serves and stops."""

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
from serving import serving
from waiting import wait_for

from exitkit.serve import shelf
from exitkit.serve.settings import Settings
from exitkit.serve.web import app

Paint = Callable[..., bytes]
# Loads nothing before a file is there.
HOLD = """
import time
from pathlib import Path
from exitkit.serve import warmup
real = warmup.prepare
def prepare(*told):
    while not Path({!r}).exists():
        time.sleep(0.01)
    return real(*told)
warmup.prepare = prepare
"""
READY = ("/v2/health/ready", "/v2/models/colours/ready")


def test_a_server_that_loads_lives_and_is_not_ready(
    colours: Path, tmp_path: Path, paint: Paint
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    word = tmp_path / "load"
    told = {"port": int(url.rpartition(":")[2]), "first": HOLD.format(str(word))}
    with serving(colours, ready=False, **told) as running:
        running.url = url
        wait_for(lambda: not running.refuses())
        assert httpx.get(f"{url}/v2/health/live").json() == {"live": True}
        for path in READY:
            assert httpx.get(url + path).status_code == 503
            assert httpx.head(url + path).status_code == 503
        refused = httpx.post(f"{url}/predict", files={"file": paint(250, 5, 5)})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        word.touch()
        running.until("ready: ")
        assert [httpx.get(url + path).status_code for path in READY] == [200, 200]
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == ["stopped; everything accepted was answered"]


def test_a_server_that_stops_lives_and_is_not_ready(colours: Path) -> None:
    """Asked without its port, which it closes at once."""
    settings = Settings((colours,), pool="private", threads=1)
    models = shelf.collect(settings)
    transport = httpx.ASGITransport(app.create(models, settings))

    async def ask(*paths: str) -> list[int]:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return [(await client.get(path)).status_code for path in paths]

    models.start()
    assert asyncio.run(ask("/v2/health/live", *READY)) == [200, 200, 200]
    models.drain()
    assert asyncio.run(ask("/v2/health/live", *READY)) == [200, 503, 503]
    assert models.stop()
