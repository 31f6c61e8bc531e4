"""A server that is told to stop before it serves, or told twice, ends well and says what is so."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from serving import serving
from waiting import LATEST_S, wait_for

from exitkit.serve import process, signals
from exitkit.serve.limits import Limits

Paint = Callable[..., bytes]
WELL = "stopped; everything accepted was answered"


def commands(parent: int) -> dict[int, str]:
    """What the children of a process run, by their ids."""
    found = {}
    for task in Path(f"/proc/{parent}/task").iterdir():
        for child in (task / "children").read_text().split():
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            found[int(child)] = line.replace(b"\0", b" ").decode()
    return found


def measuring(parent: int) -> list[int]:
    """Ids of the processes that measure thread pools."""
    return [pid for pid, line in commands(parent).items() if "exitkit.serve.pools" in line]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_thread_pools_are_measured(
    workers: int,
    number: signal.Signals,
    slow: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with serving(slow, workers=workers, pool="auto", ready=False) as running:
        pid = running.process.pid
        wait_for(lambda: bool(measuring(pid)))
        (trial,) = measuring(pid)
        # As a terminal does it: Ctrl-C reaches all that were started there.
        (os.killpg if number == signal.SIGINT else os.kill)(pid, number)
        assert running.end() == [WELL]
        assert running.process.returncode == 0
    assert not Path(f"/proc/{trial}").exists()
    assert not list(tmp_path.glob("exitkit-*"))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("delay_s", [0.0, 0.4, 0.8])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_the_first_line_on(
    number: signal.Signals, workers: str, delay_s: float, colours: Path
) -> None:
    words = ["serve", str(colours), "--port", "0", "--workers", workers]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "exitkit", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    ) as running:  # fmt: skip
        try:
            assert running.stderr is not None
            assert running.stderr.readline().startswith("serving bundle colours")
            time.sleep(delay_s)
            (os.killpg if number == signal.SIGINT else os.kill)(running.pid, number)
            _, error = running.communicate(timeout=LATEST_S)
        finally:
            running.kill()
    assert running.returncode == 0
    assert error == ""


def test_a_reload_asked_for_before_anything_is_loaded_ends_nothing(colours: Path) -> None:
    for workers in (1, 2):
        with serving(colours, workers=workers, pool="auto", ready=False) as running:
            wait_for(lambda pid=running.process.pid: bool(measuring(pid)))  # type: ignore[misc]
            running.process.send_signal(signal.SIGHUP)
            running.until("ready: ")
            running.process.send_signal(signal.SIGTERM)
            assert running.end()[-1] == WELL


@pytest.mark.parametrize("workers", [1, 2])
def test_the_second_ctrl_c_gives_up_and_says_so(
    workers: int, slow: Path, paint: Paint, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = [("file", ("x.png", paint(255, 0, 0)))] * 100
    limits = {"batch": 1}
    with (
        serving(slow, workers=workers, limits=limits) as running,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(httpx.post, f"{running.url}/predict", files=parts, timeout=60)
        wait_for(lambda: httpx.get(f"{running.url}/stats").json()["queue"] > 0)
        running.process.send_signal(signal.SIGINT)
        wait_for(running.refuses)
        running.process.send_signal(signal.SIGINT)
        assert running.end() == ["stopped; what the last Ctrl-C found unanswered was given up"]
        assert running.process.returncode == 0
        assert workers == 2 or answer.result().status_code == 503
    assert "Traceback" not in capfd.readouterr().err


def test_the_farewell_says_how_it_was() -> None:
    limits = Limits(drain_s=7)
    assert process.farewell(True, limits, forced=True) == WELL
    assert process.farewell(False, limits) == "stopped; not everything was answered within 7 s"
    assert "7 s" not in process.farewell(False, limits, forced=True)


def test_a_signal_is_raised_once_and_handlers_come_back() -> None:
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    ended = []

    def begin() -> None:
        signal.raise_signal(signal.SIGHUP)  # nothing is there to be loaded anew
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)  # does not disturb the end
            ended.append(True)

    with pytest.raises(signals.Stopped), signals.raised():
        begin()
    assert ended

    def lose(again: Callable[[], None]) -> None:
        with contextlib.suppress(signals.Stopped):  # as Python does in callbacks
            begin()
        again()

    with pytest.raises(signals.Stopped), signals.raised() as again:
        lose(again)
    assert {number: signal.getsignal(number) for number in signals.SIGNALS} == before
