"""Messages that would stop everything while they are parsed are refused before."""

import time
from typing import Any

import grpc
import numpy as np
import pytest
from calling import RED, SERVICE, images, request
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from exitkit.errors import TooLarge
from exitkit.serve.rpc import sizes
from exitkit.serve.rpc.descriptors import CLASSES

REQUEST = CLASSES["ModelInferRequest"]
MB = 2**20
# Numbers of fields, see `messages`.
PARAMETERS, INPUTS, OUTPUTS, RAW = 4, 5, 6, 7
SHAPE, INPUT_PARAMETERS, CONTENTS = 3, 4, 5
BOOLS, INT64S, FILES = 1, 3, 8


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def field(*path: int, body: bytes = b"", times: int = 1) -> bytes:
    """Return a field of bytes, repeated, within the messages that the path leads through."""
    *outer, number = path
    found = (varint(number << 3 | 2) + varint(len(body)) + body) * times
    for one in reversed(outer):
        found = varint(one << 3 | 2) + varint(len(found)) + found
    return found


BOMBS = {
    "inputs": field(INPUTS, times=4 * MB),
    "outputs": field(OUTPUTS, times=4 * MB),
    "raw tensors": field(RAW, times=4 * MB),
    "parameters": field(PARAMETERS, times=4 * MB),
    "parameters of an input": field(INPUTS, INPUT_PARAMETERS, times=4 * MB),
    "parameters of an output": field(OUTPUTS, 2, times=4 * MB),
    "files": field(INPUTS, CONTENTS, FILES, times=4 * MB),
    "contents": field(INPUTS, CONTENTS, times=4 * MB),
    "a shape": field(INPUTS, SHAPE, body=bytes(8 * MB)),
    "a shape one by one": field(INPUTS, body=b"\x18\x01" * 4 * MB),
    "booleans": field(INPUTS, CONTENTS, BOOLS, body=bytes(8 * MB)),
    "numbers": field(INPUTS, CONTENTS, INT64S, body=bytes(8 * MB)),
    "numbers in parts": field(INPUTS, CONTENTS, INT64S, body=bytes(8 * 2**10), times=1024),
    "a name": field(1, body=b"a" * 8 * MB),
    "unknown fields": field(100, times=3 * MB),
    "unknown fields of an input": field(INPUTS, 100, times=3 * MB),
    "an unknown field": field(100, body=bytes(8 * MB)),
    "unknown numbers": b"\xa0\x06\x01" * 3 * MB,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_message_that_would_become_large_is_refused_unread(
    channel: grpc.Channel, name: str
) -> None:
    began = time.process_time()
    with pytest.raises(TooLarge):
        sizes.check(REQUEST.DESCRIPTOR, BOMBS[name])
    assert time.process_time() - began < 0.2
    with pytest.raises(grpc.RpcError, match="send tensors in raw_input_contents") as caught:
        channel.unary_unary(SERVICE + "ModelInfer")(BOMBS[name], timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_messages_of_streams_and_other_methods_are_looked_at_too(channel: grpc.Channel) -> None:
    stream = channel.stream_stream(
        SERVICE + "ModelStreamInfer",
        response_deserializer=CLASSES["ModelStreamInferResponse"].FromString,
    )
    rows: list[Any] = list(stream(iter([BOMBS["files"], BOMBS["numbers"]]), timeout=60))
    assert "has more fields than 8192" in rows[0].error_message
    assert "are numbers and texts in fields, the limit is 4194304" in rows[1].error_message
    parameters = field(3, times=3 * MB)
    with pytest.raises(grpc.RpcError, match="has more fields than 8192"):
        channel.unary_unary(SERVICE + "RepositoryModelLoad")(parameters, timeout=60)


def test_an_element_of_a_raw_tensor_of_files_has_more_than_its_length(
    channel: grpc.Channel,
) -> None:
    """Sixteen million empty files would be read one by one."""
    found = REQUEST(model_name="colours")
    found.inputs.add(name="images", datatype="BYTES", shape=[15 * MB])
    found.raw_input_contents.append(bytes(60 * MB))
    with pytest.raises(grpc.RpcError, match="elements of BYTES, the limit is 65536"):
        channel.unary_unary(SERVICE + "ModelInfer")(found.SerializeToString(), timeout=60)


def test_large_tensors_and_files_pass() -> None:
    raw = request(np.zeros((5000, 3, 32, 32), np.float32))
    files = REQUEST()
    files.inputs.add(name="images", datatype="BYTES", shape=[256])
    files.inputs[0].contents.bytes_contents.extend([bytes(200_000)] * 256)
    typed = REQUEST()
    typed.inputs.add(name="images", datatype="FP32", shape=[256, 3, 32, 32])
    typed.inputs[0].contents.fp32_contents.extend([0.5] * (256 * 3 * 32 * 32))
    for message in (raw, files, typed):
        sizes.check(REQUEST.DESCRIPTOR, message.SerializeToString())


def test_a_raw_tensor_of_the_largest_size_is_answered(channel: grpc.Channel) -> None:
    """It is too many images, which is said once all of it has been read."""
    message = request(np.broadcast_to(images(RED), (5000, 3, 32, 32)))
    with pytest.raises(grpc.RpcError, match="5000 images: the limit is 256"):
        channel.unary_unary(SERVICE + "ModelInfer")(message.SerializeToString(), timeout=60)


@pytest.mark.parametrize(
    "body",
    [
        field(INPUTS, body=b"\x18") + bytes(sizes.SMALL),  # a number is missing
        field(RAW, body=bytes(sizes.SMALL))[:-1],
        b"\x15\x01\x02" + bytes(3),
        b"\xff" * 20,  # a tag without end
        b"\x2b\x2c",  # a group
        field(INPUTS, body=b"\x2a\x7f"),  # longer than what it lies in
    ],
)
def test_what_is_cut_off_is_no_message(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "SMALL", 0)
    with pytest.raises(DecodeError):
        sizes.check(REQUEST.DESCRIPTOR, body)


@settings(max_examples=200, deadline=None, database=None)
@given(
    shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    numbers=st.lists(st.floats(width=32, allow_nan=False), max_size=5),
    files=st.lists(st.binary(max_size=300), max_size=5),
    name=st.text(max_size=200),
    number=st.floats(allow_nan=False),
)
def test_whatever_is_written_as_a_message_passes(
    shape: list[int], numbers: list[float], files: list[bytes], name: str, number: float
) -> None:
    found = REQUEST(model_name=name, raw_input_contents=files)
    found.parameters[name].double_param = number
    row = found.inputs.add(name=name, shape=shape)
    row.contents.fp32_contents.extend(numbers)
    row.contents.bytes_contents.extend(files)
    row.contents.int64_contents.extend(shape)
    row.parameters["x"].bool_param = True
    found.outputs.add(name=name).parameters[name].string_param = name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "SMALL", 0)
        sizes.check(REQUEST.DESCRIPTOR, found.SerializeToString())
