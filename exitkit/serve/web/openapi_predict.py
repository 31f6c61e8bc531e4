"""What the OpenAPI document says about /predict."""

from exitkit.serve.web.openapi import (
    DEADLINE_MS,
    FILE,
    MAX_EXIT,
    NUMBER,
    SHARE,
    TEXT,
    THRESHOLD,
    WHOLE,
    Json,
    content,
    errors,
    record,
)

_MS: Json = {"type": "number", "minimum": 0}
_FLAG: Json = {"type": "boolean"}
_TOP: Json = {**WHOLE, "minimum": 1, "description": "how many of the best classes to name"}
_THRESHOLDS: Json = {
    "type": "array",
    "items": SHARE,
    "minItems": 1,
    "description": f"{THRESHOLD['description']}; one for all images, or one for each",
}
_BASE64: Json = {"type": "string", "contentEncoding": "base64"}
_BEST = record(["label", "probability"], label=TEXT, probability=SHARE)
_ANSWER = record(
    [
        "label",
        "confidence",
        "exit",
        "compute",
        "queue_ms",
        "compute_ms",
        "ms",
        "deadline_hit",
        "threshold_used",
    ],
    label=TEXT,
    confidence={**SHARE, "description": "calibrated probability of the label"},
    exit=WHOLE,
    compute={
        **NUMBER,
        "minimum": 0,
        "description": "multiply-adds of leaving at this exit, of the network without exits",
    },
    queue_ms={**_MS, "description": "in which none of the request's images was computed"},
    compute_ms={**_MS, "description": "of the batches that the request's images were in"},
    ms={**_MS, "description": "from the request's head to its answer"},
    deadline_hit={**_FLAG, "description": "whether the deadline chose the exit"},
    threshold_used={
        "oneOf": [SHARE, {"type": "array", "items": SHARE}, {"type": "null"}],
        "description": "that the image was held against; a list where exits differ, null where "
        "there is one exit",
    },
    top={"type": "array", "items": _BEST, "description": "the likeliest first, where asked for"},
)
_FAILURE = record(["error", "status"], file=TEXT, error=TEXT, status=WHOLE)
_ITEM = {"oneOf": [{**_ANSWER, "properties": {"file": TEXT, **_ANSWER["properties"]}}, _FAILURE]}
_WISHES: Json = {"max_exit": MAX_EXIT, "deadline_ms": DEADLINE_MS, "top": _TOP}
_FORM: Json = {
    **record(
        ["file"],
        file={"type": "array", "items": FILE, "minItems": 1},
        threshold=_THRESHOLDS,
        **_WISHES,
    )
}
_BESIDE: Json = {"threshold": {"oneOf": [THRESHOLD, _THRESHOLDS]}, **_WISHES}
_JSON: Json = {
    "oneOf": [
        {**record(["image"], image=_BASE64, **_BESIDE), "additionalProperties": False},
        {
            **record(
                ["images"],
                images={"type": "array", "items": _BASE64, "minItems": 1},
                **_BESIDE,
            ),
            "additionalProperties": False,
        },
    ]
}
_QUERY: Json = {
    "threshold": _THRESHOLDS,
    **_WISHES,
    "model": {**TEXT, "description": "name of the model that answers; the server's first if none"},
    "stream": {
        "type": "string",
        "enum": ["1", "0", "true", "false"],
        "description": "1: server-sent events, `exit` for each image at each exit as it comes, "
        "then `answer` with what there is without a stream, or `error`",
    },
}
_OK = content(
    {"oneOf": [_ANSWER, {"type": "array", "items": _ITEM}]},
    "One image: an object. Several: a list in their order.",
)

PREDICT: Json = {
    "parameters": [{"name": k, "in": "query", "schema": schema} for k, schema in _QUERY.items()],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _FORM},
            "application/json": {"schema": _JSON},
            "image/png": {"schema": FILE},
            "image/jpeg": {"schema": FILE},
            "image/webp": {"schema": FILE},
            "application/octet-stream": {"schema": FILE},
        },
    },
    "responses": {
        # No schema: this version of OpenAPI cannot describe events, and readers differ in whether
        # it would be that of the body or of one event.
        "200": {**_OK, "content": {**_OK["content"], "text/event-stream": {}}},
        **errors(400, 404, 413, 415, 429, 500, 503, 504),
    },
}
