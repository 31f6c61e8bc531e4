"""POST /predict: image files in, one short answer each out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from exitkit.errors import RequestError, TooLarge
from exitkit.serve.models import Models
from exitkit.serve.options import NAMES, parse
from exitkit.serve.service import Service
from exitkit.serve.web import openapi

router = APIRouter()
RAW = ("image/", "application/octet-stream")
FORM = "multipart/form-data"


class UnsupportedType(RequestError):
    """A body of a kind that this route does not read."""

    status = 415


@dataclass(frozen=True)
class _Upload:
    """Files of one request, their names, and the wishes that came with them as text."""

    files: list[bytes]
    names: list[str]
    fields: dict[str, str]


@router.post("/predict", name="predict", tags=["answers"], openapi_extra=openapi.PREDICT)
async def predict(request: Request) -> Response:
    """Classify image files.

    `curl -F file=@x.png localhost:8000/predict`, or the file itself as the body with its content
    type. One image gives one object; several files give a list in their order, in which a file
    that is no image has an `error` and a `status` in its own place. `ms` is the time from the
    request's last byte to its answer.
    """
    models: Models = request.app.state.models
    upload = await _read(request, models.limits.samples)
    with models.use() as service:
        return await _answer(service, upload, dict(request.query_params))


async def _answer(service: Service, upload: _Upload, query: dict[str, str]) -> Response:
    began = time.perf_counter()
    options = parse({**query, **upload.fields}, service.manifest.exits)
    decoded = await service.decode(upload.files)
    if len(upload.files) == 1 and decoded.failures[0] is not None:
        raise decoded.failures[0]
    rows: list[dict[str, Any]] = []
    if len(decoded.inputs):
        result = await service.answer(decoded.inputs, options)
        seconds = time.perf_counter() - began
        rows = [
            {
                "label": service.manifest.classes[int(label)],
                "probability": float(probability),
                "exit": int(exit_),
                "ms": round(seconds * 1e3, 3),
            }
            for label, probability, exit_ in zip(
                result.answers.label, result.answers.probability, result.answers.exit, strict=True
            )
        ]
    if len(upload.files) == 1:
        return _json(rows[0])
    return _json(_merge(rows, upload.names, decoded.failures))


def _merge(
    rows: list[dict[str, Any]], names: list[str], failures: Sequence[RequestError | None]
) -> list[dict[str, Any]]:
    """Put every file's answer or error in its place."""
    answered = iter(rows)
    return [
        {"file": name, **next(answered)}
        if failure is None
        else {"file": name, "error": str(failure), "status": failure.status}
        for name, failure in zip(names, failures, strict=True)
    ]


async def _read(request: Request, samples: int) -> _Upload:
    kind = request.headers.get("content-type", "").lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedType("content-encoding", "bodies are read as they are", "send it plain")
    if kind.startswith(FORM):
        return await _read_form(request, samples)
    if kind.startswith(RAW):
        body = await request.body()
        if not body:
            raise RequestError("an image", "the body is empty", "send the file as the body")
        return _Upload([body], [""], {})
    raise UnsupportedType(
        f"content-type {kind or 'none'!r}",
        "no image",
        "send -F file=@x.png, or the file with -H 'Content-Type: image/png' --data-binary @x.png",
    )


async def _read_form(request: Request, samples: int) -> _Upload:
    try:
        form = await request.form(max_files=samples, max_fields=len(NAMES))
    except HTTPException as error:
        if str(error.detail).startswith("Too many files"):
            raise TooLarge("files", f"the limit is {samples} a request", "send fewer") from error
        found = str(error.detail).rstrip(".")
        raise RequestError("a form with an image", found, "send -F file=@x.png") from error
    files: list[bytes] = []
    names: list[str] = []
    fields: dict[str, str] = {}
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                files.append(await value.read())
                names.append(value.filename or "")
            else:
                fields[name] = value
    finally:
        await form.close()
    if not files:
        raise RequestError("an image", "the form holds no file", "send -F file=@x.png")
    return _Upload(files, names, fields)


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
