"""The end of a server that speaks gRPC: what it has accepted is answered, nobody waits for ever."""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from calling import BLUE, RED, SERVICE, images, output, request
from serving import Serving, serving
from waiting import wait_for

from exitkit.serve.rpc.descriptors import CLASSES

WELL = "stopped; everything accepted was answered"


@contextmanager
def process(bundle: Path, drain_s: float = 30) -> Iterator[Serving]:
    """Serve in a process of its own, with a line for each request."""
    limits = {"samples": 16, "batch": 2, "queue": 64, "drain_s": drain_s}
    with serving(bundle, grpc_port=0, limits=limits, log="json") as running:
        yield running
        assert running.process.returncode == 0


def counted(log: str) -> Counter[int]:
    """Return the inference requests that a server has answered, by their status."""
    rows = [json.loads(line) for line in log.splitlines()]
    assert all(row["level"] == "INFO" for row in rows), rows
    return Counter(row["status"] for row in rows if row.get("route") == "grpc:ModelInfer")


COLOURS = images(RED, BLUE)
ANSWER = CLASSES["ModelInferResponse"].FromString


def ask(place: str, found: Counter[str], began: threading.Semaphore) -> None:
    """Ask over a connection of its own until refused; every answer must be the right one."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(place, options) as channel:
        call = channel.unary_unary(SERVICE + "ModelInfer", response_deserializer=ANSWER)
        body = request(COLOURS).SerializeToString()
        while True:
            try:
                answer = call(body, timeout=60)
            except grpc.RpcError as error:
                found[error.code().name] += 1
                return
            assert output(answer, "exit_index", "<i8") == [2, 4]
            found["OK"] += 1
            began.release()


def test_a_signal_lets_every_accepted_call_be_answered(
    slow: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found: Counter[str] = Counter()
    began = threading.Semaphore(0)
    with process(slow) as running, ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, running.grpc, found, began) for _ in range(8)]
        for _ in range(12):
            assert began.acquire(timeout=60)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == [WELL]
        for one in asking:
            one.result()
    answered = counted(capfd.readouterr().err)
    assert answered[200] == found["OK"] >= 12
    assert set(answered) <= {200, 503}
    assert set(found) <= {"OK", "UNAVAILABLE"}


def many() -> bytes:
    """Return a request of which the slow bundle has eight batches."""
    body: bytes = request(np.repeat(COLOURS, 8, axis=0)).SerializeToString()
    return body


def wait_for_queue(running: Serving) -> None:
    wait_for(lambda: httpx.get(f"{running.url}/stats").json()["queue"] > 0)


def test_a_signal_ends_streams_once_what_came_is_answered(slow: Path) -> None:
    sent: queue.Queue[bytes] = queue.Queue()
    for _ in range(2):
        sent.put(many())
    with process(slow) as running, grpc.insecure_channel(running.grpc) as channel:
        stream = channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            response_deserializer=CLASSES["ModelStreamInferResponse"].FromString,
        )
        answers = stream(iter(sent.get, None), timeout=60)
        wait_for_queue(running)
        running.process.send_signal(signal.SIGTERM)
        for _ in range(2):
            answer = next(answers).infer_response
            assert output(answer, "exit_index", "<i8") == [2] * 8 + [4] * 8
        with pytest.raises(grpc.RpcError, match="the server is stopping") as caught:
            next(answers)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert running.end() == [WELL]
        sent.put(b"")  # what reads it ends


def test_what_takes_longer_than_the_drain_is_given_up_and_said(slow: Path) -> None:
    with (
        process(slow, drain_s=0.1) as running,
        grpc.insecure_channel(running.grpc) as channel,
    ):
        call = channel.unary_unary(SERVICE + "ModelInfer")
        calls = [call.future(many(), timeout=60) for _ in range(4)]
        wait_for_queue(running)
        running.process.send_signal(signal.SIGTERM)
        assert running.end()[0] == "stopped; not everything was answered within 0.1 s"
        errors = [one.exception() for one in calls if one.exception()]
        assert errors
        for error in errors:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert "the server stopped" in error.details()


def test_a_second_ctrl_c_does_not_wait(slow: Path) -> None:
    with process(slow) as running, grpc.insecure_channel(running.grpc) as channel:
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")
        sent: queue.Queue[bytes] = queue.Queue()
        answers = stream(iter(sent.get, None), timeout=60)
        call = channel.unary_unary(SERVICE + "ModelInfer")
        calls = [call.future(many(), timeout=60) for _ in range(4)]
        wait_for_queue(running)
        running.process.send_signal(signal.SIGINT)
        wait_for(running.refuses)
        running.process.send_signal(signal.SIGINT)
        assert running.end()[0].startswith("stopped; what the last Ctrl-C found unanswered")
        assert any(one.exception() for one in calls)
        with pytest.raises(grpc.RpcError):
            next(answers)
        sent.put(b"")


def test_without_the_port_nothing_of_grpc_is_loaded(colours: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from exitkit.serve import server\n"
        f"with server(Path({str(colours)!r}), threads=1): pass\n"
        "print([name for name in ('grpc', 'google.protobuf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
