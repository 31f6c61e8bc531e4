"""Inference requests and answers, from protobuf to the protocol's records and back."""

import math
from collections.abc import Mapping
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

from exitkit.errors import RequestError
from exitkit.serve.protocol import datatypes
from exitkit.serve.protocol.records import InferRequest, InferResponse, Parameters, Tensor, Wanted
from exitkit.serve.rpc.descriptors import CLASSES

# Which field of InferTensorContents holds a datatype; the half numbers travel raw only.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
RAW = "raw_input_contents"
FIELDS = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}


def read(message: Any, arrived: float) -> InferRequest:  # Any: a ModelInferRequest
    """Read a request; `arrived` is the second of `time.perf_counter` at which it came.

    Raises:
        RequestError: it is not what the protocol says.
    """
    raws = message.raw_input_contents
    if raws and len(raws) != len(message.inputs):
        raise RequestError(
            RAW, f"holds {len(raws)} tensors, inputs {len(message.inputs)}", "give each its bytes"
        )
    return InferRequest(
        tuple(_tensor(row, raws[k] if raws else None) for k, row in enumerate(message.inputs)),
        tuple(Wanted(row.name, _parameters(row.parameters)) for row in message.outputs),
        message.id or None,
        _parameters(message.parameters),
        arrived,
    )


def write(response: InferResponse, raw: bool) -> Any:  # Any: a ModelInferResponse
    """Write an answer, its tensors as raw bytes or each in the field of its datatype."""
    message: Any = CLASSES["ModelInferResponse"](
        model_name=response.model_name, model_version=response.model_version, id=response.id or ""
    )
    for name, value in response.parameters.items():
        setattr(message.parameters[name], FIELDS[type(value)], value)
    for tensor in response.outputs:
        row = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            message.raw_output_contents.append(datatypes.to_raw(tensor.data))
        else:
            values = tensor.data if isinstance(tensor.data, list) else tensor.data.ravel().tolist()
            getattr(row.contents, CONTENTS[tensor.datatype]).extend(values)
    return message


def _tensor(row: Any, raw: bytes | None) -> Tensor:
    """Read one input, from its bytes where there are some, else from its typed contents."""
    datatype, shape = datatypes.known(row.datatype), datatypes.shape_of(row.shape)
    if raw is None:
        data = _typed(row, datatype, shape)
    elif row.HasField("contents"):
        raise RequestError(f"input {brief(row.name)}", f"has contents and {RAW}", "give one")
    else:
        data = datatypes.from_raw(datatype, shape, memoryview(raw), row.name)
    return Tensor(row.name, datatype, shape, data, _parameters(row.parameters))


def _typed(row: Any, datatype: str, shape: tuple[int, ...]) -> datatypes.Data:
    asked = f"contents of {brief(row.name)}"
    if datatype not in CONTENTS:
        raise RequestError(asked, f"{datatype} has no field there", f"send {RAW}")
    wanted = CONTENTS[datatype]
    for field, _ in row.contents.ListFields():
        if field.name != wanted:
            raise RequestError(asked, f"are in {field.name}", f"{datatype} belongs into {wanted}")
    values, count = getattr(row.contents, wanted), math.prod(shape)
    if len(values) != count:
        raise RequestError(
            asked, f"{len(values)} values, {datatype} {brief(list(shape))} has {count}",
            "send as many as the shape says",
        )  # fmt: skip
    if datatype == datatypes.BYTES:
        return list(values)
    return datatypes.from_json(datatype, shape, list(values), row.name)


def _parameters(table: Mapping[str, Any]) -> Parameters:  # Any: an InferParameter
    found = {}
    for name, value in table.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is None:
            raise RequestError(f"parameter {brief(name)}", "has no value", "set one of its fields")
        found[name] = getattr(value, kind)
    return found
