"""Many requests over one call: in their order, each failing alone."""

import queue
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from calling import BLUE, RED, SERVICE, Address, images, tensor
from tritonclient.grpc import InferenceServerClient

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
