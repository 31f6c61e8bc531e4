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
