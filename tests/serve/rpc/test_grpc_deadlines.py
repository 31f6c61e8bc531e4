"""What calls wait for, and how long; gates, not the clock, decide what is finished when."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from calling import BLUE, RED, SERVICE, free_port, images, output, request
from gates import Held, held
from waiting import wait_for

from exitkit.serve.limits import Limits
from exitkit.serve.rpc.descriptors import CLASSES

ANSWER = CLASSES["ModelInferResponse"].FromString
LONG_S = 100.0


@dataclass
class Line:
    """A server behind gates, and a channel to it."""

    held: Held
    place: str
    channel: grpc.Channel

    def ask(self, message: Any, timeout_s: float) -> Any:
        """Send a request; return the future of its answer."""
        call = self.channel.unary_unary(SERVICE + "ModelInfer", response_deserializer=ANSWER)
        return call.future(message.SerializeToString(), timeout=timeout_s)


def line(folder: Path, **settings: Any) -> Iterator[Line]:
    port = free_port()
    place = f"127.0.0.1:{port}"
    with (
        held(folder, grpc_port=port, **settings) as made,
        grpc.insecure_channel(place) as channel,
    ):
        yield Line(made, place, channel)


@pytest.fixture(scope="module")
def deep(colours: Path) -> Iterator[Line]:
    """A server that believes its second stage to take 100 s."""
    yield from line(colours, seconds=(1e-3, LONG_S))


@pytest.fixture(scope="module")
def gated(colours: Path) -> Iterator[Line]:
    yield from line(colours, limits=Limits(batch=1, queue=256))


def patient(**deadline: Any) -> Any:
    """Return a request for an image that goes on to exit 4, with a deadline of its own."""
    message = request(images(BLUE))
    for name, value in deadline.items():
        message.parameters[name].double_param = value
    return message


@pytest.mark.parametrize(
    ("timeout_s", "exit_", "hit"),
    # Nine tenths of the first are too short for the second stage, those of the second are not.
    [(1.05 * LONG_S, 2, True), (1.25 * LONG_S, 4, False)],
)
def test_nine_tenths_of_a_calls_own_deadline_are_the_requests(
    deep: Line, timeout_s: float, exit_: int, hit: bool
) -> None:
    answer = deep.ask(patient(), timeout_s).result()
    assert output(answer, "exit_index", "<i8") == [exit_]
    assert answer.parameters["deadline_hit"].bool_param is hit


def test_a_requests_own_deadline_goes_before_its_calls(deep: Line) -> None:
    answer = deep.ask(patient(deadline_ms=2e3 * LONG_S), 20).result()
    assert output(answer, "exit_index", "<i8") == [4]
    answer = deep.ask(patient(deadline_ms=900 * LONG_S), 3 * LONG_S).result()
    assert output(answer, "exit_index", "<i8") == [2]
    message = patient()
    message.parameters["timeout"].int64_param = int(0.9e6 * LONG_S)
    answer = deep.ask(message, 3 * LONG_S).result()
    assert output(answer, "exit_index", "<i8") == [2]


def test_without_any_deadline_the_policy_decides(deep: Line) -> None:
    call = deep.channel.unary_unary(SERVICE + "ModelInfer", response_deserializer=ANSWER)
    answer = call(patient().SerializeToString())
    assert output(answer, "exit_index", "<i8") == [4]


def test_a_deadline_that_nothing_can_meet_is_exceeded(gated: Line) -> None:
    gated.held.gates[0].close()
    first = gated.ask(request(images(RED)), 60)
    gated.held.gates[0].wait()
    second = gated.ask(patient(deadline_ms=500.0), 60)
    gated.held.wait_for_queue(1)
    with pytest.raises(grpc.FutureTimeoutError):
        second.result(timeout=0.6)
    gated.held.open()
    assert second.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "no exit had answered" in second.exception().details()
    assert first.result().model_name == "colours"


def left(line: Line) -> float:
    """Return how many requests were given up by their clients."""
    start = 'exitkit_requests_total{route="grpc:ModelInfer",status="499"} '
    rows = httpx.get(f"{line.held.url}/metrics").text.splitlines()
    return sum(float(row[len(start) :]) for row in rows if row.startswith(start))


@pytest.mark.parametrize("way", ["cancel", "deadline", "channel", "stream"])
def test_a_client_that_goes_away_stops_costing(gated: Line, way: str) -> None:
    before = left(gated)
    gate = gated.held.gates[0]
    gate.close()
    stays = gated.ask(request(images(RED)), 60)
    gate.wait()
    with grpc.insecure_channel(gated.place) as channel:
        leaves = Line(gated.held, gated.place, channel)
        message = request(images(RED, BLUE, RED))
        if way == "stream":
            stream = channel.stream_stream(SERVICE + "ModelStreamInfer")
            going = stream(iter([message.SerializeToString()] * 2), timeout=60)
        else:
            going = leaves.ask(message, 0.5 if way == "deadline" else 60)
        gated.held.wait_for_queue(6 if way == "stream" else 3)
        if way in ("cancel", "stream"):
            going.cancel()
        if way == "channel":
            channel.close()
        gated.held.wait_for_queue(0)  # while the engine still stands before the gate
    gate.open.set()
    assert output(stays.result(), "exit_index", "<i8") == [2]
    assert not gate.came.acquire(timeout=0.1)  # nothing else was ever run
    wait_for(lambda: left(gated) == before + (2 if way == "stream" else 1))


@dataclass
class Full:
    """A server that holds as many bytes as it may.

    Attributes:
        line: to it.
        message: that is as large as all may be together.
        call: with that message; it waits before the first stage.
        most: bytes of it.
    """

    line: Line
    message: Any
    call: Any
    most: int


@pytest.fixture
def full(colours: Path) -> Iterator[Full]:
    message = request(images(*[RED] * 8))
    most = len(message.SerializeToString())
    limits = Limits(body_bytes=most, bodies_bytes=most)
    with contextlib.contextmanager(line)(colours, limits=limits) as made:
        made.held.gates[0].close()
        call = made.ask(message, 60)
        made.held.gates[0].wait()
        yield Full(made, message, call, most)


def test_messages_that_are_too_much_together_come_later(full: Full) -> None:
    too_much = f"{full.most} are held for other requests"
    with pytest.raises(grpc.RpcError, match=too_much) as caught:
        full.line.ask(request(images(RED)), 60).result()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    full.line.held.open()
    assert full.call.result().model_name == "colours"
    # What was answered or refused is held no more.
    assert full.line.ask(full.message, 60).result().model_name == "colours"


def test_http_and_grpc_share_what_may_be_held(full: Full) -> None:
    url = f"{full.line.held.url}/predict"
    refused = httpx.post(url, files={"file": b"of a few bytes"})
    assert refused.status_code == 429
    assert f"{full.most} are held for other requests" in refused.json()["error"]
    full.line.held.open()
    assert full.call.result().model_name == "colours"
    assert httpx.post(url, files={"file": b"x"}).status_code == 400


def test_a_message_that_does_not_come_is_not_waited_for(colours: Path) -> None:
    limits = Limits(body_bytes=1000, stall_s=0.1)
    with contextlib.contextmanager(line)(colours, limits=limits) as made:
        never = threading.Event()
        call = made.channel.stream_unary(SERVICE + "ServerMetadata")
        with pytest.raises(grpc.RpcError, match="a message: did not come in") as caught:
            call((b"" for _ in range(1) if never.wait(30)), timeout=30)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        never.set()
