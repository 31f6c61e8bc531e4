"""The routes of the Open Inference Protocol v2, with and without the model's version."""

import asyncio
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

import exitkit
from exitkit.errors import RequestError
from exitkit.serve import inference
from exitkit.serve.models import Models
from exitkit.serve.protocol import describe
from exitkit.serve.scheduling.scheduler import clock
from exitkit.serve.web import openapi, wire

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])
HEADER = "Inference-Header-Content-Length"
DIGITS = 12  # of a length; more would be no body that any limit lets pass


@router.get("", name="server")
async def server() -> dict[str, Any]:
    """Name the server and the protocol's extensions that it speaks."""
    return {"name": "exitkit", "version": exitkit.__version__, "extensions": []}


@router.get("/health/live", name="live")
async def live() -> dict[str, bool]:
    """Tell that the process answers."""
    return {"live": True}


@router.get("/health/ready", name="ready", responses=openapi.NOT_READY)
async def ready(request: Request) -> Response:
    """Tell whether new requests are welcome: 200, or 503 while the server stops."""
    return _ready(request, {"live": True}, _models(request).ready)


@router.get("/models/{model}", name="metadata", responses=openapi.UNKNOWN)
@router.get("/models/{model}/versions/{version}", name="metadata", responses=openapi.UNKNOWN)
async def metadata(request: Request, model: str, version: str | None = None) -> Response:
    """Describe the model's input, outputs, exits and their cost."""
    return _json(describe.metadata(_models(request).get(model, version)))


@router.get("/models/{model}/ready", name="model_ready", responses=openapi.UNKNOWN)
@router.get(
    "/models/{model}/versions/{version}/ready", name="model_ready", responses=openapi.UNKNOWN
)
async def model_ready(request: Request, model: str, version: str | None = None) -> Response:
    """Tell whether the model takes requests."""
    ready = _models(request).is_ready(model, version)
    return _ready(request, {"name": model}, ready)


@router.post("/models/{model}/infer", name="infer", openapi_extra=openapi.INFER)
@router.post("/models/{model}/versions/{version}/infer", name="infer", openapi_extra=openapi.INFER)
async def infer(request: Request, model: str, version: str | None = None) -> Response:
    """Classify images: tensors in JSON or binary, or image files as binary elements.

    Request parameters: `threshold` (0 to 1), `max_exit`, `deadline_ms`, `timeout` (microseconds).
    Response parameters: `mean_exit`, `macs_fraction` (of the network without exits), `queue_ms`,
    `compute_ms`, `deadline_hit`, `threshold_used`.
    """
    arrived = clock()
    header = _header(request)
    body = await request.body()
    with _models(request).use(model, version) as service:
        if header is None and len(body) > inference.INLINE_BYTES:
            asked, form = await asyncio.to_thread(wire.read, body, header, arrived)
        else:
            asked, form = wire.read(body, header, arrived)
        written, length = wire.write(await inference.infer(service, asked), form)
    if length is None:
        return Response(written, media_type="application/json")
    return Response(written, headers={HEADER: str(length)}, media_type="application/octet-stream")


def _header(request: Request) -> int | None:
    """Return how many bytes of the body are JSON; None: all."""
    text = request.headers.get(HEADER)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > DIGITS:
        raise RequestError(
            f"header {HEADER}: {brief(text)}", "is no length", "give the bytes of the JSON header"
        )
    return int(text)


def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


def _ready(request: Request, table: dict[str, Any], ready: bool) -> Response:
    if ready:
        return _json({**table, "ready": True})
    why = "stopping" if _models(request).draining else "loading"
    return _json({**table, "ready": False, "error": f"the server is {why}"}, 503)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
