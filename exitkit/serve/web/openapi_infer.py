"""What the OpenAPI document says about the inference protocol and the model repository."""

from typing import Any

from exitkit.serve.protocol.datatypes import BYTES, NUMPY
from exitkit.serve.web.openapi import (
    DEADLINE_MS,
    FILE,
    MAX_EXIT,
    NUMBER,
    TEXT,
    THRESHOLD,
    WHOLE,
    Json,
    content,
    errors,
    record,
)

Responses = dict[int | str, dict[str, Any]]  # Any: as Json
FLAG: Json = {"type": "boolean"}
COUNT: Json = {"type": "integer", "minimum": 0}


def closed(required: list[str], **properties: Json) -> Json:
    """Return the schema of an object that has no other fields."""
    return {**record(required, **properties), "additionalProperties": False}


def several(items: Json, **limits: int) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **limits}


def _ok(schema: Json, text: str, *codes: int) -> Responses:
    """Describe an answer, and the errors with these status codes."""
    return {200: content(schema, text), **dict(errors(*codes).items())}


_MODEL: Json = {"name": "model", "in": "path", "required": True, "schema": TEXT}
_VERSION: Json = {**_MODEL, "name": "version"}
VERSION: Json = {"parameters": [_VERSION]}

HEADER: Json = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "schema": COUNT,
    "description": "bytes of the JSON at the body's beginning, behind which binary tensors lie; "
    "0: there is no JSON, the body is one image file or one tensor",
}
_ENCODINGS: Json = {"type": "string", "enum": ["gzip", "deflate", "identity"]}
_PACKED: Json = {"name": "Content-Encoding", "in": "header", "schema": _ENCODINGS}
_MICROSECONDS: Json = {**COUNT, "description": "microseconds, as a deadline; 0 is none"}
_ANY: Json = {"anyOf": [TEXT, NUMBER, FLAG]}
_SHAPE = several(COUNT)
_DATATYPE: Json = {"type": "string", "enum": [*NUMPY, BYTES]}
_DATA: Json = {"type": "array", "description": "values row by row, nested or flat"}
_INPUT = closed(
    ["name", "shape", "datatype"],
    name={"type": "string", "enum": ["images", "threshold"]},
    shape=_SHAPE,
    datatype={"type": "string", "enum": ["FP32", "UINT8", "BYTES"]},
    data={**_DATA, "description": _DATA["description"] + "; none where the tensor is binary"},
    parameters=closed([], binary_data_size=COUNT),
)
_WANTED = closed(
    ["name"],
    name={"type": "string", "enum": [
        "probabilities", "exit_index", "confidence", "label", "compute",
    ]},
    parameters=closed(
        [],
        binary_data=FLAG,
        classification={
            "type": "integer",
            "minimum": 1,
            "description": "of probabilities: the likeliest as text, value:index:label",
        },
    ),
)  # fmt: skip
_REQUEST = closed(
    ["inputs"],
    id={"anyOf": [TEXT, {"type": "null"}]},
    parameters=closed(
        [],
        threshold={"anyOf": [THRESHOLD, TEXT]},
        max_exit={"anyOf": [MAX_EXIT, NUMBER, TEXT]},
        deadline_ms={"anyOf": [DEADLINE_MS, TEXT]},
        timeout=_MICROSECONDS,
        triton_enable_empty_final_response={**_ANY, "description": "without effect"},
        binary_data_output=FLAG,
    ),
    inputs=several(_INPUT, minItems=1, maxItems=2),
    outputs=several(_WANTED),
)
_OUTPUT = record(
    ["name", "shape", "datatype"],
    name=TEXT, shape=_SHAPE, datatype=_DATATYPE, data=_DATA,
    parameters=record([], binary_data_size=COUNT),
)  # fmt: skip
_RESPONSE = record(
    ["model_name", "model_version", "parameters", "outputs"],
    model_name=TEXT,
    model_version=TEXT,
    id=TEXT,
    parameters=record(
        ["mean_exit", "macs_fraction", "queue_ms", "compute_ms", "deadline_hit"],
        mean_exit=NUMBER,
        macs_fraction=NUMBER,
        queue_ms=NUMBER,
        compute_ms=NUMBER,
        deadline_hit=FLAG,
        threshold_used=THRESHOLD,
    ),
    outputs=several(_OUTPUT),
)
_BINARY: Json = {"application/octet-stream": {"schema": FILE}}
_ANSWER = content(_RESPONSE, "Outputs in the order asked for, or all; binary where asked for.")

INFER: Json = {
    "parameters": [_MODEL, HEADER, _PACKED],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _REQUEST}, **_BINARY},
    },
    "responses": {
        "200": {**_ANSWER, "content": {**_ANSWER["content"], **_BINARY}},
        **errors(400, 404, 413, 415, 429, 500, 503, 504),
    },
}
INFER_VERSION: Json = {**INFER, "parameters": [*INFER["parameters"], _VERSION]}

_TENSOR = record(["name", "datatype", "shape"], name=TEXT, datatype=_DATATYPE, shape=several(WHOLE))
_STRINGS: Json = {"type": "object", "additionalProperties": TEXT}
_METADATA = record(
    ["name", "versions", "platform", "inputs", "outputs", "properties"],
    name=TEXT,
    versions=several(TEXT),
    platform=TEXT,
    inputs=several(_TENSOR),
    outputs=several(_TENSOR),
    properties=_STRINGS,
)
_CONFIGURED = record(["name", "data_type", "dims"], name=TEXT, data_type=TEXT, dims=several(WHOLE))
_CONFIG = record(
    ["name", "platform", "max_batch_size", "input", "output"],
    name=TEXT,
    platform=TEXT,
    max_batch_size=WHOLE,
    input=several(_CONFIGURED),
    output=several(_CONFIGURED),
)
_SPAN = record(["count", "ns"], count=COUNT, ns=COUNT)
_STATISTICS = record(
    ["model_stats"],
    model_stats=several(
        record(
            ["name", "version", "inference_count", "execution_count", "inference_stats"],
            name=TEXT,
            version=TEXT,
            inference_count=COUNT,
            execution_count=COUNT,
            inference_stats={"type": "object", "additionalProperties": _SPAN},
        )
    ),
)
_NOT_READY: Responses = {
    503: content(record(["ready", "error"], ready=FLAG, error=TEXT), "It is not, and why.")
}
SERVER = _ok(
    record(
        ["name", "version", "extensions"], name=TEXT, version=TEXT, extensions=several(TEXT)
    ),
    "The server.",
)  # fmt: skip
LIVE = _ok(record(["live"], live=FLAG), "The process answers.")
READY = {**_ok(record(["live", "ready"], live=FLAG, ready=FLAG), "It is ready."), **_NOT_READY}
MODEL_READY = {
    **_ok(record(["name", "ready"], name=TEXT, ready=FLAG), "It is ready.", 404),
    **_NOT_READY,
}
METADATA = _ok(_METADATA, "The model.", 404, 503)
CONFIG = _ok(_CONFIG, "The model in Triton's words.", 404, 503)
STATISTICS = _ok(_STATISTICS, "Models, and their stages as name/stage2.", 404, 503)


def _control(body: Json, schema: Json, text: str, *codes: int) -> Json:
    """Describe a request whose body may be left out."""
    return {
        "requestBody": {"required": False, "content": {"application/json": {"schema": body}}},
        "responses": {"200": content(schema, text), **errors(*codes)},
    }


_STATES: Json = {"type": "string", "enum": ["LOADING", "READY", "UNLOADING", "UNAVAILABLE"]}
_ENTRY = record(
    ["name", "version", "state", "reason"], name=TEXT, version=TEXT, state=_STATES, reason=TEXT
)
_EMPTY = closed([])
INDEX = _control(closed([], ready=FLAG), several(_ENTRY), "Models by name.", 400)
LOAD = _control(closed([], parameters=_EMPTY), _EMPTY, "It is loaded.", 400, 403, 404, 503)
UNLOAD = _control(
    closed([], parameters=closed([], unload_dependents=FLAG)), _EMPTY, "It is unloaded.",
    400, 403, 404,
)  # fmt: skip
