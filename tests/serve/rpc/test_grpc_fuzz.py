"""Messages that are torn, random or nonsense: each is answered or refused, none is a bug."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from calling import BLUE, RED, SERVICE, images, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exitkit.serve.protocol import datatypes
from exitkit.serve.rpc import sizes
from exitkit.serve.rpc.descriptors import CLASSES

FUZZ = settings(
    max_examples=250,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
WHOLE = request(images(RED, BLUE)).SerializeToString()
REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # of requests that draw a deadline
}
ANSWERED = {grpc.StatusCode.OK, *REFUSED}


@pytest.fixture(scope="module", autouse=True)
def _walked() -> Iterator[None]:
    """Look into short messages too before they are parsed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "SMALL", 0)
        yield


def ask(channel: grpc.Channel, body: bytes) -> grpc.StatusCode:
    """Send bytes; a client that gave up after a minute would be a server that hangs."""
    call = channel.unary_unary(SERVICE + "ModelInfer").future(body, timeout=60)
    error = call.exception()
    if error is None:
        CLASSES["ModelInferResponse"].FromString(call.result())
        return grpc.StatusCode.OK
    assert error.details() != "Deadline Exceeded"
    return error.code()


@FUZZ
@given(body=st.binary(max_size=300))
def test_random_bytes_are_refused(channel: grpc.Channel, body: bytes) -> None:
    assert ask(channel, body) in REFUSED


@FUZZ
@given(
    at=st.integers(0, len(WHOLE)), cut=st.integers(0, 40), more=st.binary(max_size=12),
)  # fmt: skip
def test_torn_messages_are_answered_or_refused(
    channel: grpc.Channel, at: int, cut: int, more: bytes
) -> None:
    assert ask(channel, WHOLE[:at] + more + WHOLE[at + cut :]) in ANSWERED


NAMES = st.sampled_from(["images", "threshold", "label", "probabilities", "", "other\n", "é" * 90])
TYPES = st.sampled_from([*datatypes.NUMPY, "BYTES", "", "FP128", "fp32"])
SIZES = st.lists(st.sampled_from([-1, 0, 1, 2, 3, 32, 2**31, 2**62]), max_size=5)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool_param": st.booleans(),
    "int64_param": st.integers(-(2**63), 2**63 - 1),
    "string_param": st.text(max_size=20),
    "double_param": st.floats(),
    "uint64_param": st.integers(0, 2**64 - 1),
}
CONTENTS: dict[str, st.SearchStrategy[Any]] = {
    "bool_contents": st.booleans(),
    "int_contents": st.integers(-(2**31), 2**31 - 1),
    "int64_contents": st.integers(-(2**63), 2**63 - 1),
    "uint_contents": st.integers(0, 2**32 - 1),
    "uint64_contents": st.integers(0, 2**64 - 1),
    "fp32_contents": st.floats(width=32),
    "fp64_contents": st.floats(),
    "bytes_contents": st.binary(max_size=20),
}
PARAMETERS = st.sampled_from(
    ["threshold", "max_exit", "deadline_ms", "timeout", "classification", "priority", "stream", ""]
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Return a request made of parts that belong to the protocol, but not together."""

    def parameters(table: Any) -> None:
        for name in draw(st.lists(PARAMETERS, max_size=2)):
            kind = draw(st.sampled_from([*VALUES]))
            setattr(table[name], kind, draw(VALUES[kind]))

    found: Any = CLASSES["ModelInferRequest"](model_name="colours")
    found.model_version = draw(st.sampled_from(["", "", "1", "2"]))
    parameters(found.parameters)
    for _ in range(draw(st.integers(0, 3))):
        row = found.inputs.add(name=draw(NAMES), datatype=draw(TYPES), shape=draw(SIZES))
        if draw(st.booleans()):
            row.shape[:] = [1, 3, 32, 32]
        if draw(st.booleans()):
            field = draw(st.sampled_from([*CONTENTS]))
            getattr(row.contents, field).extend(draw(st.lists(CONTENTS[field], max_size=4)))
        parameters(row.parameters)
    for _ in range(draw(st.integers(0, 2))):
        parameters(found.outputs.add(name=draw(NAMES)).parameters)
    for size in draw(st.lists(st.sampled_from([0, 1, 4, 3072, 12288]), max_size=3)):
        found.raw_input_contents.append(draw(st.binary(min_size=1, max_size=4)) * size)
    body: bytes = found.SerializeToString()
    return body


@FUZZ
@given(body=messages())
def test_nonsense_is_answered_or_refused(channel: grpc.Channel, body: bytes) -> None:
    assert ask(channel, body) in ANSWERED


@FUZZ
@given(drawn=st.lists(messages() | st.none() | st.binary(max_size=20), max_size=6))
def test_every_request_of_a_stream_gets_an_answer_or_an_error(
    channel: grpc.Channel, drawn: list[bytes | None]
) -> None:
    bodies = [WHOLE if body is None else body for body in drawn]
    stream = channel.stream_stream(
        SERVICE + "ModelStreamInfer",
        response_deserializer=CLASSES["ModelStreamInferResponse"].FromString,
    )
    answers: list[Any] = list(stream(iter(bodies), timeout=60))
    assert not [row for row in answers if "internal error" in row.error_message]
    whole = [row for row in answers if row.error_message or _is_last(row.infer_response)]
    assert len(whole) == len(bodies)
    for body, row in zip(bodies, whole, strict=True):
        assert body != WHOLE or not row.error_message


def _is_last(answer: Any) -> bool:
    name = "triton_final_response"
    return name not in answer.parameters or answer.parameters[name].bool_param
