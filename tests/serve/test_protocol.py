"""The Open Inference Protocol without HTTP: every field that can be wrong, and what comes out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exitkit import bundle
from exitkit.bundle import Manifest
from exitkit.errors import RequestError, TooLarge
from exitkit.images import ImageSpec
from exitkit.serve import options, protocol

MANIFEST = Manifest(
    name="net",
    network="ab" * 32,
    arch="means",
    method="deep",
    classes=("red", "green"),
    image=ImageSpec(1, 2, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    segments=(
        bundle.Segment(2, "a.onnx", (3, 1, 2), 10),
        bundle.Segment(4, "b.onnx", (3, 1, 2), 20),
    ),
    plain_macs=40,
    files={},
    origin={},
)
TENSOR = {"name": "images", "datatype": "FP32", "shape": [1, 3, 1, 2], "data": [1, 2, 3, 4, 5, 6]}


def read(table: Any, samples: int = 4) -> protocol.Request:
    return protocol.read(json.dumps(table).encode(), MANIFEST, samples)


def test_flat_and_nested_numbers_are_the_same_tensor() -> None:
    flat = read({"inputs": [TENSOR]}).images
    nested = read({"inputs": [{**TENSOR, "data": [[[[1, 2]], [[3, 4]], [[5, 6.0]]]]}]}).images
    assert flat.shape == (1, 3, 1, 2)
    assert flat.dtype == np.float32
    assert flat[0, :, 0, :].tolist() == [[1, 2], [3, 4], [5, 6]]
    np.testing.assert_array_equal(flat, nested)


def test_everything_that_a_request_may_say_is_read() -> None:
    found = read(
        {
            "id": "seven",
            "parameters": {"threshold": 0.25, "max_exit": 2},
            "inputs": [TENSOR],
            "outputs": [
                {"name": "label", "parameters": {"binary_data": False}},
                {"name": "confidence"},
            ],
        }
    )
    assert found.id == "seven"
    assert found.options == options.Options(0.25, 2)
    assert found.outputs == ("label", "confidence")


def test_without_wishes_all_outputs_are_written() -> None:
    request = read({"inputs": [TENSOR]})
    columns = {
        "probabilities": np.asarray([[0.75, 0.25]], dtype=np.float32),
        "exit_index": np.asarray([4]),
        "confidence": np.asarray([0.75], dtype=np.float32),
        "label": ["red"],
    }
    assert json.loads(protocol.write(request, MANIFEST, columns, {"mean_exit": 4.0})) == {
        "model_name": "net",
        "model_version": "1",
        "parameters": {"mean_exit": 4.0},
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.75, 0.25]},
            {"name": "exit_index", "datatype": "INT64", "shape": [1], "data": [4]},
            {"name": "confidence", "datatype": "FP32", "shape": [1], "data": [0.75]},
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["red"]},
        ],
    }


def test_metadata_says_all_that_a_client_needs_in_strings() -> None:
    table = protocol.metadata(MANIFEST, (10, 30), (0.9,))
    assert table["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 3, 1, 2]}]
    assert [row["name"] for row in table["outputs"]] == list(protocol.OUTPUTS)
    assert table["properties"] == {
        "exits": "[2,4]",
        "macs": "[10,30]",
        "plain_macs": "40",
        "thresholds": "[0.9]",
        "classes": '["red","green"]',
        "mean": "[0.5,0.5,0.5]",
        "std": "[0.25,0.25,0.25]",
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "image"}, "input 'image': no such input; call it images"),
        ({"name": None}, "no such input"),
        ({"datatype": "FP16"}, "datatype 'FP16': images is FP32"),
        ({"datatype": ["FP32"]}, "images is FP32"),
        ({"shape": [1, 3, 2, 1]}, r"shape \[1, 3, 2, 1\]: images is \[n, 3, 1, 2\]"),
        ({"shape": [0, 3, 1, 2], "data": []}, "n is 1 or more"),
        ({"shape": [-1, 3, 1, 2]}, "n is 1 or more"),
        ({"shape": [True, 3, 1, 2]}, "images is"),
        ({"shape": [1.0, 3, 1, 2]}, "images is"),
        ({"shape": None}, "images is"),
        ({"shape": "abcd"}, "images is"),
        ({"shape": []}, "images is"),
        ({"data": None}, "data: is no list"),
        ({"data": {}}, "data: is no list"),
        ({"data": [1, 2, 3, 4, 5]}, r"data: has shape \[5\]; the tensor's shape is"),
        ({"data": [[1, 2, 3, 4, 5, 6]]}, r"data: has shape \[1, 6\]"),
        ({"data": [[1, 2], [3]]}, "data: is ragged"),
        ({"data": [1, 2, 3, 4, 5, "6"]}, "holds what is no number"),
        ({"data": [1, 2, 3, 4, 5, None]}, "holds what is no number"),
        ({"data": [True] * 6}, "holds what is no number"),
        ({"data": [1, 2, 3, 4, 5, 1e39]}, "beyond 1000"),
        ({"data": [1, 2, 3, 4, 5, 1001]}, "beyond 1000"),
        ({"data": [1, 2, 3, 4, 5, 2**70]}, "data"),
        ({"parameters": {"binary_data_size": 24}}, "binary_data_size.*: not offered here"),
        ({"parameters": []}, "input parameters: is no object"),
        ({"dtype": "FP32"}, "input field 'dtype': unknown; known are: name, shape"),
    ],
)
def test_a_wrong_tensor_is_refused_and_named(change: dict, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        read({"inputs": [{**TENSOR, **change}]})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"inputs": None}, "inputs: not a list of one tensor"),
        ({"inputs": []}, "not a list of one tensor"),
        ({"inputs": [TENSOR, TENSOR]}, "not a list of one tensor"),
        ({"inputs": ["images"]}, "not a list of one tensor"),
        ({"id": 7}, "id: is int; give a string"),
        ({"input": []}, "request field 'input': unknown"),
        ({"parameters": 3}, "parameters: is no object"),
        ({"parameters": {"treshold": 1}}, "parameter 'treshold': no such parameter"),
        ({"parameters": {"threshold": 1.5}}, "threshold 1.5: is no number from 0 to 1"),
        ({"parameters": {"threshold": True}}, "threshold True: is no number from 0 to 1"),
        ({"parameters": {"threshold": []}}, r"threshold \[\]: is no number from 0 to 1"),
        ({"parameters": {"max_exit": 3}}, "max_exit 3: no such exit; choose one of: 2, 4"),
        ({"parameters": {"max_exit": 2.5}}, "no such exit"),
        ({"parameters": {"max_exit": 10**15}}, "no such exit"),
        ({"outputs": "label"}, "outputs: is no list of objects"),
        ({"outputs": ["label"]}, "outputs: is no list of objects"),
        ({"outputs": [{"name": "logits"}]}, "output 'logits': no such output; choose from: prob"),
        ({"outputs": [{"name": ["label"]}]}, "no such output"),
        ({"outputs": [{"name": "label"}] * 2}, "outputs: a name stands twice"),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": True}}]}, "not offered"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 1}}]}, "not offered"),
    ],
)
def test_a_wrong_request_is_refused_and_named(change: dict, says: str) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        read({"inputs": [TENSOR], **change})
    assert caught.value.status == 400


def test_a_refusal_does_not_repeat_all_that_was_sent() -> None:
    with pytest.raises(RequestError) as caught:
        read({"inputs": [{**TENSOR, "name": "x" * 10_000}]})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff", b'{"inputs": NaN}', b"[" * 5000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match="request body: is no JSON"):
        protocol.read(body, MANIFEST, 4)


def test_too_many_images_are_refused_before_their_data_are_looked_at() -> None:
    with pytest.raises(TooLarge, match="5 images: the limit is 4 a request"):
        read({"inputs": [{**TENSOR, "shape": [5, 3, 1, 2], "data": None}]})


@pytest.mark.parametrize("text", ["nan", "-0.1", "1.01", "", "high", "1e999"])
def test_a_threshold_as_text_is_checked_like_a_number(text: str) -> None:
    with pytest.raises(RequestError, match="is no number from 0 to 1"):
        options.parse({"threshold": text}, (2, 4))
    assert options.parse({"threshold": "0.5", "max_exit": "4"}, (2, 4)).max_exit == 4


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "threshold"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["id", "inputs", "outputs", "parameters"]), values), values)
def test_whatever_json_comes_is_read_or_refused(table: dict, data: Any) -> None:
    for asked in (table, {"inputs": [{**TENSOR, "data": data}]}, {"inputs": [data]}):
        try:
            found = read(asked)
        except RequestError:
            continue
        assert found.images.shape == (1, 3, 1, 2)


def test_the_package_holds_no_file_that_the_page_does_not_serve() -> None:
    folder = Path(protocol.__file__).parent / "page"
    assert {p.suffix for p in folder.iterdir()} <= {".html", ".css", ".js", ".svg"}
