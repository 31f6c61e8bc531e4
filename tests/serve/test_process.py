"""One serving process from its start to its end: port, first lines, signals, drain."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from serving import serving
from waiting import wait_for

from exitkit.errors import BundleError, ConfigError
from exitkit.serve import process as processes
from exitkit.serve import run, server, shelf
from exitkit.serve.limits import Limits
from exitkit.serve.settings import Settings

Paint = Callable[..., bytes]
WELL = "stopped; everything accepted was answered"
# A batch takes about a twentieth of a second.
LIMITS = {"samples": 16, "batch": 1, "queue": 16}


def test_it_says_its_operating_point_first_and_ends_on_ctrl_c(colours: Path) -> None:
    with serving(colours, pool="auto", ready=False) as running:
        lines = running.until("ready: ")
        url = lines[-1].split()[1]
        assert lines[0] == "colours: deep on means, 3 classes, exits 2, 4"
        assert lines[1] == "threshold 0.6: accuracy 93.75 % (computed on the tune split)"
        assert "45.0 % of the plain network's" in lines[2]
        assert "exit 2 37.5 %, exit 4 62.5 %" in lines[3]
        assert "ms an image at batch 1: exit 2 " in lines[4]
        assert " thread pool, of " in lines[5]
        assert "private " in lines[5]
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        tried = httpx.get(f"{url}/tradeoff").json()["measured"]["pools_ms"]
        assert set(tried) == {"private", "shared"}
        running.process.send_signal(signal.SIGINT)
        assert running.end() == [WELL]
        assert running.process.returncode == 0


def test_a_server_that_has_answered_has_not_loaded_torch(colours: Path, paint: Paint) -> None:
    code = (
        "import sys; from pathlib import Path; import httpx; from exitkit.serve import server\n"
        f"with server(Path({str(colours)!r}), threads=1) as url:\n"
        "    answer = httpx.post(f'{url}/predict', files={'file': sys.stdin.buffer.read()})\n"
        "print(answer.json()['label'], 'torch' in sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, input=paint(250, 5, 5), capture_output=True, check=True)
    assert done.stdout.split() == [b"red", b"False"]


def wait_for_work(url: str) -> None:
    """Wait until some of the images are computed, and some wait."""
    with httpx.Client(base_url=url) as client:
        wait_for(lambda: 0 < client.get("/stats").json()["queue"] < 16)


def test_a_signal_lets_every_accepted_image_be_answered(slow: Path, paint: Paint) -> None:
    parts = [("file", ("x.png", paint(255, 0, 0)))] * 16
    with serving(slow, limits=LIMITS) as running, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{running.url}/predict", files=parts, timeout=60)
        wait_for_work(running.url)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == [WELL]
        assert running.process.returncode == 0
        assert [row["label"] for row in answer.result().json()] == ["red"] * 16
        with pytest.raises(httpx.ConnectError):
            httpx.get(running.url)


def test_what_takes_longer_than_the_drain_is_given_up_and_said(slow: Path, paint: Paint) -> None:
    parts = [("file", ("x.png", paint(255, 0, 0)))] * 16
    limits = {**LIMITS, "drain_s": 0.1}
    with serving(slow, limits=limits) as running, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{running.url}/predict", files=parts, timeout=60)
        wait_for_work(running.url)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == ["stopped; not everything was answered within 0.1 s"]
        assert running.process.returncode == 0
        assert answer.result().status_code == 503
        assert answer.result().json()["error"].startswith("a request: the server stopped")


def test_a_model_that_is_unloaded_while_others_load_ends_no_server(
    bundle_at: Callable[[Path], Path], tmp_path: Path
) -> None:
    folders = tuple(bundle_at(tmp_path / name) for name in ("first", "second"))
    models = shelf.collect(Settings(folders, pool="private", threads=1))
    models.start()
    models.unload("first")
    lines = processes.describe(models)
    models.stop()
    assert [line.split(":")[0] for line in lines if " exits 2, 4" in line] == ["second"]


def test_a_port_in_use_is_said_before_the_model_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            run(Settings((tmp_path / "no-bundle",), port=port))
    assert str(caught.value) == (
        f"address 127.0.0.1:{port}: port {port} is in use; choose another --port, or --port 0"
    )
    assert caught.value.exit_code == 2


def test_a_second_server_on_the_same_port_is_refused(url: str, colours: Path) -> None:
    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match="is in use"), server(colours, port=port):
        pass


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("127.0.0.1", 70000, "no such port"),
        ("no.such.host.invalid", 0, "unknown host"),
        ("a" * 300, 0, "unknown host"),
        ("192.0.2.1", 0, "address 192.0.2.1:0: "),
    ],
)
def test_an_address_that_cannot_be_is_refused(host: str, port: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(Settings((Path("no-bundle"),), host=host, port=port))


def test_wrong_bundles_thresholds_and_pools_are_refused(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="run exitkit export"):
        run(Settings((tmp_path / "none",), port=0))
    with pytest.raises(ConfigError, match="threshold"):
        run(Settings((colours,), port=0, threshold=1.5))
    with pytest.raises(ConfigError, match="private, shared"):
        run(Settings((colours,), port=0, pool="privat"))


def test_the_servers_threshold_is_the_one_asked_for(colours: Path, paint: Paint) -> None:
    with server(colours, threshold=1.0, limits=Limits(), threads=1) as url:
        answer = httpx.post(f"{url}/predict", files={"file": paint(255, 0, 0)}).json()
        assert answer["exit"] == 4
        assert httpx.get(f"{url}/tradeoff").json()["in_force"]["accuracy"] == 1.0
        assert 'exitkit_threshold{exit="2",model="colours"} 1.0' in httpx.get(f"{url}/metrics").text
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
