"""Tensors as bytes and as JSON: little-endian, row by row, without padding."""

import math
from collections.abc import Sequence
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit.errors import RequestError, TooLarge

NUMPY: dict[str, np.dtype[Any]] = {  # Any: of every datatype
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # its bits: NumPy has no such numbers
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
BYTES = "BYTES"
# Half numbers have no agreed form in JSON.
BINARY_ONLY = ("FP16", "BF16")
Data = NDArray[Any] | list[bytes]  # Any: of every datatype
MOST_AXES = 32  # of a tensor; of thousands, how many elements there are takes minutes to say
LENGTH = 4  # bytes before each element of BYTES that say how long it is
MOST_ELEMENTS = 2**16  # of one tensor of BYTES; they are read one by one


def known(datatype: Any) -> str:  # Any: whatever a client sent
    """Return the name of a datatype.

    Raises:
        RequestError: there is no such datatype.
    """
    if isinstance(datatype, str) and (datatype in NUMPY or datatype == BYTES):
        return datatype
    choices = ", ".join([*NUMPY, BYTES])
    raise RequestError(f"datatype {brief(datatype)}", "no such datatype", f"choose from: {choices}")


def shape_of(axes: Sequence[int]) -> tuple[int, ...]:
    """Return the shape that a client named.

    Raises:
        RequestError: an axis is below zero, or there are too many.
    """
    if len(axes) > MOST_AXES:
        raise RequestError(
            f"a shape of {len(axes)} axes", f"tensors have at most {MOST_AXES}", "send fewer"
        )
    if any(axis < 0 for axis in axes):
        raise RequestError(f"shape {list(axes)}", "is no list of sizes", "give whole numbers")
    return tuple(axes)


def from_raw(datatype: str, shape: tuple[int, ...], raw: memoryview, name: str) -> Data:
    """Read a tensor from its bytes, without a copy where they lie as the processor wants them.

    Args:
        datatype: a known one.
        shape: whole numbers from 0.
        raw: exactly the tensor's bytes.
        name: of the tensor, for errors.

    Raises:
        RequestError: other than as many bytes as the shape needs.
        TooLarge: see `unpack`.
    """
    if datatype == BYTES:
        return unpack(raw, math.prod(shape), name)
    kind = NUMPY[datatype]
    needed = math.prod(shape) * kind.itemsize
    if len(raw) != needed:
        raise RequestError(
            f"tensor {brief(name)}",
            f"{len(raw)} bytes, {datatype} {brief(list(shape))} has {needed}",
            "send as many as the shape says",
        )
    array = _shaped(np.frombuffer(raw, kind), shape, f"tensor {brief(name)}")
    return array if array.flags.aligned else array.copy()


def to_raw(data: Data) -> bytes:
    """Return the bytes of a tensor."""
    return pack(data) if isinstance(data, list) else data.tobytes()


def pack(elements: Sequence[bytes]) -> bytes:
    """Write each element of BYTES behind its length."""
    parts: list[bytes] = []
    for element in elements:
        parts += [len(element).to_bytes(LENGTH, "little"), element]
    return b"".join(parts)


def unpack(raw: memoryview, count: int, name: str) -> list[bytes]:
    """Read `count` elements of BYTES.

    Raises:
        TooLarge: there are too many.
        RequestError: the lengths do not lead to the end of `raw` in `count` steps.
    """
    if count > MOST_ELEMENTS:
        raise TooLarge(
            f"tensor {brief(name)}",
            f"has {brief(count)} elements of {BYTES}, the limit is {MOST_ELEMENTS}",
            "send fewer",
        )
    elements: list[bytes] = []
    at = 0
    while at < len(raw) and len(elements) < count:
        # A length that was meant to be negative reads as one far beyond the end.
        end = at + LENGTH + int.from_bytes(raw[at : at + LENGTH], "little")
        if end > len(raw):
            break
        elements.append(bytes(raw[at + LENGTH : end]))
        at = end
    if at != len(raw) or len(elements) != count:
        raise RequestError(
            f"tensor {brief(name)}",
            f"{len(elements)} whole elements in {at} of {len(raw)} bytes, its shape has {count}",
            f"write {LENGTH} bytes of length before each, little-endian",
        )
    return elements


def from_json(datatype: str, shape: tuple[int, ...], data: Any, name: str) -> Data:
    """Read a tensor from nested or flat JSON.

    Raises:
        RequestError: other than as many values of that kind as the shape says.
    """
    asked = f"data of {brief(name)}"
    if not isinstance(data, list):
        raise RequestError(asked, "is no list", "give values, nested or flat, row by row")
    if datatype in BINARY_ONLY:
        raise RequestError(asked, f"{datatype} has no form in JSON", "send it in binary")
    count = math.prod(shape)
    if data and not isinstance(data[0], list) and len(data) != count:
        # Before NumPy looks at them, which takes a while and holds up everything else.
        raise _misshapen(asked, [len(data)], shape)
    kind = NUMPY.get(datatype)
    # Texts and whole numbers are looked at one by one: NumPy would make floats of large ones.
    exact = kind is None or kind.kind in "iu"
    try:
        array = np.asarray(data, dtype=object if exact else None)
    except (ValueError, OverflowError) as error:
        raise RequestError(asked, "is ragged", "give as many values as the shape says") from error
    if array.size != count or (array.ndim > 1 and array.shape != shape):
        raise _misshapen(asked, list(array.shape), shape)
    if kind is None:
        return _texts(array.ravel().tolist(), asked)
    if exact:
        return _shaped(_whole(array.ravel().tolist(), datatype, asked), shape, asked)
    return _numbers(_shaped(array, shape, asked), datatype, asked)


def _shaped(array: NDArray[Any], shape: tuple[int, ...], asked: str) -> NDArray[Any]:
    """Give an array a shape of as many elements, which may be none that NumPy knows."""
    try:
        return array.reshape(shape)
    except ValueError as error:  # one axis is 0, and the others are huge
        raise RequestError(
            asked, f"cannot have the shape {brief(list(shape))}", "give its real one"
        ) from error


def _misshapen(asked: str, found: list[int], shape: tuple[int, ...]) -> RequestError:
    return RequestError(asked, f"has shape {found}", f"the tensor's shape is {brief(list(shape))}")


def _texts(values: list[Any], asked: str) -> list[bytes]:
    if not all(isinstance(value, str) for value in values):
        raise RequestError(asked, "holds what is no text", "give strings only")
    return [value.encode() for value in values]


def _whole(values: list[Any], datatype: str, asked: str) -> NDArray[Any]:
    kind = NUMPY[datatype]
    limits = np.iinfo(kind)
    low, high = int(limits.min), int(limits.max)
    if not all(type(value) is int and low <= value <= high for value in values):
        raise RequestError(
            asked, f"holds what is no whole number from {low} to {high}", f"it is {datatype}"
        )
    return np.asarray(values, dtype=kind)


def _numbers(array: NDArray[Any], datatype: str, asked: str) -> NDArray[Any]:
    boolean = datatype == "BOOL"
    if array.size and array.dtype.kind not in ("b" if boolean else "iuf"):
        what = "boolean" if boolean else "number"
        raise RequestError(asked, f"holds what is no {what}", f"it is {datatype}")
    with np.errstate(over="ignore"):
        return array.astype(NUMPY[datatype])
