"""The body of an infer request over HTTP: a JSON header, then the bytes of its binary tensors.

Triton's binary tensor extension: a tensor with `binary_data_size` has its bytes behind the header,
in the order of the header; all others have their `data` in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

import orjson

from exitkit.errors import RequestError
from exitkit.serve.protocol import datatypes
from exitkit.serve.protocol.records import (
    InferRequest,
    InferResponse,
    Parameters,
    Tensor,
    Wanted,
)
from exitkit.serve.web import objects

Json = dict[str, Any]  # Any: whatever JSON can hold
SIZE, BINARY, BINARY_ALL = "binary_data_size", "binary_data", "binary_data_output"


@dataclass(frozen=True, slots=True)
class Form:
    """How a client wants to have its outputs.

    Attributes:
        binary: whether they come in binary,
        named: but for these, by name.
    """

    binary: bool = False
    named: Mapping[str, bool] = field(default_factory=dict)


def read(body: bytes, header: int | None, arrived: float | None) -> tuple[InferRequest, Form]:
    """Read a body whose first `header` bytes are JSON; None: all of it.

    Raises:
        RequestError: it is not what the protocol says.
        TooLarge: see `objects`.
    """
    whole = memoryview(body)
    if header is not None and header > len(whole):
        raise RequestError(
            f"a JSON header of {header} bytes",
            f"the body has {len(whole)}",
            "send header and tensors in one body",
        )
    table = objects.read(body if header is None else whole[:header], '{"inputs": [...]}')
    _refuse_others("request field", table, ("id", "parameters", "inputs", "outputs"))
    name = table.get("id")
    if name is not None and not isinstance(name, str):
        raise RequestError("id", f"is {type(name).__name__}", "give a string")
    parameters = _parameters("parameters", table.get("parameters"))
    default = _flag(parameters, BINARY_ALL, False)
    outputs, named = _outputs(table.get("outputs"), default)
    raw = None if header is None else whole[header:]
    request = InferRequest(
        _inputs(table.get("inputs"), raw), outputs, name, _without(parameters, BINARY_ALL), arrived
    )
    return request, Form(default, named)


def write(response: InferResponse, form: Form) -> tuple[bytes, int | None]:
    """Write an answer; return its body, and how many bytes of it are JSON; None: all."""
    tables: list[Json] = []
    raws: list[bytes] = []
    for tensor in response.outputs:
        table: Json = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        if form.named.get(tensor.name, form.binary):
            raw = datatypes.to_raw(tensor.data)
            raws.append(raw)
            table["parameters"] = {SIZE: len(raw)}
        elif isinstance(tensor.data, list):
            table["data"] = [element.decode() for element in tensor.data]
        else:
            table["data"] = tensor.data.ravel()
        tables.append(table)
    answer: Json = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id is not None:
        answer["id"] = response.id
    answer["parameters"] = response.parameters
    answer["outputs"] = tables
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *raws]), len(head)) if raws else (head, None)


def _inputs(tables: Any, raw: memoryview | None) -> tuple[Tensor, ...]:
    """Read the tensors, those in binary one behind the other from `raw`, which they use up."""
    if not isinstance(tables, list) or not tables or any(type(t) is not dict for t in tables):
        raise RequestError("inputs", "is no list of tensors", 'give [{"name": "images", ...}]')
    tensors, at = [], 0
    for table in tables:
        _refuse_others("input field", table, ("name", "shape", "datatype", "parameters", "data"))
        name, datatype = table.get("name"), datatypes.known(table.get("datatype"))
        if not isinstance(name, str):
            raise RequestError(f"input {brief(name)}", "its name is no string", "name it")
        shape = _shape(table.get("shape"))
        parameters = _parameters("input parameters", table.get("parameters"))
        if "data" in table:
            if SIZE in parameters:
                raise RequestError(f"input {brief(name)}", f"has data and {SIZE}", "give one")
            data = datatypes.from_json(datatype, shape, table["data"], name)
        else:
            part, alone = _part(name, parameters, raw, at, len(tables) == 1)
            at += len(part)
            if alone and datatype == datatypes.BYTES and shape == (1,):
                data = [bytes(part)]
            else:
                data = datatypes.from_raw(datatype, shape, part, name)
        tensors.append(Tensor(name, datatype, shape, data, _without(parameters, SIZE)))
    if raw is not None and at != len(raw):
        raise RequestError(
            "request body",
            f"{len(raw) - at} bytes follow the last binary tensor",
            f"sum up {SIZE} to the end of the body",
        )
    return tuple(tensors)


def _part(
    name: str, parameters: Parameters, raw: memoryview | None, at: int, single: bool
) -> tuple[memoryview, bool]:
    """Return a tensor's bytes, and whether they are the rest because their size was left out."""
    if raw is None:
        raise RequestError(
            f"input {brief(name)}",
            "has no data, and the request no header Inference-Header-Content-Length",
            "send data as JSON, or the tensor's bytes behind a JSON header of that length",
        )
    size = parameters.get(SIZE)
    if size is None and single:
        return raw[at:], True
    if type(size) is not int or size < 0:
        raise RequestError(
            f"input {brief(name)}, {SIZE} {brief(size)}", "is no number of bytes", "give one"
        )
    if at + size > len(raw):
        raise RequestError(
            f"input {brief(name)}, {SIZE} {size}",
            f"{len(raw) - at} bytes are left",
            "send the whole tensor",
        )
    return raw[at : at + size], False


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(axis) is not int for axis in value):
        raise RequestError(f"shape {brief(value)}", "is no list of sizes", "give whole numbers")
    return datatypes.shape_of(value)


def _outputs(wanted: Any, default: bool) -> tuple[tuple[Wanted, ...], dict[str, bool]]:
    """Read the outputs asked for, and which of them are to come in binary."""
    if wanted is None:
        return (), {}
    if not isinstance(wanted, list) or any(type(row) is not dict for row in wanted):
        raise RequestError("outputs", "is no list of objects", 'give [{"name": ...}]')
    outputs, named = [], {}
    for row in wanted:
        _refuse_others("output field", row, ("name", "parameters"))
        name = row.get("name")
        if not isinstance(name, str):
            raise RequestError(f"output {brief(name)}", "its name is no string", "name it")
        parameters = _parameters("output parameters", row.get("parameters"))
        named[name] = _flag(parameters, BINARY, default)
        outputs.append(Wanted(name, _without(parameters, BINARY)))
    return tuple(outputs), named


def _flag(parameters: Parameters, name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{name} {brief(value)}", "is no boolean", "give true or false")
    return value


def _without(parameters: Parameters, name: str) -> Parameters:
    if name not in parameters:
        return parameters
    return {k: v for k, v in parameters.items() if k != name}


def _parameters(what: str, value: Any) -> Parameters:
    """Return parameters, whose values the protocol wants to be single ones."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError(what, "is no object", 'give {"name": value}')
    for name, one in value.items():
        if not isinstance(one, str | int | float | bool):
            raise RequestError(
                f"{what}, {brief(name)}", "is no text, number or boolean", "give a single value"
            )
    return value


def _refuse_others(what: str, table: Json, known: Sequence[str]) -> None:
    for name in table:
        if name not in known:
            raise RequestError(f"{what} {brief(name)}", "unknown", f"known are: {', '.join(known)}")
