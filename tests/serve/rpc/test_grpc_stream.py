"""Many requests over one call: in their order, each failing alone."""

import contextlib
import itertools
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from calling import BLUE, RED, SERVICE, Address, images, serve, tensor
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException
from waiting import wait_for

from exitkit.serve.limits import Limits
from exitkit.serve.rpc.descriptors import CLASSES

Answers = queue.Queue[tuple[Any, Any]]


@pytest.fixture
def answers(client: InferenceServerClient) -> Iterator[Answers]:
    """Begin a stream and return what its answers are put into."""
    found: Answers = queue.Queue()
    client.start_stream(lambda result, error: found.put((result, error)))
    yield found
    client.stop_stream()


def test_answers_come_in_the_order_of_their_requests(
    client: InferenceServerClient, answers: Answers
) -> None:
    # More than are worked on at once; those of one image are quicker than those of many.
    for k in range(200):
        colours = (RED,) if k % 2 else (BLUE,) * 30
        client.async_stream_infer("colours", [tensor(images(*colours))], request_id=str(k))
    for k in range(200):
        result, error = answers.get(timeout=30)
        assert error is None
        assert result.get_response().id == str(k)
        assert result.as_numpy("label").tolist() == ([b"red"] if k % 2 else [b"blue"] * 30)


def test_a_request_that_fails_leaves_the_stream_open(
    client: InferenceServerClient, answers: Answers
) -> None:
    red = [tensor(images(RED))]
    client.async_stream_infer("other", red, request_id="bad")
    client.async_stream_infer("colours", red, request_id="wrong", parameters={"max_exit": 3})
    client.async_stream_infer("colours", red, request_id="good")
    assert "model 'other': not here" in answers.get(timeout=30)[1].message()
    assert "max_exit 3: no such exit" in answers.get(timeout=30)[1].message()
    assert answers.get(timeout=30)[0].get_response().id == "good"


def test_errors_name_their_request(both: Address) -> None:
    request = CLASSES["ModelInferRequest"](model_name="other", id="r1").SerializeToString()
    with grpc.insecure_channel(both.grpc) as channel:
        stream = channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            response_deserializer=CLASSES["ModelStreamInferResponse"].FromString,
        )
        found: list[Any] = list(stream(iter([request, b"\xff"]), timeout=30))
    assert [row.infer_response.id for row in found] == ["r1", ""]
    assert "is no inference.ModelInferRequest" in found[1].error_message


def test_a_stream_without_requests_ends(both: Address) -> None:
    with grpc.insecure_channel(both.grpc) as channel:
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")
        assert list(stream(iter(()), timeout=30)) == []


def test_every_exit_is_told_as_it_comes_where_that_is_asked_for(
    client: InferenceServerClient, answers: Answers
) -> None:
    both = [tensor(images(RED, BLUE))]
    client.async_stream_infer("colours", both, request_id="all", parameters={"stream": True})
    client.async_stream_infer("colours", both, request_id="one", parameters={"stream": False})
    first, second, whole, plain = (answers.get(timeout=30)[0] for _ in range(4))
    for told in (first, second):
        assert told.get_response().id == "all"
        assert told.get_response().parameters["triton_final_response"].bool_param is False
        assert told.get_response().parameters["ms"].double_param > 0
    assert first.as_numpy("image").tolist() == [0, 1]
    assert first.as_numpy("exit_index").tolist() == [2, 2]
    assert first.as_numpy("label").tolist() == [b"red", b"blue"]
    assert first.as_numpy("final").tolist() == [True, False]
    assert first.as_numpy("compute").tolist() == pytest.approx([0.2, 0.2])
    assert second.as_numpy("image").tolist() == [1]
    assert second.as_numpy("exit_index").tolist() == [4]
    assert second.as_numpy("final").tolist() == [True]
    assert whole.get_response().parameters["triton_final_response"].bool_param is True
    assert whole.as_numpy("exit_index").tolist() == [2, 4]
    confidence = [first.as_numpy("confidence")[0], second.as_numpy("confidence")[0]]
    assert whole.as_numpy("confidence").tolist() == pytest.approx(confidence)
    assert plain.get_response().id == "one"
    assert "triton_final_response" not in plain.get_response().parameters


def test_a_client_that_does_not_read_is_given_up(
    colours: Path, paint: Callable[..., bytes]
) -> None:
    limits = Limits(stall_s=0.5, queue=QUEUE)
    with serve(colours, limits=limits) as both, grpc.insecure_channel(both.grpc, FEW) as channel:
        unread = begin(channel, paint)
        wait_for(lambda: ended(both, 408) == 1)
        with pytest.raises(grpc.RpcError, match="an answer: was not read in 1 s") as caught:
            list(unread)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_client_that_leaves_without_reading_is_no_failure(
    colours: Path,
    paint: Callable[..., bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serve(colours, limits=Limits(queue=QUEUE)) as both:
        with contextlib.ExitStack() as stack:
            channels = [grpc.insecure_channel(both.grpc, FEW) for _ in range(4)]
            unread = [begin(stack.enter_context(channel), paint) for channel in channels]
            wait_for(lambda: ended(both, 200, "ModelInfer") > 200)
        wait_for(lambda: ended(both, 499) == len(unread))
    assert "failed" not in caplog.text


# Of what is not read yet, a client's side takes in some 64 KB, where it does not probe for more.
FEW = [("grpc.http2.bdp_probe", 0)]
QUEUE = 32 * 1024


def begin(channel: grpc.Channel, paint: Callable[..., bytes]) -> Any:
    """Send requests whose answers are more than a client's side takes in; read none of them."""
    message: Any = CLASSES["ModelInferRequest"](model_name="colours")
    message.inputs.add(name="images", datatype="BYTES", shape=[64])
    message.inputs[0].contents.bytes_contents.extend([paint(255, 0, 0)] * 64)
    stream = channel.stream_stream(
        SERVICE + "ModelStreamInfer",
        response_deserializer=CLASSES["ModelStreamInferResponse"].FromString,
    )
    return stream(itertools.repeat(message.SerializeToString(), 200), timeout=60)


def ended(both: Address, status: int, method: str = "ModelStreamInfer") -> float:
    """Return how many calls of a method ended so."""
    start = f'exitkit_requests_total{{route="grpc:{method}",status="{status}"}} '
    rows = httpx.get(f"{both.http}/metrics").text.splitlines()
    return sum(float(row[len(start) :]) for row in rows if row.startswith(start))


def test_only_a_stream_can_tell_exit_by_exit(
    client: InferenceServerClient, answers: Answers
) -> None:
    red = [tensor(images(RED))]
    client.async_stream_infer("colours", red, parameters={"stream": "yes"})
    assert "parameter stream: is no boolean" in answers.get(timeout=30)[1].message()
    with pytest.raises(InferenceServerException, match="parameter 'stream'"):
        client.infer("colours", red, parameters={"stream": True})
