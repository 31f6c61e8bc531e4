"""Infer bodies on bytes worked out by hand: a JSON header, then binary tensors."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitkit.errors import RequestError
from exitkit.serve.protocol.records import InferRequest, InferResponse, Tensor, Wanted
from exitkit.serve.web import wire
from exitkit.serve.web.wire import Form

TENSOR = {"name": "images", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
ONES = bytes.fromhex("0000803f 00000040")  # 1.0 and 2.0, little-endian


def read(table: Any, tail: bytes | None = None) -> InferRequest:
    """Read JSON alone, or with these bytes behind it."""
    head = json.dumps(table).encode()
    return wire.read(head + (tail or b""), None if tail is None else len(head), 0.0)[0]


def binary(size: Any, **change: Any) -> dict:
    table = {**TENSOR, "parameters": {"binary_data_size": size}, **change}
    return {key: value for key, value in table.items() if key != "data"}


def test_json_and_binary_say_the_same() -> None:
    (plain,) = read({"inputs": [TENSOR]}).inputs
    (packed,) = read({"inputs": [binary(8)]}, ONES).inputs
    for tensor in (plain, packed):
        assert (tensor.name, tensor.datatype, tensor.shape) == ("images", "FP32", (1, 2))
        assert tensor.data.tolist() == [[1, 2]]
        assert tensor.data.dtype == np.float32
        assert tensor.parameters == {}


def test_tensors_take_their_bytes_in_the_order_of_the_header() -> None:
    tables = [
        binary(8),
        {"name": "threshold", "datatype": "FP32", "shape": [1], "data": [0.5]},
        binary(6, name="files", datatype="BYTES", shape=[1]),
        binary(0, name="none", datatype="UINT8", shape=[0, 4]),
    ]
    found = read({"inputs": tables}, ONES + bytes.fromhex("02000000") + b"hi").inputs
    assert [tensor.name for tensor in found] == ["images", "threshold", "files", "none"]
    assert found[0].data.tolist() == [[1, 2]]
    assert found[1].data.tolist() == [0.5]
    assert found[2].data == [b"hi"]
    assert found[3].data.shape == (0, 4)


def test_one_tensor_may_leave_its_size_out() -> None:
    (numbers,) = read({"inputs": [binary(8, parameters=None)]}, ONES).inputs
    assert numbers.data.tolist() == [[1, 2]]
    file = {"name": "images", "datatype": "BYTES", "shape": [1]}
    (whole,) = read({"inputs": [file]}, b"\x89PNG").inputs
    assert whole.data == [b"\x89PNG"]
    (counted,) = read({"inputs": [{**file, "shape": [2]}]}, b"\1\0\0\0a\0\0\0\0").inputs
    assert counted.data == [b"a", b""]


def test_everything_that_a_request_may_say_is_read() -> None:
    table = {
        "id": "seven",
        "parameters": {"threshold": 0.25, "binary_data_output": True},
        "inputs": [{**TENSOR, "parameters": {"colour": "grey"}}],
        "outputs": [
            {"name": "label", "parameters": {"binary_data": False}},
            {"name": "probabilities", "parameters": {"classification": 3}},
        ],
    }
    request, form = wire.read(json.dumps(table).encode(), None, 1.5)
    assert (request.id, request.arrived) == ("seven", 1.5)
    assert request.parameters == {"threshold": 0.25}
    assert request.inputs[0].parameters == {"colour": "grey"}
    assert request.outputs == (Wanted("label"), Wanted("probabilities", {"classification": 3}))
    assert form == Form(True, {"label": False, "probabilities": True})


def test_an_answer_is_json_unless_binary_is_wanted() -> None:
    outputs = (
        Tensor("confidence", "FP32", (2,), np.asarray([1, 2], dtype=np.float32)),
        Tensor("label", "BYTES", (2,), [b"hi", b""]),
    )
    answer = InferResponse("net", "1", outputs, "x", {"mean_exit": 2.0})
    table = {
        "model_name": "net",
        "model_version": "1",
        "id": "x",
        "parameters": {"mean_exit": 2.0},
        "outputs": [
            {"name": "confidence", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]},
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["hi", ""]},
        ],
    }
    body, length = wire.write(answer, Form())
    assert (json.loads(body), length) == (table, None)

    body, length = wire.write(answer, Form(True))
    assert body[length:] == ONES + bytes.fromhex("02000000 6869 00000000")
    for row, size in zip(table["outputs"], (8, 10), strict=True):
        del row["data"]
        row["parameters"] = {"binary_data_size": size}
    assert json.loads(body[:length]) == table

    body, length = wire.write(answer, Form(True, {"confidence": False, "label": True}))
    assert body[length:] == bytes.fromhex("02000000 6869 00000000")
    body, length = wire.write(answer, Form(False, {"confidence": True, "label": False}))
    assert body[length:] == ONES


def test_an_answer_without_an_id_has_none() -> None:
    body, _ = wire.write(InferResponse("net", "1", ()), Form())
    assert json.loads(body) == {
        "model_name": "net", "model_version": "1", "parameters": {}, "outputs": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "tail", "says"),
    [
        (binary(8), None, "'images': has no data, and the request no header Inference-Header"),
        (binary(8), ONES[:7], "binary_data_size 8: 7 bytes are left; send the whole tensor"),
        (binary(7), ONES[:7], r"7 bytes, FP32 \[1, 2\] has 8"),
        (binary(8), ONES + b"x", "1 bytes follow the last binary tensor"),
        (binary(8, datatype="FP64"), ONES, r"8 bytes, FP64 \[1, 2\] has 16"),
        (binary(-8), ONES, "binary_data_size -8: is no number of bytes"),
        (binary(8.0), ONES, "is no number of bytes"),
        (binary("8"), ONES, "is no number of bytes"),
        (binary(True), ONES, "is no number of bytes"),
        (binary(2**60), ONES, "8 bytes are left"),
        (
            {**TENSOR, "parameters": {"binary_data_size": 8}},
            ONES,
            "has data and binary_data_size; give one",
        ),
        (TENSOR, ONES, "8 bytes follow the last binary tensor"),
        (binary(8, datatype="BYTES", shape=[2]), ONES, "0 whole elements in 0 of 8"),
        (binary(8, shape=[1, -2]), ONES, r"shape \[1, -2\]: is no list of sizes"),
    ],
)
def test_binary_tensors_that_do_not_add_up_are_refused(
    table: dict, tail: bytes | None, says: str
) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        read({"inputs": [table]}, tail)
    assert caught.value.status == 400


def test_of_several_tensors_each_says_its_size() -> None:
    with pytest.raises(RequestError, match="binary_data_size None: is no number of bytes"):
        read({"inputs": [binary(8), binary(0, parameters=None)]}, ONES + ONES)


def test_a_header_longer_than_the_body_is_refused() -> None:
    with pytest.raises(RequestError, match="a JSON header of 3 bytes: the body has 2"):
        wire.read(b"{}", 3, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inputs": None}, "inputs: is no list of tensors"),
        ({"inputs": []}, "is no list of tensors"),
        ({"inputs": ["images"]}, "is no list of tensors"),
        ({"inputs": [{**TENSOR, "name": None}]}, "input None: its name is no string"),
        ({"inputs": [{**TENSOR, "shape": [1.0, 2]}]}, "is no list of sizes"),
        ({"inputs": [{**TENSOR, "shape": [True, 2]}]}, "is no list of sizes"),
        ({"inputs": [{**TENSOR, "shape": "12"}]}, "is no list of sizes"),
        ({"inputs": [{**TENSOR, "shape": None}]}, "is no list of sizes"),
        ({"inputs": [{**TENSOR, "datatype": "FLOAT"}]}, "datatype 'FLOAT': no such datatype"),
        ({"inputs": [{**TENSOR, "dtype": 1}]}, "field 'dtype': unknown; known are: name, shape"),
        ({"inputs": [{**TENSOR, "parameters": []}]}, "input parameters: is no object"),
        ({"inputs": [{**TENSOR, "parameters": {"a": [1]}}]}, "'a': is no text, number or boolean"),
        ({"id": 7}, "id: is int; give a string"),
        ({"input": []}, "request field 'input': unknown"),
        ({"parameters": 3}, "parameters: is no object"),
        ({"parameters": {"threshold": [0.5]}}, "'threshold': is no text, number or boolean"),
        ({"parameters": {"threshold": None}}, "is no text, number or boolean"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output 1: is no boolean"),
        ({"outputs": "label"}, "outputs: is no list of objects"),
        ({"outputs": ["label"]}, "outputs: is no list of objects"),
        ({"outputs": [{"name": ["label"]}]}, "its name is no string"),
        ({"outputs": [{"name": "label", "data": 1}]}, "output field 'data': unknown"),
        ({"outputs": [{"name": "a", "parameters": {"binary_data": "yes"}}]}, "is no boolean"),
    ],
)
def test_a_wrong_request_is_refused_and_named(change: dict, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        read({"inputs": [TENSOR], **change})


def test_a_refusal_does_not_repeat_all_that_was_sent() -> None:
    for change in ({"name": "x" * 10_000, "data": 1}, {"shape": [7] * 10_000}):
        with pytest.raises(RequestError) as caught:
            read({"inputs": [{**TENSOR, **change}]})
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"3", b"\xff", b'{"inputs": NaN}', b"[" * 5000, b'"\\ud800"']
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    for header in (None, len(body)):
        with pytest.raises(RequestError, match="request body: is no JSON"):
            wire.read(body, header, None)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
names = st.sampled_from(["id", "inputs", "outputs", "parameters"])
tables = st.fixed_dictionaries(
    {
        "name": st.just("images"),
        "datatype": st.sampled_from(["FP32", "BYTES", "UINT8", "BF16"]) | values,
        "shape": st.lists(st.integers(-1, 3), max_size=3),
    },
    optional={
        "data": values,
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(-2, 20) | values}
        ),
    },
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(names, values) | st.fixed_dictionaries({"inputs": st.lists(tables)}),
    st.binary(max_size=16),
    st.none() | st.integers(0, 200),
)
def test_whatever_comes_is_read_or_refused(table: dict, tail: bytes, cut: int | None) -> None:
    head = json.dumps(table).encode()
    for header in (None, len(head), cut):
        try:
            request, _ = wire.read(head + tail, header, None)
        except RequestError:
            continue
        echo = InferResponse("net", "1", request.inputs)
        body, length = wire.write(echo, Form(True))
        assert length is not None
        again, _ = wire.read(*_as_request(body, length))
        assert wire.write(InferResponse("net", "1", again.inputs), Form(True))[0] == body


def _as_request(body: bytes, length: int) -> tuple[bytes, int, None]:
    head = json.dumps({"inputs": json.loads(body[:length])["outputs"]}).encode()
    return head + body[length:], len(head), None
