"""Several processes on one port: deaths, signals, what they count together."""

import contextlib
import os
import pickle
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as triton
from asking import ASKERS, asked
from serving import Serving, serving
from waiting import wait_for

from exitkit.errors import BundleError, ConfigError, Overloaded
from exitkit.serve.metrics import BEAT_S

Paint = Callable[..., bytes]
Write = Callable[[Path], Path]


def children(pid: int) -> set[int]:
    """Process ids of the workers of a server."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"spawn_main" in command:
                found.add(int(child))
    return found


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture(scope="module")
def pair(colours: Path) -> Iterator[Serving]:
    """Two workers that nobody kills."""
    with serving(colours, workers=2, grpc_port=0) as running:
        yield running


def test_what_workers_count_adds_up(pair: Serving, paint: Paint) -> None:
    url = pair.url
    for _ in range(40):  # each on a connection of its own, which any worker may take
        assert httpx.post(f"{url}/predict", files={"file": paint(5, 250, 5)}).is_success
    line = 'exitkit_requests_total{route="predict",status="200"} 40.0'
    wait_for(lambda: line in httpx.get(f"{url}/metrics").text)


def test_models_are_not_loaded_into_one_worker_of_several(pair: Serving) -> None:
    answer = httpx.post(f"{pair.url}/v2/repository/models/colours/load")
    assert answer.status_code == 403
    assert "one of 2 workers, the others would not know" in answer.json()["error"]


def test_grpc_is_answered_by_all_workers_together(pair: Serving) -> None:
    for _ in range(6):  # a connection each
        with triton.InferenceServerClient(pair.grpc) as client:
            assert client.is_server_ready()
            assert client.is_model_ready("colours")


def test_a_worker_that_is_killed_is_replaced_and_the_other_answers(
    colours: Path, paint: Paint
) -> None:
    with serving(colours, workers=2) as running, asked(running.url, red=paint(250, 5, 5)) as found:
        first = children(running.process.pid)
        assert len(first) == 2
        found.wait_for(100)
        os.kill(min(first), signal.SIGKILL)
        said = running.until("worker ")[-1]
        assert re.fullmatch(r"worker [12] ended by signal 9; another one starts in 1 s", said)
        found.wait_for(20)
        running.until(f"{said[:8]} answers")
        found.wait_for(100)
        now = children(running.process.pid)
        assert len(now) == 2
        assert len(now & first) == 1
    assert set(found.came) <= {"200 red", "broken"}
    assert found.came["broken"] <= ASKERS  # those whose requests the dead one had


def test_signals_reach_all_workers(tmp_path: Path, bundle_at: Write, paint: Paint) -> None:
    """SIGHUP reloads one after the other; SIGTERM lets all answer what they have."""
    place = bundle_at(tmp_path / "one")
    with serving(place, workers=2) as running, asked(running.url, red=paint(250, 5, 5)) as found:
        workers = children(running.process.pid)
        found.wait_for(100)
        running.process.send_signal(signal.SIGHUP)
        assert running.until("worker 1: ")[-1] == "worker 1: reloaded: model 'one'"
        assert running.until("worker 2: ") == ["worker 2: reloaded: model 'one'"]
        (place / "segment_4.onnx").write_bytes(b"")
        running.process.send_signal(signal.SIGHUP)
        for number in (1, 2):
            said = running.until(f"worker {number}: ")[-1]
            assert said.startswith(f"worker {number}: not reloaded: model 'one'")
        assert httpx.get(f"{running.url}/v2/health/ready").status_code == 200
        assert set(found.came) == {"200 red"}
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == ["stopped; everything accepted was answered"]
        assert running.process.returncode == 0
        assert not [pid for pid in workers if alive(pid)]
    assert set(found.came) <= {"200 red", "no connection"}


def test_workers_end_when_their_parent_is_gone(colours: Path) -> None:
    with serving(colours, workers=2) as running:
        workers = children(running.process.pid)
        running.process.kill()
        wait_for(lambda: not any(alive(pid) for pid in workers))
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url)


def test_a_bundle_that_cannot_be_served_ends_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path / "none", workers=2, ready=False) as running:
        assert running.end() == []
        assert running.process.returncode == 1  # of the test's script; exitkit's is 2
    assert "BundleError: " in capfd.readouterr().err.splitlines()[-1]


def test_a_worker_that_dies_before_all_have_loaded_ends_all(
    slow: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(slow, workers=2, ready=False) as running:
        wait_for(lambda: len(children(running.process.pid)) == 2)
        os.kill(max(children(running.process.pid)), signal.SIGKILL)
        assert running.end() == []
    said = capfd.readouterr().err.splitlines()[-1]
    assert "worker 2: ended by signal 9 before all had loaded; see the log" in said


@pytest.mark.parametrize("delay_s", [0.2, 1.0])
def test_workers_that_are_stopped_while_they_load_end_well(slow: Path, delay_s: float) -> None:
    with serving(slow, workers=2, ready=False) as running:
        wait_for(lambda: len(children(running.process.pid)) == 2)
        workers = children(running.process.pid)
        time.sleep(delay_s)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == ["stopped; everything accepted was answered"]
        assert running.process.returncode == 0
        assert not [pid for pid in workers if alive(pid)]


def test_errors_travel_between_processes_whole() -> None:
    for error in (BundleError("a", "b", "c"), Overloaded("a", "b", "c", 2.5)):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == "a: b; c"
        assert vars(again) == vars(error)
    assert isinstance(pickle.loads(pickle.dumps(ConfigError("a", "b", "c"))), ConfigError)


def test_a_worker_that_hangs_is_replaced_and_the_other_answers(colours: Path, paint: Paint) -> None:
    soon = "from exitkit.serve import slots; slots.HANGS_S = 3"
    with (
        serving(colours, workers=2, first=soon) as running,
        asked(running.url, red=paint(250, 5, 5)) as found,
    ):
        found.wait_for(100)
        first = children(running.process.pid)
        os.kill(max(first), signal.SIGSTOP)
        said = running.until("worker ")[-1]
        assert said.endswith(" lives, but hangs; it is ended")
        running.until(f"{said[:8]} ended by signal 9")
        running.until(f"{said[:8]} answers")
        found.wait_for(100)
        assert len(children(running.process.pid) & first) == 1
    assert set(found.came) <= {"200 red", "broken"}
    assert found.came["broken"] <= ASKERS


def test_workers_that_load_or_end_do_not_count_as_hanging(slow: Path, paint: Paint) -> None:
    soon = "from exitkit.serve import slots; slots.HANGS_S = 1"
    with (
        serving(slow, workers=2, first=soon) as running,
        asked(running.url, red=paint(250, 5, 5)) as found,
    ):
        found.wait_for(20)
        os.kill(max(children(running.process.pid)), signal.SIGTERM)  # not the parent's
        said = running.until("worker ")[-1]
        assert said[8:] == " ended with exit code 0; another one starts in 1 s"
        running.until(f"{said[:8]} answers")
    assert set(found.came) == {"200 red"}


def test_what_a_dead_worker_counted_goes_on(colours: Path, paint: Paint) -> None:
    with serving(colours, workers=2) as running:
        with asked(running.url, red=paint(250, 5, 5)) as found:
            found.wait_for(300)
        line = f'exitkit_requests_total{{route="predict",status="200"}} {found.came["200 red"]}.0'
        wait_for(lambda: line in httpx.get(f"{running.url}/metrics").text)
        time.sleep(2 * BEAT_S)  # each has told the others
        os.kill(max(children(running.process.pid)), signal.SIGKILL)
        running.until("worker ")
        for _ in range(20):
            assert line in httpx.get(f"{running.url}/metrics").text
        running.until("worker ")
        for _ in range(20):
            assert line in httpx.get(f"{running.url}/metrics").text


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_file_is_left_behind(
    end: signal.Signals, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(colours, workers=2) as running:
        assert list(tmp_path.glob("exitkit-*"))
        running.process.send_signal(end)
        wait_for(lambda: not list(tmp_path.glob("exitkit-*")))
