"""What the OpenAPI document says about bodies that the routes read by themselves."""

from typing import Any

Json = dict[str, Any]  # Any: whatever JSON can hold


def content(schema: Json, text: str) -> Json:
    """Describe a JSON body."""
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def record(required: list[str], **properties: Json) -> Json:
    """Return the schema of an object."""
    return {"type": "object", "required": required, "properties": properties}


TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "number"}
WHOLE: Json = {"type": "integer"}
FILE: Json = {"type": "string", "format": "binary"}
SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}
ERROR = record(["error"], error=TEXT)
THRESHOLD: Json = {**SHARE, "description": "confidence at which an image leaves, at every exit"}
MAX_EXIT: Json = {**WHOLE, "description": "number of the exit that answers at the latest"}
DEADLINE_MS: Json = {
    "type": "number",
    "exclusiveMinimum": 0,
    "description": "milliseconds from the request's head, after which the deepest exit answers "
    "that is finished",
}

_TEXTS = {
    400: "The request cannot be understood, or a file is no image.",
    403: "Not from there: the server has no token, or a foreign page asks.",
    404: "No such model or version.",
    413: "Too many bytes, pixels or images.",
    415: "The body is of a kind that this route does not read.",
    429: "The queue is full; come again after the seconds in `Retry-After`.",
    500: "The engine failed.",
    503: "The model is loading, or the server is stopping.",
    504: "No exit had answered at the deadline.",
}


ANY_ERROR = content(ERROR, "Every error has this body.")


def errors(*codes: int) -> Json:
    """Describe the answers with these status codes."""
    return {str(code): content(ERROR, _TEXTS[code]) for code in codes}


_TENSOR = {
    "name": TEXT,
    "shape": {"type": "array", "items": WHOLE},
    "datatype": TEXT,
    "data": {"type": "array", "description": "numbers row by row, nested or flat"},
}
_REQUEST = record(
    ["inputs"],
    id=TEXT,
    parameters=record([], threshold=THRESHOLD, max_exit=MAX_EXIT),
    inputs={
        "type": "array",
        "minItems": 1,
        "maxItems": 1,
        "items": record(["name", "shape", "datatype", "data"], **_TENSOR),
    },
    outputs={"type": "array", "items": record(["name"], name=TEXT)},
)
_RESPONSE = record(
    ["model_name", "outputs"],
    model_name=TEXT,
    model_version=TEXT,
    id=TEXT,
    parameters={"type": "object"},
    outputs={"type": "array", "items": record(list(_TENSOR), **_TENSOR)},
)

INFER: Json = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST}}},
    "responses": {
        "200": content(_RESPONSE, "Outputs in the order asked for, or all."),
        **errors(400, 404, 413, 429, 500, 503),
    },
}

NOT_READY: dict[int | str, Json] = {503: content(ERROR, _TEXTS[503])}
UNKNOWN: dict[int | str, Json] = {404: content(ERROR, _TEXTS[404])}
