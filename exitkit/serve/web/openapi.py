"""What the OpenAPI document says about bodies that the routes read by themselves."""

from typing import Any

Json = dict[str, Any]  # Any: whatever JSON can hold


def _body(schema: Json, text: str) -> Json:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "required": required, "properties": properties}


TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
WHOLE: Json = {"type": "integer"}
FILE: Json = {"type": "string", "format": "binary"}
SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}
ERROR = _object(["error"], error=TEXT)
THRESHOLD: Json = {**SHARE, "description": "confidence at which an image leaves, at every exit"}
MAX_EXIT: Json = {**WHOLE, "description": "number of the exit that answers at the latest"}

_TEXTS = {
    400: "The request cannot be understood, or a file is no image.",
    404: "No such model or version.",
    413: "Too many bytes, pixels or images.",
    415: "The body is of a kind that this route does not read.",
    429: "The queue is full; come again after the seconds in `Retry-After`.",
    500: "The engine failed.",
    503: "The server is stopping.",
}


ANY_ERROR = _body(ERROR, "Every error has this body.")


def _errors(*codes: int) -> Json:
    return {str(code): _body(ERROR, _TEXTS[code]) for code in codes}


_ANSWER = _object(
    ["label", "probability", "exit", "ms"], label=TEXT, probability=SHARE, exit=WHOLE, ms=NUMBER
)
_ITEM = {
    "oneOf": [
        {**_ANSWER, "properties": {"file": TEXT, **_ANSWER["properties"]}},
        _object(["file", "error", "status"], file=TEXT, error=TEXT, status=WHOLE),
    ]
}
_FORM = _object(
    ["file"],
    file={"type": "array", "items": FILE},
    threshold=THRESHOLD,
    max_exit=MAX_EXIT,
)

PREDICT: Json = {
    "parameters": [
        {"name": "threshold", "in": "query", "schema": THRESHOLD},
        {"name": "max_exit", "in": "query", "schema": MAX_EXIT},
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "image/png": {"schema": FILE},
            "image/jpeg": {"schema": FILE},
            "image/webp": {"schema": FILE},
            "application/octet-stream": {"schema": FILE},
        },
    },
    "responses": {
        "200": _body(
            {"oneOf": [_ANSWER, {"type": "array", "items": _ITEM}]},
            "One image: an object. Several: a list in their order.",
        ),
        **_errors(400, 413, 415, 429, 500, 503),
    },
}

_TENSOR = {
    "name": TEXT,
    "shape": {"type": "array", "items": WHOLE},
    "datatype": TEXT,
    "data": {"type": "array", "description": "numbers row by row, nested or flat"},
}
_REQUEST = _object(
    ["inputs"],
    id=TEXT,
    parameters=_object([], threshold=THRESHOLD, max_exit=MAX_EXIT),
    inputs={
        "type": "array",
        "minItems": 1,
        "maxItems": 1,
        "items": _object(["name", "shape", "datatype", "data"], **_TENSOR),
    },
    outputs={"type": "array", "items": _object(["name"], name=TEXT)},
)
_RESPONSE = _object(
    ["model_name", "outputs"],
    model_name=TEXT,
    model_version=TEXT,
    id=TEXT,
    parameters={"type": "object"},
    outputs={"type": "array", "items": _object(list(_TENSOR), **_TENSOR)},
)

INFER: Json = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST}}},
    "responses": {
        "200": _body(_RESPONSE, "Outputs in the order asked for, or all."),
        **_errors(400, 404, 413, 429, 500, 503),
    },
}

NOT_READY: dict[int | str, Json] = {503: _body(ERROR, _TEXTS[503])}
UNKNOWN: dict[int | str, Json] = {404: _body(ERROR, _TEXTS[404])}
