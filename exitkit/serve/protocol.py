"""Open Inference Protocol v2: JSON requests to arrays, answers to JSON; no HTTP inside.

Source: kserve/open-inference-protocol, specification/protocol. The model has one input, `images`
FP32 [-1,3,H,W], normalised as the network wants it (metadata `properties` say how), and four
outputs. Nothing is guessed: what the model does not know is an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from exitkit.bundle import Manifest
from exitkit.errors import RequestError, TooLarge
from exitkit.serve.options import Options, parse

VERSION = "1"
OUTPUTS = {"probabilities": "FP32", "exit_index": "INT64", "confidence": "FP32", "label": "BYTES"}
# Normalised pixels are small; numbers far from that would overflow inside the network.
LARGEST = 1000.0
Json = dict[str, Any]  # Any: whatever JSON can hold


@dataclass(frozen=True)
class Request:
    """One inference request.

    Attributes:
        id: to be echoed, None where the client gave none.
        images: [n,3,H,W] float32.
        options: threshold and deepest exit.
        outputs: names that the client wants, in its order.
    """

    id: str | None
    images: NDArray[np.float32]
    options: Options
    outputs: tuple[str, ...]


def metadata(manifest: Manifest, macs: Sequence[float], thresholds: Sequence[float]) -> Json:
    """Describe the model; `macs` of leaving at each exit, `thresholds` in force."""
    spec = manifest.image
    shapes = {"probabilities": [-1, len(manifest.classes)]}
    properties = {
        "exits": list(manifest.exits),
        "macs": [int(m) for m in macs],
        "plain_macs": manifest.plain_macs,
        "thresholds": [round(float(t), 6) for t in thresholds],
        "classes": manifest.classes,
        "mean": spec.mean,
        "std": spec.std,
    }
    return {
        "name": manifest.name,
        "versions": [VERSION],
        "platform": "onnx_onnxv1",
        "inputs": [_tensor("images", "FP32", [-1, 3, spec.height, spec.width])],
        "outputs": [_tensor(k, v, shapes.get(k, [-1])) for k, v in OUTPUTS.items()],
        # The protocol allows strings only.
        "properties": {k: orjson.dumps(v).decode() for k, v in properties.items()},
    }


def read(body: bytes, manifest: Manifest, samples: int) -> Request:
    """Read the JSON body of an infer request.

    Raises:
        RequestError: no JSON, or a request that this model does not know.
        TooLarge: more than `samples` images.
    """
    try:
        table = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError("request body", f"is no JSON ({error})", "send a JSON object") from error
    if not isinstance(table, dict):
        raise RequestError("request body", "is no JSON object", 'send {"inputs": [...]}')
    known = ("id", "parameters", "inputs", "outputs")
    _refuse_others("request field", table, known)
    name = table.get("id")
    if name is not None and not isinstance(name, str):
        raise RequestError("id", f"is {type(name).__name__}", "give a string")
    return Request(
        name,
        _images(table.get("inputs"), manifest, samples),
        parse(_object("parameters", table.get("parameters")), manifest.exits),
        _outputs(table.get("outputs")),
    )


def write(request: Request, manifest: Manifest, columns: dict[str, Any], parameters: Json) -> bytes:
    """Write the answer: `columns` holds an array or list for every name in OUTPUTS."""
    outputs = []
    for name in request.outputs:
        column = columns[name]
        shape = list(column.shape) if isinstance(column, np.ndarray) else [len(column)]
        flat = column.ravel() if isinstance(column, np.ndarray) else column
        outputs.append({**_tensor(name, OUTPUTS[name], shape), "data": flat})
    answer = {
        "model_name": manifest.name,
        "model_version": VERSION,
        **({} if request.id is None else {"id": request.id}),
        "parameters": parameters,
        "outputs": outputs,
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _tensor(name: str, datatype: str, shape: list[int]) -> Json:
    return {"name": name, "datatype": datatype, "shape": shape}


def _images(inputs: Any, manifest: Manifest, samples: int) -> NDArray[np.float32]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RequestError("inputs", "not a list of one tensor", "give the one input, images")
    tensor = inputs[0]
    _refuse_others("input field", tensor, ("name", "shape", "datatype", "parameters", "data"))
    if tensor.get("name") != "images":
        raise RequestError(f"input {brief(tensor.get('name'))}", "no such input", "call it images")
    if tensor.get("datatype") != "FP32":
        raise RequestError(
            f"datatype {brief(tensor.get('datatype'))}", "images is FP32", "send FP32"
        )
    extra = _object("input parameters", tensor.get("parameters"))
    if extra:
        raise RequestError(
            f"input parameters {brief(list(extra))}", "not offered here", "send data as JSON"
        )
    spec = manifest.image
    shape, want = tensor.get("shape"), [3, spec.height, spec.width]
    if (
        not isinstance(shape, list)
        or any(type(axis) is not int for axis in shape)
        or shape[1:] != want
        or shape[0] < 1
    ):
        raise RequestError(
            f"shape {brief(shape)}", f"images is [n, {str(want)[1:]}", "n is 1 or more"
        )
    if shape[0] > samples:
        raise TooLarge(f"{shape[0]} images", f"the limit is {samples} a request", "send fewer")
    return _data(tensor.get("data"), shape)


def _data(data: Any, shape: list[int]) -> NDArray[np.float32]:
    """Turn nested or flat JSON numbers into an array of `shape`."""
    if not isinstance(data, list):
        raise RequestError("data", "is no list", "give numbers, nested or flat, row by row")
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise RequestError("data", "is ragged", "give as many numbers as the shape says") from error
    if array.dtype.kind not in "iuf":
        raise RequestError("data", "holds what is no number", "give numbers only")
    if array.size != np.prod(shape) or (array.ndim > 1 and list(array.shape) != shape):
        raise RequestError(
            "data", f"has shape {list(array.shape)}", f"the tensor's shape is {shape}"
        )
    with np.errstate(over="ignore"):
        images = array.reshape(shape).astype(np.float32)
    if not (np.abs(images) <= LARGEST).all():
        raise RequestError(
            "data",
            f"holds numbers beyond {LARGEST:g}",
            "normalise pixels by the metadata's mean and std",
        )
    return images


def _outputs(wanted: Any) -> tuple[str, ...]:
    if wanted is None or wanted == []:
        return tuple(OUTPUTS)
    if not isinstance(wanted, list) or any(not isinstance(row, dict) for row in wanted):
        raise RequestError("outputs", "is no list of objects", 'give [{"name": ...}]')
    for row in wanted:
        _refuse_others("output field", row, ("name", "parameters"))
        if not isinstance(row.get("name"), str) or row["name"] not in OUTPUTS:
            raise RequestError(
                f"output {brief(row.get('name'))}",
                "no such output",
                f"choose from: {', '.join(OUTPUTS)}",
            )
        extra = _object("output parameters", row.get("parameters"))
        if any(value is not False for value in extra.values()):
            raise RequestError(
                f"output parameters {brief(list(extra))}", "not offered here", "leave them out"
            )
    names = tuple(row["name"] for row in wanted)
    if len(set(names)) != len(names):
        raise RequestError("outputs", "a name stands twice", "ask for each once")
    return names


def _object(what: str, value: Any) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError(what, "is no object", 'give {"name": value}')
    return value


def _refuse_others(what: str, table: Json, known: Sequence[str]) -> None:
    for name in table:
        if name not in known:
            raise RequestError(f"{what} {brief(name)}", "unknown", f"known are: {', '.join(known)}")
