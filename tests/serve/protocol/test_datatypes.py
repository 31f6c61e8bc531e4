"""Tensors as bytes and as JSON, on bytes worked out by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exitkit.errors import RequestError
from exitkit.serve.protocol import datatypes

HAND = [
    ("BOOL", "00 01 01", [False, True, True]),
    ("UINT8", "00 07 ff", [0, 7, 255]),
    ("INT8", "ff 80", [-1, -128]),
    ("UINT16", "01 02", [0x0201]),
    ("INT16", "fe ff", [-2]),
    ("UINT32", "01 00 00 80", [2**31 + 1]),
    ("INT32", "ff ff ff ff", [-1]),
    ("UINT64", "ff ff ff ff ff ff ff ff", [2**64 - 1]),
    ("INT64", "04 00 00 00 00 00 00 00", [4]),
    ("FP16", "00 3c 00 c0", [1.0, -2.0]),
    ("FP32", "00 00 80 3f 00 00 20 c1", [1.0, -10.0]),
    ("FP64", "00 00 00 00 00 00 f0 3f", [1.0]),
    ("BF16", "80 3f", [0x3F80]),  # the bits of 1.0
]
# Lengths 2, 0 and 1, four bytes each, little-endian.
TEXTS = bytes.fromhex("02000000 6869 00000000 01000000 ff")


def read(datatype: str, shape: tuple[int, ...], raw: bytes) -> Any:
    return datatypes.from_raw(datatype, shape, memoryview(raw), "images")


@pytest.mark.parametrize(("datatype", "text", "values"), HAND)
def test_numbers_lie_little_endian_without_padding(datatype: str, text: str, values: list) -> None:
    raw = bytes.fromhex(text)
    array = read(datatype, (len(values),), raw)
    assert array.tolist() == values
    assert datatypes.to_raw(array) == raw


def test_rows_come_one_after_the_other() -> None:
    assert read("UINT8", (2, 3), bytes(range(6))).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert datatypes.to_raw(np.asfortranarray([[0, 1], [2, 3]]).astype("u1")) == bytes(range(4))


def test_elements_of_bytes_stand_behind_their_length() -> None:
    assert read("BYTES", (3,), TEXTS) == [b"hi", b"", b"\xff"]
    assert datatypes.to_raw([b"hi", b"", b"\xff"]) == TEXTS


def test_aligned_numbers_are_not_copied_and_others_are() -> None:
    body = bytes(8 + 16)
    assert np.shares_memory(
        datatypes.from_raw("FP32", (4,), memoryview(body)[8:], "x"), np.frombuffer(body, "u1")
    )
    odd = datatypes.from_raw("FP32", (4,), memoryview(body)[5:21], "x")
    assert odd.flags.aligned
    assert odd.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "says"),
    [
        ("FP32", (2,), bytes(7), r"'images': 7 bytes, FP32 \[2\] has 8"),
        ("FP32", (2,), bytes(9), "9 bytes"),
        ("UINT8", (10**9, 10**9), bytes(9), "9 bytes"),
        ("BOOL", (), b"", r"0 bytes, BOOL \[\] has 1"),
        ("BYTES", (2,), TEXTS[:6], r"1 whole elements in 6 of 6 bytes, its shape has 2"),
        ("BYTES", (3,), TEXTS[:-1], "2 whole elements in 10 of 14"),
        ("BYTES", (3,), TEXTS[:-2], "2 whole elements"),
        ("BYTES", (2,), TEXTS, "2 whole elements in 10 of 15"),
        ("BYTES", (2**16,), TEXTS, "3 whole elements"),
        ("BYTES", (2**16 + 1,), TEXTS, "has 65537 elements of BYTES, the limit is 65536"),
        ("BYTES", (10**18,), TEXTS, "the limit is 65536"),
        ("BYTES", (1,), b"\xff\xff\xff\xff", "0 whole elements in 0 of 4"),
        ("BYTES", (1,), b"", "0 whole elements"),
        ("BYTES", (0,), b"\x00\x00\x00\x00", "0 whole elements in 0 of 4"),
    ],
)
def test_bytes_that_do_not_fit_the_shape_are_refused(
    datatype: str, shape: tuple[int, ...], raw: bytes, says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        read(datatype, shape, raw)


@pytest.mark.parametrize(
    ("datatype", "data", "values"),
    [
        ("FP32", [1, 2.5], [1.0, 2.5]),
        ("FP32", [[1], [2.5]], [1.0, 2.5]),
        ("UINT8", [0, 255], [0, 255]),
        ("UINT64", [0, 2**64 - 1], [0, 2**64 - 1]),
        ("INT64", [-(2**63), 5], [-(2**63), 5]),
        ("BOOL", [True, False], [True, False]),
        ("BYTES", ["a\x00", "ü"], [b"a\x00", "ü".encode()]),
        ("BYTES", [["a"], ["b"]], [b"a", b"b"]),
    ],
)
def test_json_may_be_flat_or_nested(datatype: str, data: list, values: list) -> None:
    shape = (2, 1) if isinstance(data[0], list) else (2,)
    found = datatypes.from_json(datatype, shape, data, "x")
    if isinstance(found, list):
        assert found == values
    else:
        assert found.dtype == datatypes.NUMPY[datatype]
        assert found.shape == shape
        assert found.ravel().tolist() == values


@pytest.mark.parametrize(
    ("datatype", "data", "says"),
    [
        ("FP32", None, "data of 'x': is no list; give values"),
        ("FP32", {}, "is no list"),
        ("FP32", "12", "is no list"),
        ("FP32", [1, 2, 3], r"has shape \[3\]; the tensor's shape is \[2\]"),
        ("FP32", [[1, 2]], r"has shape \[1, 2\]"),
        ("FP32", [[1, 2], [3]], "is ragged"),
        ("FP32", [1, "2"], "holds what is no number; it is FP32"),
        ("FP32", [1, None], "holds what is no number"),
        ("FP32", [True, False], "holds what is no number"),
        ("FP32", [1, {}], "holds what is no number"),
        ("FP32", [1, 2**70], "holds what is no number"),
        ("UINT8", [1, 2.0], "holds what is no whole number from 0 to 255; it is UINT8"),
        ("UINT8", [1, 256], "no whole number"),
        ("UINT8", [1, -1], "no whole number"),
        ("INT64", [1, 2**63], "no whole number from -9223372036854775808"),
        ("UINT8", [1, True], "no whole number"),
        ("UINT8", [[1], [[2]]], "has shape|ragged|whole"),
        ("BOOL", [1, 0], "holds what is no boolean"),
        ("BYTES", ["a", 1], "holds what is no text"),
        ("BYTES", ["a", ["b"]], "no text|ragged"),
        ("FP16", [1, 2], "FP16 has no form in JSON; send it in binary"),
    ],
)
def test_json_that_is_no_such_tensor_is_refused(datatype: str, data: Any, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        datatypes.from_json(datatype, (2,), data, "x")


@pytest.mark.parametrize("datatype", ["FP32", "INT32"])
def test_shapes_that_no_array_can_have_are_refused(datatype: str) -> None:
    with pytest.raises(RequestError, match="cannot have the shape"):
        datatypes.from_raw(datatype, (2**62, 2**62, 0), memoryview(b""), "x")
    with pytest.raises(RequestError, match="cannot have the shape"):
        datatypes.from_json(datatype, (2**62, 2**62, 0), [], "x")


def test_a_shape_has_few_axes_and_none_below_zero() -> None:
    assert datatypes.shape_of([0, 3]) == (0, 3)
    assert len(datatypes.shape_of([1] * 32)) == 32
    with pytest.raises(RequestError, match=r"shape \[1, -1\]: is no list of sizes"):
        datatypes.shape_of([1, -1])
    # Millions of them would keep the processor busy for minutes.
    with pytest.raises(RequestError, match="a shape of 3000000 axes: tensors have at most 32"):
        datatypes.shape_of([2**62] * 3_000_000)


@pytest.mark.parametrize("datatype", ["fp32", "FLOAT", "", None, 3, ["FP32"], {}])
def test_an_unknown_datatype_is_refused_with_all_that_there_are(datatype: Any) -> None:
    with pytest.raises(RequestError, match=r"no such datatype; choose from: BOOL, .*, BYTES"):
        datatypes.known(datatype)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(set(datatypes.NUMPY) - {"BF16"})).flatmap(
        lambda name: st.tuples(
            st.just(name),
            arrays.arrays(datatypes.NUMPY[name], arrays.array_shapes(min_side=0, max_side=3)),
        )
    )
)
def test_every_array_survives_its_bytes(pair: tuple) -> None:
    name, array = pair
    found = read(name, array.shape, datatypes.to_raw(array))
    assert found.tobytes() == array.tobytes()
    assert found.shape == array.shape


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=6), max_size=4), st.binary(max_size=12))
def test_every_list_survives_its_bytes_and_junk_is_refused(
    elements: list[bytes], junk: bytes
) -> None:
    assert read("BYTES", (len(elements),), datatypes.pack(elements)) == elements
    try:
        found = read("BYTES", (2,), junk)
    except RequestError:
        return
    assert datatypes.pack(found) == junk
